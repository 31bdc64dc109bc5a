"""The protocol that every comparison of the study follows.

Each loss gets the same net, decoder, steps and batches. Its learning rate is chosen on the validation split from the
same grid, by one run per rate with a seed of its own; the chosen rate is then trained with every other seed and
measured on the test split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from falloff.study import engine
from falloff.training import Option, Run

RATES = (3e-3, 1e-2, 3e-2, 1e-1)
SEEDS = (0, 1, 2)
TUNING_SEED = 1000  # not among those that are reported

# The losses that the study compares, in the order in which the chapters introduce them.
LOSSES = ("bce", "weighted-bce", "focal", "soft-bce", "mse", "distance-aware")

# What the study gives each loss beside its learning rate: the library's defaults, with the
# same Gaussian for all that use one (focal loss has no alpha by default).
OPTIONS: dict[str, dict[str, Option]] = {name: {} for name in LOSSES}


@dataclass(frozen=True)
class Comparison:
    """What came out of a comparison.

    ``tuning``: one row per loss and rate, with ``val_ap``, ``chosen`` and ``at_edge`` (the chosen rate is the smallest
    or the largest of the grid). ``table``: one row per loss and seed at the chosen rate. ``curves``: one row per loss,
    seed and evaluation. ``runs``: the runs behind ``table``.
    """

    tuning: pd.DataFrame
    table: pd.DataFrame
    curves: pd.DataFrame
    runs: list[Run]

    def run(self, loss: str) -> Run:
        """The first run of a loss at its chosen rate."""
        return next(one for one in self.runs if one.loss == loss)


def compare(
    base: Run,
    names: Sequence[str],
    *,
    rates: Sequence[float] = RATES,
    seeds: Sequence[int] = SEEDS,
    options: Mapping[str, Mapping[str, Option]] = OPTIONS,
) -> Comparison:
    """Tune and measure some losses under one protocol.

    Args:
        base: the run that all share; its loss, learning rate and seed are replaced.
        names: losses by name.
        rates: learning rates to choose from, the same for all.
        seeds: seeds to report.
        options: of each loss.

    Raises:
        ValueError: an unknown loss, no rate, no seed, or one seed twice.
        RuntimeError: a run failed; what had finished is stored.
    """
    for what, values in (("names", names), ("rates", rates), ("seeds", seeds)):
        if len(values) == 0 or len(set(values)) != len(values):
            raise ValueError(f"{what} must hold at least one value, each once, got {list(values)}")
    bases = {name: base.replace(loss=name, loss_options=dict(options.get(name, {}))) for name in names}
    tuning = done([
        one.replace(learning_rate=rate, seed=TUNING_SEED, evaluations=1) for one in bases.values() for rate in rates
    ])
    best = tuning.loc[tuning.groupby("loss")["val_ap"].idxmax()].set_index("loss")["learning_rate"]
    tuning["chosen"] = tuning["learning_rate"] == tuning["loss"].map(best)
    tuning["at_edge"] = tuning["chosen"] & tuning["learning_rate"].isin([min(rates), max(rates)])
    runs = [
        one.replace(learning_rate=float(best[name]), seed=seed) for name, one in bases.items() for seed in seeds
    ]
    return Comparison(tuning, done(runs), engine.curves(runs), runs)


def done(runs: list[Run]) -> pd.DataFrame:
    """The table of some runs that must all succeed.

    Raises:
        RuntimeError: a run failed; what had finished is stored.
    """
    table = engine.run(runs)
    failed = table[table["failure"].notna()]
    if len(failed):
        raise RuntimeError(f"{len(failed)} of {len(runs)} runs failed; the first: {failed['failure'].iloc[0]}")
    return table.drop(columns="failure")
