"""Many runs: experiments made of arms, the engine and store behind them, statistics, claims and what is recorded."""

from falloff.study.engine import curves, measured, record, run
from falloff.study.experiments import EXPERIMENTS, LOSSES, RATES, SEEDS, Arm, Experiment, Result, compare
from falloff.study.recording import recorded
from falloff.study.store import Store

__all__ = [
    "EXPERIMENTS", "LOSSES", "RATES", "SEEDS", "Arm", "Experiment", "Result", "Store", "compare", "curves", "measured",
    "record", "recorded", "run",
]
