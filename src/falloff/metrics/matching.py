"""Which labelled point each prediction finds, by any distance between the two."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Shaped
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn.functional import pad
from torch.utils._pytree import tree_map

from falloff.checks import check_number, check_one_of, check_positive, plain
from falloff.points import Points

Method = Literal["greedy", "hungarian"]
Distance = Callable[[Points, Points], Tensor]
BLOCK = 2**17  # pairs that are looked at together


@dataclass(frozen=True)
class Match:
    """Which labelled point each prediction found, and the two that were matched.

    ``truth`` is the index of the labelled point, -1 for none, ``(B, M)``; ``distance`` is how far away it is, in the
    unit of the distance that matched them (pixels), NaN for none, ``(B, M)``. ``near`` is True for predictions with a
    labelled point of their class within the radius, whichever prediction took it, ``(B, M)``. All numbers at one radius
    follow from one match: the functions of ``falloff.metrics.ranking`` whose names end in ``_of`` take it.
    """

    truth: Int64[Tensor, "batch predictions"]
    distance: Float[Tensor, "batch predictions"]
    near: Bool[Tensor, "batch predictions"]
    predicted: Points = field(repr=False)
    labelled: Points = field(repr=False)

    @property
    def found(self) -> Bool[Tensor, "batch points"]:
        """True at labelled points that a prediction found, ``(B, N)``."""
        return self.of_points(torch.ones_like(self.truth, dtype=torch.bool), False)

    def of_points(self, values: Shaped[Tensor, "batch predictions"], missed: float) -> Shaped[Tensor, "batch points"]:
        """At each labelled point the value of the prediction that found it, ``missed`` where none did, ``(B, N)``."""
        room = torch.full(self.labelled.valid.shape, missed, dtype=values.dtype, device=values.device)
        # One column more, in front, takes what found nothing.
        return pad(room, (1, 0)).scatter(1, self.truth + 1, values)[:, 1:]

    def above(self, threshold: float) -> Match:
        """The match without the predictions that score below ``threshold``.

        Of a greedy match it is what matching ``predicted.above(threshold)`` gives: those taken away chose last.
        """
        assert self.predicted.score is not None
        check_number("threshold", threshold)
        return self._of_first(self.predicted.score >= plain(threshold))

    def best(self, count: Int64[Tensor, " batch"]) -> Match:
        """The match with no more than the ``count`` best predictions of each image, ``(B,)``, over all its classes.

        Of a greedy match it is what matching these alone gives. Of equal scores the earlier in the tensor is better.
        """
        return self._of_first(best_first(self.predicted).argsort(dim=1) < count[:, None])

    def _of_first(self, kept: Tensor) -> Match:
        """The match of the predictions that are kept, which all chose before the others."""
        return Match(torch.where(kept, self.truth, -1), torch.where(kept, self.distance, torch.nan), self.near & kept,
                     self.predicted.where(kept), self.labelled)


class Pairs(NamedTuple):
    """Predictions and labelled points that may match, ``(P,)``: the image, the index in it of either, the distance."""

    image: Tensor
    prediction: Tensor
    point: Tensor
    distance: Tensor


def euclidean(predicted: Points, truth: Points) -> Float[Tensor, "batch predictions points"]:
    """Pixels from each prediction to each labelled point, ``(B, M, N)``, float64."""
    return apart(predicted.xy[:, :, None], truth.xy[:, None])


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
        distance: how far predictions lie from labelled points, ``(B, M, N)``, from the two, of which it is given some
            images and predictions at a time, without padding; NaN matches nothing. :func:`euclidean`, or :func:`iou`
            of boxes, or :func:`oks_distance` of instances: with the last two, radius 0.5 asks for an IoU or OKS of at
            least 0.5.

    Raises:
        TypeError, ValueError: different numbers of images or of coordinates, no scores, ``radius`` out of range, or
            a ``method`` of another name.

    Source: Kuhn 1955, The Hungarian method for the assignment problem.
    """
    check_points(predicted, truth)
    check_positive("radius", radius)
    check_one_of("method", method, get_args(Method))
    predicted, truth, radius = detached(predicted), detached(truth), plain(radius)
    device, shape = predicted.xy.device, predicted.label.shape
    near, taken, found = torch.zeros(shape, dtype=torch.bool), set[tuple[int, int]](), []
    for pairs in _within(predicted, truth, radius, distance):
        near[pairs.image, pairs.prediction] = True
        found.append(_greedy(pairs, taken) if method == "greedy" else pairs)
    which, how_far = torch.full(shape, -1), torch.full(shape, torch.nan, dtype=torch.float64)
    if found:
        pairs = Pairs(*map(torch.cat, zip(*found, strict=True)))
        pairs = pairs if method == "greedy" else _hungarian(pairs)
        which[pairs.image, pairs.prediction] = pairs.point
        how_far = how_far.to(pairs.distance.dtype)
        how_far[pairs.image, pairs.prediction] = pairs.distance
    return Match(which.to(device), how_far.to(device), near.to(device), predicted, truth)


def best_first(predicted: Points) -> Int64[Tensor, "batch predictions"]:
    """Indices of the predictions by falling score, ``(B, M)``; those of padding come last."""
    assert predicted.score is not None
    order = predicted.score.argsort(dim=1, descending=True, stable=True)
    return order.gather(1, (~predicted.valid.gather(1, order)).byte().argsort(dim=1, stable=True))


def apart(one: Tensor, other: Tensor) -> Tensor:
    """Euclidean distances along the last axis, float64."""
    return torch.linalg.vector_norm(one.double() - other.double(), dim=-1)


def detached(points: Points) -> Points:
    """The points without the graph of the net that gave them."""
    return tree_map(Tensor.detach, points)


def _within(predicted: Points, truth: Points, radius: float, distance: Distance) -> Iterator[Pairs]:
    """All pairs of one class within a radius, on the CPU, some at a time: those of better predictions come earlier.

    Those of one prediction follow each other, the nearest first, and of equally near the earlier in the tensor.
    """
    order = best_first(predicted)
    turn = order.argsort(dim=1).cpu()
    many = int((predicted.valid.sum(1) * truth.valid.sum(1)).sum()) > BLOCK
    parts = (_near(predicted, truth, turn, radius) if many and distance is euclidean
             else _compared(predicted, truth, order, radius, distance))
    for pairs in parts:
        keys = (pairs.point, pairs.distance.double(), turn[pairs.image, pairs.prediction], pairs.image)
        sorting = torch.from_numpy(np.lexsort([key.numpy() for key in keys]))
        yield Pairs(*(part[sorting] for part in pairs))


def _near(predicted: Points, truth: Points, turn: Tensor, radius: float) -> Iterator[Pairs]:
    """The pairs of one class within a radius in pixels, found without measuring what is far apart."""
    (image, prediction, one), (_, point, other) = _places(predicted), _places(truth)
    if not (len(one) and len(other)):
        return
    both = torch.cat([one, other])[:, 2:]
    reach = min(radius, float((both.amax(0) - both.amin(0)).sum()))
    # Image and class are coordinates, too: what they tell apart is out of reach.
    unit = torch.tensor([2 * reach + 1] * 2 + [1] * both.shape[1], dtype=torch.float64)
    build = partial(KDTree, compact_nodes=False, balanced_tree=False)  # a tree is searched once, which is soon done
    tree = build((other * unit).numpy())
    ahead = torch.from_numpy(np.lexsort((turn[image, prediction].numpy(), image.numpy())))
    most = truth.valid.sum(1).cpu()[image[ahead]].cumsum(0)  # pairs that there can be up to each prediction
    for chosen in ahead.split((most // BLOCK).unique_consecutive(return_counts=True)[1].tolist()):
        places = build((one[chosen] * unit).numpy())
        # A little wider, so that at the very edge the same rounding decides as anywhere.
        found = places.sparse_distance_matrix(tree, reach * (1 + 1e-9), output_type="ndarray")
        row, column = chosen[found["i"]], torch.from_numpy(found["j"])
        away = apart(one[row, 2:], other[column, 2:])
        kept = away <= radius
        row, column = row[kept], column[kept]
        yield Pairs(image[row], prediction[row], point[column], away[kept])


def _places(points: Points) -> tuple[Tensor, Tensor, Tensor]:
    """Image and index of each valid point, and image, class and position as coordinates, float64, on the CPU."""
    image, slot = points.valid.cpu().nonzero(as_tuple=True)
    xy, label = points.xy.cpu()[image, slot].double(), points.label.cpu()[image, slot]
    return image, slot, torch.cat([image[:, None], label[:, None], xy], dim=1)


def _compared(
    predicted: Points, truth: Points, order: Tensor, radius: float, distance: Distance
) -> Iterator[Pairs]:
    """The pairs of one class within a radius, of all that there are."""
    there = (~truth.valid).byte().argsort(dim=1, stable=True)
    for images, rows, columns in _blocks(predicted.valid.sum(1).tolist(), truth.valid.sum(1).tolist()):
        row, column = order[images, rows], there[images, columns]
        one, other = _slots(predicted[images], row), _slots(truth[images], column)
        try:
            away = distance(one, other)
        except ValueError as error:
            if images.start == 0:
                raise
            raise ValueError(f"{error} (images are counted from image {images.start} on)") from error
        allowed = (
            one.valid[:, :, None] & other.valid[:, None]
            & (one.label[:, :, None] == other.label[:, None]) & (away <= radius)
        )
        image, m, n = allowed.nonzero(as_tuple=True)
        pairs = (image + images.start, row[image, m], column[image, n], away[allowed])
        yield Pairs(*(part.cpu() for part in pairs))


def _blocks(predictions: Sequence[int], points: Sequence[int]) -> Iterator[tuple[slice, slice, slice]]:
    """Images, predictions and labelled points that make at most ``BLOCK`` pairs, of how many each image has."""
    start = 0
    while start < len(points):
        stop, rows, columns = start, 0, 0
        while stop < len(points):
            most, longest = max(rows, predictions[stop]), max(columns, points[stop])
            if stop > start and (stop + 1 - start) * most * longest > BLOCK:
                break
            stop, rows, columns = stop + 1, most, longest
        step = max(1, BLOCK // ((stop - start) * max(1, columns)))
        for first in range(0, max(1, rows), step):
            yield slice(start, stop), slice(first, min(first + step, rows)), slice(columns)
        start = stop


def _slots(points: Points, chosen: Tensor) -> Points:
    """Some points of each image, by their indices ``(B, K)``."""
    image = torch.arange(len(chosen), device=chosen.device)[:, None]
    return tree_map(lambda part: part[image, chosen], points)


def _greedy(pairs: Pairs, taken: set[tuple[int, int]]) -> Pairs:
    """The pairs that match when predictions choose in their order; the labelled points that they take are added."""
    chosen, served = [], None
    for index, (image, prediction, point) in enumerate(zip(*(part.tolist() for part in pairs[:3]), strict=True)):
        if (image, prediction) != served and (image, point) not in taken:
            served = image, prediction
            taken.add((image, point))
            chosen.append(index)
    return Pairs(*(part[torch.tensor(chosen, dtype=torch.int64)] for part in pairs))


def _hungarian(pairs: Pairs) -> Pairs:
    """The pairs that match for the most matches and then the least distance."""
    chosen = []
    for image in pairs.image.unique():
        index = (pairs.image == image).nonzero()[:, 0]
        rows, row = pairs.prediction[index].unique(return_inverse=True)
        columns, column = pairs.point[index].unique(return_inverse=True)
        which = torch.full((len(rows), len(columns)), -1).index_put((row, column), index)
        distance = pairs.distance[index].double()
        # With every match at most 1, a miss costs more than all matches together: first their number, then distance.
        cost = torch.full(which.shape, 1.0 + min(which.shape), dtype=torch.float64)
        cost[row, column] = distance / (float(distance.max()) or 1.0)
        chosen.append(which[linear_sum_assignment(cost.numpy())])
    matched = torch.cat([*chosen, torch.zeros(0, dtype=torch.int64)])
    return Pairs(*(part[matched[matched >= 0]] for part in pairs))


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
    over = (points.valid & (points.label >= classes)).nonzero().tolist()
    if over:
        image, point = over[0]
        label = int(points.label[image, point])
        raise ValueError(f"{name} has label {label}, not in [0, {classes}), at image {image}, point {point}: there are "
                         f"{classes} classes")


def check_extra(name: str, points: Points, *needed: str) -> None:
    """Raise unless the points carry some named arrays in ``extra``."""
    missing = [one for one in needed if one not in points.extra]
    if missing:
        has = ", ".join(points.extra) or "nothing"
        raise ValueError(f"{name} must carry {missing[0]!r} in extra, which holds {has}")
