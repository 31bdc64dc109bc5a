"""Value and gradient from points against the published dense formula, other libraries and two floors.

``make bench`` prints one table of medians and ratios. Everything is measured in this run, in turn, so that a machine
that slows down slows all alike. Dense formulas get their target for free: drawing it is a table of its own. With a path
as argument the table is also written there as JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from falloff import heatmaps, losses
from falloff.machine import machine, versions
from falloff.points import Points

try:  # the extra "bench"
    import kornia
    import monai
except ImportError:
    kornia = monai = None

SIZES = ((16, 16, 128, 128, 1), (8, 80, 128, 128, 8), (1, 1, 1024, 1024, 1000), (64, 17, 64, 48, 1))
SIGMA = 1.5
ROUNDS = 11
Work = Callable[[], object]


def published(logits: Tensor, heatmap: Tensor) -> Tensor:
    """Law and Deng 2018, equation 1, written as the public libraries write it: on clamped probabilities, dense."""
    p = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    positive = heatmap.eq(1).float()
    gain = torch.log(p) * (1 - p) ** 2 * positive
    cost = torch.log(1 - p) * p**2 * (1 - heatmap) ** 4 * (1 - positive)
    return -(gain.sum() + cost.sum()) / positive.sum().clamp(min=1)


def scene(batch: int, classes: int, height: int, width: int, per_class: int, device: str) -> tuple[Tensor, Points]:
    """Random logits, and as many points in each map as asked."""
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([width - 1, height - 1])
    xy = (torch.rand(batch, classes * per_class, 2, generator=generator) * size).round()
    label = torch.arange(classes).repeat_interleave(per_class).expand(batch, -1).contiguous()
    points = Points(xy, label, torch.ones_like(label, dtype=torch.bool))
    logits = torch.randn(batch, classes, height, width, generator=generator) - 4
    return logits.to(device), points.to(device)


def drawn_in_a_loop(points: Points, size: tuple[int, int], classes: int) -> Tensor:
    """One Gaussian window after the other in Python, as the public libraries draw their targets."""
    maps = torch.zeros(len(points), classes, *size)
    reach = math.ceil(3 * SIGMA)
    for image, (places, labels) in enumerate(zip(points.xy.tolist(), points.label.tolist(), strict=True)):
        for (x, y), label in zip(places, labels, strict=True):
            left, top = max(0, round(x) - reach), max(0, round(y) - reach)
            window = maps[image, label, top : round(y) + reach + 1, left : round(x) + reach + 1]
            rows = torch.arange(top, top + window.shape[0])[:, None] - y
            columns = torch.arange(left, left + window.shape[1]) - x
            torch.maximum(window, torch.exp(-(rows**2 + columns**2) / (2 * SIGMA**2)), out=window)
    return maps


def steps(shape: tuple[int, ...], device: str) -> dict[str, Work]:
    """What is timed at one size, by name: value and gradient, and the floors."""
    logits, points = scene(*shape, device)
    heatmap = heatmaps.render(points, shape[2:4], shape[1], SIGMA)
    hard = heatmaps.positives(points, shape[2:4], shape[1]).float()
    loss, free = losses.make("distance-aware", sigma=SIGMA), torch.empty_like(logits)
    compiled = torch.compile(published, dynamic=False, isolate_recompiles=True)
    fused_floor = torch.compile(lambda x: torch.log(1 + torch.exp(x)), dynamic=False, isolate_recompiles=True)
    leaf = logits.clone().requires_grad_()

    def step(value: Callable[[Tensor], Tensor]) -> Work:
        def run() -> None:
            leaf.grad = None
            value(leaf).backward()

        return run

    def eager(x: Tensor) -> Tensor:
        os.environ["FALLOFF_COMPILE"] = "0"
        try:
            return loss(x, points)
        finally:
            os.environ["FALLOFF_COMPILE"] = "1"

    todo = {
        "copy": lambda: free.copy_(logits),
        "exp pass, log pass (eager)": lambda: torch.exp(logits, out=free).log_(),
        "exp and log pass (compiled)": lambda: fused_floor(logits),
        "from points": step(lambda x: loss(x, points)),
        "from points (eager)": step(eager),
        "published dense (eager)": step(lambda x: published(x, heatmap)),
        "published dense (compiled)": step(lambda x: compiled(x, heatmap)),
    }
    if kornia is not None:
        focal = monai.losses.FocalLoss(gamma=2.0, reduction="sum")
        todo["kornia focal, hard labels"] = step(
            lambda x: kornia.losses.binary_focal_loss_with_logits(x, hard, alpha=None, gamma=2.0, reduction="sum")
        )
        todo["MONAI focal, hard labels"] = step(lambda x: focal(x, hard))
    return todo


def drawings(shape: tuple[int, ...], device: str) -> dict[str, Work]:
    """Ways to draw the dense target at one size."""
    _, points = scene(*shape, device)
    return {
        "heatmaps.render": lambda: heatmaps.render(points, shape[2:4], shape[1], SIGMA),
        "one point after the other": lambda: drawn_in_a_loop(points, shape[2:4], shape[1]),
    }


def measured(todo: dict[str, Work], device: str) -> dict[str, float]:
    """Median milliseconds of each, all taking turns."""
    times: dict[str, list[float]] = {name: [] for name in todo}
    for turn in range(ROUNDS + 2):
        for name, work in todo.items():
            started = _now(device)
            work()
            if turn >= 2:
                times[name].append(1e3 * (_now(device) - started))
    return {name: statistics.median(values) for name, values in times.items()}


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("record", nargs="?", type=Path, help="where to write the table as JSON")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="all cores by default")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    tables = []
    for title, contenders, ours in (("Value and gradient", steps, "from points"),
                                    ("Drawing the dense target", drawings, "heatmaps.render")):
        print(f"\n{title:34s} {'(B, C, H, W, points a map)':30s} {'median ms':>10s} {'ratio to ' + ours:>26s}")
        rows = []
        for shape in SIZES:
            for name, median in (medians := measured(contenders(shape, given.device), given.device)).items():
                print(f"{name:34s} {shape!s:30s} {median:10.2f} {median / medians[ours]:25.2f}x", flush=True)
                rows.append({"what": name, "size": shape, "milliseconds": round(median, 4)})
        tables.append({"title": title, "ours": ours, "rows": rows})
    if kornia is None:
        print("\nkornia and MONAI are not installed: make bench installs them")
    if given.record is not None:
        where = machine(torch.device(given.device)) | versions()
        where |= {"threads": torch.get_num_threads(), "rounds": ROUNDS}
        if kornia is not None:
            where |= {"kornia": kornia.__version__, "monai": monai.__version__}
        given.record.write_text(json.dumps({"where": where, "tables": tables}, indent=1) + "\n")


if __name__ == "__main__":
    main()
