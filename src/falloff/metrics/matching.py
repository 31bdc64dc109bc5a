"""Which labelled point each prediction finds, by any distance between the two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import pad

from falloff.checks import check_one_of, check_positive
from falloff.points import Points

Method = Literal["greedy", "hungarian"]
Distance = Callable[[Points, Points], Tensor]


@dataclass(frozen=True)
class Match:
    """Which labelled point each prediction found, and the two that were matched.

    ``truth`` is the index of the labelled point, -1 for none, ``(B, M)``; ``distance`` is how far away it is, in the
    unit of the distance that matched them (pixels), NaN for none, ``(B, M)``. All numbers at one radius follow from
    one match: the functions of ``falloff.metrics.ranking`` whose names end in ``_of`` take it.
    """

    truth: Int64[Tensor, "batch predictions"]
    distance: Float[Tensor, "batch predictions"]
    predicted: Points = field(repr=False)
    labelled: Points = field(repr=False)

    @property
    def found(self) -> Bool[Tensor, "batch points"]:
        """True at labelled points that a prediction found, ``(B, N)``."""
        # One column more, in front, answers for "none".
        return pad(torch.zeros_like(self.labelled.valid), (1, 0)).scatter(1, self.truth + 1, True)[:, 1:]

    def above(self, threshold: float) -> Match:
        """The match without the predictions that score below ``threshold``.

        Of a greedy match it is what matching ``predicted.above(threshold)`` gives: those taken away chose last.
        """
        assert self.predicted.score is not None
        kept = self.predicted.score >= threshold
        distance = torch.where(kept, self.distance, torch.nan)
        return Match(torch.where(kept, self.truth, -1), distance, self.predicted.where(kept), self.labelled)


def euclidean(predicted: Points, truth: Points) -> Float[Tensor, "batch predictions points"]:
    """Pixels from each prediction to each labelled point, ``(B, M, N)``, float64."""
    return torch.linalg.vector_norm(predicted.xy[:, :, None].double() - truth.xy[:, None].double(), dim=-1)


def match(
    predicted: Points, truth: Points, *, radius: float, method: Method = "greedy", distance: Distance = euclidean
) -> Match:
    """Match predictions to labelled points, image by image and class by class, each to at most one of the other.

    "greedy" takes the best score first: each prediction gets the nearest labelled point of its class, within
    ``radius``, that none before it took; of equal scores the earlier in the tensor goes first. "hungarian" does not
    look at scores: of all ways to match within ``radius`` it takes one with the most matches and, among those, the
    least total distance. Either way a second prediction on the same point is false.

    Args:
        predicted: points with ``score``.
        truth: labelled points of the same images.
        radius: largest distance of a match in pixels, or in the unit of ``distance``, above 0; a distance equal to it
            still matches.
        method: "greedy", which average precision is defined by, or "hungarian".
        distance: how far predictions lie from labelled points, ``(B, M, N)``, from the two; NaN matches nothing.
            :func:`euclidean`, or :func:`iou` of boxes, or :func:`oks_distance` of instances: with the last two,
            radius 0.5 asks for an IoU or OKS of at least 0.5.

    Raises:
        TypeError, ValueError: different numbers of images or of coordinates, no scores, ``radius`` out of range, or
            a ``method`` of another name.

    Source: Kuhn 1955, The Hungarian method for the assignment problem.
    """
    check_points(predicted, truth)
    check_positive("radius", radius)
    check_one_of("method", method, get_args(Method))
    cost = costs(predicted, truth, radius=radius, distance=distance)
    which = _greedy(cost, best_first(predicted)) if method == "greedy" else _hungarian(cost)
    # One column more, in front, answers for "none".
    how_far = pad(cost, (1, 0), value=torch.nan).gather(2, which[:, :, None] + 1)[:, :, 0]
    return Match(which, how_far, predicted, truth)


def costs(
    predicted: Points, truth: Points, *, radius: float = torch.inf, distance: Distance = euclidean
) -> Float[Tensor, "batch predictions points"]:
    """The distance from each prediction to each labelled point, ``(B, M, N)``, infinite where the two cannot match."""
    cost = distance(predicted, truth)
    allowed = (
        predicted.valid[:, :, None] & truth.valid[:, None]
        & (predicted.label[:, :, None] == truth.label[:, None]) & (cost <= radius)
    )
    return torch.where(allowed, cost, torch.inf)


def best_first(predicted: Points) -> Int64[Tensor, "batch predictions"]:
    """Indices of the predictions by falling score, ``(B, M)``."""
    assert predicted.score is not None
    return torch.where(predicted.valid, predicted.score, -torch.inf).argsort(dim=1, descending=True, stable=True)


def _greedy(distance: Tensor, order: Tensor) -> Tensor:
    """Labelled point of each prediction when they choose in an order, ``(B, M)``, -1 for none."""
    batch, count, points = distance.shape
    which = torch.full((batch, count), -1, dtype=torch.int64, device=distance.device)
    if points == 0:
        return which
    taken = torch.zeros(batch, points, dtype=torch.bool, device=distance.device)
    images = torch.arange(batch, device=distance.device)
    for turn in order.T:  # all images at once; each in its own order
        nearest, point = torch.where(taken, torch.inf, distance[images, turn]).min(dim=1)
        hit = torch.isfinite(nearest)
        which[images, turn] = torch.where(hit, point, -1)
        taken[images, point] |= hit
    return which


def _hungarian(distance: Tensor) -> Tensor:
    """Labelled point of each prediction for the most matches and then the least distance, ``(B, M)``, -1 for none."""
    which = torch.full(distance.shape[:2], -1, dtype=torch.int64)
    for image, cost in enumerate(distance.detach().cpu()):
        allowed = torch.isfinite(cost)
        longest = float(cost[allowed].max()) if allowed.any() else 0.0
        # With every match at most 1, a miss costs more than all matches together: first their number, then distance.
        cost = torch.where(allowed, cost / (longest or 1.0), 1.0 + min(cost.shape))
        rows, columns = map(torch.from_numpy, linear_sum_assignment(cost.numpy()))
        which[image, rows] = torch.where(allowed[rows, columns], columns, -1)
    return which.to(distance.device)


def check_points(predicted: Points, truth: Points) -> None:
    """Raise unless the two are points of as many images and axes, and the predictions have scores."""
    for name, points in (("predicted", predicted), ("truth", truth)):
        if not isinstance(points, Points):
            raise TypeError(f"{name} must be falloff.points.Points, got {type(points).__name__}")
    if predicted.score is None:
        raise ValueError("predicted carries no score: metrics need to know which prediction comes first")
    if len(predicted) != len(truth):
        raise ValueError(f"predicted holds {len(predicted)} images, truth {len(truth)}: the two must be equal")
    axes = predicted.xy.shape[-1], truth.xy.shape[-1]
    if axes[0] != axes[1]:
        raise ValueError(f"predicted has {axes[0]} coordinates per point, truth {axes[1]}: the two must be equal")


def check_labels(name: str, points: Points, classes: int) -> None:
    """Raise unless all labels are in [0, classes)."""
    # Not of ``extent``, which counts those of points that a slice or a threshold took away.
    over = points.label[points.valid & (points.label >= classes)]
    if len(over):
        raise ValueError(f"{name} has label {int(over[0])}, not in [0, {classes}): there are {classes} classes")


def check_extra(name: str, points: Points, *needed: str) -> None:
    """Raise unless the points carry some named arrays in ``extra``."""
    missing = [one for one in needed if one not in points.extra]
    if missing:
        has = ", ".join(points.extra) or "nothing"
        raise ValueError(f"{name} must carry {missing[0]!r} in extra, which holds {has}")
