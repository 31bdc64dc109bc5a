"""A full disk, and one that cannot be written to."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scratch import Project, changed
from some_runs import RUNS

from falloff import study
from falloff.study import Store

Mount = Callable[..., None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Calls ``mount -o OPTIONS ... FOLDER``; what was mounted goes with the test."""
    mounted: list[Path] = []

    def call(options: str, *words: str, at: Path) -> None:
        done = subprocess.run(["mount", "-o", options, *words, at], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this test must mount a small disk, as root: {done.stderr.strip()}")
        mounted.append(at)

    yield call
    for folder in reversed(mounted):
        with contextlib.suppress(subprocess.CalledProcessError):  # a remount is mounted once
            subprocess.run(["umount", "--lazy", folder], check=True, capture_output=True)


def full(project: Project, mount: Mount, free: int) -> None:
    """Put the project's runs on a disk of its own that has so many bytes left."""
    project.runs.mkdir()
    mount("size=4m", "-t", "tmpfs", "tmpfs", at=project.runs)
    ballast = project.runs / "ballast"
    with ballast.open("wb") as file:
        file.write(bytes(4 * 2**20 - free))


def test_on_a_full_disk_runs_fail_with_words_and_go_on_once_there_is_room(
    inside: Project, mount: Mount, expected: dict[str, Any]
):
    full(inside, mount, free=256 * 2**10)  # a run takes 36 KiB, a checkpoint under way 75: enough for some, not for 12
    table = study.run(RUNS)
    failures = table["failure"].dropna()
    assert 0 < len(failures) < len(RUNS)
    assert failures.str.contains("No space left").all(), failures.tolist()
    assert not inside.litter()
    before, found = inside.finished(), inside.results()
    assert before.keys() == found.keys()
    # One for whose numbers there was no room may have its record all the same, and is not trained again.
    assert sum(one.keys() == expected[name].keys() for name, one in found.items()) == len(RUNS) - len(failures)
    assert all(one.items() <= expected[name].items() for name, one in found.items())

    (inside.runs / "ballast").unlink()
    for run in RUNS:
        Store(inside.runs).get_or_train(run)
    assert not changed(before, inside)
    assert inside.results() == expected


def test_a_build_on_a_full_disk_says_so_and_leaves_nothing_half_done(project: Project, mount: Mount):
    full(project, mount, free=16 * 2**10)
    project.chapter("01_words", "print('some words, and more of them. ' * 2000)")
    assert project.do("falloff", "book") == 1, project.said()[-4000:]
    assert "No space left" in project.said()
    assert not project.finished()
    assert not project.litter()


def test_where_nothing_can_be_written_what_is_stored_is_read_and_the_rest_fails(inside: Project, mount: Mount):
    stored, missing = RUNS[:2], RUNS[2:4]
    for run in stored:
        Store(inside.runs).get_or_train(run)
    inside.chapter("01_words", 'print("some words")')
    inside.execute("01_words")
    mount("bind", str(inside.runs), at=inside.runs)
    mount("remount,bind,ro", at=inside.runs)
    with pytest.raises(OSError, match="Read-only"):
        (inside.runs / "file").touch()

    assert study.run(stored)["failure"].isna().all()
    assert study.record(stored[0]).weights
    assert inside.do("falloff", "plan") == 0
    assert inside.said().splitlines()[-1] == "01_words: up to date"

    table = study.run([*stored, *missing])
    assert table["failure"].isna().tolist() == [True, True, False, False]
    assert table["failure"].dropna().str.contains("Read-only file system").all(), table["failure"].tolist()
