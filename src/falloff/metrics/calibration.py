"""Whether a score can be read as a probability."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from falloff.checks import check_count, plain
from falloff.metrics.matching import Distance, Match, euclidean, match
from falloff.points import Points


@dataclass(frozen=True)
class Reliability:
    """Of the predictions in each bin of scores: how many, their mean score, and the share that found a point.

    Bins that hold no prediction have NaN for both means. ``error`` is the expected calibration error, the mean of
    \\|score - share\\| over predictions.
    """

    count: Int64[Tensor, " bins"]
    score: Float[Tensor, " bins"]
    share: Float[Tensor, " bins"]
    error: float


def reliability(
    predicted: Points, truth: Points, *, radius: float, bins: int = 10, distance: Distance = euclidean
) -> Reliability:
    """Whether a score can be read as the probability that a point lies there.

    Args:
        predicted: points with ``score``; scores outside [0, 1] count in the outermost bins.
        truth: labelled points of the same images.
        radius, distance: as for :func:`match`.
        bins: of equal width over [0, 1], above 0.

    Raises:
        ValueError: as for :func:`match`; ``bins`` out of range.

    Source: the expected calibration error of Guo et al. 2017, section 2, applied to peaks.
    """
    return reliability_of(match(predicted, truth, radius=radius, distance=distance), bins=bins)


def reliability_of(matched: Match, *, bins: int = 10) -> Reliability:
    """:func:`reliability` of a match."""
    check_count("bins", bins)
    bins = plain(bins)
    score, hit = _scores_and_hits(matched)
    which = (score.clamp(0, 1) * bins).long().clamp(max=bins - 1)
    zero = torch.zeros(bins, dtype=torch.float64, device=score.device)
    count = zero.index_add(0, which, torch.ones_like(score))
    mean_score = zero.index_add(0, which, score) / count
    share = zero.index_add(0, which, hit) / count
    gap = torch.where(count > 0, (mean_score - share).abs() * count, 0.0).sum()
    return Reliability(count.long(), mean_score, share, float(gap / count.sum().clamp(min=1)))


def squared_calibration_error(
    probability: Float[Tensor, " forecasts"], happened: Float[Tensor, " forecasts"], *, bins: int = 15
) -> float:
    r"""Mean squared gap between probabilities and frequencies, without the part that is the noise of frequencies.

    .. math:: \sum_b \frac{n_b}{n} \left( (\bar p_b - \bar y_b)^2 - \frac{\bar y_b (1 - \bar y_b)}{n_b - 1} \right)

    over bins of about equally many forecasts, with :math:`\bar p_b` their mean probability and :math:`\bar y_b` the
    share that happened. About 0 for calibrated forecasts whatever their number, so that it may be a little negative,
    where the plain error grows as they become few. Equal probabilities share a bin. A forecast alone in its bin says
    nothing of its noise and does not count. NaN where none counts.

    Args:
        probability: in [0, 1], ``(n,)``.
        happened: 1 or 0, ``(n,)``.
        bins: at most so many, above 0.

    Raises:
        ValueError: ``bins`` out of range.

    Source: Kumar et al. 2019, Verified uncertainty calibration, section 5 (the debiased estimator).
    """
    check_count("bins", bins)
    if len(probability) == 0:
        return math.nan
    inner = probability.sort().values[[len(probability) * b // bins for b in range(1, bins)]].unique()
    _, which = torch.searchsorted(inner, probability, right=True).unique(return_inverse=True)
    zero = torch.zeros(int(which.max()) + 1, dtype=torch.float64, device=which.device)
    n, p, y = (zero.index_add(0, which, part.double())
               for part in (torch.ones_like(probability), probability, happened))
    n, p, y = (part[n > 1] for part in (n, p / n, y / n))
    return float((n * ((p - y).square() - y * (1 - y) / (n - 1))).sum() / n.sum())


def brier(predicted: Points, truth: Points, *, radius: float, distance: Distance = euclidean) -> float:
    r"""Mean squared difference between a prediction's score and whether it found a point, in [0, 1]; 0 is best.

    .. math:: \frac{1}{M} \sum_{m=1}^{M} (p_m - h_m)^2

    over the M valid predictions, with :math:`p_m` the score and :math:`h_m` 1 where :func:`match` gave the prediction
    a labelled point, else 0. NaN without predictions. Points that were missed do not count: read it beside recall.

    Args:
        predicted: points with ``score`` in [0, 1].
        truth, radius, distance: as for :func:`match`.

    Raises:
        TypeError, ValueError: as for :func:`match`; a score outside [0, 1].

    Source: Brier 1950, Verification of forecasts expressed in terms of probability, for one of two outcomes.
    """
    score, hit = _scores_and_hits(match(predicted, truth, radius=radius, distance=distance))
    outside = score[(score < 0) | (score > 1)]
    if len(outside):
        raise ValueError(f"predicted must have scores in [0, 1] to be read as probabilities, got {float(outside[0])}")
    return float((score - hit).square().mean())


def _scores_and_hits(matched: Match) -> tuple[Tensor, Tensor]:
    """Score of each valid prediction and 1 where it found a point, else 0, both ``(M,)`` and float64."""
    valid = matched.predicted.valid
    assert matched.predicted.score is not None
    return matched.predicted.score[valid].double(), (matched.truth >= 0)[valid].double()
