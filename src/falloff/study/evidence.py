"""What is known of some runs, picture by picture too, and how sure it is for new seeds and new pictures.

An interval over seeds alone speaks of the pictures at hand. One over seeds and pictures adds what another draw of the
pictures would change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy import stats

from falloff.study.statistics import NAN, Interval, Weights, check_confidence, runs_of_each

NEAREST = 1e-3  # to 0 and 1: how far the logit of a share is followed


@dataclass(frozen=True, eq=False)
class Evidence:
    """A table of runs, and what some of its metrics are on each picture.

    Args:
        table: a row a run, with ``arm`` and ``seed``.
        pictures: by metric, ``(rows of the table, P)``: pseudo-values of the metric, one for each picture, whose mean
            over pictures is the run's metric (for a metric that is a mean over pictures, what it is on each).

    Raises:
        ValueError: an array that is not of that shape.
    """

    table: pd.DataFrame
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for metric, values in self.pictures.items():
            if values.ndim != 2 or len(values) != len(self.table) or values.shape[1] < 2:
                raise ValueError(f"pictures of {metric!r} must be (rows of the table, 2 pictures or more), "
                                 f"({len(self.table)}, P), got {values.shape}")

    def where(self, rows: pd.Series) -> Evidence:
        """The rows of the table at which a series of bools is True."""
        kept = rows.to_numpy(bool)
        return Evidence(self.table[kept], {metric: values[kept] for metric, values in self.pictures.items()})

    def knows(self, metric: str, arms: Iterable[str], *, by: str = "arm") -> bool:
        """Whether a metric is known on each picture for all runs of some arms."""
        mine = self.table[by].isin(list(arms)).to_numpy()
        return metric in self.pictures and bool(np.isfinite(self.pictures[metric][mine]).all())

    def on_logits(self, metric: str) -> Evidence:
        """The same with one metric, a share, as its logit, followed no nearer to 0 and 1 than 0.001.

        Pseudo-values go along by its slope, :math:`\\operatorname{logit} y + (v_p - y) / (y (1 - y))`.
        """
        share = self.table[metric].clip(NEAREST, 1 - NEAREST)
        logit, slope = np.log(share / (1 - share)), 1 / (share * (1 - share))
        pictures = dict(self.pictures)
        if metric in pictures:
            away = pictures[metric] - pictures[metric].mean(axis=1, keepdims=True)
            pictures[metric] = logit.to_numpy()[:, None] + away * slope.to_numpy()[:, None]
        return Evidence(self.table.assign(**{metric: logit}), pictures)


@dataclass(frozen=True, eq=False)
class Means:
    """Means of K arms whose seeds are independent, and how far they are from those of new seeds and new pictures.

    Args:
        arms: their names.
        mean: (K,).
        seeds: (K,), the variance of each mean over seeds.
        pictures: (K, K), the covariance of the means over pictures, less the part of it that ``seeds`` has already
            (seed by picture); zeros where the pictures are taken as they are.
        counts: (K,), of seeds.
    """

    arms: tuple[str, ...]
    mean: np.ndarray
    seeds: np.ndarray
    pictures: np.ndarray
    counts: np.ndarray

    def weights(self, contrasts: Sequence[Weights]) -> np.ndarray:
        """The weights of some contrasts, (J, K).

        Raises:
            ValueError: an arm that is not among these.
        """
        if unknown := [arm for weights in contrasts for arm in weights if arm not in self.arms]:
            raise ValueError(f"contrasts must be over {', '.join(self.arms)}, got {unknown[0]!r}")
        return np.array([[float(weights.get(arm, 0.0)) for arm in self.arms] for weights in contrasts])

    def beyond_seeds(self, weights: np.ndarray) -> np.ndarray:
        """What pictures add to the variance of each contrast, at least 0; (J,)."""
        return np.einsum("ja,ab,jb->j", weights, self.pictures, weights).clip(0)

    def of(self, arms: Sequence[str]) -> Means:
        """Those of some of the arms."""
        at = [self.arms.index(arm) for arm in arms]
        return Means(tuple(arms), self.mean[at], self.seeds[at], self.pictures[np.ix_(at, at)], self.counts[at])

    def interval(self, weights: Weights, confidence: float = 0.95) -> Interval:
        """The t interval of a contrast, with the degrees of freedom of its seeds: see :func:`contrast`."""
        check_confidence(confidence)
        w, arms = self.weights([weights]), [arm for arm, weight in weights.items() if weight]
        if set(arms) != set(self.arms):
            return self.of(arms).interval(weights={arm: weights[arm] for arm in arms}, confidence=confidence)
        mean, count = float(w[0] @ self.mean), int(self.counts.min())
        parts = w[0] ** 2 * self.seeds
        variance = float(parts.sum() + self.beyond_seeds(w)[0])
        if count == 1 or not math.isfinite(mean) or not math.isfinite(variance):
            return Interval(mean if math.isfinite(mean) else NAN, NAN, NAN, count)
        freedom = freedom_of(parts, self.counts)
        half = float(stats.t.ppf(0.5 + confidence / 2, freedom)) * math.sqrt(variance) if variance else 0.0
        return Interval(mean, mean - half, mean + half, count)


def freedom_of(parts: np.ndarray, counts: np.ndarray) -> float:
    """Welch and Satterthwaite's degrees of freedom of a sum of variances of means."""
    if parts.sum() == 0:
        return float(counts.min() - 1)
    return float(1 / ((parts / parts.sum()) ** 2 / (counts - 1)).sum())


def means(
    evidence: Evidence, metric: str, arms: Sequence[str], *, pictures: bool = True, by: str = "arm"
) -> Means:
    """The means of some arms in a metric, and how they vary: see :func:`contrast`.

    Args:
        evidence: of runs.
        metric: a column, and, with ``pictures``, among the evidence's.
        arms: at least one, each once.
        pictures: whether they speak of new pictures, too.

    Raises:
        ValueError: the table lacks a column or an arm, or has a seed of an arm twice; no pseudo-values of the metric.
    """
    cells = _cells(evidence, metric, arms, pictures=pictures, paired=False, by=by)
    return _means(dict(zip(arms, cells, strict=True)))


def contrast(
    evidence: Evidence, metric: str, weights: Weights, *, pictures: bool = True, paired: bool = False,
    confidence: float = 0.95, by: str = "arm",
) -> Interval:
    """Interval of a weighted sum of the means of some arms, for new seeds and new pictures.

    .. math::

        &\\sum_a w_a \\bar x_a \\pm t_\\nu \\sqrt V, \\\\
        &V = \\sum_a w_a^2 \\frac{s_a^2}{n_a}
        + \\max\\Bigl(0, \\frac{s_P^2}{P} - \\sum_a w_a^2 \\frac{m_a}{n_a P}\\Bigr)

    with :math:`s_a^2` the variance of arm a over its :math:`n_a` seeds, :math:`s_P^2` that over the P pictures of the
    weighted sum of the arms' seed means on each, and :math:`m_a` the mean square of seed by picture, which both have
    and which is therefore taken off once. The degrees of freedom are Welch and Satterthwaite's for the seeds. The
    pictures are the same for all arms, so what makes a picture hard for all of them cancels.

    Without ``pictures`` the interval is that of :func:`falloff.study.statistics.contrast`. ``paired`` takes the sums
    seed by seed first, and treats them as one arm.

    Raises:
        ValueError: as for :func:`means`; paired, an arm lacks a seed of the table.

    Source: the moment estimator of a crossed random-effects layout, as in Owen 2007, "The pigeonhole bootstrap".
    """
    cells = _cells(evidence, metric, list(weights), pictures=pictures, paired=paired, by=by)
    if not paired:
        return _means(dict(zip(weights, cells, strict=True))).interval(weights, confidence)
    w = np.array(list(weights.values()))
    one = _Cell(w @ np.stack([cell.runs for cell in cells]),
                np.tensordot(w, np.stack([cell.pictures for cell in cells]), 1))
    return _means({"": one}).interval({"": 1.0}, confidence)


@dataclass(frozen=True, eq=False)
class _Cell:
    """An arm seed by seed: (n,) runs, and (n, P) pseudo-values, P = 0 where the pictures are taken as they are."""

    runs: np.ndarray
    pictures: np.ndarray


def _cells(
    evidence: Evidence, metric: str, arms: Sequence[str], *, pictures: bool, paired: bool, by: str
) -> list[_Cell]:
    if pictures and metric not in evidence.pictures:
        raise ValueError(f"an interval over pictures needs {metric!r} picture by picture, got pictures of "
                         f"{', '.join(evidence.pictures) or 'nothing'}")
    table = evidence.table.assign(row=np.arange(len(evidence.table)))
    found = []
    for runs in runs_of_each(table, arms, metric, "row", by=by, paired=paired):
        rows = runs["row"].to_numpy()
        on_each = np.asarray(evidence.pictures[metric][rows], float) if pictures else np.empty((len(rows), 0))
        found.append(_Cell(runs[metric].to_numpy(float), on_each))
    return found


def _means(cells: Mapping[str, _Cell]) -> Means:
    counts = np.array([len(cell.runs) for cell in cells.values()])
    known = [bool(np.isfinite(cell.runs).all()) for cell in cells.values()]
    mean = np.array([cell.runs.mean() if there else NAN for cell, there in zip(cells.values(), known, strict=True)])
    seeds = np.array([cell.runs.var(ddof=1) / len(cell.runs) if there and len(cell.runs) > 1 else NAN
                      for cell, there in zip(cells.values(), known, strict=True)])
    found = Means(tuple(cells), mean, seeds, np.zeros((len(cells), len(cells))), counts)
    number = next(iter(cells.values())).pictures.shape[1]
    if number == 0:
        return found
    each = [cell.pictures if np.isfinite(cell.pictures).all() else np.full_like(cell.pictures, NAN)
            for cell in cells.values()]
    on_each = np.stack([values.mean(axis=0) for values in each])
    twice = [_interaction(values) / values.size for values in each]
    return replace(found, pictures=np.atleast_2d(np.cov(on_each)) / number - np.diag(twice))


def _interaction(values: np.ndarray) -> float:
    """Mean square of seed by picture."""
    seeds, pictures = values.shape
    if seeds == 1:
        return NAN
    rest = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    return float((rest**2).sum() / ((seeds - 1) * (pictures - 1)))
