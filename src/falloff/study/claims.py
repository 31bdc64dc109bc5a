"""Claims and their verdicts: what decides a claim stands in ``data/claims.yml``, the verdict is computed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from falloff import digests
from falloff.project import project_root
from falloff.study.statistics import Interval, interval, paired, paired_steps

VERDICTS = ("supported", "refuted", "undecided")


@dataclass(frozen=True)
class Test:
    """One number that a claim rests on, and the side of a threshold on which it must lie.

    Exactly one of ``difference`` (two losses), ``of`` (one loss) and ``number`` says where it comes from, exactly one
    of ``above``, ``below`` and ``within`` (a value and how far from it) what is asked of it.
    """

    what: str
    metric: str | None = None
    difference: tuple[str, str] | None = None
    of: str | None = None
    number: str | None = None
    above: float | None = None
    below: float | None = None
    within: tuple[float, float] | None = None

    def measure(self, table: pd.DataFrame | None, numbers: Mapping[str, float]) -> Interval:
        """The number, with its interval over seeds where it comes from runs."""
        if self.number is not None:
            value = float(numbers[self.number])
            return Interval(value, value, value, 0)
        if self.difference is not None:
            mine = table[table["loss"].isin(self.difference)]
            if self.metric == "steps_to_ap":  # NaN: not within the steps that the run had
                reached = mine["steps_to_ap"].notna()
                steps = mine["steps_to_ap"].where(reached, mine["steps"])
                return paired_steps(mine.assign(reached=reached, steps=steps), *self.difference).interval
            return paired(mine, self.metric, *self.difference)
        return interval(table.loc[table["loss"] == self.of, self.metric].tolist())

    def verdict(self, effect: Interval) -> str:
        """"supported" when all of the interval lies on the right side, "refuted" when all lies on the other."""
        if self.within is not None:
            value, far = self.within
            low, high = effect.low - value, effect.high - value
            if low >= -far and high <= far:
                return "supported"
            return "refuted" if low > far or high < -far else "undecided"
        if self.above is not None:
            return verdict(effect, above=self.above)
        return direction(effect, "refuted", "supported", "undecided", above=self.below)

    def asked(self) -> str:
        """What must hold, in words."""
        if self.within is not None:
            value, far = self.within
            near = f" within {far:g}".replace("e-0", "e-") if far else " exactly"
            return f"{self.what}, which must be {value:g}{near}"
        side, threshold = ("above", self.above) if self.above is not None else ("below", self.below)
        return f"{self.what}, which must lie {side} {threshold:g}"


@dataclass(frozen=True)
class Claim:
    """One entry of ``data/claims.yml``; without ``tests`` it has no experiment yet, only ``planned``."""

    name: str
    claim: str
    tests: tuple[Test, ...] = ()
    chapter: str | None = None
    experiment: str | None = None
    planned: str | None = None

    def digest(self) -> str:
        """What identifies what decides the claim, whatever its words: evidence for another digest is stale."""
        return digests.of_text(repr((self.experiment, [replace(test, what="") for test in self.tests])))[:16]

    def verdict(self, effects: Sequence[Interval]) -> str:
        """Of all its tests together: refuted by one, supported by all."""
        each = [test.verdict(effect) for test, effect in zip(self.tests, effects, strict=True)]
        return next((one for one in ("refuted", "undecided") if one in each), "supported")

    def judge(self, table: pd.DataFrame | None = None, **numbers: float) -> Judgement:
        """What a table of runs, or numbers that a formula gave, say about the claim.

        Args:
            table: one row per loss and seed, of the claim's experiment.
            numbers: by the names in ``data/claims.yml``, with ``_`` for ``-``.

        Raises:
            ValueError: the claim has no experiment, or a number or the table is missing.
        """
        if not self.tests:
            raise ValueError(f"claim {self.name} has no experiment yet")
        given = {name.replace("_", "-"): value for name, value in numbers.items()}
        needed = {test.number for test in self.tests} - {None}
        if needed != given.keys() or (table is None) == any(test.metric for test in self.tests):
            wanted = ", ".join(sorted(needed)) or "a table of runs"
            raise ValueError(f"claim {self.name} is judged by {wanted}, got {', '.join(given) or 'no number'}"
                             + ("" if table is None else " and a table"))
        return Judgement(self, tuple(test.measure(table, given) for test in self.tests))


@dataclass(frozen=True)
class Judgement:
    """The numbers that a claim rests on, as measured, and so its verdict."""

    claim: Claim
    effects: tuple[Interval, ...]

    @property
    def verdict(self) -> str:
        return self.claim.verdict(self.effects)

    def as_json(self) -> str:
        """For another process to read; the verdict is not in it: it is computed from the numbers."""
        effects = [[*map(_finite_or_text, (e.mean, e.low, e.high)), e.count] for e in self.effects]
        return json.dumps({"claim": self.claim.name, "asked": self.claim.digest(), "effects": effects}, allow_nan=False)


def judge(name: str, table: pd.DataFrame | None = None, **numbers: float) -> Judgement:
    """What a table of runs, or numbers that a formula gave, say about a claim by its name: see :meth:`Claim.judge`."""
    claims = load()
    if name not in claims:
        raise ValueError(f"no claim is named {name!r}; known: {', '.join(claims)}")
    return claims[name].judge(table, **numbers)


def from_json(text: str, claim: Claim) -> Judgement | None:
    """What :meth:`Judgement.as_json` gave; None when what decides the claim has changed since."""
    stored = json.loads(text)
    if stored["asked"] != claim.digest():
        return None
    return Judgement(claim, tuple(Interval(*map(float, ends), count) for *ends, count in stored["effects"]))


def _finite_or_text(value: float) -> float | str:
    """JSON has no word for what is infinite or undefined: "inf", "-inf" and "nan" stand for them."""
    return value if math.isfinite(value) else str(value)


def load(path: Path | None = None) -> dict[str, Claim]:
    """All claims by name.

    Raises:
        ValueError: an entry is not as the head of the file says; the message names it.
    """
    path = path or project_root() / "data" / "claims.yml"
    return {name: _claim(name, entry) for name, entry in yaml.safe_load(path.read_text(encoding="utf-8")).items()}


def _claim(name: str, entry: Mapping[str, Any]) -> Claim:
    try:
        entry = dict(entry)
        tests = entry.pop("decided_by", [])
        claim = Claim(name, tests=tuple(_test(dict(one)) for one in tests), **entry)
    except (TypeError, ValueError) as error:
        raise ValueError(f"claim {name}: {error}") from error
    if bool(claim.tests) == bool(claim.planned) or bool(claim.tests) != bool(claim.chapter):
        raise ValueError(f"claim {name} must have either decided_by and a chapter, or planned")
    if bool(claim.experiment) != any(test.metric for test in claim.tests):
        raise ValueError(f"claim {name} must name an experiment if, and only if, a metric decides it")
    return claim


def _test(entry: dict[str, Any]) -> Test:
    for what in ("difference", "within"):
        if what in entry:
            if not isinstance(entry[what], list) or len(entry[what]) != 2:
                raise ValueError(f"{what} must be a list of two, got {entry[what]!r}")
            entry[what] = tuple(entry[what])
    test = Test(**entry)
    for names in (("difference", "of", "number"), ("above", "below", "within")):
        given = [name for name in names if getattr(test, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(names)} must be given, got {', '.join(given) or 'none'}")
    thresholds = [value for value in (test.above, test.below, *(test.within or ())) if value is not None]
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in thresholds):
        raise ValueError(f"a threshold must be a finite number (1.0e-6 in YAML), got {thresholds}")
    if test.within is not None and test.within[1] < 0:
        raise ValueError(f"within must be a value and how far from it, at least 0, got {list(test.within)}")
    if (test.number is None) != (test.metric is not None):
        raise ValueError(f"a metric must be given if, and only if, runs are measured; got {test.metric!r}")
    return test


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
