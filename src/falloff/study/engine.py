"""Many runs: what the store has is read, the rest is computed by Dask workers, one thread each."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Literal

import dask
import pandas as pd
import torch
from dask.system import CPU_COUNT
from distributed import Client, Future, LocalCluster, as_completed
from distributed.system import MEMORY_LIMIT

from falloff import data, digests, measures
from falloff.machine import check_device
from falloff.run import Option, Run
from falloff.study import costs
from falloff.study.floors import Floor
from falloff.study.progress import PREFIX, Progress
from falloff.study.store import FINAL, VALIDATION, Entry, Measuring, Store, flat
from falloff.training import Record, train

log = logging.getLogger(__name__)

SCHEDULER = "FALLOFF_SCHEDULER"
GPU_SLOTS = "FALLOFF_GPU_SLOTS"
TASKS = 500  # at most so many, nearly: thousands of short runs go to the workers some at a time
WORKER_MEMORY = 1.8e9  # bytes that a worker may need, PyTorch included, unless what it measures takes more

# Dask's own setting gives freed memory back to the system at once; each training step would then fault its maps in
# again, at twice the time.
_WORKER = {
    "MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_MAX_": "0", "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore:::falloff.data.npz",  # of a data set the process that asks has said it already
}


def run(runs: Sequence[Run], *, store: Store | None = None, stage: str = "") -> pd.DataFrame:
    """Do what is missing of some runs and return all of them as a table, one row each, in their order.

    The runs go to the Dask scheduler that ``FALLOFF_SCHEDULER`` names (``tcp://host:port``), or to a local cluster of
    single-threaded processes, as many as cores and memory allow, that lives as long as the call. On GPUs several runs
    share one: ``FALLOFF_GPU_SLOTS``, 4 by default. Each record is stored as its run ends, and a run that was killed on
    its way goes on from its last checkpoint. A script that calls this must guard its entry with
    ``if __name__ == "__main__"``: the workers import it.

    Args:
        runs: descriptions; the same one twice is computed once.
        store: where records are; ``runs`` of the project by default.
        stage: which part of a larger work they are, for whoever watches.

    Returns:
        The fields of each run, its metrics on the test split, those on the validation split (``val_...``), its wall
        time, and ``failure``: None, or why the run failed (its metrics are then NaN; a rerun tries it again).

    Raises:
        ValueError: no run was given, a device is not there, or a data set is faulty; before anything is computed, like
            the next.
        FileNotFoundError: a data set is not there.
        ConnectionError: no scheduler answers at ``FALLOFF_SCHEDULER``.
    """
    rows, runs = [], list(runs)
    for one, (stored, numbers, error) in zip(runs, results(runs, store or Store(), stage=stage), strict=True):
        # The file of a record's data may have had another name or place.
        row = one.describe() if stored is None else flat(stored, *numbers) | {"dataset": one.dataset}
        rows.append(row | {"failure": error})
    return _table(rows, [*FINAL.metrics, *(f"val_{name}" for name in VALIDATION.metrics), "seconds"])


def measured(
    runs: Sequence[Run],
    metrics: Sequence[str],
    *,
    split: str = "test",
    decoder: Mapping[str, Option] | Sequence[Mapping[str, Option]] = (),
    threshold: Literal["validation", "own"] | float = "validation",
    store: Store | None = None,
) -> pd.DataFrame:
    """Numbers about some runs, computed from what was trained: a new metric, decoder or split trains nothing again.

    Args:
        runs: descriptions; those that are not stored are trained first.
        metrics: by name: :data:`falloff.measures.METRICS`.
        split: of the runs' data.
        decoder: options of the system's decoder in place of its own, such as ``{"refine": "parabola"}``; or several
            such, which share what a system puts out.
        threshold: from which score a prediction counts, where a metric needs that: the best on validation images with
            the same decoder, the best on the split itself ("own"), or a number.
        store: where records are; ``runs`` of the project by default.

    Returns:
        One row for each run and decoder, in their order: the fields of the run, ``decoder``, the metrics, and
        ``failure``.

    Raises:
        ValueError: as for :func:`run`; an unknown metric.
    """
    for name in metrics:
        measures.get(name)
    decoders = [decoder] if isinstance(decoder, Mapping) else list(decoder) or [{}]
    asked = [Measuring(split=split, metrics=tuple(metrics), decoder=dict(one), threshold=threshold) for one in decoders]
    rows, runs = [], list(runs)
    for run, (_, numbers, error) in zip(runs, results(runs, store or Store(), asked, stage="measuring"), strict=True):
        rows += [run.describe() | {"decoder": dict(one), "failure": error, **found}
                 for one, found in zip(decoders, numbers or [{}] * len(decoders), strict=True)]
    return _table(rows, metrics)


def _table(rows: list[dict[str, Any]], measured: Sequence[str]) -> pd.DataFrame:
    """Rows as a table that has a column for each number, also where every run failed."""
    table = pd.DataFrame(rows)
    table = table.reindex(columns=[*table, *(name for name in measured if name not in table)])
    return table.assign(failure=table["failure"].astype(object).where(table["failure"].notna(), None))


def curves(runs: Sequence[Run], *, store: Store | None = None) -> pd.DataFrame:
    """The measurements along the way of some runs, one row per run and evaluation, on the validation split.

    Runs that failed have no row.
    """
    rows, runs = [], list(runs)
    for one, (stored, _, _) in zip(runs, results(runs, store or Store()), strict=True):
        if stored is not None:
            rows += [stored["run"] | {"dataset": one.dataset} | row for row in stored["curve"]]
    return pd.DataFrame(rows)


def record(one: Run, *, store: Store | None = None) -> Record:
    """The whole record of one run, trained first if need be: curve, weights and where it was made.

    Raises:
        RuntimeError: the run failed.
    """
    store = store or Store()
    [(_, _, error)] = results([one], store)
    found = store.get(one) if error is None else None
    if found is None:
        raise RuntimeError(f"the run failed: {error or 'its record could not be read'}")
    return found


@contextmanager
def cluster(devices: Iterable[str] = ("cpu",), memory: float = 0) -> Iterator[str]:
    """The address of the scheduler to use: the named one, or that of a local cluster that ends with the block.

    The local one has as many workers as :func:`workers` says.
    """
    address = os.environ.get(SCHEDULER)
    if address:
        yield address
        return
    with ExitStack() as stack:
        stack.enter_context(dask.config.set({"distributed.nanny.pre-spawn-environ": _WORKER}))
        with _ctrl_c_blocked():
            local = stack.enter_context(LocalCluster(
                n_workers=workers(devices, memory), threads_per_worker=1, processes=True, host="127.0.0.1",
                dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL,
            ))
        yield local.scheduler_address


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Ctrl-C, which a terminal sends to all, does not reach what is started in here: this process ends the rest itself.

    Threads and processes take the mask of blocked signals from what starts them, workers that replace others included.
    """
    resource_tracker.ensure_running()  # starting it later would clear the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def workers(devices: Iterable[str], memory: float = 0) -> int:
    """How many runs a local cluster does at once: as cores and memory allow, and the slots of the GPUs.

    Args:
        devices: of the runs.
        memory: bytes that one of them needs, where that is more than usual.
    """
    count = max(1, min(CPU_COUNT, int(MEMORY_LIMIT // max(WORKER_MEMORY, memory))))
    if any(torch.device(device).type == "cuda" for device in devices):
        given = os.environ.get(GPU_SLOTS, "4")
        if not given.isdecimal() or int(given) < 1:
            raise ValueError(f"{GPU_SLOTS} must be an integer above 0, got {given!r}")
        count = min(count, int(given) * max(1, torch.cuda.device_count()))
    return count


Found = tuple[dict[str, Any] | None, list[dict[str, float]], str | None]


def results(
    runs: Sequence[Run], store: Store, asked: Sequence[Measuring] = (VALIDATION, FINAL),
    train: Callable[..., Record] = train, stage: str = "",
) -> list[Found]:
    """What the store holds of each run and the numbers asked for, what is missing computed first; why some failed."""
    runs = list(runs)
    _check(runs)
    entries = [store.entry(one) for one in runs]
    wanted = {entry.key: entry for entry in entries}
    found = {name: _stored(entry, asked) for name, entry in wanted.items()}
    missing = {name: wanted[name] for name, stored in found.items() if stored is None}
    errors: dict[str, str | None] = dict.fromkeys(wanted)
    progress = Progress(len(wanted), len(wanted) - len(missing), stage)
    try:
        for name, error in _compute(missing, store, asked, train):
            stored = found[name] = _stored(wanted[name], asked)  # it may be there though the word of it was lost
            if stored is None:
                errors[name] = error or "its record could not be read"
                log.warning("%sfailed: %s: %s", PREFIX, wanted[name].run, errors[name])
            progress.advance(None if stored is None else stored[0]["run"] | stored[0]["curve"][-1])
    finally:
        progress.close()
    return [(*(found[entry.key] or (None, [])), errors[entry.key]) for entry in entries]


def _stored(entry: Entry, asked: Sequence[Measuring]) -> tuple[dict[str, Any], list[dict[str, float]]] | None:
    """A record and the numbers asked for, or None where one of them is missing."""
    stored = entry.read()
    numbers = [found for one in asked if stored and (found := entry.numbers(stored, one)) is not None]
    return (stored, numbers) if stored and len(numbers) == len(asked) else None


def _compute(
    missing: dict[str, Entry], store: Store, asked: Sequence[Measuring], train: Callable[..., Record]
) -> Iterator[tuple[str, str | None]]:
    """Train and measure what is missing; each one's key as it ends, and why it failed if it did."""
    if not missing:
        return
    jobs = {name: (_resolved(entry.run), entry.identity) for name, entry in missing.items()}
    names, size = list(missing), max(1, len(missing) // TASKS)
    parts = [names[start : start + size] for start in range(0, len(names), size)]
    devices = {entry.run.device for entry in missing.values()}
    memory = needed((entry.run for entry in missing.values()), asked)
    with cluster(devices, memory) as address, _client(address) as client:
        futures = client.map(
            _train_all, [[jobs[name] for name in part] for part in parts], folder=store.folder, asked=tuple(asked),
            train=train, pure=False,
            # Two clients that ask one scheduler for the same key share one computation.
            key=[f"train-{digests.of_text(*part, repr(asked))[:24]}-{store.folder}" for part in parts],
        )
        waiting, left = dict(zip(futures, parts, strict=True)), set(names)
        for future in as_completed(futures, raise_errors=False, loop=client.loop):
            part = waiting[future]
            left.difference_update(part)
            yield from zip(part, _outcomes(future, len(part)), strict=True)
        for name in left:  # the scheduler went away, and with it what it was asked for
            yield name, _LOST


def needed(runs: Iterable[Run | Floor], asked: Sequence[Measuring]) -> float:
    """Bytes that measuring the largest of some runs needs, where that decides anything: here."""
    if os.environ.get(SCHEDULER):
        return 0
    unlike = {costs.pictures(run): run for run in runs}
    return max(costs.process(costs.measured(run, asked)) for run in unlike.values())


_LOST = "the scheduler was lost; what had finished is stored, a rerun does the rest"


def _outcomes(future: Future, count: int) -> list[str | None]:
    """Why each run of a task failed, or None."""
    try:
        if future.status == "finished":
            return future.result()
        if future.status in ("cancelled", "lost"):
            return [_LOST] * count
        error = future.exception()
    except (OSError, CancelledError):  # the scheduler went away before it could say
        return [_LOST] * count
    return [f"{type(error).__name__}: {error}"] * count


@contextmanager
def _client(address: str) -> Iterator[Client]:
    try:
        client = Client(address, set_as_default=False, timeout=20)
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"no Dask scheduler answers at {address!r} ({SCHEDULER} names it, as tcp://host:port): {error}"
        ) from error
    with client:
        if not client.scheduler_info()["workers"]:
            log.warning("%sno worker has joined %s yet: waiting for one", PREFIX, address)
        yield client


def _resolved(one: Run) -> Run:
    """The run with its precision and form decided here: a worker on another processor must not decide otherwise."""
    described = one.describe()
    return one.replace(precision=described["precision"], form=described["form"])


def _train_all(
    jobs: list[tuple[Run, dict[str, str]]], *, folder: Path, asked: Sequence[Measuring], train: Callable[..., Record]
) -> list[str | None]:
    """What a worker does: train, measure and store; what went wrong comes back as words."""
    return [_train(one, wanted, Store(folder), asked, train) for one, wanted in jobs]


def _train(
    one: Run, wanted: dict[str, str], store: Store, asked: Sequence[Measuring], train: Callable[..., Record]
) -> str | None:
    try:
        entry = store.entry(one)
        if differing := [part for part in wanted if entry.identity[part] != wanted[part]]:
            return f"the worker's {' and '.join(differing)} differ from those of the process that asks"
        if one.device == "cuda" and torch.cuda.device_count() > 1:  # share out the GPUs
            torch.cuda.set_device(os.getpid() % torch.cuda.device_count())
        entry.get_or_train(asked, train)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _check(runs: list[Run]) -> None:
    if not runs:
        raise ValueError("runs must hold at least one Run, got none")
    for one in runs:
        if not isinstance(one, Run):
            raise TypeError(f"runs must hold Run, got {type(one).__name__}")
    if not os.environ.get(SCHEDULER):  # a cluster's workers may have what this machine lacks
        for device in {one.device for one in runs}:
            check_device(device)
    for name in {one.dataset for one in runs}:
        data.check(name)
