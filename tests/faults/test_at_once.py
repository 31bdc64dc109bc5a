"""Two that want the same at the same time both get it, and it is done once."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from scratch import BUILD, LIMIT, REAL, ROOT, SOME_RUNS, Project, numbers

from falloff.study.store import FINAL

# Measures these words of the first run.
MEASURES = """\
import sys

sys.path.insert(0, sys.argv[1])
from some_runs import RUNS

from falloff.study.store import Measuring, Store

Store().get_or_train(RUNS[0], [Measuring(metrics=tuple(sys.argv[2:]))])
"""


def versions(project: Project, *processes: subprocess.Popen) -> dict[str, set[tuple[int, int]]]:
    """Of each finished file all that were there until the processes had ended: one that is done again is another."""
    found = defaultdict(set)
    give_up = time.monotonic() + LIMIT
    while time.monotonic() < give_up:
        ended = all(process.poll() is not None for process in processes)
        for name, state in project.finished().items():
            found[name].add(state)
        if ended:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not done within {LIMIT:g} s:\n{project.said()[-4000:]}")


def done_twice(found: dict[str, set[tuple[int, int]]]) -> list[str]:
    return [name for name, states in found.items() if len(states) > 1]


def test_two_processes_that_want_the_same_runs_train_each_once(project: Project, expected: dict[str, Any]):
    both = [project.train(), project.train()]
    found = versions(project, *both)
    assert [one.returncode for one in both] == [0, 0], project.said()[-4000:]
    assert not done_twice(found)
    assert project.results() == expected
    assert not list(project.runs.glob("locks/*"))


def test_two_processes_that_measure_different_things_of_one_run_both_keep_theirs_and_train_it_once(
    project: Project, expected: dict[str, Any]
):
    halves = FINAL.metrics[::2], FINAL.metrics[1::2]
    both = [project.start("python", "-c", MEASURES, SOME_RUNS.parent, *half) for half in halves]
    found = versions(project, *both)
    assert [one.returncode for one in both] == [0, 0], project.said()[-4000:]
    assert not done_twice(found)
    [name] = found
    kept = numbers(project.runs, Path(name).stem)[FINAL.name]["numbers"]
    whole = json.loads(expected[name]["final"])
    assert kept.keys() == whole.keys()
    assert repr([kept[metric] for metric in whole]) == repr(list(whole.values()))


def test_two_builds_at_once_run_each_chapter_and_train_each_run_once(
    projects: Callable[..., Project], undisturbed: tuple[Project, float]
):
    project = projects(*REAL)
    both = [project.start(*BUILD), project.start(*BUILD)]
    found = versions(project, *both)
    assert [one.returncode for one in both] == [0, 0], project.said()[-4000:]
    assert not done_twice(found)
    assert project.results() == undisturbed[0].results()


def test_two_at_once_make_the_pages_that_one_makes(inside: Project):
    project = inside
    project.chapter("01_words", 'print("some words")')
    project.execute("01_words")
    shutil.copytree(ROOT / "book", project.root / "book")
    shutil.copy(ROOT / "_config.yml", project.root)
    for name in ("index", "rerun"):  # the chapter's page refers to the second
        (project.root / "book" / f"{name}.md").write_text(f"# {name}\n\nA small book.\n")
    chapters = [{"file": "notebooks/01_words"}, {"file": "book/rerun"}]
    contents = yaml.safe_dump({"format": "jb-book", "root": "book/index", "chapters": chapters})
    (project.root / "_toc.yml").write_text(contents)

    assert project.do("falloff", "pages") == 0, project.said()[-4000:]
    alone = pages(project.root / "_build")
    shutil.rmtree(project.root / "_build")
    both = [project.start("falloff", "pages"), project.start("falloff", "pages")]
    assert [one.wait(timeout=LIMIT) for one in both] == [0, 0], project.said()[-4000:]
    assert pages(project.root / "_build") == alone
    assert "some words" in alone["notebooks/01_words.html"]


def pages(folder: Path) -> dict[str, str]:
    """The text of each page."""
    home = folder / "html"
    return {path.relative_to(home).as_posix(): path.read_text(encoding="utf-8") for path in home.rglob("*.html")}
