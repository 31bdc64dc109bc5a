"""Value and gradient of the distance-aware loss from points, against the published dense formula and two floors.

``make bench`` prints one table of medians and ratios, all measured in this run, in turn, so that a machine that slows
down slows all of them. The dense formula gets its target for free: drawing it is not counted.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from falloff import heatmaps, losses
from falloff.points import Points

SIZES = ((16, 16, 128, 128, 1), (8, 80, 128, 128, 8), (1, 1, 1024, 1024, 1000), (64, 17, 64, 48, 1))
ROUNDS = 9


def published(logits: Tensor, heatmap: Tensor) -> Tensor:
    """Law and Deng 2018, equation 1, written as the public libraries write it: on clamped probabilities, dense."""
    p = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    positive = heatmap.eq(1).float()
    gain = torch.log(p) * (1 - p) ** 2 * positive
    cost = torch.log(1 - p) * p**2 * (1 - heatmap) ** 4 * (1 - positive)
    return -(gain.sum() + cost.sum()) / positive.sum().clamp(min=1)


def scene(batch: int, classes: int, height: int, width: int, per_class: int) -> tuple[Tensor, Points]:
    """Random logits, and as many points in each map as asked."""
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([width - 1, height - 1])
    xy = (torch.rand(batch, classes * per_class, 2, generator=generator) * size).round()
    label = torch.arange(classes).repeat_interleave(per_class).expand(batch, -1).contiguous()
    points = Points(xy, label, torch.ones_like(label, dtype=torch.bool))
    return torch.randn(batch, classes, height, width, generator=generator) - 4, points


def contenders(shape: tuple[int, ...]) -> dict[str, Callable[[], object]]:
    """What is timed at one size, by name."""
    logits, points = scene(*shape)
    heatmap = heatmaps.render(points, shape[2:4], shape[1], 1.5)
    loss, free = losses.make("distance-aware"), torch.empty_like(logits)

    def step(value: Callable[[Tensor], Tensor]) -> None:
        leaf = logits.requires_grad_()
        leaf.grad = None
        value(leaf).backward()

    return {
        "copy": lambda: free.copy_(logits.detach()),
        "exp and log pass": lambda: torch.exp(logits.detach(), out=free).log1p_(),
        "from points": lambda: step(lambda x: loss(x, points)),
        "published, target given": lambda: step(lambda x: published(x, heatmap)),
    }


def main() -> None:
    """Print the table."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    print(f"{'size (B, C, H, W, points a map)':36s} {'what':26s} {'median ms':>10s} {'of from points':>15s}")
    for shape in SIZES:
        todo = contenders(shape)
        times: dict[str, list[float]] = {name: [] for name in todo}
        for turn in range(ROUNDS + 2):
            for name, work in todo.items():
                started = time.perf_counter()
                work()
                if turn >= 2:
                    times[name].append(1e3 * (time.perf_counter() - started))
        medians = {name: statistics.median(values) for name, values in times.items()}
        for name, median in medians.items():
            print(f"{shape!s:36s} {name:26s} {median:10.2f} {median / medians['from points']:14.2f}x")


if __name__ == "__main__":
    main()
