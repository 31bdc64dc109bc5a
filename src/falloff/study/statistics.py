"""Intervals over seeds, paired differences, and steps to a given precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A mean over ``count`` seeds with its 95 % interval; the ends are NaN for one seed."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        half = f"\u00a0±\u00a0{self.high - self.mean:.3f}" if self.count > 1 else " (one seed)"
        return f"{self.mean:.3f}{half}"


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of a few independent values with Student's t interval.

    .. math:: \\bar x \\pm t_{n-1} \\frac{s}{\\sqrt n}

    Args:
        values: at least one, none NaN.
        confidence: in (0, 1).

    Raises:
        ValueError: no value, a NaN, or ``confidence`` out of range.
    """
    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or len(x) == 0 or np.isnan(x).any():
        raise ValueError(f"values must be a flat list of numbers without NaN, got {values!r}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence!r}")
    if len(x) == 1:
        return Interval(float(x[0]), float("nan"), float("nan"), 1)
    half = stats.t.ppf(0.5 + confidence / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return Interval(float(x.mean()), float(x.mean() - half), float(x.mean() + half), len(x))


def paired(table: pd.DataFrame, metric: str, first: str, second: str) -> Interval:
    """Interval of ``first - second`` in a metric, seed by seed, of two losses in a table of runs.

    The same seed gives both the same images in the same order, so what the seed does to both alike cancels.

    Raises:
        ValueError: the two losses do not have the same seeds.
    """
    values = {name: table.loc[table["loss"] == name].set_index("seed")[metric] for name in (first, second)}
    for name, by_seed in values.items():
        if set(by_seed.index) != set(table["seed"]) or by_seed.index.has_duplicates or by_seed.isna().any():
            raise ValueError(f"{name!r} must have every seed of the table once, and none of its {metric!r} may be NaN")
    return interval((values[first] - values[second]).tolist())


def summary(table: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """For each loss and metric the mean and 95 % interval over seeds: columns (metric, "mean" | "low" | "high")."""
    rows = {}
    for loss, group in table.groupby("loss", sort=False):
        found = {metric: interval(group[metric].tolist()) for metric in metrics}
        rows[loss] = {(m, part): getattr(i, part) for m, i in found.items() for part in ("mean", "low", "high")}
    return pd.DataFrame.from_dict(rows, orient="index")


def steps_to(curves: pd.DataFrame, threshold: float, metric: str = "ap") -> pd.DataFrame:
    """First evaluated step at which each run reaches a threshold: loss, seed, ``steps``, ``reached``.

    A run that never does keeps its last step with ``reached`` False: it took longer than that, and is not dropped.
    """
    rows = []
    for (loss, seed), curve in curves.groupby(["loss", "seed"], sort=False):
        hits = curve.loc[curve[metric] >= threshold, "step"]
        rows.append({"loss": loss, "seed": seed, "reached": len(hits) > 0,
                     "steps": int(hits.min() if len(hits) else curve["step"].max())})
    return pd.DataFrame(rows)
