import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch
from distributed import Client
from scenes import measured, set_arrays, write_set
from torch._dynamo.exc import TorchDynamoException

import falloff
from falloff.losses import autograd
from falloff.recipe import Recipe
from falloff.study import Store, costs, curves, engine, progress, record, store
from falloff.study import run as run_all
from falloff.study.progress import Progress
from falloff.training import Run, train

TINY = Run(dataset="spots", width=2, steps=2, batch=4, evaluations=2)
LONG = TINY.replace(steps=60)  # about half a second
PATIENCE = 120  # seconds that anything here may take on a busy machine


@pytest.fixture(scope="module")
def trained(spots):
    return measured(TINY)


@pytest.fixture
def no_workers(monkeypatch):
    monkeypatch.setattr(engine, "cluster", lambda *_: pytest.fail("workers were started"))


def until(condition):
    """Wait until something holds."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
    return found


def records(folder):
    return sorted(Path(folder, "records").glob("*.json"))


def content(folder):
    """Every record as it is on disk, with when it was written."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in records(folder)}


def table_without_time(table):
    return table.drop(columns="seconds")


# A local cluster.


@pytest.fixture(scope="module")
def table(spots, tmp_path_factory):
    """Three runs over real workers, one of them twice and one that cannot be done."""
    folder = tmp_path_factory.mktemp("local")
    diverging = TINY.replace(loss="mse", learning_rate=1e30, steps=20)
    runs = [TINY, diverging, TINY.replace(loss="mse", learning_rate=0.01), TINY]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(engine.SCHEDULER, raising=False)
        patch.setattr(engine, "CPU_COUNT", 1)
        return runs, run_all(runs, store=Store(folder)), folder


def test_a_table_has_a_row_per_run_in_their_order(table):
    _, first, _ = table
    assert first["loss"].tolist() == ["distance-aware", "mse", "mse", "distance-aware"]
    assert first["steps"].tolist() == [2, 20, 2, 2]
    assert {"ap", "val_ap", "seconds", "failure", "error", "steps_to_ap", "device_model"} <= set(first.columns)


def test_a_run_that_fails_says_why_and_the_others_are_done(table):
    _, first, folder = table
    assert "training diverged" in first["failure"][1] and math.isnan(first["ap"][1])
    assert [why for place, why in enumerate(first["failure"]) if place != 1] == [None] * 3
    assert first["ap"][[0, 2, 3]].notna().all()
    assert len(records(folder)) == 2  # the run that was asked for twice was done once


def test_workers_give_what_training_here_gives(table, trained):
    _, first, folder = table
    kept = Store(folder).get(TINY)
    assert repr(kept.final) == repr(trained.final) and repr(kept.curve) == repr(trained.curve)
    assert first["ap"][0] == trained.final["ap"]


def test_what_is_stored_starts_no_worker_and_is_read_once(table, no_workers, monkeypatch):
    runs, first, folder = table
    read, read_bytes = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path.name) or read_bytes(path))
    again = run_all([runs[0], runs[2], runs[0]], store=Store(folder))
    assert sorted(set(read)) == sorted(path.name for path in records(folder)) and len(read) == 2 * 3
    wanted = first.iloc[[0, 2, 0]].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, wanted, check_dtype=False, check_exact=True)


def test_a_record_and_curves_are_read_where_they_are_stored(table, no_workers):
    runs, first, folder = table
    assert record(TINY, store=Store(folder)).final["ap"] == first["ap"][0]
    steps = curves([runs[0], runs[2]], store=Store(folder))
    assert steps["step"].tolist() == [1, 2, 1, 2]
    assert steps["loss"].tolist() == ["distance-aware"] * 2 + ["mse"] * 2  # and not the training's loss
    assert steps["train_loss"].notna().all()


def test_a_table_keeps_every_metric_of_the_test_split(tmp_path, trained, no_workers):
    # The localisation error and the reason of a failure were once both called "error".
    final = {name: 0.001 + index for index, name in enumerate(trained.final)}
    Store(tmp_path).put(dataclasses.replace(trained, final=final))
    row = run_all([TINY], store=Store(tmp_path)).iloc[0].tolist()
    assert [name for name, value in final.items() if value not in row] == []


@pytest.mark.parametrize(("ap", "steps"), [([0.1, 0.8, 0.7], 2), ([0.1, 0.79, math.nan], math.nan), ([0.9], 1)])
def test_a_row_tells_when_a_run_reached_an_ap_of_eight_tenths(tmp_path, trained, no_workers, ap, steps):
    curve = [{"step": step, "ap": value} for step, value in enumerate(ap, start=1)]
    Store(tmp_path).put(dataclasses.replace(trained, curve=curve))
    found = run_all([TINY], store=Store(tmp_path))["steps_to_ap"][0]
    assert found == steps or (math.isnan(found) and math.isnan(steps))


def test_workers_leave_ctrl_c_to_the_process_that_started_them(monkeypatch):
    def hears_none():
        return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])

    monkeypatch.setattr(engine, "workers", lambda *_: 1)
    with engine.cluster() as address, Client(address, set_as_default=False) as client:
        assert list(client.run(hears_none).values()) == [True]
        client.restart()  # by the thread that also replaces a worker that died
        assert list(client.run(hears_none).values()) == [True]
        assert not hears_none()


def test_what_cannot_be_is_refused_before_any_worker_starts(spots, no_workers, tmp_path):
    with pytest.raises(ValueError, match="runs must hold at least one Run, got none"):
        run_all([], store=Store(tmp_path))
    with pytest.raises(FileNotFoundError, match="no data set 'absent'"):
        run_all([TINY, TINY.replace(dataset="absent")], store=Store(tmp_path))
    with pytest.raises(ValueError, match="device must be"):
        run_all([TINY.replace(device="tpu")], store=Store(tmp_path))
    write_set(tmp_path, "half", **set_arrays((4, 4, 0)))
    with pytest.raises(ValueError, match=r"half\.npz: no image of split 'test'"):
        run_all([TINY, TINY.replace(dataset=str(tmp_path / "half" / "half.npz"))], store=Store(tmp_path))


def test_a_stored_run_is_found_by_the_content_of_its_data_wherever_that_is(table, no_workers, tmp_path, monkeypatch):
    _, first, folder = table
    write_set(tmp_path, "moved")
    monkeypatch.chdir(tmp_path)
    moved = TINY.replace(dataset="moved/moved.npz")
    assert moved.dataset == str(tmp_path / "moved" / "moved.npz")
    found = run_all([moved, TINY], store=Store(folder))
    assert found["dataset"].tolist() == [moved.dataset, "spots"] and found["ap"].tolist() == [first["ap"][0]] * 2
    assert set(curves([moved], store=Store(folder))["dataset"]) == {moved.dataset}


@pytest.mark.bad_input
def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(TypeError, match="runs must hold Run, got str"):
        run_all(["digits"], store=Store(tmp_path))


# How many at once.


@pytest.mark.parametrize(
    ("devices", "cores", "memory", "slots", "gpus", "count"),
    [
        (["cpu"], 64, 2**40, None, 0, 64),
        (["cpu"], 64, 8e9, None, 0, 4),  # 1.8 GB each
        (["cpu"], 64, 2**20, None, 0, 1),
        (["cpu"], 64, 2**40, "3", 2, 64),
        (["cuda"], 64, 2**40, None, 2, 8),
        (["cuda:1"], 64, 2**40, "3", 2, 6),
        (["cpu", "cuda"], 2, 2**40, "3", 2, 2),
    ],
)
def test_as_many_runs_at_once_as_cores_memory_and_gpus_allow(
    monkeypatch, devices, cores, memory, slots, gpus, count
):
    monkeypatch.setattr(engine, "CPU_COUNT", cores)
    monkeypatch.setattr(engine, "MEMORY_LIMIT", memory)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.delenv(engine.GPU_SLOTS, raising=False)
    if slots:
        monkeypatch.setenv(engine.GPU_SLOTS, slots)
    assert engine.workers(devices) == count


def test_what_is_large_to_measure_is_done_by_fewer_workers(spots, monkeypatch):
    asked = []

    @contextmanager
    def cluster(devices, memory):
        asked.append((devices, memory))
        raise ConnectionError("none here")
        yield

    monkeypatch.setattr(engine, "CPU_COUNT", 64)
    monkeypatch.setattr(engine, "MEMORY_LIMIT", 16e9)
    monkeypatch.setattr(costs, "measured", lambda run, asked: {None: 1e9, 96: 5e9}[run.size])
    assert engine.workers(["cpu"]) == engine.workers(["cpu"], 1e9) == 8
    monkeypatch.setattr(engine, "cluster", cluster)
    monkeypatch.delenv(engine.SCHEDULER, raising=False)
    runs = [Run(dataset=name, size=size) for name, size in (("spots", None), ("digits", 96), ("spots", None))]
    with pytest.raises(ConnectionError):
        engine.run(runs)
    assert asked == [({"cpu"}, costs.process(5e9))] and engine.workers(*asked[0]) == 2


@pytest.mark.parametrize("slots", ["0", "-1", "1.5", "many"])
def test_slots_that_are_none_are_named(monkeypatch, slots):
    monkeypatch.setenv(engine.GPU_SLOTS, slots)
    with pytest.raises(ValueError, match=f"{engine.GPU_SLOTS} must be an integer above 0, got '{slots}'"):
        engine.workers(["cuda"])


# A scheduler and workers that others started.


class Farm:
    """A Dask scheduler and its workers, each a process of its own on the loopback."""

    def __init__(self, folder):
        self.folder, self.started, self.scheduler, self.workers = folder, 0, None, []

    def address(self, workers=1):
        """Where the scheduler is, once it and as many workers run."""
        if self.scheduler is None or self.scheduler.poll() is not None:
            self.stop()
            self.started += 1
            self.file = self.folder / f"scheduler-{self.started}.json"
            self.scheduler = self._start("scheduler", "--port", "0")
            until(lambda: self.file.exists() and self.file.read_text().endswith("}"))
        while len(self.workers) < workers:
            self.join()
        return json.loads(self.file.read_text())["address"]

    def join(self, **environment):
        self.workers.append(self._start("worker", "--nthreads", "1", "--no-nanny", **environment))

    def leave(self):
        """Every worker, at once."""
        while self.workers:
            _end(self.workers.pop())

    def stop(self):
        self.leave()
        if self.scheduler is not None:
            _end(self.scheduler)

    def _start(self, what, *words, **environment):
        command = [sys.executable, "-m", "dask", what, *words, "--host", "127.0.0.1", "--no-dashboard",
                   "--scheduler-file", str(self.file)]
        with Path(self.folder, "log").open("a") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder,
                                    env=os.environ | {"OMP_NUM_THREADS": "1"} | environment)


def _end(process):
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def farm(spots, tmp_path_factory):
    one = Farm(tmp_path_factory.mktemp("farm"))
    yield one
    one.stop()


@pytest.fixture(scope="module")
def refused():
    """What connecting to a port that no one listens on ends with: slow, so it waits beside the other tests."""
    found = []

    def connect():
        try:
            with engine._client("tcp://127.0.0.1:1"):
                pass
        except Exception as error:
            found.append(error)

    waiting = threading.Thread(target=connect, daemon=True)
    waiting.start()
    return lambda: waiting.join(PATIENCE) or found


@pytest.mark.usefixtures("refused")
def test_a_scheduler_that_is_named_gives_the_table_that_a_local_cluster_gives(table, farm, tmp_path, monkeypatch):
    runs, first, _ = table
    monkeypatch.setenv(engine.SCHEDULER, farm.address())
    monkeypatch.setattr(engine, "TASKS", 1)  # so all go to a worker together, as thousands would
    found = run_all(runs, store=Store(tmp_path))
    pd.testing.assert_frame_equal(table_without_time(found), table_without_time(first), check_exact=True)


def test_a_rerun_tries_only_what_failed_and_keeps_the_records_of_the_others(table, farm, monkeypatch, capsys):
    runs, first, folder = table
    monkeypatch.setenv(engine.SCHEDULER, farm.address())
    monkeypatch.setenv(progress.STYLE, "lines")
    before = content(folder)
    again = run_all(runs, store=Store(folder))
    assert "2 of 3 stored, 1 to do" in capsys.readouterr().err
    assert content(folder) == before and again["failure"].tolist() == first["failure"].tolist()


def test_a_store_is_where_it_was_named_from_for_workers_elsewhere_too(spots, farm, tmp_path, monkeypatch):
    monkeypatch.setenv(engine.SCHEDULER, farm.address())
    monkeypatch.chdir(tmp_path)
    found = run_all([TINY], store=Store("here"))
    assert found["failure"].tolist() == [None] and len(records(tmp_path / "here")) == 1


def test_a_table_of_failures_alone_has_the_metrics_as_nan(table, farm, tmp_path, monkeypatch):
    runs, _, _ = table
    monkeypatch.setenv(engine.SCHEDULER, farm.address())
    found = run_all([runs[1]], store=Store(tmp_path))
    assert "training diverged" in found["failure"][0]
    assert found["ap"].isna().all() and found["val_ap"].isna().all() and found["seconds"].isna().all()
    with pytest.raises(RuntimeError, match="training diverged"):
        record(runs[1], store=Store(tmp_path))
    assert curves([runs[1]], store=Store(tmp_path)).empty


def test_a_worker_that_is_killed_costs_no_result(farm, tmp_path, monkeypatch):
    monkeypatch.setenv(engine.SCHEDULER, farm.address(workers=2))
    runs = [LONG.replace(seed=seed) for seed in range(3)]

    def kill():
        until(lambda: records(tmp_path))
        _end(farm.workers.pop(0))

    killer = threading.Thread(target=kill)
    killer.start()
    found = run_all(runs, store=Store(tmp_path))
    killer.join()
    assert found["failure"].tolist() == [None] * 3 and found["ap"].notna().all()
    assert found["seed"].tolist() == [0, 1, 2] and len(records(tmp_path)) == 3


def test_when_the_scheduler_is_lost_the_call_ends_and_a_rerun_does_the_rest(farm, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(engine.SCHEDULER, farm.address())
    monkeypatch.setenv(progress.STYLE, "lines")
    runs = [LONG.replace(seed=seed, loss="mse") for seed in range(4)]
    ended, kept = [], Store(tmp_path)

    def finished():
        """How many are trained and measured."""
        found = [(kept.entry(run), kept.entry(run).read()) for run in runs]
        return sum(stored is not None and entry.numbers(stored, store.FINAL) is not None for entry, stored in found)

    def kill():
        until(finished)
        _end(farm.scheduler)
        ended.append(time.monotonic())

    killer = threading.Thread(target=kill)
    killer.start()
    found = run_all(runs, store=kept)
    killer.join()
    assert time.monotonic() - ended[0] < 60
    farm.leave()
    done = finished()
    assert 1 <= done < 4
    lost = found["failure"].notna()
    assert lost.any() and found.loc[lost, "failure"].str.contains("the scheduler was lost").all()
    assert (~lost).any() and found.loc[~lost, "ap"].notna().all()  # what had been stored is no failure
    before = content(tmp_path)
    monkeypatch.setenv(engine.SCHEDULER, farm.address())
    capsys.readouterr()
    again = run_all(runs, store=Store(tmp_path))
    assert f"{done} of 4 stored, {4 - done} to do" in capsys.readouterr().err
    assert again["failure"].tolist() == [None] * 4
    assert before.items() <= content(tmp_path).items()


def test_a_worker_with_other_code_or_data_is_refused(farm, spots, tmp_path, monkeypatch):
    monkeypatch.setenv(engine.SCHEDULER, farm.address(workers=0))
    shutil.copytree(Path(falloff.__file__).parent, tmp_path / "falloff")
    with (tmp_path / "falloff" / "training.py").open("a") as file:
        file.write("\nchanged = 1\n")
    write_set(tmp_path, "spots", images=set_arrays()["images"] // 2)
    farm.leave()
    farm.join(PYTHONPATH=str(tmp_path), FALLOFF_DATA=str(tmp_path))
    found = run_all([TINY], store=Store(tmp_path / "runs"))
    farm.leave()
    assert "the worker's code and data differ from those of the process that asks" in found["failure"][0]
    assert not records(tmp_path / "runs")


@pytest.mark.parametrize("part", ["run", "code", "libraries", "data"])
def test_a_worker_names_the_part_in_which_it_differs(spots, tmp_path, part):
    asked = store.identity(TINY) | {part: "other"}
    assert engine._train(TINY, asked, Store(tmp_path), (), train) == (
        f"the worker's {part} differ from those of the process that asks"
    )
    assert not records(tmp_path)


def test_a_name_that_is_no_address_is_refused_at_once(spots, tmp_path, monkeypatch):
    monkeypatch.setenv(engine.SCHEDULER, "nonsense")
    with pytest.raises(ConnectionError, match=r"'nonsense'.*FALLOFF_SCHEDULER names it, as tcp://host:port"):
        run_all([TINY], store=Store(tmp_path))


def test_an_address_where_no_scheduler_answers_is_named(refused):
    [error] = refused()
    assert isinstance(error, ConnectionError)
    assert "'tcp://127.0.0.1:1'" in str(error) and engine.SCHEDULER in str(error)


# Progress.


def row(ap, loss="bce", rate=0.003):
    return {"ap": ap, "watched": ("ap",), "loss": loss, "learning_rate": rate}


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so; what is said is said at once."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    return now


def test_a_log_gets_lines_with_what_is_done_and_left_and_the_best_so_far(clock, capsys, monkeypatch):
    monkeypatch.delenv(progress.STYLE, raising=False)  # standard error is no terminal here
    shown = Progress(total=5, stored=1)
    for seconds, ended in ((10, row(0.25)), (20, None), (30, row(0.5, "mse", 0.01)), (40, row(math.nan))):
        clock[0] = seconds
        shown.advance(ended)
    shown.close()
    assert capsys.readouterr().err.splitlines() == [
        "runs: 1 of 5 stored, 4 to do",
        "runs: 2 done, 3 left, about 0:30 to go; best ap on validation images 0.250 (bce, rate 0.003)",
        "runs: 2 done, 1 failed, 2 left, about 0:20 to go; best ap on validation images 0.250 (bce, rate 0.003)",
        "runs: 3 done, 1 failed, 1 left, about 0:10 to go; best ap on validation images 0.500 (mse, rate 0.01)",
        "runs: 4 done, 1 failed, 0 left, after 0:40; best ap on validation images 0.500 (mse, rate 0.01)",
    ]


def test_each_line_says_which_part_of_the_work_it_is(capsys, monkeypatch):
    monkeypatch.setenv(progress.STYLE, "lines")
    Progress(total=2, stored=1, stage="1 of 2, tuning").close()
    assert capsys.readouterr().err == "runs: 1 of 2, tuning: 1 of 2 stored, 1 to do\n"


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end(clock, capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY", 15.0)
    monkeypatch.setenv(progress.STYLE, "lines")
    shown = Progress(total=3605, stored=0)
    for second in range(1, 3606):
        clock[0] = float(second)
        shown.advance(row(math.nan))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 + 3605 // 15 + 1
    assert said[1] == "runs: 15 done, 3590 left, about 59:50 to go" and said[-1].endswith("0 left, after 1:00:05")


@pytest.mark.parametrize("style", ["bar", "lines"])
def test_nothing_is_shown_when_nothing_is_to_do(capsys, monkeypatch, style):
    monkeypatch.setenv(progress.STYLE, style)
    Progress(total=3, stored=3).close()
    assert capsys.readouterr().err == ""


def test_none_is_silent_and_a_bar_is_a_bar(capsys, monkeypatch):
    said = "best ap on validation images 0.250 (bce, rate 0.003)"
    for style, parts in (("none", []), ("bar", ["runs", "2/2", said])):
        monkeypatch.setenv(progress.STYLE, style)
        shown = Progress(total=2, stored=1)
        shown.advance(row(0.25))
        shown.close()
        said = capsys.readouterr().err
        assert all(part in said for part in parts) and bool(said) == bool(parts)


def test_a_terminal_gets_a_bar_where_there_is_one_to_draw(capsys, monkeypatch):
    monkeypatch.delenv(progress.STYLE, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    Progress(total=2, stored=1).close()
    assert "1/2" in capsys.readouterr().err
    monkeypatch.setattr(progress, "find_spec", lambda name: None)  # tqdm is not installed on a bare machine
    Progress(total=2, stored=1).close()
    assert capsys.readouterr().err == "runs: 1 of 2 stored, 1 to do\n"


def test_another_style_is_named_before_anything_is_computed(spots, no_workers, tmp_path, monkeypatch):
    monkeypatch.setenv(progress.STYLE, "loud")
    with pytest.raises(ValueError, match="FALLOFF_PROGRESS must be bar, lines or none, got 'loud'"):
        run_all([TINY], store=Store(tmp_path))


def test_a_loss_that_breaks_the_compiler_fails_no_other_run_of_its_worker(spots, tmp_path):
    def broken(run, checkpoint):
        with Recipe(run).pinned(), pytest.warns(RuntimeWarning):
            autograd._give_up(TorchDynamoException("this loss does not compile"))

    kept, compiled, before = Store(tmp_path), TINY.replace(form="compiled"), Run(form="auto").describe()["form"]
    other = compiled.replace(seed=1)
    assert "compiled form" in engine._train(compiled, kept.entry(compiled).identity, kept, (), broken)
    assert Run(form="auto").describe()["form"] == before
    assert engine._train(other, kept.entry(other).identity, kept, (), train) is None
