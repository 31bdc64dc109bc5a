"""How far labelled points lie from what was said of them, where a class may have several points in an image."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from falloff.checks import check_positive
from falloff.metrics.matching import Distance, Match, euclidean, match
from falloff.points import Points


def point_distances(
    predicted: Points, truth: Points, *, radius: float, distance: Distance = euclidean
) -> Float[Tensor, "batch points"]:
    """How far each labelled point lies from the prediction matched to it, with as many predictions as points.

    Of each image the predictions with the best scores count, as many as it has labelled points, whatever their class:
    a net that says more finds no more by it. They are matched as in :func:`match`, greedily within ``radius``.

    Returns:
        Pixels, ``(B, N)``; infinite where a point was missed, NaN on padding.

    Args and errors: as for :func:`match`.
    """
    return point_distances_of(match(predicted, truth, radius=radius, distance=distance))


def point_distances_of(matched: Match) -> Float[Tensor, "batch points"]:
    """:func:`point_distances` of a greedy match of all predictions."""
    there = matched.labelled.valid
    kept = matched.best(there.sum(1))
    return kept.of_points(kept.distance, torch.inf).where(there, torch.nan)


def mean_pck(distance: Float[Tensor, "batch points"], *, radius: float) -> float:
    r"""Mean PCK over all thresholds from 0 to ``radius``: the normalised area under the PCK curve, in [0, 1].

    .. math:: \frac{1}{R} \int_0^R PCK(r)\,dr = 1 - \frac{1}{G R} \sum_{g=1}^{G} \min(e_g, R)

    over the G labelled points, with :math:`e_g` how far each lies from its prediction: a missed point costs as much as
    one that was found at the very edge. NaN without points.

    Args:
        distance: from :func:`point_distances` at this radius: infinite where missed, NaN on padding.
        radius: R in pixels, above 0.

    Raises:
        TypeError, ValueError: ``radius`` out of range.
    """
    check_positive("radius", radius)
    return 1 - float(distance.clamp(max=radius).nanmean()) / radius


def mean_pck_influence(distance: Float[Tensor, "batch points"], *, radius: float) -> Float[Tensor, " batch"]:
    r"""How :func:`mean_pck` changes with the weight of each image, at weights of 1, ``(B,)``; they sum to 0.

    .. math:: \frac{1}{G} \sum_{g \in p} \left(1 - \frac{\min(e_g, R)}{R} - \overline{PCK}\right)
    """
    near = 1 - distance.clamp(max=radius) / radius
    return (near - near.nanmean()).nansum(1) / (~distance.isnan()).sum()
