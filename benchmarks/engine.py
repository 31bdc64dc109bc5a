"""What the engine adds to a run: runs that compute nothing, through workers and store, and stored runs looked up.

``make bench-engine`` times, for each count of runs and in turn: all of them done and stored; all read again as a table;
Dask alone, with as many tasks that do nothing over the same workers; and as many files of the same content written,
flushed and renamed. With a path as argument the times are also written there as JSON, and the curve beside it as SVG.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from distributed import Client, as_completed

from falloff import plots
from falloff.machine import machine, versions
from falloff.project import written
from falloff.run import Run
from falloff.study import Store, engine
from falloff.study.store import FINAL, VALIDATION
from falloff.training import Record

COUNTS = (100, 300, 1000, 3000, 10000)
NUMBERS = dict.fromkeys(FINAL.metrics, 0.5)


def nothing(run: Run, checkpoint: object = None) -> Record:
    """A record of the usual size, computed from nothing."""
    curve = [{"step": step, "train_loss": 0.1, **{name: 0.5 for name in run.watched}} for step in range(10)]
    return Record(run, curve, 0.0, {"torch": "none"}, {"model": "none"}, {}, NUMBERS, NUMBERS)


def task(number: int) -> int:
    """What Dask alone is given."""
    return number


def dask_alone(count: int) -> None:
    with engine.cluster() as address, Client(address, set_as_default=False) as client:
        for future in as_completed(client.map(task, range(count), pure=False), loop=client.loop):
            future.result()


def files_alone(count: int, folder: Path, content: str) -> None:
    for number in range(count):
        with written(folder / f"{number}.json") as temporary:
            temporary.write_text(content)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(count: int) -> dict[str, float]:
    """Milliseconds for each run."""
    runs = [Run(seed=seed) for seed in range(count)]
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as home:  # the disk that runs/ is on
        store = Store(Path(home, "runs"))
        done = seconds(lambda: engine.results(runs, store, (VALIDATION, FINAL), nothing))
        content = next((store.folder / "records").glob("*.json")).read_text()
        found = {
            "done and stored": done,
            "looked up": seconds(lambda: engine.run(runs, store=store)),
            "Dask alone": seconds(lambda: dask_alone(count)),
            "files alone": seconds(lambda: files_alone(count, Path(home, "files"), content)),
        }
    return {what: 1000 * spent / count for what, spent in found.items()}


def draw(rows: list[dict], path: Path) -> None:
    """Seconds for all runs against their number."""
    fig, ax = plots.new(height=3.2)
    for what, color, style in (("done and stored", plots.INK, "-"), ("Dask alone", plots.MUTED, "--"),
                               ("files alone", plots.MUTED, ":"), ("looked up", plots.INK, "-.")):
        mine = [(row["size"][0], row["milliseconds"] * row["size"][0] / 1000) for row in rows if row["what"] == what]
        x, y = zip(*mine, strict=True)
        ax.plot(x, y, style, color=color, marker="o", markersize=4, label=what)
    ax.set(xscale="log", yscale="log")
    ax.legend(loc="upper left", bbox_to_anchor=(0, 1.3), ncols=2)
    plots.axes(ax, x="runs", y="seconds for all of them")
    with written(path) as temporary:
        fig.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("record", nargs="?", type=Path)
    parser.add_argument("--most", type=int, default=COUNTS[-1], help="the largest number of runs")
    given = parser.parse_args()
    os.environ["FALLOFF_PROGRESS"] = "none"
    rows = []
    for count in (count for count in COUNTS if count <= given.most):
        found = measure(count)
        rows += [{"what": what, "size": [count], "milliseconds": value} for what, value in found.items()]
        shown = ", ".join(f"{what} {value:.2f} ms each" for what, value in found.items())
        print(f"{count:6d} runs: {shown}", flush=True)
    if given.record:
        where = machine(torch.device("cpu")) | versions() | {"threads": engine.workers(["cpu"]), "rounds": 1}
        table = {"title": "A run that computes nothing", "ours": "done and stored", "axes": "runs", "rows": rows}
        with written(given.record) as temporary:
            temporary.write_text(json.dumps({"where": where, "tables": [table]}, indent=1) + "\n")
        draw(rows, given.record.with_suffix(".svg"))


if __name__ == "__main__":
    main()
