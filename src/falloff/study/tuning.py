"""Equal tuning: the same trials for every loss over its rate, its start and its own options."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import qmc

from falloff.run import Run

SEED = 14  # of the one scrambled sequence that all losses share
TRIAL_SEED = 1000  # of the runs of all trials
EDGE = 1 / 8  # of an axis, at either end: a best trial there moves the axis
CRITERIA = ("ap_tuned", "ap_1", "pck_mean")  # what a choice may be made by; the study's own is the first
RUN_FIELDS = ("learning_rate", "head_std")


@dataclass(frozen=True)
class Axis:
    """What is tuned: a field of the run or an option of its loss, from ``low`` to ``high``, on a log axis mostly.

    An axis may move below ``low``, but not below ``least``.
    """

    name: str
    low: float
    high: float
    log: bool = True
    least: float = -math.inf

    def at(self, share: float) -> float:
        """The value at a share of the axis, to four digits."""
        low, high = self._ends
        value = low + share * (high - low)
        return float(f"{math.exp(value) if self.log else value:.4g}")

    def where(self, value: float) -> float:
        """The share of the axis at which a value lies."""
        low, high = self._ends
        return ((math.log(value) if self.log else value) - low) / (high - low)

    def shifted(self, by: float) -> Axis:
        """The axis moved by a share of its length, as far as it may."""
        low, high = (end + by * (self._ends[1] - self._ends[0]) for end in self._ends)
        if self.log:
            low, high = math.exp(low), math.exp(high)
        return self if low < self.least else replace(self, low=low, high=high)

    @property
    def _ends(self) -> tuple[float, float]:
        return (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)


Space = tuple[Axis, ...]

_RATE, _HEAD = Axis("learning_rate", 1e-3, 1e-1), Axis("head_std", 1e-3, 1e-1)
_WIDTH = Axis("sigma", 0.4, 3.0)
# Axes that a loss does not have are drawn all the same: the budget is trials, and a loss with fewer options searches
# them the more densely.
SPACES: Mapping[str, Space] = {name: (_RATE, _HEAD, *own) for name, own in {
    "bce": (),
    "weighted-bce": (Axis("positive_weight", 1.0, 100.0),),
    "focal": (Axis("gamma", 0.0, 4.0, log=False, least=0.0),),
    "soft-bce": (_WIDTH,),
    "mse": (_WIDTH,),
    "weighted-mse": (_WIDTH, Axis("positive_weight", 1.0, 100.0)),
    "distance-aware": (_WIDTH, Axis("beta", 1.0, 8.0)),
    "adaptive-wing": (_WIDTH, Axis("positive_weight", 1.0, 100.0)),
    "softmax-distance-aware": (_WIDTH, Axis("beta", 1.0, 8.0)),
}.items()}
AXES = max(map(len, SPACES.values()))


def trials(space: Space, count: int) -> list[dict[str, float]]:
    """The values of each trial: ``count`` points, a power of two, of one scrambled Sobol sequence for all losses.

    Source: Sobol 1967; scrambled as in Owen 1998.
    """
    return [{axis.name: axis.at(share) for axis, share in zip(space, point, strict=False)}
            for point in _points(count).tolist()]


@functools.cache
def _points(count: int) -> np.ndarray:
    return qmc.Sobol(AXES, scramble=True, rng=SEED).random_base2(int(math.log2(count)))


def of(base: Run, loss: str, values: Mapping[str, float], seed: int = TRIAL_SEED) -> Run:
    """The run of a trial."""
    mine = {name: value for name, value in values.items() if name in RUN_FIELDS}
    return base.replace(loss=loss, loss_options={n: v for n, v in values.items() if n not in mine}, seed=seed, **mine)


def value(row: Mapping[str, Any], axis: Axis) -> float:
    """What a row's run has on an axis."""
    return float(row[axis.name] if axis.name in RUN_FIELDS else row["loss_options"][axis.name])


def score(rows: pd.DataFrame, criterion: str = CRITERIA[0]) -> pd.Series:
    """The mean over seeds of each trial on the pictures for choosing, the best first; a run that failed counts 0."""
    found = rows.assign(score=rows[f"val_{criterion}"].fillna(0.0)).groupby("trial")["score"].mean()
    return found.sort_values(ascending=False, kind="stable")


def moved(space: Space, rows: pd.DataFrame) -> Space:
    """The space of the second block: an axis at whose edge the best of the first lies moves by half its length."""
    best = rows.loc[rows["trial"] == score(rows).index[0]].iloc[0].to_dict()

    def after(axis: Axis) -> Axis:
        share = axis.where(value(best, axis))
        return axis.shifted(-0.5) if share < EDGE else axis.shifted(0.5) if share > 1 - EDGE else axis

    return tuple(map(after, space))


def finalists(rows: pd.DataFrame, count: int) -> list[int]:
    """The trials that are among the best by one criterion or another."""
    return sorted({trial for criterion in CRITERIA for trial in score(rows, criterion).index[:count].tolist()})


@dataclass(frozen=True)
class Choice:
    """A trial that was chosen: its number, what it has on each axis, and the axes in whose outer eighth it lies."""

    trial: int
    on: dict[str, float]
    at_edge: tuple[str, ...]


def chosen(table: pd.DataFrame, loss: str, steps: int, criterion: str = CRITERIA[0], count: int = 4) -> Choice:
    """The best by its fresh seeds among the ``count`` trials that were best by a criterion.

    Args:
        table: of the experiment "tuning".
        loss: by name.
        steps: the length at which the choice is made.
        criterion: one of :data:`CRITERIA`.
        count: of finalists.
    """
    mine = table[table["arm"] == loss]
    among = score(mine[mine["role"].str.startswith("block")], criterion).index[:count]
    again = mine[(mine["role"] == f"again, {steps} steps") & mine["trial"].isin(among)]
    return _choice(table, loss, int(score(again, criterion).index[0]))


def leaders(table: pd.DataFrame, steps: int, count: int) -> list[str]:
    """The losses whose choices are best on the pictures for choosing by their fresh seeds, the best first."""
    again = table[table["role"] == f"again, {steps} steps"]
    best = {loss: float(score(again[again["arm"] == loss]).iloc[0]) for loss in SPACES}
    return sorted(best, key=best.__getitem__, reverse=True)[:count]


def winner(table: pd.DataFrame, loss: str, half: int) -> Choice:
    """The best of every other trial: what a tuning of half the size would have chosen, ``half`` being 0 or 1."""
    mine = table[(table["arm"] == loss) & table["role"].str.startswith("block") & (table["trial"] % 2 == half)]
    return _choice(table, loss, int(score(mine).index[0]))


def searched(table: pd.DataFrame, loss: str) -> Space:
    """Where the trials of a loss were, of both blocks together."""
    first = table[(table["arm"] == loss) & (table["role"] == "block 1")]
    return tuple(replace(axis, low=min(axis.low, later.low), high=max(axis.high, later.high))
                 for axis, later in zip(SPACES[loss], moved(SPACES[loss], first), strict=True))


def _choice(table: pd.DataFrame, loss: str, trial: int) -> Choice:
    row = table[(table["arm"] == loss) & (table["trial"] == trial)].iloc[0].to_dict()
    space = searched(table, loss)
    at_edge = tuple(axis.name for axis in space if not EDGE <= axis.where(value(row, axis)) <= 1 - EDGE)
    return Choice(trial, {axis.name: value(row, axis) for axis in space}, at_edge)

