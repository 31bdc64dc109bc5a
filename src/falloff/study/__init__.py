"""Many runs and the chapters: the store, the engine, the protocol, statistics and where numbers came from."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # loaded when first asked for: looking which chapters are stale needs neither torch nor Dask
    from falloff.study.engine import curves, record, run
    from falloff.study.protocol import LOSSES, OPTIONS, RATES, SEEDS, Comparison, compare
    from falloff.study.store import Store

__all__ = ["LOSSES", "OPTIONS", "RATES", "SEEDS", "Comparison", "Store", "compare", "curves", "record", "run"]

_HOME = {"curves": "engine", "record": "engine", "run": "engine", "Store": "store"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'protocol')}"), name)
