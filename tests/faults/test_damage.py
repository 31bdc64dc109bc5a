"""Records that are not what they should be, and a clock that is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from scratch import GATE, LIMIT, SWEEP, Project, changed, wait_for
from some_runs import RUNS

from falloff import study
from falloff.study import Store
from falloff.study.store import FORMAT, key

# The system's clock as programs see it, a day back while a file is there.
CLOCK = """\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t back(void) {
    const char *path = getenv("FALLOFF_TEST_BACK");
    return path && access(path, F_OK) == 0 ? 86400 : 0;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec -= back();
    return failed;
}
int gettimeofday(struct timeval *now, void *zone) {
    int (*real)(struct timeval *, void *) = dlsym(RTLD_NEXT, "gettimeofday");
    int failed = real(now, zone);
    if (!failed) now->tv_sec -= back();
    return failed;
}
time_t time(time_t *now) {
    time_t (*real)(time_t *) = dlsym(RTLD_NEXT, "time");
    time_t found = real(NULL) - back();
    if (now) *now = found;
    return found;
}
"""


def test_damaged_and_foreign_records_are_set_aside_and_done_again(inside: Project, expected: dict[str, Any]):
    store = Store(inside.runs)
    for run in RUNS:
        store.get_or_train(run)
    paths = [store.folder / "records" / f"{key(run)}.json" for run in RUNS]
    half, empty, older, foreign, binary, *good = paths
    other = json.loads(older.read_text()) | {"format": FORMAT - 1}
    content = {half: half.read_bytes()[:-200], empty: b"", older: json.dumps(other).encode(),
               foreign: good[0].read_bytes(), binary: bytes(range(256))}
    for path, damaged in content.items():
        path.write_bytes(damaged)
    before = inside.finished()

    for run in RUNS:
        store.get_or_train(run)
    assert study.run(RUNS)["failure"].isna().all()
    assert inside.results() == expected
    assert changed(before, inside) == {path.name for path in content}
    for path, damaged in content.items():
        assert path.with_name(f"{path.name}.damaged").read_bytes() == damaged


@pytest.mark.parametrize("damage", [b"", b"not a net", None])
def test_a_net_or_a_checkpoint_that_is_damaged_is_made_again(inside: Project, damage: bytes | None):
    store, run = Store(inside.runs), RUNS[0]
    whole = store.get_or_train(run)
    weights = inside.runs / "weights" / f"{key(run)}.pt"
    checkpoint = inside.runs / "checkpoints" / weights.name
    checkpoint.parent.mkdir(exist_ok=True)
    for path in (weights, checkpoint):
        path.write_bytes(damage if damage is not None else weights.read_bytes()[:-100])
    assert store.get(run) is None
    again = store.get_or_train(run)
    assert repr((again.curve, again.final)) == repr((whole.curve, whole.final))
    assert store.get(run) is not None
    assert not checkpoint.exists()


def test_a_clock_that_jumps_back_while_a_run_is_trained_changes_no_number_nor_do_file_times_of_next_year(
    project: Project, expected_of_long: dict[str, Any]
):
    library, back = clock(project.root), project.root / "back"
    project.chapter("01_gate", GATE.format(name="gate"), SWEEP)
    wrong = {"LD_PRELOAD": str(library), "FALLOFF_TEST_BACK": str(back)}
    build = project.start("falloff", "book", **wrong)
    wait_for(lambda: (project.root / "gate.here").exists(), "chapter that runs", of=build)
    training = project.train("long", **wrong)
    wait_for(lambda: list(project.runs.glob("checkpoints/*.pt")), "run on its way", of=training)
    back.touch()
    (project.root / "go").touch()
    assert training.wait(timeout=LIMIT) == 0, project.said()[-4000:]
    assert build.wait(timeout=LIMIT) == 0, project.said()[-4000:]
    assert expected_of_long.items() <= project.results().items()
    took = [json.loads(path.read_bytes())["seconds"] for path in project.runs.glob("records/*.json")]
    assert 0 < min(took) <= max(took) < LIMIT
    stamp = json.loads((project.runs / "chapters" / "01_gate.ipynb").read_text())["metadata"]["falloff"]
    assert 0 < stamp["seconds"] < LIMIT
    assert stamp["finished"] < time.strftime("%Y-%m-%d", time.gmtime()), "the clock did not jump"

    future = time.time() + 366 * 86400
    for path in project.root.rglob("*"):
        os.utime(path, (future, future))
    before = project.finished()
    assert project.do("falloff", "book") == 0, project.said()[-4000:]
    assert project.said().splitlines()[-1] == "01_gate: up to date"
    assert not changed(before, project)


def clock(folder: Path) -> Path:
    """The library that turns the clock back, compiled."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler is installed: apt-get install gcc")
    library = folder / "clock.so"
    command = [compiler, "-shared", "-fPIC", "-o", library, "-x", "c", "-", "-ldl"]
    subprocess.run(command, input=CLOCK, text=True, check=True)
    return library
