"""Tables of runs as tests of statistics write them."""

import pandas as pd


def runs(metric: str = "ap", **values: list[float]) -> pd.DataFrame:
    """A table of runs: the values of each arm, seed by seed."""
    rows = [(arm, seed, value) for arm, of in values.items() for seed, value in enumerate(of)]
    return pd.DataFrame(rows, columns=["arm", "seed", metric])


def arrivals(**steps: list[float]) -> pd.DataFrame:
    """As from ``steps_to``: the steps of each arm, seed by seed, negative for a run that did not arrive in so many."""
    table = runs("steps", **steps)
    return table.assign(reached=table["steps"] > 0, steps=table["steps"].abs())
