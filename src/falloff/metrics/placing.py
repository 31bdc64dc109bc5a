"""How near predictions come to labelled points, with those that are missed."""

from __future__ import annotations

from falloff.checks import check_positive
from falloff.metrics.matching import Distance, best_first, euclidean, match
from falloff.points import Points


def mean_pck(predicted: Points, truth: Points, *, radius: float, distance: Distance = euclidean) -> float:
    r"""The share of labelled points that a prediction comes within r of, averaged over r from 0 to ``radius``, in
    [0, 1].

    .. math:: \frac1R \int_0^R \mathrm{PCK}(r)\, dr = 1 - \frac1N \sum_{n=1}^{N} \frac{\min(e_n, R)}{R}

    with :math:`e_n` the distance of the prediction that :func:`match` gave to point n within R, infinite for a point
    that none was given to: what was missed counts as a miss at every radius, as a mean error over what was found would
    not have it. Of each image as many predictions as it has labelled points take part, the best by score: all systems
    make the same number of guesses.

    Args:
        predicted: points with ``score``.
        truth: labelled points of the same images.
        radius: R, in pixels, above 0.
        distance: as for :func:`match`.

    Raises:
        TypeError, ValueError: as for :func:`match`; no labelled point.

    Example:
        >>> truth = Points.from_lists([([[3, 4], [8, 8]], [0, 0])])
        >>> found = [[3, 5], [0, 0], [8, 8]], [0, 0, 0], [0.9, 0.5, 0.2]
        >>> mean_pck(Points.from_lists([found]), truth, radius=4.0)
        0.375
    """
    check_positive("radius", radius)
    total = int(truth.valid.sum())
    if total == 0:
        raise ValueError("truth holds no valid point: mean PCK is undefined")
    matched = match(_as_many(predicted, truth), truth, radius=radius, distance=distance)
    return float((1 - matched.distance[matched.truth >= 0].double() / radius).sum() / total)


def _as_many(predicted: Points, truth: Points) -> Points:
    """The best predictions of each image, as many as it has labelled points."""
    order = best_first(predicted)
    rank = order.argsort(dim=1)
    return predicted.where(rank < truth.valid.sum(1, keepdim=True))
