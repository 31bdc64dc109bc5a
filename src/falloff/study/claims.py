"""Claims and their verdicts: what decides a claim stands in ``data/claims.yml``, the verdict is computed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from falloff import digests
from falloff.project import carried
from falloff.study import criteria, formulas
from falloff.study.criteria import Criterion, direction, verdict
from falloff.study.evidence import Evidence
from falloff.study.statistics import Interval

__all__ = [
    "VERDICTS", "Claim", "Criterion", "Judgement", "direction", "judge", "load", "verdict",
]

VERDICTS = ("supported", "refuted", "undecided")


@dataclass(frozen=True)
class Claim:
    """One entry of ``data/claims.yml``.

    Args:
        name: of the entry.
        claim: in words.
        criteria: all of which it needs.
        experiment: of the record, whose table decides; None for a claim about formulas.
        scope: of what nets, pictures and lengths of training it speaks.
        known_before: what was known when it was written down.
        predicted: the ``value`` that was expected, and the ``reason``; it decides nothing.
    """

    name: str
    claim: str
    criteria: tuple[Criterion, ...]
    experiment: str | None = None
    scope: str = ""
    known_before: str = ""
    predicted: Mapping[str, Any] = field(default_factory=dict)

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

    def judge(self, table: Evidence | pd.DataFrame | None = None, **numbers: float) -> Judgement:
        """What recorded runs or formulas say about the claim.

        Args:
            table: of the claim's experiment, one row per arm and seed: the evidence that was recorded; or a bare table
                of a few runs, which is judged without pictures and without the rest of a family.
            numbers: in place of what the formulas give, by their names with ``_`` for ``-``.

        Raises:
            ValueError: a number that the claim does not know or that no formula gives; the table is missing, or not
                asked for, or lacks a run. The message names the claim.
        """
        given = {name.replace("_", "-"): value for name, value in numbers.items()}
        needed = {criterion.number for criterion in self.criteria if criterion.number is not None}
        known = given.keys() <= needed <= given.keys() | formulas.NUMBERS.keys()
        if not known or (table is None) == bool(self.metrics):
            wanted = ", ".join(sorted(needed)) or "a table of runs"
            raise ValueError(f"claim {self.name} is judged by {wanted}, got {', '.join(given) or 'no number'}"
                             + ("" if table is None else " and a table"))
        try:
            found = [criterion.measure(table, given) for criterion in self.criteria]
        except ValueError as error:
            raise ValueError(f"claim {self.name}: {error}") from error
        return Judgement(self, tuple(one.interval for one in found), tuple(one.seeds for one in found))


@dataclass(frozen=True)
class Judgement:
    """The numbers that a claim rests on, as measured, and so its verdict."""

    claim: Claim
    effects: tuple[Interval, ...]
    seeds: tuple[float, ...] = ()

    @property
    def verdict(self) -> str:
        """Of all criteria together: refuted by one, supported by all.

        One on the scale of logits checks another: it refutes nothing, and where it supports, nothing is refuted.
        """
        each, checks = self._decided("raw"), self._decided("logit")
        if "refuted" in each and "supported" not in checks:
            return "refuted"
        return "supported" if {*each, *checks} == {"supported"} else "undecided"

    @property
    def would_decide(self) -> float:
        """How many seeds of each arm would decide what is undecided, if means and spreads stayed; infinite if none.

        NaN where that cannot be told, or nothing is undecided.
        """
        needed = [seeds for one, effect, seeds in zip(self.claim.criteria, self.effects, self.seeds, strict=True)
                  if one.decide(effect) == "undecided"]
        return max(needed) if needed and not any(map(math.isnan, needed)) else math.nan

    def _decided(self, scale: str) -> list[str]:
        return [one.decide(effect) for one, effect in zip(self.claim.criteria, self.effects, strict=True)
                if one.scale == scale]

    def described(self) -> dict[str, Any]:
        """For a manifest: what decided, the verdict, and the numbers that it follows from."""
        effects = [[*map(_finite_or_text, (e.mean, e.low, e.high)), e.count] for e in self.effects]
        return {"asked": self.claim.digest(), "verdict": self.verdict, "effects": effects}


def judge(name: str, table: Evidence | pd.DataFrame | None = None, **numbers: float) -> Judgement:
    """What a table of runs, or its formulas, say about a claim by its name: see :meth:`Claim.judge`."""
    claims = load()
    if name not in claims:
        raise ValueError(f"no claim is named {name!r}; known: {', '.join(claims)}")
    return claims[name].judge(table, **numbers)


def _finite_or_text(value: float) -> float | str:
    """JSON has no word for what is infinite or undefined: "inf", "-inf" and "nan" stand for them."""
    return value if math.isfinite(value) else str(value)


def load(path: Path | None = None) -> dict[str, Claim]:
    """All claims by name.

    Raises:
        ValueError: an entry is not as the head of the file says; the message names it.
    """
    path = path or carried("data", "claims.yml")
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    return _with_families({name: _claim(name, entry) for name, entry in entries.items()})


def _claim(name: str, entry: Any) -> Claim:
    try:
        entry = dict(entry)
        decided_by = tuple(criteria.parse(one) for one in entry.pop("decided_by"))
        claim = Claim(name, criteria=decided_by, **entry)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"claim {name}: {error}") from error
    if not claim.criteria:
        raise ValueError(f"claim {name} must be decided_by something")
    if claim.predicted and claim.predicted.keys() != {"value", "reason"}:
        raise ValueError(f"claim {name}: predicted must have value and reason, got {claim.predicted!r}")
    if bool(claim.experiment) != bool(claim.metrics):
        raise ValueError(f"claim {name} must name an experiment if, and only if, a metric decides it")
    return claim


def _with_families(claims: dict[str, Claim]) -> dict[str, Claim]:
    """The claims, each criterion of a family with the contrasts that its interval must hold together with.

    They are those of the family in the same experiment and metric, over the same seeds and pictures, on the same scale.
    """
    together: dict[tuple, list[Any]] = {}
    for claim in claims.values():
        for one in claim.criteria:
            together.setdefault(_family(claim, one), []).extend(one.contrasts)
    return {name: replace(claim, criteria=tuple(
        one if one.family is None else replace(one, beside=tuple(together[_family(claim, one)]))
        for one in claim.criteria)) for name, claim in claims.items()}


def _family(claim: Claim, one: Criterion) -> tuple:
    return one.family, claim.experiment, one.metric, one.interval, one.scale
