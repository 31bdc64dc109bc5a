"""Many runs: comparisons, the engine and store behind them, statistics, claims, and the experiments of the record."""

from falloff.study.choices import choice
from falloff.study.engine import curves, measured, record, run
from falloff.study.recording import recorded, recorded_curves, recorded_lists
from falloff.study.store import Store

__all__ = [
    "Store", "choice", "curves", "measured", "record", "recorded", "recorded_curves", "recorded_lists", "run",
]
