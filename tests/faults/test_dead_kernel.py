"""A chapter whose kernel or whose own process is killed fails with words, and it alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nbformat
import pytest
from scratch import GATE, LIMIT, Project, changed, wait_for

from falloff import chapters


def test_a_killed_kernel_or_process_fails_its_own_chapter_and_a_rerun_heals_it(project: Project):
    names = ("01_kernel", "02_process", "03_neither")
    for name in names:
        project.chapter(name, GATE.format(name=name))
    build = project.start("falloff", "book")
    wait_for(lambda: all((project.root / f"{name}.here").exists() for name in names), "chapter that runs", of=build)
    [first] = project.processes("execute", "01_kernel")
    [kernel] = [child for child in first.children(recursive=True) if "ipykernel" in " ".join(child.cmdline())]
    kernel.kill()
    wait_for(lambda: "01_kernel: failed" in project.said(), "failure of the chapter", of=build)
    [second] = project.processes("execute", "02_process")
    second.kill()
    wait_for(lambda: "02_process: failed" in project.said(), "failure of the chapter", of=build)
    (project.root / "go").touch()
    assert build.wait(timeout=LIMIT) == 1
    said = project.said()
    assert "Kernel died" in said
    assert "02_process: failed (exit status -9)" in said
    assert "03_neither: done" in said
    assert said.splitlines()[-1] == "falloff: failed: 01_kernel, 02_process"
    assert not project.left()

    before = project.finished()
    assert "03_neither.ipynb" in before
    assert project.do("falloff", "book") == 0, project.said()[-4000:]
    assert set(project.finished()) >= {f"{name}.ipynb" for name in names}
    assert not changed(before, project)
    assert project.do("falloff", "plan") == 0
    assert project.said().splitlines()[-3:] == [f"{name}: up to date" for name in names]


def test_a_chapter_that_no_kernel_can_run_says_why(inside: Project):
    inside.chapter("01_words")
    chapter = chapters.find("01_words")
    unknown = chapter.notebook()
    unknown.metadata.clear()
    nbformat.write(unknown, chapter.source)
    with pytest.raises(ValueError, match="No language found"):
        inside.execute("01_words")


def test_a_kernel_that_does_not_start_is_started_again(
    inside: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tried = tmp_path / "tried"
    dies_first = f'test -e {tried} && exec "$0" "$@"; touch {tried}; exit 1'
    kernel = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps({
        "argv": ["sh", "-c", dies_first, sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "dies first", "language": "python"}), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(kernel.parents[2]))
    inside.chapter("01_words")
    inside.execute("01_words")
    assert tried.exists()
    assert chapters.find("01_words").executed.exists()
