"""Many runs: what the store has is read, the rest is computed by Dask workers, one thread each."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dask
import pandas as pd
from distributed import Client, LocalCluster, as_completed
from tqdm import tqdm

from falloff import data
from falloff.study.store import Store, flat, key
from falloff.training import Record, Run, check_device

log = logging.getLogger(__name__)

SCHEDULER = "FALLOFF_SCHEDULER"


# Dask's own setting gives freed memory back to the system at once; each training step would then fault its maps in
# again, at twice the time.
_WORKER = {
    "MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_MAX_": "0", "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
}


def run(runs: Sequence[Run], *, store: Store | None = None) -> pd.DataFrame:
    """Do what is missing of some runs and return all of them as a table, one row each, in their order.

    The runs go to the Dask scheduler that ``FALLOFF_SCHEDULER`` names (``tcp://host:port``), or to a local cluster
    with one single-threaded process per core that lives as long as the call. Each record is stored as its run ends.
    A script that calls this must guard its entry with ``if __name__ == "__main__"``: the workers import it.

    Args:
        runs: descriptions; the same one twice is computed once.
        store: where records are; ``runs/records`` of the project by default.

    Returns:
        The fields of each run, its metrics on the test split, those on the validation split (``val_...``), its wall
        time, and ``failure``: None, or why the run failed (its metrics are then NaN; a rerun tries it again).

    Raises:
        ValueError: no run was given; a device or a data set is not there, before anything is computed.
    """
    runs, store = list(runs), store or Store()
    _check(runs)
    errors = _compute([r for r in dict.fromkeys(runs) if store.get(r) is None], store)
    rows = []
    for one in runs:
        record = None if one in errors else store.get(one)
        rows.append(one.describe() if record is None else flat(record))
        rows[-1]["failure"] = errors.get(one) or (None if record else "its record could not be read")
    table = pd.DataFrame(rows)
    return table.assign(failure=table["failure"].astype(object).where(table["failure"].notna(), None))


def record(one: Run, *, store: Store | None = None) -> Record:
    """The whole record of one run, trained first if need be: curve, weights and where it was made."""
    store = store or Store()
    failure = run([one], store=store)["failure"].iloc[0]
    if failure is not None:
        raise RuntimeError(f"the run failed: {failure}")
    return store.get(one)


def curves(runs: Sequence[Run], *, store: Store | None = None) -> pd.DataFrame:
    """The measurements along the way of some runs, one row per run and evaluation, on the validation split."""
    store = store or Store()
    run(runs, store=store)
    rows = []
    for one in runs:
        found = store.get(one)
        if found is not None:
            rows += [one.describe() | row for row in found.curve]
    return pd.DataFrame(rows)


@contextmanager
def cluster() -> Iterator[str]:
    """The address of the scheduler to use: the named one, or that of a local cluster that ends with the block."""
    address = os.environ.get(SCHEDULER)
    if address:
        yield address
        return
    with dask.config.set({"distributed.nanny.pre-spawn-environ": _WORKER}), LocalCluster(
        n_workers=cores(), threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0",
        silence_logs=logging.ERROR,
    ) as local:
        yield local.scheduler_address


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _compute(missing: list[Run], store: Store) -> dict[Run, str]:
    """Train the missing runs; returns why those failed that did."""
    if not missing:
        return {}
    errors = {}
    with cluster() as address, Client(address, set_as_default=False) as client:
        # Two clients that ask one scheduler for the same key share one computation.
        futures = {
            client.submit(_train, _resolved(one), store.folder, key=f"{key(one)}-{store.folder}", retries=2): one
            for one in missing
        }
        finished = as_completed(futures, raise_errors=False, loop=client.loop)
        for future in tqdm(finished, total=len(futures), desc="runs", unit="run", file=sys.stderr, mininterval=1.0):
            one = futures[future]
            error = future.result() if future.status == "finished" else f"{future.exception()!r}"
            if error is not None:
                log.warning("a run failed: %s: %s", one, error)
                errors[one] = error
    return errors


def _resolved(one: Run) -> Run:
    """The run with its precision decided here: a worker on another processor must not decide otherwise."""
    return one.replace(precision=one.describe()["precision"])


def _train(one: Run, folder: os.PathLike) -> str | None:
    """What a worker does: train and store; what went wrong comes back as words."""
    try:
        Store(folder).get_or_train(one)
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
        data.digest(name)
