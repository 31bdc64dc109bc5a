"""A small comparison of losses, as a chapter makes it live: rates tuned on validation, then every seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from falloff.run import Option, Run
from falloff.study import engine

RATES = (3e-3, 1e-2, 3e-2, 1e-1)
SEEDS = (0, 1, 2)
TUNING_SEED = 1000  # not among those that are reported

# The losses that chapters compare, in the order in which they introduce them.
LOSSES = ("bce", "weighted-bce", "focal", "soft-bce", "mse", "distance-aware")


@dataclass(frozen=True)
class Result:
    """What came out of a comparison; the tables name the loss in ``arm``.

    ``tuning``: one row per loss and rate, with ``chosen`` and ``at_edge`` (the rate chosen is the least or most tried).
    ``table``: one row per loss and seed at its rate. ``curves``: one row per loss, seed and evaluation. ``runs``: the
    runs behind ``table``.
    """

    tuning: pd.DataFrame
    table: pd.DataFrame
    curves: pd.DataFrame
    runs: list[Run]

    def run(self, arm: str) -> Run:
        """The first run of a loss at its rate."""
        return self.runs[self.table["arm"].tolist().index(arm)]


def compare(
    base: Run, names: Sequence[str], *, rates: Sequence[float] = RATES, seeds: Sequence[int] = SEEDS,
    options: Mapping[str, Mapping[str, Option]] | None = None,
) -> Result:
    """Tune and measure some losses by name.

    Every loss gets the same data, decoder, steps and batches. Its learning rate is chosen by AP on the validation split
    with one run per rate and a seed of its own; the choice is trained with every other seed and measured on the test
    split.

    Args:
        base: the run that all share; its loss, learning rate and seed are replaced.
        names: of losses.
        rates: learning rates that each chooses from.
        seeds: of the runs that are reported.
        options: of each loss; the library's defaults where there are none.

    Raises:
        ValueError: no loss, rate or seed, or one twice; an unknown loss.
        RuntimeError: a run failed; what had finished is stored.
    """
    for what, values in (("names", names), ("rates", rates), ("seeds", seeds)):
        if len(values) == 0 or len(set(values)) != len(values):
            raise ValueError(f"{what} must hold at least one value, each once, got {list(values)}")
    bases = {name: base.replace(loss=name, loss_options=dict((options or {}).get(name, {}))) for name in names}
    tried = [(name, rate) for name in names for rate in rates]
    tuning = done([bases[name].replace(learning_rate=rate, seed=TUNING_SEED, evaluations=1) for name, rate in tried],
                  "1 of 2, tuning").assign(arm=[name for name, _ in tried])
    best = tuning["val_ap"].groupby(tuning["arm"]).idxmax()
    tuning = tuning.assign(chosen=tuning.index.isin(best))
    tuning["at_edge"] = tuning["chosen"] & tuning["learning_rate"].isin([min(rates), max(rates)])
    rate = {tried[row][0]: tried[row][1] for row in best}
    runs = [bases[name].replace(learning_rate=rate[name], seed=seed) for name in names for seed in seeds]
    arms = [name for name in names for _ in seeds]
    table = done(runs, "2 of 2, every seed").assign(arm=arms)
    curves = pd.concat([engine.curves([run]).assign(arm=arm) for arm, run in zip(arms, runs, strict=True)],
                       ignore_index=True)
    return Result(tuning, table, curves, runs)


def done(runs: list[Run], stage: str = "") -> pd.DataFrame:
    """The table of some runs that must all succeed; ``stage`` as for :func:`falloff.study.run`.

    Raises:
        RuntimeError: a run failed; what had finished is stored.
    """
    table = engine.run(runs, stage=stage)
    failed = table[table["failure"].notna()]
    if len(failed):
        raise RuntimeError(f"{len(failed)} of {len(runs)} runs failed; the first: {failed['failure'].iloc[0]}")
    return table.drop(columns="failure")
