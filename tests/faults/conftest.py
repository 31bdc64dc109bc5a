"""Projects to break, and what comes out where nothing breaks."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scratch import BUILD, REAL, Project, new_project, records
from some_runs import LONG, RUNS

from falloff.study import Store
from falloff.training import Run

NEW_MOUNTS = 0x00020000  # CLONE_NEWNS of sched.h; Python has it from 3.12 on


def pytest_configure() -> None:
    """What the tests depend on, and leave behind, of the process that they run in."""
    # Ctrl-C must reach what they start, also where they were started in a shell's background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The disks that they mount are seen by them alone and go with them, even where they are killed.
    if ctypes.CDLL(None).unshare(NEW_MOUNTS) == 0:
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project without chapters; what works in it ends with the test."""
    made = new_project(tmp_path / "project")
    yield made
    made.kill_all()


@pytest.fixture
def inside(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The same, with this process working in it."""
    monkeypatch.chdir(project.root)
    for name, value in project.environment.items():
        if name in ("FALLOFF_ROOT", "FALLOFF_DATA"):
            monkeypatch.setenv(name, value)
    return project


@pytest.fixture(scope="session")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Project]]:
    """Makes projects with some of the real chapters, which last as long as the tests."""
    made = []

    def make(*real: str) -> Project:
        made.append(new_project(tmp_path_factory.mktemp("projects") / "project", real))
        return made[-1]

    yield make
    for project in made:
        project.kill_all()


@pytest.fixture(scope="session")
def undisturbed(projects: Callable[..., Project]) -> tuple[Project, float]:
    """A build of some real chapters, and how many seconds it took."""
    project = projects(*REAL)
    started = time.monotonic()
    assert project.do(*BUILD) == 0, project.said()[-4000:]
    return project, time.monotonic() - started


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory, projects: Callable[..., Project]) -> dict[str, Any]:
    """What is measured of the runs of ``some_runs.py``, trained here one after the other."""
    return trained(tmp_path_factory.mktemp("expected"), RUNS, projects())


@pytest.fixture(scope="session")
def expected_of_long(tmp_path_factory: pytest.TempPathFactory, projects: Callable[..., Project]) -> dict[str, Any]:
    """The same of the long run."""
    return trained(tmp_path_factory.mktemp("expected"), [LONG], projects())


def trained(folder: Path, runs: list[Run], project: Project) -> dict[str, Any]:
    """What is measured of some runs on a project's data set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FALLOFF_DATA", project.environment["FALLOFF_DATA"])
        for run in runs:
            Store(folder).get_or_train(run)
    return records(folder)
