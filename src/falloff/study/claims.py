"""Verdicts on claims: computed from an interval and a threshold that was fixed before the run, never typed."""

from __future__ import annotations

from falloff.study.statistics import Interval


def verdict(effect: Interval, *, above: float = 0.0) -> str:
    """Whether an effect is shown to lie above a threshold.

    Returns:
        "supported" when the whole interval lies above it, "refuted" when the whole interval lies below it, else
        "undecided"; one seed has no interval and decides nothing.
    """
    return direction(effect, "supported", "refuted", "undecided", above=above)


def direction(effect: Interval, higher: str, lower: str, neither: str, *, above: float = 0.0) -> str:
    """One of three words: for an interval wholly above a threshold, wholly below it, or neither."""
    if effect.low > above:
        return higher
    return lower if effect.high < above else neither
