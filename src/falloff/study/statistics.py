"""What a few runs allow one to say: intervals, contrasts of arms, steps to a threshold, many tests.

A table has a row for each run, which its columns ``arm`` and ``seed`` name; ``by`` is the column that names the arm, if
it is another. A value that is undefined for one run (NaN) leaves what is computed from it undefined: no run is dropped
in silence.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
from scipy import stats

from falloff.checks import check_count

Values: TypeAlias = Sequence[float] | np.ndarray | pd.Series
Weights = Mapping[str, float]
NAN, INF = math.nan, math.inf


@dataclass(frozen=True)
class Interval:
    """An estimate from ``count`` runs and the ends of its interval.

    ``mean`` is the mean, or what the function that made it estimates; NaN if the runs do not define it, in which case a
    finite end limits it still. The ends are NaN for one seed. What is infinite lies beyond all that was observed.
    """

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return self.rounded(3)

    def rounded(self, digits: int) -> str:
        """Mean and interval with so many digits behind the point."""
        if math.isnan(self.mean):
            if math.isfinite(self.low):
                return f"above {self.low:.{digits}f}"
            return f"below {self.high:.{digits}f}" if math.isfinite(self.high) else "undefined"
        if math.isnan(self.high):
            return f"{self.mean:.{digits}f} (one seed)"
        below, above = f"{self.mean - self.low:.{digits}f}", f"{self.high - self.mean:.{digits}f}"
        if below == above:
            return f"{self.mean:.{digits}f}\u00a0±\u00a0{above}"
        one = f"{{:.{digits}f}}"
        return self.in_words(one, f" [{one}, {one}]")

    def in_words(self, mean: str = "{:.3f}", ends: str = " [{:.3f}, {:.3f}]") -> str:
        """As a sentence has it: the mean, then its ends; one seed has none, and without a mean it is as ``str`` says.

        Args:
            mean: how the mean is written, with its format.
            ends: how the low and the high end follow it.
        """
        if math.isnan(self.mean):
            return str(self)
        return mean.format(self.mean) + ("" if math.isnan(self.high) else ends.format(self.low, self.high))


def interval(values: Values, confidence: float = 0.95) -> Interval:
    """Mean of a few independent values with Student's t interval.

    .. math:: \\bar x \\pm t_{n-1} \\frac{s}{\\sqrt n}

    One value has a mean and no ends; a NaN or infinite value leaves all of it NaN.

    Args:
        values: at least one.
        confidence: in (0, 1).

    Raises:
        ValueError: no value, or ``confidence`` out of range.
    """
    x = flat("values", values)
    check_confidence(confidence)
    if not np.isfinite(x).all():
        return Interval(NAN, NAN, NAN, len(x))
    if len(x) == 1:
        return Interval(float(x[0]), NAN, NAN, 1)
    half = stats.t.ppf(0.5 + confidence / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return Interval(float(x.mean()), float(x.mean() - half), float(x.mean() + half), len(x))


def paired(table: pd.DataFrame, metric: str, first: str, second: str, *, by: str = "arm") -> Interval:
    """Interval of the mean of ``first - second`` in a metric, seed by seed: a :func:`contrast` of two arms.

    A seed gives both the same weights and the same images in the same order, so what it does to both alike cancels. A
    metric that is NaN for a run of the two leaves the difference undefined.

    Raises:
        ValueError: the table lacks a column, or one of the two lacks a seed of the table or has it twice.
    """
    return contrast(table, metric, {first: 1, second: -1}, by=by)


def paired_p(table: pd.DataFrame, metric: str, first: str, second: str, *, by: str = "arm") -> float:
    """p-value of Student's test that the mean of ``first - second``, seed by seed, is 0; NaN for one seed.

    Below 0.05 where the interval of :func:`paired` leaves out 0. Of several such tests, correct with :func:`holm`.

    Raises:
        ValueError: as for :func:`paired`.
    """
    one, other = runs_of_each(table, (first, second), metric, by=by, paired=True)
    difference = (one[metric] - other[metric]).to_numpy()
    if len(difference) < 2 or not np.isfinite(difference).all():
        return NAN
    if np.ptp(difference) == 0:  # the test's 0/0 or 1/0
        return 1.0 if difference[0] == 0 else 0.0
    return float(stats.ttest_1samp(difference, 0.0).pvalue)


# Contrasts.


def contrast(
    table: pd.DataFrame, metric: str, weights: Weights, *, paired: bool = True, confidence: float = 0.95,
    censored_at: str | None = None, by: str = "arm",
) -> Interval:
    """Interval of a weighted sum of the means of some arms in a metric.

    .. math::

        &\\sum_a w_a \\bar x_a \\pm t_\\nu \\sqrt{\\sum_a v_a}, \\\\
        &v_a = \\frac{w_a^2 s_a^2}{n_a}, \\quad
        \\nu = \\frac{(\\sum_a v_a)^2}{\\sum_a v_a^2 / (n_a - 1)}

    for arms whose seeds are independent (Welch and Satterthwaite). Paired, it is the t interval of the sums seed by
    seed, from which cancels what a seed does to all of the arms alike.

    Args:
        table: of runs.
        metric: a column.
        weights: of each arm by name, such as ``{"focal": 1, "bce": -1}`` for a difference.
        paired: seed by seed; the arms then have the same seeds.
        confidence: in (0, 1).
        censored_at: the column that bounds a run which is NaN in the metric from below: it took more than that. If such
            a run counts, the mean is NaN; the bounds, taken for values, give a limit of the mean, and the outer end of
            its interval is the one end that is finite.

    Returns:
        Its ``count`` is that of the arm with the fewest runs.

    Raises:
        ValueError: the table lacks a column or an arm, an arm has a seed twice or, paired, lacks one of the table.

    Welch 1947, "The generalization of 'Student's' problem"; Satterthwaite 1946.
    """
    return smallest(table, metric, [weights], paired=paired, confidence=confidence, censored_at=censored_at, by=by)


def smallest(
    table: pd.DataFrame, metric: str, contrasts: Sequence[Weights], *, paired: bool = True, confidence: float = 0.95,
    censored_at: str | None = None, by: str = "arm",
) -> Interval:
    """Interval of the smallest of several contrasts, which lies above a threshold if every one of them does.

    The low end is the lowest of theirs, with no correction: at most half of ``1 - confidence`` of such ends lie above
    the smallest, however many contrasts there are (intersection-union). The high end is the lowest of theirs at a level
    divided by their number (Bonferroni). The mean, the smallest of theirs, is on average too low.

    Args:
        contrasts: the ``weights`` of each, at least one.
        table, metric, paired, confidence, censored_at, by: as for :func:`contrast`.

    Raises:
        ValueError: as for :func:`contrast`; no contrast.

    Berger 1982, "Multiparameter Hypothesis Testing and Acceptance Sampling".
    """
    if not contrasts:
        raise ValueError(f"contrasts must hold at least one, got {contrasts!r}")
    arms = list(dict.fromkeys(arm for weights in contrasts for arm in weights))
    columns = [metric] if censored_at is None else [metric, censored_at]
    runs = dict(zip(arms, runs_of_each(table, arms, *columns, by=by, paired=paired), strict=True))
    late = {arm: censored_at is not None and bool(one[metric].isna().any()) for arm, one in runs.items()}
    values = {arm: one[metric].fillna(one[columns[-1]]).to_numpy(float) for arm, one in runs.items()}

    def found(weights: Weights, confidence: float) -> Interval:
        terms = [weight * values[arm] for arm, weight in weights.items()]
        one = interval(sum(terms), confidence) if paired else welch(terms, confidence)
        over, under = (any(late[arm] and sign * weight > 0 for arm, weight in weights.items()) for sign in (1, -1))
        return Interval(NAN if over or under else one.mean, -INF if under else one.low, INF if over else one.high,
                        one.count)

    return lowest(found, contrasts, confidence)


def lowest(
    found: Callable[[Weights, float], Interval], contrasts: Sequence[Weights], confidence: float
) -> Interval:
    """The interval of the smallest of several contrasts: see :func:`smallest`.

    Args:
        found: gives the interval of one contrast at a confidence.
        contrasts: at least one.
        confidence: in (0, 1).
    """
    each = [found(weights, confidence) for weights in contrasts]
    wider = [found(weights, 1 - (1 - confidence) / len(contrasts)) for weights in contrasts]
    ends = [one.mean for one in each], [one.low for one in each], [one.high for one in wider]
    mean, low, high = (float(np.min(values)) for values in ends)
    return Interval(mean, low, high, min(one.count for one in each))


def slope_weights(x: Weights) -> dict[str, float]:
    """The weights of a contrast that is the least-squares slope of a metric's means on ``x``, a number for each arm.

    .. math:: w_a = \\frac{x_a - \\bar x}{\\sum_b (x_b - \\bar x)^2}

    Raises:
        ValueError: fewer than two different numbers, or one that is not finite.
    """
    numbers = flat("x", list(x.values()))
    if not 0 < np.ptp(numbers) < INF:
        raise ValueError(f"x must hold two different finite numbers or more, got {dict(x)}")
    away = numbers - numbers.mean()
    return dict(zip(x, (away / (away**2).sum()).tolist(), strict=True))


# Steps to a threshold.


def steps_to(
    curves: pd.DataFrame, threshold: float, metric: str = "ap", *, in_a_row: int = 1, by: str = "arm"
) -> pd.DataFrame:
    """First evaluated step at which each run reaches a threshold: arm, seed, ``steps``, ``reached``.

    A run that never does keeps its last step with ``reached`` False: it took longer than that, and is not dropped. One
    that falls back later has reached it all the same; a NaN reaches nothing. Where it must hold at several evaluations
    ``in_a_row``, the first of them is the step: of evaluations with noise one alone comes too early.

    Raises:
        ValueError: a column is missing, there is no row, a run has a step twice, the threshold is NaN, or ``in_a_row``
            is below 1.
    """
    check_count("in_a_row", in_a_row)
    _check_columns("curves", curves, by, "seed", "step", metric)
    if curves.duplicated([by, "seed", "step"]).any():
        raise ValueError(f"curves must have each step of one {by} and seed once, got one twice")
    if math.isnan(threshold):
        raise ValueError(f"threshold must be a number, got {threshold!r}")
    rows = []
    for (arm, seed), curve in curves.groupby([by, "seed"], sort=False):
        ordered = curve.sort_values("step")
        above = (ordered[metric] >= threshold)[::-1].rolling(in_a_row).sum()[::-1] == in_a_row
        hits = ordered.loc[above, "step"]
        rows.append({by: arm, "seed": seed, "reached": len(hits) > 0,
                     "steps": int(hits.min() if len(hits) else curve["step"].max())})
    return pd.DataFrame(rows)


def median_steps(table: pd.DataFrame, arm: str, confidence: float = 0.95, *, by: str = "arm") -> Interval:
    """Kaplan and Meier's median of an arm's steps, infinite if too few of its runs arrived, with its interval.

    .. math:: \\min \\{t : \\hat S(t) \\le \\tfrac12\\}, \\qquad
        \\hat S(t) = \\prod_{t_j \\le t} \\Bigl(1 - \\frac{d_j}{n_j}\\Bigr)

    with :math:`d_j` of the :math:`n_j` runs still on the way arriving at :math:`t_j`. The ends are where the log-log
    interval of :math:`S` passes one half, with the exact bound of none or all of :math:`n_j` where :math:`S` is 0 or 1.
    An end that the runs cannot give is 0 or infinite: both up to 4 runs, the upper mostly up to 6. From 5 on a 95 %
    interval covered 93 to 99 %; where many runs arrive at the same evaluation, more.

    Args:
        table: from :func:`steps_to`.
        arm: one of its arms.
        confidence: in (0, 1).

    Raises:
        ValueError: no such table, or ``confidence`` out of range.

    Kaplan and Meier 1958; Brookmeyer and Crowley 1982, "A Confidence Interval for the Median Survival Time".
    """
    check_confidence(confidence)
    steps, reached = _arrivals(_runs(table, arm, "steps", "reached", by=by))
    survival = stats.ecdf(stats.CensoredData.right_censored(steps, ~reached)).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # 0/0 where S is 0 or 1
        band = survival.confidence_interval(confidence, method="log-log")
    at, share, low, high = survival.quantiles, survival.probabilities, band.low.probabilities, band.high.probabilities
    exact = ((1 - confidence) / 2) ** (1 / (steps[:, None] >= at).sum(axis=0))
    low, high = np.where(np.isnan(low), share * exact, low), np.where(np.isnan(high), 1 - (1 - share) * exact, high)

    def passes_half(curve: np.ndarray, never: float) -> float:
        return float(next(iter(at[curve <= 0.5 + 1e-9]), never))

    if 0.5 ** len(steps) > 1 - confidence:  # so often is the median below all of them
        return Interval(passes_half(share, INF), 0.0, INF, len(steps))
    return Interval(passes_half(share, INF), passes_half(low, at[-1]), passes_half(high, INF), len(steps))


@dataclass(frozen=True)
class StepDifference:
    """``first - second`` in steps over the same seeds: the interval of its mean, and how many pairs say what.

    If a run did not arrive, ``interval.mean`` is NaN and an end is finite only where it is a limit nonetheless. The
    first is known to have taken fewer evaluated steps in ``fewer`` pairs, more in ``more``, as many in ``same``; in
    ``unknown`` pairs it is not known which.
    """

    interval: Interval
    fewer: int
    more: int
    same: int
    unknown: int


def paired_steps(table: pd.DataFrame, first: str, second: str, *, by: str = "arm") -> StepDifference:
    """What is known of ``first - second`` in steps, seed by seed, where some runs did not arrive.

    A run that did not arrive took more steps than it had. So with the steps :math:`f` and :math:`s` of the table the
    difference of a pair is below :math:`f - s` if the second did not arrive, above if the first did not, and anything
    if neither did. The mean of such limits is a limit of the mean, and so is the outer end of its t interval.

    Args:
        table: from :func:`steps_to`.
        first, second: arms in it, each with every seed of the table.

    Raises:
        ValueError: no such table, or one of the two lacks a seed of the table or has it twice.
    """
    pair = runs_of_each(table, (first, second), "steps", "reached", by=by, paired=True)
    (f, came), (s, other_came) = map(_arrivals, pair)
    known = table.assign(taken=table["steps"].where(table["reached"]))
    difference = contrast(known, "taken", {first: 1, second: -1}, censored_at="steps", by=by)
    fewer = came & np.where(other_came, f < s, f <= s)
    more = other_came & np.where(came, f > s, f >= s)
    same = came & other_came & (f == s)
    counts = (int(pairs.sum()) for pairs in (fewer, more, same, ~(fewer | more | same)))
    return StepDifference(difference, *counts)


# Multiple comparisons.


def holm(p_values: Values) -> np.ndarray:
    """Holm's adjusted p-values, in the order given: to call all at most 0.05 real errs in 5 % of studies at most.

    .. math:: \\tilde p_{(i)} = \\max_{j \\le i} \\min(1, (m - j + 1)\\, p_{(j)})

    with :math:`p_{(1)} \\le \\dots \\le p_{(m)}`, however the :math:`m` tests depend on each other.

    Args:
        p_values: of all tests of one question, at least one, in [0, 1].

    Raises:
        ValueError: none, a NaN, or one out of range.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    p = flat("p_values", p_values)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p_values must be in [0, 1], got {p_values!r}")
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(np.minimum(1, np.arange(len(p), 0, -1) * p[order]))
    return adjusted


# Checks of arguments.


def flat(name: str, values: Values) -> np.ndarray:
    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or len(x) == 0:
        raise ValueError(f"{name} must be a flat list of at least one number, got {values!r}")
    return x


def check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence!r}")


def _check_columns(name: str, table: pd.DataFrame, *columns: str) -> None:
    if not set(columns) <= set(table) or table.empty:
        raise ValueError(f"{name} must have rows and the columns {columns}, got {len(table)} rows of {list(table)}")


def _runs(table: pd.DataFrame, arm: str, *columns: str, by: str) -> pd.DataFrame:
    """The runs of an arm by seed."""
    _check_columns("table", table, by, "seed", *columns)
    runs = table[table[by] == arm].set_index("seed").sort_index()
    if runs.empty or runs.index.has_duplicates:
        raise ValueError(f"table must have each seed of {arm!r} once, got {list(runs.index)}")
    return runs


def runs_of_each(table: pd.DataFrame, arms: Iterable[str], *columns: str, by: str, paired: bool) -> list[pd.DataFrame]:
    """The runs of each of some arms; paired, they must all have every seed of the table."""
    found = {arm: _runs(table, arm, *columns, by=by) for arm in arms}
    for arm, runs in found.items():
        if paired and set(runs.index) != set(table["seed"]):
            raise ValueError(f"{arm!r} must have every seed of the table, {sorted(set(table['seed']))}, "
                             f"got {list(runs.index)}")
    return list(found.values())


def welch(terms: Sequence[np.ndarray], confidence: float) -> Interval:
    """The interval of the sum of independent means."""
    check_confidence(confidence)
    mean, count = float(sum(term.mean() for term in terms)), min(map(len, terms))
    if count == 1 or not math.isfinite(mean):
        return Interval(mean if math.isfinite(mean) else NAN, NAN, NAN, count)
    parts = np.array([term.var(ddof=1) / len(term) for term in terms])
    variance = parts.sum()
    if variance == 0:
        return Interval(mean, mean, mean, count)
    freedom = 1 / ((parts / variance) ** 2 / [len(term) - 1 for term in terms]).sum()
    half = float(stats.t.ppf(0.5 + confidence / 2, freedom) * np.sqrt(variance))
    return Interval(mean, mean - half, mean + half, count)


def _arrivals(runs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    steps = runs["steps"].to_numpy(float)
    if not np.isfinite(steps).all() or runs["reached"].dtype != bool:
        raise ValueError(f"table must have finite steps and bools in reached, got {runs[['steps', 'reached']]}")
    return steps, runs["reached"].to_numpy()
