"""Numbers of runs that are no plain means: trimmed means, shares, restricted means, the best of several trials."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import special, stats

from falloff.checks import check_count
from falloff.study.statistics import NAN, Interval, Values, check_confidence, flat, interval, runs_of_each

TRIM = 0.2  # of the runs at either end
MOST_SEEDS = 10_000


def trimmed(
    table: pd.DataFrame, metric: str, first: str, second: str, *, trim: float = TRIM, confidence: float = 0.95,
    by: str = "arm",
) -> Interval:
    """Interval of the difference of two arms' trimmed means, which a few collapsed runs do not move.

    The lowest and the highest :math:`\\lfloor 0.2\\, n \\rfloor` runs of each arm are left out of its mean, and
    the variance of what is left is that of the winsorised runs: Yuen's test with Welch's degrees of freedom. What is
    left out must be told apart, as the :func:`share` of collapsed runs.

    Args:
        table: of runs.
        metric: a column.
        first, second: arms, whose seeds are independent.
        trim: share left out at either end, in [0, 0.5).
        confidence: in (0, 1).

    Raises:
        ValueError: the table lacks a column or an arm, or has a seed of one twice; ``trim`` or ``confidence`` out of
            range.

    Source: Yuen 1974, "The two-sample trimmed t for unequal population variances".
    """
    check_confidence(confidence)
    if not 0 <= trim < 0.5:
        raise ValueError(f"trim must be in [0, 0.5), got {trim!r}")
    one, other = (runs[metric].to_numpy(float)
                  for runs in runs_of_each(table, (first, second), metric, by=by, paired=False))
    count = min(len(one), len(other))
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return Interval(NAN, NAN, NAN, count)
    mean = float(stats.trim_mean(one, trim) - stats.trim_mean(other, trim))
    if count == 1:
        return Interval(mean, NAN, NAN, 1)
    if all(np.ptp(np.sort(x)[cut:len(x) - cut]) == 0 for x in (one, other) for cut in [int(trim * len(x))]):
        return Interval(mean, mean, mean, count)  # the test's 0/0
    found = stats.ttest_ind(one, other, trim=trim, equal_var=False).confidence_interval(confidence)
    return Interval(mean, float(found.low), float(found.high), count)


def share(hits: int, count: int, confidence: float = 0.95) -> Interval:
    """A share of some runs, such as of those that collapsed, with Clopper and Pearson's exact interval.

    Raises:
        ValueError: ``hits`` not from 0 to ``count``, no run, or ``confidence`` out of range.

    Source: Clopper and Pearson 1934, "The use of confidence or fiducial limits".
    """
    check_confidence(confidence)
    check_count("count", count)
    if not 0 <= hits <= count:
        raise ValueError(f"hits must be from 0 to count, {count}, got {hits!r}")
    found = stats.binomtest(int(hits), int(count)).proportion_ci(confidence, method="exact")
    return Interval(hits / count, float(found.low), float(found.high), int(count))


def share_difference(first: Interval, second: Interval) -> Interval:
    """First minus second of two independent :func:`share`, at their confidence.

    .. math::

        &d - \\sqrt{(p_1 - l_1)^2 + (u_2 - p_2)^2}, \\\\
        &d + \\sqrt{(u_1 - p_1)^2 + (p_2 - l_2)^2}

    Newcombe's way to join two intervals; with exact ones it covers at least as often as it says, mostly more.

    Source: Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10.
    """
    mean = first.mean - second.mean
    return Interval(mean, mean - math.hypot(first.mean - first.low, second.high - second.mean),
                    mean + math.hypot(first.high - first.mean, second.mean - second.low),
                    min(first.count, second.count))


def restricted_mean(
    table: pd.DataFrame, arm: str, confidence: float = 0.95, *, by: str = "arm"
) -> tuple[Interval, Interval]:
    """An arm's mean of the steps to a goal, or of all T steps where it was never reached, and the share of such runs.

    .. math:: \\frac1n \\sum_{i=1}^n \\min(t_i, T)

    with Student's interval, and the share with its exact one. All runs must have had T steps; the mean speaks of that
    schedule and that T alone.

    Args:
        table: from :func:`~falloff.study.statistics.steps_to`.
        arm: one of its arms.
        confidence: in (0, 1).

    Raises:
        ValueError: no such table, or ``confidence`` out of range; a run that gave up before the last step of another.

    Source: Royston and Parmar 2013, "Restricted mean survival time".
    """
    [runs] = runs_of_each(table, (arm,), "steps", "reached", by=by, paired=False)
    steps, late = runs["steps"], runs.loc[~runs["reached"], "steps"]
    if (late < steps.max()).any():
        raise ValueError(f"table must have the same last step, {steps.max()}, in each run of {arm!r} that did not "
                         f"arrive, got {late.tolist()}")
    return interval(steps, confidence), share(len(late), len(steps), confidence)


def expected_best(scores: Values, most: int = 16) -> np.ndarray:
    """The expected best of k of some trials, for k from 1 to ``most``, higher being better.

    .. math:: \\sum_{i=k}^{n} x_{(i)} \\binom{i-1}{k-1} \\Big/ \\binom nk

    the mean over all subsets of k of the n scores, sorted: unbiased for independent trials, where the plug-in of Dodge
    et al. 2019 is too low. Of the points of a design it is that of a random subset of the design.

    Args:
        scores: of the trials, a NaN or infinite one not allowed: what failed has the score of the worst.
        most: at most their number.

    Returns:
        (most,), rising.

    Raises:
        ValueError: no score, or one that is not finite; ``most`` out of range.

    Source: Tang et al. 2020, "Showing your work doesn't always work".
    """
    x = np.sort(flat("scores", scores))
    check_count("most", most)
    if not np.isfinite(x).all() or most > len(x):
        raise ValueError(f"scores must be finite and at least {most}, got {scores!r}")
    place, k = np.arange(1, len(x) + 1), np.arange(1, most + 1)[:, None]
    return (special.comb(place - 1, k - 1) @ x) / special.comb(len(x), k[:, 0])


def spread_of_means(table: pd.DataFrame, metric: str, arms: list[str], *, by: str = "arm") -> float:
    """Standard deviation of the true means of some arms, without what the noise of the observed means adds.

    .. math:: \\sqrt{\\max\\Bigl(0, \\operatorname{var}_a \\bar x_a - \\frac1K \\sum_a \\frac{s_a^2}{n_a}\\Bigr)}

    The variance under the root is unbiased for independent arms; plain ranges and standard deviations of means grow
    with the number of arms and fall with that of runs even where all arms are alike.

    Raises:
        ValueError: the table lacks a column or an arm, or has a seed of one twice; fewer than two arms, or two seeds of
            one.
    """
    values = [runs[metric].to_numpy(float) for runs in runs_of_each(table, arms, metric, by=by, paired=False)]
    if len(values) < 2 or min(map(len, values)) < 2:
        raise ValueError(f"arms must be two or more, with two seeds or more each, got {arms}")
    noise = np.mean([x.var(ddof=1) / len(x) for x in values])
    return math.sqrt(max(0.0, np.var([x.mean() for x in values], ddof=1) - noise))


def seeds_to_decide(effect: Interval, away: float, confidence: float = 0.95, *, of_seeds: float = 1.0) -> float:
    """How many seeds would take an end of the interval to less than ``away`` from its mean, all else staying.

    The least n with

    .. math:: h \\sqrt{r \\frac{n_0}{n} + 1 - r}\\, \\frac{t_{n-1}}{t_{n_0-1}} < |\\text{away}|

    with h the distance from the mean to that end over :math:`n_0` seeds and r the share of its variance that comes from
    seeds. Infinite if no number does, or only one above 10,000; NaN where the interval is undefined. It is a guide: the
    mean of new seeds will not be that of the old ones.

    Args:
        effect: an interval over two seeds or more.
        away: from its mean to what it must leave out; above 0 that lies above the mean, and the high end must not
            reach it, below 0 the low end.
        confidence: of the interval, in (0, 1).
        of_seeds: r, in [0, 1]; the rest is the pictures', which more seeds do not lessen.
    """
    check_confidence(confidence)
    half = effect.high - effect.mean if away > 0 else effect.mean - effect.low
    if effect.count < 2 or not math.isfinite(half) or math.isnan(away):
        return NAN
    n = np.arange(2, MOST_SEEDS + 1)
    quantile = stats.t.ppf(0.5 + confidence / 2, n - 1)
    shrunk = half * np.sqrt(of_seeds * effect.count / n + 1 - of_seeds) * quantile / quantile[effect.count - 2]
    enough = n[shrunk < abs(away)]
    return float(enough[0]) if len(enough) else math.inf
