"""Peaks of score maps against the maxima alone: a plain, separable maximum of shifted maps that is compared with them.

``make bench-decode`` prints one table of medians and ratios, on one thread. Everything is measured in this run, in
turn, so that a machine that slows down slows all alike. With a path as argument the table is also written there as
JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from falloff import decode
from falloff.machine import machine, versions

SIZES = ((16, 16, 128, 128), (8, 80, 128, 128), (64, 17, 64, 48), (1, 1, 1024, 1024))
COUNT = 20
ROUNDS = 11
Work = Callable[[], object]


def shifted_maximum(scores: Tensor) -> Tensor:
    """Which pixels no other of their 3 x 3 exceeds: equals are all kept, and nothing is ranked or refined."""
    height, width = scores.shape[2:]
    padded = pad(scores, (1, 1, 1, 1), value=-torch.inf)
    across = padded[..., :width]
    for shift in (1, 2):
        across = torch.maximum(across, padded[..., shift : shift + width])
    around = across[..., :height, :]
    for shift in (1, 2):
        around = torch.maximum(around, across[..., shift : shift + height, :])
    return around == scores


def shifted_maximum_in_place(scores: Tensor) -> Tensor:
    """The same with as few copies as can be: two maps are written, and one of booleans."""
    across = scores.clone()
    torch.maximum(across[..., 1:], scores[..., :-1], out=across[..., 1:])
    torch.maximum(across[..., :-1], scores[..., 1:], out=across[..., :-1])
    around = across.clone()
    torch.maximum(around[..., 1:, :], across[..., :-1, :], out=around[..., 1:, :])
    torch.maximum(around[..., :-1, :], across[..., 1:, :], out=around[..., :-1, :])
    return around == scores


def decoders(shape: tuple[int, ...]) -> dict[str, Work]:
    """What is timed at one size, by name; the first is what all are compared with."""
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(0)).sigmoid()
    half, last = scores.half(), scores.contiguous(memory_format=torch.channels_last)
    todo: dict[str, Work] = {
        "3 x 3 maxima, shifted": lambda: shifted_maximum(scores),
        "3 x 3 maxima, shifted in place": lambda: shifted_maximum_in_place(scores),
    }
    for window in (3, 5, 7, 11):
        todo[f"peaks, window {window}"] = lambda window=window: decode.peaks(scores, count=COUNT, window=window)
    for refine in ("parabola", "log-parabola", "soft-argmax"):
        todo[f"peaks, {refine}"] = lambda refine=refine: decode.peaks(scores, count=COUNT, refine=refine)
    return todo | {
        "peaks, 100 an image": lambda: decode.peaks(scores, count=100),
        "peaks, float16": lambda: decode.peaks(half, count=COUNT),
        "peaks, channels last": lambda: decode.peaks(last, count=COUNT),
    }


def one_a_map(shape: tuple[int, ...]) -> dict[str, Work]:
    """The highest pixel of each map."""
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(0)).sigmoid()
    return {
        "maximum and where it is": lambda: scores.flatten(2).max(-1),
        "maximum alone": lambda: scores.amax((2, 3)),
        "peaks, per class": lambda: decode.peaks(scores, per_class=True),
        "peaks, per class, soft-argmax": lambda: decode.peaks(scores, per_class=True, refine="soft-argmax"),
    }


def measured(todo: dict[str, Work]) -> dict[str, float]:
    """Median milliseconds of each, all taking turns."""
    times: dict[str, list[float]] = {name: [] for name in todo}
    for turn in range(ROUNDS + 2):
        for name, work in todo.items():
            started = time.perf_counter()
            work()
            if turn >= 2:
                times[name].append(1e3 * (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("record", nargs="?", type=Path, help="where to write the table as JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print(f"{'':32s} {'(B, C, H, W)':22s} {'median ms':>10s} {'ratio to the first':>20s}")
    for contenders, shapes in ((decoders, SIZES), (one_a_map, ((32, 17, 64, 48),))):
        for shape in shapes:
            medians = measured(contenders(shape))
            first = next(iter(medians.values()))
            for name, median in medians.items():
                print(f"{name:32s} {shape!s:22s} {median:10.2f} {median / first:19.2f}x", flush=True)
                rows.append({"what": name, "size": shape, "milliseconds": round(median, 4)})
    if given.record is not None:
        where = machine(torch.device("cpu")) | versions() | {"threads": 1, "rounds": ROUNDS, "count": COUNT}
        given.record.write_text(json.dumps({"where": where, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
