"""Claims and their verdicts: what decides a claim stands in ``data/claims.yml``, the verdict is computed."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from falloff import digests, measures
from falloff.project import project_root
from falloff.study import formulas
from falloff.study.statistics import Interval, Weights, slope_weights, smallest

VERDICTS = ("supported", "refuted", "undecided")
DATASET = "digits"  # the set that the claims are about
UNJUDGED = "not judged on this data"  # in place of a verdict, on another set


@dataclass(frozen=True)
class Criterion:
    """One number that a claim rests on, and the side of a threshold on which it must lie.

    It is a ``number`` of :mod:`falloff.study.formulas`, or else the smallest of some ``contrasts`` over arms in a
    ``metric``, mostly of one. Exactly one of ``above``, ``below`` and ``within`` (a value and how far from it) says
    what is asked of it.
    """

    what: str
    metric: str | None = None
    contrasts: tuple[Weights, ...] = ()
    number: str | None = None
    above: float | None = None
    below: float | None = None
    within: tuple[float, float] | None = None
    one_sided: bool = False
    paired: bool = True

    @property
    def arms(self) -> set[str]:
        """The arms whose runs it is measured on."""
        return {arm for weights in self.contrasts for arm in weights}

    @property
    def confidence(self) -> float:
        """Of the interval: 0.9 where one end of it alone can support the claim, so that 5 % lie beyond that end.

        So it is for one-sided criteria, for equivalence (two one-sided tests) and for ranges (intersection-union).
        """
        return 0.9 if self.one_sided or self.within is not None or len(self.contrasts) > 1 else 0.95

    def measure(self, table: pd.DataFrame | None, numbers: Mapping[str, float]) -> Interval:
        """The number, with its interval over seeds where it comes from runs."""
        if self.number is not None:
            value = float(numbers[self.number] if self.number in numbers else formulas.NUMBERS[self.number]())
            return Interval(value, value, value, 0)
        assert table is not None and self.metric is not None
        mine = table[table["arm"].isin(self.arms)]
        return smallest(mine, self.metric, self.contrasts, paired=self.paired, confidence=self.confidence,
                        censored_at=measures.get(self.metric).censored_at)

    def decide(self, effect: Interval) -> str:
        """"supported" when all of the interval lies on the right side, "refuted" when all lies on the other."""
        if self.within is not None:
            value, far = self.within
            low, high = effect.low - value, effect.high - value
            if low >= -far and high <= far:
                return "supported"
            return "refuted" if low > far or high < -far else "undecided"
        if self.above is not None:
            return verdict(effect, above=self.above)
        assert self.below is not None
        return direction(effect, "refuted", "supported", "undecided", above=self.below)

    def decisive(self) -> dict[str, Any]:
        """What was given of it, but for its words and the order of its arms."""
        default = {option.name: option.default for option in fields(self)}
        given = {name: value for name, value in vars(self).items() if name != "what" and value != default[name]}
        return given | {"contrasts": sorted(sorted(weights.items()) for weights in self.contrasts)}

    def in_words(self) -> str:
        """What must hold."""
        by = " by its 90 % interval" if self.contrasts and self.confidence == 0.9 else ""
        if self.within is not None:
            value, far = self.within
            near = f" within {far:g}".replace("e-0", "e-") if far else " exactly"
            return f"{self.what}, which must be {value:g}{near}{by}"
        side, threshold = ("above", self.above) if self.above is not None else ("below", self.below)
        return f"{self.what}, which must lie {side} {threshold:g}{by}"


@dataclass(frozen=True)
class Claim:
    """One entry of ``data/claims.yml``; without ``criteria`` it has no experiment yet, only ``planned``."""

    name: str
    claim: str
    criteria: tuple[Criterion, ...] = ()
    chapter: str | None = None
    experiment: str | None = None
    planned: str | None = None

    @property
    def arms(self) -> set[str]:
        """The arms of its experiment that it rests on."""
        return set().union(*(criterion.arms for criterion in self.criteria))

    @property
    def metrics(self) -> set[str]:
        """The metrics that it rests on."""
        return {criterion.metric for criterion in self.criteria if criterion.metric}

    def digest(self) -> str:
        """What identifies what decides the claim, whatever its words: evidence for another digest is stale.

        What a criterion leaves at its default is left out: an option that criteria may have later changes no digest.
        """
        return digests.of_text(json.dumps([self.experiment, [one.decisive() for one in self.criteria]]))[:16]

    def judge(
        self, table: pd.DataFrame | None = None, *, dataset: str = DATASET, **numbers: float
    ) -> Judgement:
        """What a table of runs, or its formulas, say about the claim.

        Args:
            table: one row per arm and seed, of the claim's experiment.
            dataset: what a chapter ran on; on any other than the study's own nothing is judged.
            numbers: in place of what the formulas give, by their names with ``_`` for ``-``.

        Raises:
            ValueError: the claim has no experiment; a number that it does not know or that no formula gives; the table
                is missing, or not asked for, or lacks a run. The message names the claim.
        """
        if not self.criteria:
            raise ValueError(f"claim {self.name} has no experiment yet")
        given = {name.replace("_", "-"): value for name, value in numbers.items()}
        needed = {criterion.number for criterion in self.criteria if criterion.number is not None}
        known = given.keys() <= needed <= given.keys() | formulas.NUMBERS.keys()
        if not known or (table is None) == bool(self.metrics):
            wanted = ", ".join(sorted(needed)) or "a table of runs"
            raise ValueError(f"claim {self.name} is judged by {wanted}, got {', '.join(given) or 'no number'}"
                             + ("" if table is None else " and a table"))
        try:
            return Judgement(self, tuple(criterion.measure(table, given) for criterion in self.criteria), dataset)
        except ValueError as error:
            raise ValueError(f"claim {self.name}: {error}") from error


@dataclass(frozen=True)
class Judgement:
    """The numbers that a claim rests on, as measured, and so its verdict."""

    claim: Claim
    effects: tuple[Interval, ...]
    dataset: str = DATASET

    @property
    def verdict(self) -> str:
        """Of all criteria together: refuted by one, supported by all; :data:`UNJUDGED` on other data."""
        if self.dataset != DATASET:
            return UNJUDGED
        each = [one.decide(effect) for one, effect in zip(self.claim.criteria, self.effects, strict=True)]
        return next((one for one in ("refuted", "undecided") if one in each), "supported")

    def as_json(self) -> str:
        """For another process to read; the verdict is not in it: it is computed from the numbers."""
        effects = [[*map(_finite_or_text, (e.mean, e.low, e.high)), e.count] for e in self.effects]
        return json.dumps({"claim": self.claim.name, "asked": self.claim.digest(), "effects": effects}, allow_nan=False)


def judge(
    name: str, table: pd.DataFrame | None = None, *, dataset: str = DATASET, **numbers: float
) -> Judgement:
    """What a table of runs, or its formulas, say about a claim by its name: see :meth:`Claim.judge`."""
    claims = load()
    if name not in claims:
        raise ValueError(f"no claim is named {name!r}; known: {', '.join(claims)}")
    return claims[name].judge(table, dataset=dataset, **numbers)


def from_json(text: str, claim: Claim) -> Judgement | None:
    """What :meth:`Judgement.as_json` gave; None when what decides the claim has changed since."""
    stored = json.loads(text)
    if stored["asked"] != claim.digest():
        return None
    return Judgement(claim, tuple(Interval(float(mean), float(low), float(high), count)
                                  for mean, low, high, count in stored["effects"]))


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
        criteria = tuple(_criterion(dict(one)) for one in entry.pop("decided_by", []))
        claim = Claim(name, criteria=criteria, **entry)
    except (TypeError, ValueError) as error:
        raise ValueError(f"claim {name}: {error}") from error
    if bool(claim.criteria) == bool(claim.planned) or bool(claim.criteria) != bool(claim.chapter):
        raise ValueError(f"claim {name} must have either decided_by and a chapter, or planned")
    if bool(claim.experiment) != bool(claim.metrics):
        raise ValueError(f"claim {name} must name an experiment if, and only if, a metric decides it")
    return claim


def _criterion(entry: dict[str, Any]) -> Criterion:
    source = _the_one(entry, *_CONTRASTS, "number")
    contrasts = _CONTRASTS[source](entry.pop(source)) if source in _CONTRASTS else ()
    if _the_one(entry, "above", "below", "within") == "within":
        entry["within"] = _two("within", entry["within"])
    found = Criterion(contrasts=contrasts, **entry)
    thresholds = [value for value in (found.above, found.below, *(found.within or ())) if value is not None]
    if not all(map(_is_finite, thresholds)):
        raise ValueError(f"a threshold must be a finite number (1.0e-6 in YAML), got {thresholds}")
    if found.within is not None and found.within[1] < 0:
        raise ValueError(f"within must be a value and how far from it, at least 0, got {list(found.within)}")
    if bool(contrasts) != bool(found.metric):
        raise ValueError(f"a metric must be given if, and only if, runs are measured; got {found.metric!r}")
    if found.metric is not None:
        measures.get(found.metric)
    if not all(isinstance(arm, str) for arm in found.arms) or not all(any(one.values()) for one in contrasts):
        raise ValueError(f"{source} must name arms, in quotes if numbers, that do not cancel out, got {contrasts}")
    if not isinstance(found.paired, bool) or not isinstance(found.one_sided, bool):
        raise ValueError(f"paired and one_sided must be true or false, got {found.paired!r} and {found.one_sided!r}")
    if found.one_sided and (found.within is not None or len(contrasts) != 1):
        raise ValueError(f"one_sided goes with above or below of one contrast, got {source} and within {found.within}")
    if not found.paired and not contrasts:
        raise ValueError("paired goes with a metric of runs, got a number")
    return found


def _the_one(entry: Mapping[str, Any], *names: str) -> str:
    given = [name for name in names if entry.get(name) is not None]
    if len(given) != 1:
        raise ValueError(f"exactly one of {', '.join(names)} must be given, got {', '.join(given) or 'none'}")
    return given[0]


def _two(what: str, given: Any) -> tuple[Any, Any]:
    if not isinstance(given, list) or len(given) != 2:
        raise ValueError(f"{what} must be a list of two, got {given!r}")
    return given[0], given[1]


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _by_arm(what: str, given: Any) -> dict[str, float]:
    if not isinstance(given, dict) or not all(map(_is_finite, given.values())):
        raise ValueError(f"{what} must give each arm a finite number, got {given!r}")
    return {arm: float(value) for arm, value in given.items()}


def _sum(*weighted: tuple[str, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for arm, weight in weighted:
        found[arm] = found.get(arm, 0.0) + weight
    return found


def _difference(given: Any) -> tuple[Weights, ...]:
    first, second = _two("difference", given)
    return (_sum((first, 1.0), (second, -1.0)),)


def _ranges(given: Any) -> tuple[Weights, ...]:
    """(high - low) - (i - j) for every two arms that the ends are held against, in both orders."""
    if not isinstance(given, dict) or given.keys() != {"ends", "over"} or not isinstance(given["over"], list):
        raise ValueError(f"ranges must have the ends [high, low], and over: a list of arms, got {given!r}")
    high, low = _two("ends", given["ends"])
    pairs = tuple(itertools.permutations(given["over"], 2))
    if not pairs:
        raise ValueError(f"ranges must be over two arms or more, got {given['over']}")
    return tuple(_sum((high, 1.0), (low, -1.0), (i, -1.0), (j, 1.0)) for i, j in pairs)


# What an entry may give for the contrasts that its criterion is measured by.
_CONTRASTS: Mapping[str, Callable[[Any], tuple[Weights, ...]]] = {
    "contrast": lambda given: (_by_arm("contrast", given),),
    "slope": lambda given: (slope_weights(_by_arm("slope", given)),),
    "difference": _difference,
    "of": lambda given: ({given: 1.0},),
    "ranges": _ranges,
}


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
