"""Many comparisons at once: intervals that all hold together, which arms may be the best, and how straight a line is.

All take :class:`~falloff.study.evidence.Means`, over seeds alone or over seeds and pictures, and draw what the
largest of many t statistics can be with variances that are as uncertain as the arms' seeds leave them. Draws are
the same each time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from falloff.study.evidence import Means
from falloff.study.statistics import NAN, Interval, Weights, check_confidence, slope_weights

DRAWS = 20_000
SEED = 14


@dataclass(frozen=True)
class Comparison:
    """A contrast among several: the interval that holds together with the others', and its adjusted p-value.

    ``p`` is below 1 - confidence where the interval leaves out 0.
    """

    interval: Interval
    p: float


def max_t(means: Means, contrasts: Sequence[Weights], confidence: float = 0.95) -> list[Comparison]:
    """Simultaneous intervals of several contrasts: all of them hold in ``confidence`` of studies.

    .. math::

        &\\sum_a w_{ja} \\bar x_a \\pm q \\sqrt{V_j}, \\\\
        &T_j = \\frac{\\sum_a w_{ja} Z_a}{\\sqrt{\\sum_a w_{ja}^2 v_a \\chi^2_a / (n_a - 1) + R_j}}

    with q the quantile of :math:`\\max_j |T_j|` over draws, Z normal with the covariance of the means, :math:`v_a`
    the variances of the means over seeds, each drawn anew with :math:`n_a - 1` degrees of freedom, and :math:`R_j`
    what pictures add to :math:`V_j` (:func:`falloff.study.evidence.contrast`). Arms may have other variances and other
    numbers of seeds, and contrasts may share arms. A contrast of an arm that has one seed or an undefined value is
    undefined, and the others hold without it.

    Args:
        means: of arms.
        contrasts: the weights of each, at least one.
        confidence: in (0, 1), of all of them together.

    Raises:
        ValueError: no contrast, or an arm that is not there; ``confidence`` out of range.

    Source: Hasler and Hothorn 2008, "Multiple contrast tests in the presence of heteroscedasticity", by simulation.
    """
    check_confidence(confidence)
    if not contrasts:
        raise ValueError(f"contrasts must hold at least one, got {contrasts!r}")
    alone = [means.interval(one) for one in contrasts]
    defined = [not np.isnan(one.low) for one in alone]
    if not all(defined):
        rest = iter(max_t(means, [one for one, there in zip(contrasts, defined, strict=True) if there], confidence)
                    if any(defined) else [])
        return [next(rest) if there else Comparison(one, NAN) for one, there in zip(alone, defined, strict=True)]
    means = means.of([arm for arm in means.arms if any(one.get(arm) for one in contrasts)])
    weights, counts = means.weights(contrasts), [one.count for one in alone]
    estimate, error = weights @ means.mean, _errors(means, weights)
    largest = np.abs(_draws(means, weights)).max(axis=1)
    half = np.quantile(largest, confidence) * error
    t = np.abs(np.divide(estimate, error, out=np.where(estimate == 0, 0.0, np.inf), where=error > 0))
    return [Comparison(Interval(float(mean), float(mean - by), float(mean + by), count),
                       float((1 + (largest >= at).sum()) / (1 + len(largest))))
            for mean, by, at, count in zip(estimate, half, t, counts, strict=True)]


def best_set(
    means: Means, confidence: float = 0.95, *, better: Literal["high", "low"] = "high"
) -> dict[str, Interval]:
    """How far each arm lies from the best of the others: those whose interval reaches above 0 may be the best.

    .. math::

        &U_i = \\max\\bigl(0, \\min_{j \\ne i} (\\bar x_i - \\bar x_j + q_i s_{ij})\\bigr), \\\\
        &L_i = \\min_{j \\in G, j \\ne i} \\min(0, \\bar x_i - \\bar x_j - q_j s_{ij})

    with :math:`q_i` the quantile of the largest one-sided t statistic of i against the others (:func:`max_t`), and G
    the arms whose U is above 0; :math:`L_i = 0` where i is all of G. All intervals of
    :math:`\\mu_i - \\max_{j \\ne i} \\mu_j` hold together in ``confidence`` of studies, so an arm as good as the
    best is in G as often as that.

    Args:
        means: of two arms or more.
        confidence: in (0, 1).
        better: whether a high or a low value is the better one; with "low" the intervals are those of
            :math:`\\min_{j \\ne i} \\mu_j - \\mu_i`, so that above 0 is the better side all the same.

    Returns:
        By arm, in the order given.

    Raises:
        ValueError: one arm; ``confidence`` out of range.

    Source: Hsu 1984, "Constrained simultaneous confidence intervals for multiple comparisons with the best"; Edwards
    and Hsu 1983.
    """
    check_confidence(confidence)
    count = len(means.arms)
    if count < 2:
        raise ValueError(f"means must be of two arms or more, got {', '.join(means.arms)}")
    sign = 1 if better == "high" else -1
    ahead, error, quantile = np.full((count, count), np.inf), np.zeros((count, count)), np.zeros(count)
    for i, arm in enumerate(means.arms):
        others = [j for j in range(count) if j != i]
        weights = means.weights([{arm: sign, means.arms[j]: -sign} for j in others])
        ahead[i, others], error[i, others] = weights @ means.mean, _errors(means, weights)
        quantile[i] = np.quantile(_draws(means, weights).max(axis=1), confidence)
    highest = np.maximum(0, (ahead + quantile[:, None] * error).min(axis=1))
    among = highest > 0
    lowest = np.minimum(0, ahead - quantile[None, :] * error)
    low = [0.0 if not (rest := among & (np.arange(count) != i)).any() else float(lowest[i, rest].min())
           for i in range(count)]
    return {arm: Interval(float(ahead[i].min()), low[i], float(highest[i]), int(means.counts.min()))
            for i, arm in enumerate(means.arms)}


def departures(x: Weights) -> dict[str, dict[str, float]]:
    """By arm, the contrast that is how far its mean lies off the least-squares line on ``x``, a number for each arm.

    Simultaneous intervals (:func:`max_t`) of these say where a line does not fit; the smallest of their p-values is
    that of the lack of fit.

    Raises:
        ValueError: fewer than three arms, or two different numbers; a number that is not finite.
    """
    if len(x) < 3:
        raise ValueError(f"x must hold three arms or more: a line goes through two, got {dict(x)}")
    slope, middle = slope_weights(x), float(np.mean(list(x.values())))
    return {arm: {other: (arm == other) - 1 / len(x) - (at - middle) * slope[other] for other in x}
            for arm, at in x.items()}


def _errors(means: Means, weights: np.ndarray) -> np.ndarray:
    return np.sqrt(weights**2 @ means.seeds + means.beyond_seeds(weights))


def _draws(means: Means, weights: np.ndarray) -> np.ndarray:
    """Draws of the contrasts' t statistics around the truth, (DRAWS, J); 0 where nothing varies."""
    normal, chi2 = _standard(tuple(means.counts.tolist()), DRAWS)
    values, vectors = np.linalg.eigh(np.diag(means.seeds) + means.pictures)
    root = vectors * np.sqrt(values.clip(0))
    drawn = normal @ (weights @ root).T
    total = chi2 @ (weights**2 * means.seeds).T + means.beyond_seeds(weights)
    return np.divide(drawn, np.sqrt(total), out=np.zeros_like(drawn), where=total > 0)


@functools.lru_cache(maxsize=8)
def _standard(counts: tuple[int, ...], draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal draws and, over their degrees of freedom, chi-squared ones, each (draws, K)."""
    rng, freedom = np.random.default_rng(SEED), np.array(counts) - 1
    shape = draws, len(counts)
    return rng.standard_normal(shape), rng.chisquare(freedom, shape) / freedom
