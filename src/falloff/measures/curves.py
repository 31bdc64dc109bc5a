"""Metrics of how a run went: of its measurements along the way, on validation images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from falloff.measures.base import Metric

REACHED = 0.8  # the AP whose first step is asked for


def steps_to_ap(curve: Sequence[Mapping[str, float | int]]) -> float | int:
    """The first evaluated step at which AP reached 0.8; NaN if it never did."""
    return next((row["step"] for row in curve if row["ap"] >= REACHED), math.nan)


def steps_to_ap_held(curve: Sequence[Mapping[str, float | int]]) -> float | int:
    """The first of two evaluations in a row at which AP was at least 0.8; NaN if it never was."""
    return next((row["step"] for row, after in pairwise(curve) if min(row["ap"], after["ap"]) >= REACHED), math.nan)


STEPS_TO_AP = Metric(name="steps_to_ap", title=f"steps to AP {REACHED:g}", better="low", tolerance=0.0, reads="ap",
                     censored_at="steps", of=steps_to_ap)
STEPS_TO_AP_HELD = Metric(name="steps_to_ap_held", title=f"steps to AP {REACHED:g}, twice in a row", better="low",
                          tolerance=0.0, reads="ap", censored_at="steps", of=steps_to_ap_held)
