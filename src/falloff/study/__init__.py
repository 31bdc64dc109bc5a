"""Many runs and the chapters: the store, the engine, the protocol, statistics and where numbers came from."""

from falloff.study.engine import curves, record, run
from falloff.study.protocol import OPTIONS, RATES, SEEDS, Comparison, compare
from falloff.study.store import Store

__all__ = ["OPTIONS", "RATES", "SEEDS", "Comparison", "Store", "compare", "curves", "record", "run"]
