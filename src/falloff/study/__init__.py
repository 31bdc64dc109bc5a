"""Many runs: comparisons, the engine and store behind them, statistics, claims, and the experiments of the record."""

from falloff.study.choices import choice
from falloff.study.comparison import LOSSES, RATES, SEEDS, Result, compare
from falloff.study.engine import curves, measured, record, run
from falloff.study.recording import recorded
from falloff.study.store import Store

__all__ = [
    "LOSSES", "RATES", "SEEDS", "Result", "Store", "choice", "compare", "curves", "measured", "record", "recorded",
    "run",
]
