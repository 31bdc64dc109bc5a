"""The pixels of all maps as one ranking: how well scores tell labelled pixels from others.

Meant for labels so dense that a pixel, not a point, is what is found. Arguments and errors are those of
:mod:`falloff.metrics.maps`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from falloff import heatmaps
from falloff.metrics.maps import Mask, Scores, _checked, _refuse_nan
from falloff.points import Points

PART = 2**20  # pixels that are looked at at a time, so that memory holds little beside the maps


@dataclass(frozen=True, eq=False)
class Ranked:
    """Pixels by their scores, at the K distinct ones that labelled pixels have: no other moves recall.

    ``threshold`` rises; ``hits`` are the labelled pixels of that very score, ``claimed`` all pixels of at least that
    score. A pixel that does not count is in neither, nor is it ``labelled``.
    """

    scores: Scores
    labelled: Bool[Tensor, "batch classes height width"]
    mask: Mask | None
    threshold: Float[Tensor, " steps"]
    hits: Int64[Tensor, " steps"]
    claimed: Int64[Tensor, " steps"]

    @property
    def precision(self) -> Float[Tensor, " steps"]:
        """Share of labelled pixels among those of at least each score, float64."""
        return _from_here(self.hits).double() / self.claimed


def ranked(scores: Scores, truth: Points, *, mask: Mask | None = None, stride: int | float = 1) -> Ranked:
    """The ranking of all pixels that count, each in the map of each class.

    Labelled is the pixel nearest to each point, in the map of its class; two points on one pixel count once.

    Raises:
        ValueError: as in :mod:`falloff.metrics.maps`; no pixel that counts is labelled, so that recall is undefined.
    """
    scores, truth = _checked(scores, truth, stride, mask)
    labelled = heatmaps.positives(truth, tuple(scores.shape[2:]), scores.shape[1])
    if mask is not None:
        labelled &= mask
    if not bool(labelled.any()):
        raise ValueError("truth labels no pixel that counts: average precision is undefined")
    threshold, hits = scores[labelled].unique(return_counts=True)
    at_step = torch.zeros(len(threshold) + 1, dtype=torch.int64, device=scores.device)
    for _, place in _places(scores, mask, threshold):
        at_step.scatter_add_(0, place.flatten(), torch.ones_like(place.flatten()))
    return Ranked(scores, labelled, mask, threshold, hits, _from_here(at_step[1:]))


def average_precision(
    scores: Scores, truth: Points, *, mask: Mask | None = None, stride: int | float = 1
) -> float:
    r"""Average precision of all pixels of all maps as one ranking, in [0, 1]; chance is the share of labelled pixels.

    .. math:: AP = \frac{1}{G} \sum_k t_k \frac{T_k}{n_k}

    over the distinct scores, with :math:`t_k` of the G labelled pixels at one, :math:`T_k` labelled ones and
    :math:`n_k` of all at that one or above it. Pixels of equal score enter together. Precision is taken as it is;
    :func:`falloff.metrics.average_precision` of points first makes it monotone.

    Args and errors: as for :func:`ranked`.

    Source: scikit-learn's ``average_precision_score``, with ``average="micro"`` over the maps.
    """
    return average_precision_of(ranked(scores, truth, mask=mask, stride=stride))


def average_precision_of(ranked: Ranked) -> float:
    """:func:`average_precision` of a ranking."""
    return float((ranked.hits * ranked.precision).sum() / ranked.hits.sum())


def average_precision_influence_of(ranked: Ranked) -> Float[Tensor, " images"]:
    r"""How :func:`average_precision` of a ranking changes with the weight of each image, at weights of 1, ``(B,)``.

    An image of weight w counts as w images like it. With precision :math:`\pi_k = T_k / n_k`,

    .. math:: \frac{\partial AP}{\partial w_p} = \frac{1}{G} \sum_{i \in p} \left( y_i (\pi_{k_i} + A_{k_i} - AP) -
        B_{k_i} \right), \quad A_k = \sum_{s_j \le s_k} \frac{t_j}{n_j}, \quad
        B_k = \sum_{s_j \le s_k} \frac{t_j \pi_j}{n_j}

    over the pixels i of image p, :math:`y_i` of 1 on labelled ones, and :math:`k_i` the highest of the scores
    :math:`s_k` of labelled pixels that i reaches; one that reaches none adds nothing. The changes of all images sum to
    0.
    """
    precision = ranked.precision
    share = ranked.hits / ranked.claimed.double()
    none = precision.new_zeros(1)
    more = torch.cat([none, precision + share.cumsum(0) - average_precision_of(ranked)])
    less = torch.cat([none, (share * precision).cumsum(0)])
    change = []
    for start, place in _places(ranked.scores, ranked.mask, ranked.threshold):
        labelled = ranked.labelled[start : start + len(place)]
        change.append((labelled * more[place] - less[place]).flatten(1).sum(1))
    return torch.cat(change) / ranked.hits.sum()


def _places(scores: Tensor, mask: Tensor | None, threshold: Tensor) -> Iterator[tuple[int, Tensor]]:
    """How many thresholds each pixel reaches, 0 where it does not count; of some images each time, from one on."""
    images = max(1, PART // max(1, math.prod(scores.shape[1:])))
    for start in range(0, len(scores), images):
        part = scores[start : start + images].contiguous()
        hidden = None if mask is None else ~mask[start : start + images]
        _refuse_nan(part if hidden is None else part.masked_fill(hidden, 0.0), torch.arange(start, start + len(part)))
        place = torch.searchsorted(threshold, part, right=True)
        yield start, place if hidden is None else place.masked_fill_(hidden, 0)


def _from_here(counts: Tensor) -> Tensor:
    """The sum of each count and of all behind it."""
    return counts.flip(0).cumsum(0).flip(0)
