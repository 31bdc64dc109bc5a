"""A worker, a scheduler or a client is killed: what had finished is kept, and the rest is done."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from scenes import measured
from scratch import LIMIT, SOME_RUNS, Project, changed, kill, wait_for
from some_runs import LONG, RUNS

from falloff.study import Store
from falloff.study.store import CheckpointFile, key
from falloff.training import Record, Run, train

WORKER = "spawn_main"

# Four that are killed as what they write is about to get its name.
KILLED_WRITERS = """\
import os, signal, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from some_runs import RUNS

from falloff.study import Store, store

store.CHECKPOINT_EVERY, rename = 0.0, Path.replace

def dying(path, target):
    return os.kill(os.getpid(), signal.SIGKILL) if target.parent.name == folder else rename(path, target)

for folder, run in zip(("checkpoints", "weights", "records", "measured"), RUNS):
    if os.fork() == 0:
        Path.replace = dying
        Store().get_or_train(run)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGKILL
"""


def begun(project: Project, sweep: subprocess.Popen, records: int = 2) -> dict[str, tuple[int, int]]:
    """The records of a sweep that is under way."""
    wait_for(lambda: len(project.finished()) >= records, f"{records} records", of=sweep)
    found = project.finished()
    assert len(found) < len(RUNS), "it was done before anything happened to it"
    return found


def address_in(file: Path) -> str | None:
    """Of the scheduler that writes that file, once it is there whole."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return json.loads(file.read_text())["address"]
    return None


def test_workers_end_with_their_client_and_a_rerun_does_the_rest_though_one_of_its_own_is_killed(
    project: Project, expected: dict[str, Any]
):
    sweep = project.sweep()
    begun(project, sweep)
    kill(sweep)
    assert not project.left()
    before = project.finished()
    sweep = project.sweep()
    before |= begun(project, sweep, records=len(before) + 1)
    kill(project.processes(WORKER)[0])
    assert sweep.wait(timeout=LIMIT) == 0, project.said()[-4000:]
    assert project.table()["failure"].isna().all()
    assert project.results() == expected
    assert not changed(before, project)
    assert not project.left()


def test_a_scheduler_that_is_killed_ends_the_call_with_words(project: Project, expected: dict[str, Any]):
    where = project.root / "scheduler.json"
    options = ("--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", where)
    scheduler = project.start("python", "-m", "distributed.cli.dask_scheduler", "--port", "0", *options)
    address = wait_for(lambda: address_in(where), "scheduler", of=scheduler)
    worker = project.start("python", "-m", "distributed.cli.dask_worker", "--nthreads", "1", *options)
    sweep = project.sweep(FALLOFF_SCHEDULER=address)
    begun(project, sweep)
    kill(scheduler)
    assert sweep.wait(timeout=90) == 0, project.said()[-4000:]
    failures = project.table()["failure"].dropna()
    assert len(failures) > 0
    assert failures.str.contains("the scheduler was lost").all()

    kill(worker)
    project.kill_all()
    before = project.finished()
    assert project.sweep().wait(timeout=LIMIT) == 0, project.said()[-4000:]
    assert project.table()["failure"].isna().all()
    assert project.results() == expected
    assert not changed(before, project)


def test_a_long_run_goes_on_from_its_checkpoint_as_if_nothing_had_happened(inside: Project):
    whole = measured(LONG)
    checkpoint = inside.runs / "checkpoints" / f"{key(LONG)}.pt"

    sweep = inside.sweep("long")
    wait_for(checkpoint.exists, "checkpoint", of=sweep)
    for worker in inside.processes(WORKER):
        kill(worker)
    last = checkpoint.stat().st_mtime_ns
    wait_for(lambda: checkpoint.stat().st_mtime_ns > last, "checkpoint of another worker", of=sweep)
    kill(sweep)
    assert not inside.left()

    steps: list[int] = []

    class Watched(CheckpointFile):
        """At every step, none of which is kept."""

        def due(self) -> bool:
            return True

        def save(self, state: dict[str, Any]) -> None:
            steps.append(state["step"])

    def watched(run: Run, checkpoint: CheckpointFile) -> Record:
        steps.append(checkpoint.load()["step"])
        return train(run, checkpoint=Watched(checkpoint.path))

    found = Store(inside.runs).get_or_train(LONG, train=watched)
    assert 0 < steps[0] < LONG.steps
    assert steps == list(range(steps[0], LONG.steps + 1))
    assert repr((found.curve, found.validation, found.final)) == repr((whole.curve, whole.validation, whole.final))
    torch.testing.assert_close(found.weights, whole.weights, rtol=0, atol=0)
    assert not checkpoint.exists()


def test_what_killed_writers_leave_is_no_record_and_is_cleared_away(inside: Project, expected: dict[str, Any]):
    program = inside.start("python", "-c", KILLED_WRITERS, SOME_RUNS.parent)
    assert program.wait(timeout=LIMIT) == 0, inside.said()[-4000:]
    assert len(inside.litter()) == 4
    store, killed, unmeasured = Store(inside.runs), RUNS[:3], RUNS[3]
    assert [store.get(run) for run in killed] == [None, None, None]
    before = inside.finished()
    assert list(before) == [f"{key(unmeasured)}.json"]
    for run in killed:
        store.get_or_train(run)
    store.get_or_train(unmeasured, train=lambda *_, **__: pytest.fail("it was trained again"))
    assert not changed(before, inside)
    assert inside.results() == {name: expected[name] for name in inside.finished()}
    assert not inside.litter()
    assert not list(inside.runs.glob("locks/*"))
