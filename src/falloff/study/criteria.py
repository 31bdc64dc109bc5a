"""What decides a claim: a number of runs or of a formula, its interval, and the side of a threshold it must lie on."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import pandas as pd

from falloff import measures
from falloff.study import evidence, formulas, outcomes, simultaneous
from falloff.study.evidence import Evidence
from falloff.study.statistics import NAN, Interval, Weights, lowest, runs_of_each, slope_weights, smallest

WORDS = ("what", "why")  # of a criterion: they decide nothing
Kind = Literal["seeds", "pictures"]
Scale = Literal["raw", "logit"]


@dataclass(frozen=True)
class Effect:
    """What a criterion was measured as, and how many seeds an arm would decide it if mean and spread stayed.

    See :func:`falloff.study.outcomes.seeds_to_decide`; ``seeds`` is NaN where that cannot be told.
    """

    interval: Interval
    seeds: float = NAN


@dataclass(frozen=True)
class Criterion:
    """One number that a claim rests on, and the side of a threshold on which it must lie.

    It is a ``number`` of :mod:`falloff.study.formulas`, or else the smallest of some ``contrasts`` over arms in a
    ``metric``, mostly of one. Exactly one of ``above``, ``below`` and ``within`` (a value and how far from it) says
    what is asked of it; ``why`` gives the reason of a margin. The other options are those that the head of
    ``data/claims.yml`` explains; ``beside`` holds the contrasts of the whole ``family``, its own among them.
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
    interval: Kind = "seeds"
    family: str | None = None
    beside: tuple[Weights, ...] = ()
    trim: float | None = None
    share_below: float | None = None
    restricted: bool = False
    scale: Scale = "raw"
    why: str = ""

    @property
    def arms(self) -> set[str]:
        """The arms whose runs it is measured on."""
        return {arm for weights in (*self.contrasts, *self.beside) for arm in weights}

    @property
    def confidence(self) -> float:
        """Of the interval: 0.9 where one end of it alone can support the claim, so that 5 % lie beyond that end.

        So it is for one-sided criteria, for equivalence (two one-sided tests) and for ranges (intersection-union).
        """
        return 0.9 if self.one_sided or self.within is not None or len(self.contrasts) > 1 else 0.95

    def measure(self, given: Evidence | pd.DataFrame | None, numbers: Mapping[str, float]) -> Effect:
        """The number, with its interval where it comes from runs, and the seeds that would decide it.

        A bare table is a chapter's own few runs: it is judged by itself, over seeds, and what it was not measured in is
        undefined.
        """
        if self.number is not None:
            value = float(numbers[self.number] if self.number in numbers else formulas.NUMBERS[self.number]())
            return Effect(Interval(value, value, value, 0))
        assert given is not None and self.metric is not None
        if isinstance(given, Evidence):
            return self._of_runs(given)
        if self.metric not in given and self.metric not in measures.STANDARD:
            return Effect(Interval(NAN, NAN, NAN, given["seed"].nunique()))
        return replace(self, interval="seeds", family=None, beside=())._of_runs(Evidence(given))

    def _of_runs(self, given: Evidence) -> Effect:
        assert self.metric is not None
        mine = given.where(given.table["arm"].isin(self.arms))
        if self.scale == "logit":
            mine = mine.on_logits(self.metric)
        bound = measures.get(self.metric).censored_at
        if self.restricted:
            known = mine.table[self.metric].fillna(mine.table[bound])
            mine, bound = replace(mine, table=mine.table.assign(**{self.metric: known})), None
        over_seeds = functools.partial(smallest, mine.table, self.metric, paired=self.paired, censored_at=bound)
        if self.share_below is not None:
            return Effect(self._share(mine.table, self.share_below))
        if self.trim is not None:
            first, second = sorted(self.contrasts[0], key=self.contrasts[0].__getitem__, reverse=True)
            found = outcomes.trimmed(mine.table, self.metric, first, second, trim=self.trim, confidence=self.confidence)
        elif self.interval == "pictures":
            found = lowest(self._over_pictures(mine), self.contrasts, self.confidence)
        else:
            found = over_seeds(self.contrasts, confidence=self.confidence)
        of_seeds = 1.0
        if self.interval == "pictures" and found.low < found.mean:
            alone = over_seeds(self.contrasts, confidence=self.confidence)
            of_seeds = min(1.0, ((alone.mean - alone.low) / (found.mean - found.low)) ** 2)
        if self.family is not None:
            means = evidence.means(mine, self.metric, sorted(self.arms), pictures=self.interval == "pictures")
            place = self.beside.index(self.contrasts[0])
            found = simultaneous.max_t(means, self.beside, self.confidence)[place].interval
        return Effect(found, outcomes.seeds_to_decide(found, self._away(found), self.confidence, of_seeds=of_seeds))

    def _over_pictures(self, mine: Evidence) -> Callable[[Weights, float], Interval]:
        assert self.metric is not None
        return lambda weights, confidence: evidence.contrast(
            mine, str(self.metric), weights, paired=self.paired, confidence=confidence)

    def _share(self, table: pd.DataFrame, bound: float) -> Interval:
        """The share of an arm's runs that are below a bound, or undefined; or the difference of two arms in it."""
        found = {}
        for arm, weight in self.contrasts[0].items():
            values = runs_of_each(table, (arm,), str(self.metric), by="arm", paired=False)[0][self.metric]
            found[weight] = outcomes.share(int((~(values >= bound)).sum()), len(values), self.confidence)
        return found[1.0] if len(found) == 1 else outcomes.share_difference(found[1.0], found[-1.0])

    def _away(self, effect: Interval) -> float:
        """From the mean to the nearest threshold, which the interval must leave out to decide."""
        limits = (self.above, self.below, *(() if self.within is None else
                                            (self.within[0] - self.within[1], self.within[0] + self.within[1])))
        return min((limit - effect.mean for limit in limits if limit is not None), key=abs)

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
        given = {name: value for name, value in vars(self).items() if name not in WORDS and value != default[name]}
        for name in {"contrasts", *({"beside"} & given.keys())}:
            given[name] = sorted(sorted(weights.items()) for weights in getattr(self, name))
        return given

    def in_words(self) -> str:
        """What must hold."""
        by = self._interval_in_words()
        if self.within is not None:
            value, far = self.within
            near = f" within {far:g}".replace("e-0", "e-") if far else " exactly"
            return f"{self.what}, which must be {value:g}{near}{by}"
        side, threshold = ("above", self.above) if self.above is not None else ("below", self.below)
        return f"{self.what}, which must lie {side} {threshold:g}{by}"
    def _interval_in_words(self) -> str:
        """What is not usual in its interval."""
        kind = "90 % interval" if self.contrasts and self.confidence == 0.9 else ""
        over = "over seeds and pictures" if self.interval == "pictures" else ""
        family = f"together with all of the family {self.family}" if self.family else ""
        words = " ".join(filter(None, (kind or ("interval" if over or family else ""), over, family)))
        return f" by its {words}" if words else ""


def parse(entry: Mapping[str, Any]) -> Criterion:
    """What an entry under ``decided_by`` says.

    Raises:
        ValueError, TypeError: it is not as the head of ``data/claims.yml`` says.
    """
    entry = dict(entry)
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
    if found.number is not None and found.decisive().keys() - {"number", "contrasts", "above", "below", "within"}:
        raise ValueError("a number of a formula has neither pairs nor an interval")
    _check_interval(found, source)
    return found


def _check_interval(one: Criterion, source: str) -> None:
    """Raise ValueError unless the options of its interval go together."""
    for name, kinds in (("interval", Kind), ("scale", Scale)):
        if getattr(one, name) not in get_args(kinds):
            raise ValueError(f"{name} must be {' or '.join(get_args(kinds))}, got {getattr(one, name)!r}")
    pair = len(one.contrasts) == 1 and sorted(one.contrasts[0].values()) == [-1.0, 1.0]
    if one.trim is not None and not (_is_finite(one.trim) and 0 < one.trim < 0.5 and pair and not one.paired):
        raise ValueError(f"trim must be in (0, 0.5), of a difference with paired: false, got {one.trim!r} of {source}")
    if one.share_below is not None and not (_is_finite(one.share_below) and not one.paired and (
            pair or [*one.contrasts[0].values()] == [1.0])):
        raise ValueError(f"share_below must be a finite number, of an arm or a difference, with paired: false, got "
                         f"{one.share_below!r} of {source}")
    if one.restricted and measures.get(str(one.metric)).censored_at is None:
        raise ValueError(f"restricted goes with a metric that a run may never reach, got {one.metric!r}")
    if one.interval == "pictures" and f"{one.metric}{measures.BY_PICTURE}" not in measures.METRICS:
        raise ValueError(f"an interval over pictures needs a metric that is known for each, got {one.metric!r}")
    special = [name for name in ("trim", "share_below", "restricted") if getattr(one, name)]
    if special and (one.interval == "pictures" or len(special) > 1 or one.scale == "logit"):
        raise ValueError(f"{special[0]} goes with an interval over seeds and nothing else, got {one.decisive()}")
    if one.family is not None and (one.paired or len(one.contrasts) != 1 or special):
        raise ValueError("a family is of contrasts of means, with paired: false")


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


def _gap_slope(given: Any) -> tuple[Weights, ...]:
    """The slope of first minus second; at each level their arms are called "first, level" and "second, level"."""
    if not isinstance(given, dict) or given.keys() != {"gap", "log2"}:
        raise ValueError(f"gap_slope must have the gap [first, second], and log2: a number a level, got {given!r}")
    first, second = _two("gap", given["gap"])
    levels = _by_arm("log2", given["log2"])
    if not all(value > 0 for value in levels.values()):
        raise ValueError(f"log2 must give each level a number above 0, got {given['log2']!r}")
    weights = slope_weights({level: math.log2(value) for level, value in levels.items()})
    return ({f"{loss}, {level}": sign * weight for level, weight in weights.items()
             for loss, sign in ((first, 1), (second, -1))},)


def _ranges(given: Any) -> tuple[Weights, ...]:
    """(high - low) - (i - j) for every two arms that the ends are held against, in both orders.

    In place of an arm may stand a list of arms, whose mean it is.
    """
    if not isinstance(given, dict) or given.keys() != {"ends", "over"} or not isinstance(given["over"], list):
        raise ValueError(f"ranges must have the ends [high, low], and over: a list of arms, got {given!r}")
    high, low = _two("ends", given["ends"])
    pairs = tuple(itertools.permutations(given["over"], 2))
    if not pairs:
        raise ValueError(f"ranges must be over two arms or more, got {given['over']}")
    return tuple(_sum(*((arm, weight / len(arms)) for one, weight in ((high, 1.0), (low, -1.0), (i, -1.0), (j, 1.0))
                        for arms in [one if isinstance(one, list) else [one]] for arm in arms)) for i, j in pairs)


# What an entry may give for the contrasts that its criterion is measured by.
_CONTRASTS: Mapping[str, Callable[[Any], tuple[Weights, ...]]] = {
    "contrast": lambda given: (_by_arm("contrast", given),),
    "slope": lambda given: (slope_weights(_by_arm("slope", given)),),
    "gap_slope": _gap_slope,
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
