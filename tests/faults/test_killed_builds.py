"""A build that is killed again and again ends with what an undisturbed one gives, and nothing is done twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from scratch import BUILD, GATE, REAL, Project, changed, kill, wait_for

SEED, KILLS = 5, 20
ENDING = {"TERM": 128 + signal.SIGTERM, "INT": 128 + signal.SIGINT}  # exit status of what is told to stop


@dataclass(frozen=True)
class Interruption:
    """How and when a build is ended on its way: after so many more finished files, and then so many seconds."""

    way: str
    files: int
    seconds: float


@dataclass
class Story:
    """What happened; by the interruption after which it was found, what should not have been."""

    project: Project
    left: dict[Interruption, list[str]] = field(default_factory=dict)  # processes
    cut: dict[Interruption, list[str]] = field(default_factory=dict)  # files that were not whole
    rewritten: dict[Interruption, set[str]] = field(default_factory=dict)  # files that had been finished before
    ended: dict[str, tuple[int, str]] = field(default_factory=dict)  # exit status and words of a build told to stop
    status: int | None = None  # of the last build, which nobody disturbed


def planned(length: float) -> list[Interruption]:
    """Kills at any moment of a build of that length but its end, and kills while it trains."""
    draw = random.Random(SEED)
    plan = [Interruption("KILL", 0, draw.uniform(0, 0.75 * length)) for _ in range(KILLS - 8)]
    plan += [Interruption("KILL", draw.randint(1, 3), draw.uniform(0, 1)) for _ in range(8)]
    plan += [Interruption(way, 1, draw.uniform(0, 1)) for way in ("TERM", "INT", "make")]
    draw.shuffle(plan)
    return plan


@pytest.fixture(scope="module")
def story(projects: Callable[..., Project], undisturbed: tuple[Project, float]) -> Story:
    """Twenty builds are killed, one is told to stop in each way, of one make is killed; then one is left alone."""
    told, before = Story(projects(*REAL)), {}
    whole = set(undisturbed[0].finished())
    for interruption in planned(undisturbed[1]):
        while not interrupted(told, interruption, whole):  # it was done before that: another one is begun
            told.project, before = projects(*REAL), {}
            interruption = replace(interruption, seconds=0.7 * interruption.seconds)  # the machine may be faster now
        told.left[interruption] = told.project.left()
        before = look(told, interruption, before)
    told.status = told.project.do(*BUILD)
    look(told, Interruption("none", 0, 0), before)
    return told


def interrupted(told: Story, how: Interruption, whole: set[str]) -> bool:
    """Start a build and end it on its way; False where it was done before, with all the files of a whole one."""
    project, heard, done = told.project, len(told.project.said()), len(told.project.finished())
    words = BUILD
    if how.way == "make":
        words, falloff = ("make", "book"), Path(sys.executable).with_name("falloff")
        (project.root / "Makefile").write_text(f"book:\n\t{' '.join([str(falloff), *BUILD[1:]])}\n")
    build = project.start(*words)
    if how.files:
        wait_for(lambda: build.poll() is not None or len(project.finished()) >= done + how.files, "finished file")
    try:
        assert build.wait(timeout=how.seconds) == 0, project.said()[-4000:]
        return False
    except subprocess.TimeoutExpired:
        pass
    if how.way == "INT":
        os.killpg(build.pid, signal.SIGINT)  # a terminal sends it to all in its foreground
    elif how.way == "TERM":
        build.terminate()
    else:
        kill(build)
    told.ended[how.way] = build.wait(timeout=30), project.said()[heard:]
    return not whole <= set(project.finished())


def look(told: Story, how: Interruption, before: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Note what became of the files that were finished; returns those that are now."""
    project = told.project
    if rewritten := changed(before, project):
        told.rewritten[how] = rewritten
    folders = (project.runs / what for what in ("records", "measured", "chapters", "figures"))
    there = [path for folder in folders for path in folder.glob("[!.]*")]
    if cut := [path.name for path in there if path.suffix != ".lock" and not is_whole(path)]:
        told.cut[how] = cut
    now = project.finished()
    print(f"{how}: {len(now)} finished")
    return now


def is_whole(path: Path) -> bool:
    """Whether a file is what its name says, to its end."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".svg":
        return text.rstrip().endswith("</svg>")
    try:
        return path.suffix in (".json", ".ipynb") and bool(json.loads(text))
    except ValueError:
        return False


def test_it_ends_with_the_same_numbers_and_pictures(story: Story, undisturbed: tuple[Project, float]):
    assert story.status == 0, story.project.said()[-4000:]
    assert story.project.results() == undisturbed[0].results()


def test_what_was_finished_is_not_done_again(story: Story):
    assert not story.rewritten


def test_no_process_is_left(story: Story):
    assert len(story.left) == KILLS + 3
    assert not {how: processes for how, processes in story.left.items() if processes}


def test_a_file_is_there_whole_or_not_at_all(story: Story):
    assert not story.cut


@pytest.mark.parametrize("way", ENDING)
def test_one_that_is_told_to_stop_says_so_with_its_exit_status(story: Story, way: str):
    status, words = story.ended[way]
    assert status == ENDING[way], words[-4000:]
    assert "Traceback" not in words
    assert way == "TERM" or "what had finished is kept" in words


def test_a_chapter_that_has_just_been_started_ends_with_the_build(project: Project):
    project.chapter("01_gate", GATE.format(name="gate"))
    build = project.start("falloff", "book")
    wait_for(lambda: project.processes("falloff.cli", "execute"), "process of a chapter", of=build)
    kill(build)
    assert not project.left()


def test_what_was_being_written_is_cleared_away_by_the_next_build(project: Project):
    project.chapter("01_gate", GATE.format(name="gate"))
    build = project.start("falloff", "book")
    wait_for(lambda: (project.root / "gate.here").exists(), "kernel that runs", of=build)
    [chapter] = project.processes("falloff.cli", "execute")
    kill(chapter)  # so that it cannot clear away itself
    kill(build)
    assert not project.left()
    (project.root / "go").touch()
    assert project.do("falloff", "book") == 0, project.said()[-4000:]
    assert not project.litter()
