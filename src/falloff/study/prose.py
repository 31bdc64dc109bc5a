"""What prose says of the record: numbers that it quotes, and guards, without which a sentence does not stand.

Both stand in Markdown, as roles. ``{rec}`` is replaced by a number of the committed tables, and ``{guard}``, which is
replaced by nothing, says what must hold for the words beside it to be true::

    Soft BCE leads by {rec}`head-to-head[soft-bce - bce].ap:.2f`{guard}`head-to-head[soft-bce - bce].ap.low > 0`.

A quantity is ``EXPERIMENT[ARM].METRIC``, or ``EXPERIMENT[ARM - ARM].METRIC`` for a difference; or ``C7.1``, the first
of the numbers that decide a claim. A part of it may follow: ``.mean``, which is meant without one, ``.low`` and
``.high``, the ends of its 95 % interval, ``.half``, half of its width, ``.runs``, how many it rests on. The interval is
over seeds, and over pictures where the tables know the metric for each. ``choice[LOSS].OPTION`` is a setting that
tuning chose for a loss: its learning rate, the size of its first weights or an option of its own. What is quoted may
have a format (``:.2f``; three digits without one). A guard is ``A < B``, ``A > B`` or ``A = B`` of quantities and
numbers, or ``C10 is refuted``.
"""

from __future__ import annotations

import functools
import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from falloff import measures
from falloff.project import project_root
from falloff.study import choices, claims, evidence, experiments, recording
from falloff.study.evidence import Evidence
from falloff.study.statistics import Interval

ROLES = re.compile(r"\{rec\}`(?P<rec>[^`]*)`| ?\{guard\}`(?P<guard>[^`]*)`")
HERE = "\0"
PARTS: Mapping[str, Callable[[Interval], float]] = {
    "mean": lambda found: found.mean, "low": lambda found: found.low, "high": lambda found: found.high,
    "half": lambda found: (found.high - found.low) / 2, "runs": lambda found: found.count,
}

_COMPARED = {"<": operator.lt, ">": operator.gt, "=": operator.eq}
_OF_RUNS = re.compile(r"(?P<experiment>[\w-]+)\[(?P<arms>[^\]]+)\]\.(?P<metric>\w+?)(?:\.(?P<part>\w+))?")
_CHOSEN = re.compile(r"choice\[(?P<loss>[^\]]+)\]\.(?P<option>\w+)")
_OF_CLAIM = re.compile(r"(?P<claim>C\d+)\.(?P<place>\d+)(?:\.(?P<part>\w+))?")
_VERDICT = re.compile(r"(?P<claim>C\d+) is (?P<verdict>\w+)")
_BETWEEN_SENTENCES = re.compile(rf"(?<=[.!?])\s+|(?<=[.!?]{HERE})\s+|\n\s*\n")


class Record:
    """What was recorded of a profile, as prose asks for it.

    Args:
        profile: by name.
        given: evidence in place of the committed tables, by experiment.
    """

    def __init__(self, profile: str = "study", given: Mapping[str, Evidence] | None = None) -> None:
        self.profile, self.given = profile, given or {}
        self._evidence = functools.cache(self._read)
        self._judged = functools.cache(self._judge)

    def number(self, words: str) -> float:
        """A number, or what a quantity comes to.

        Raises:
            ValueError: it is neither, or the record does not have it; the message names it.
        """
        words = words.strip()
        try:
            return float(words)
        except ValueError:
            if chosen := _CHOSEN.fullmatch(words):
                return _chosen(chosen["loss"], chosen["option"])
            found, part = self._measured(words)
        if part not in PARTS:
            raise ValueError(f"{words!r} must end with a part of {', '.join(PARTS)}, got {part!r}")
        return PARTS[part](found)

    def quoted(self, words: str) -> str:
        """What ``{rec}`` is replaced by.

        Raises:
            ValueError: as for :meth:`number`; a format that is none.
        """
        quantity, _, form = words.partition(":")
        return format(self.number(quantity), form or ".3g").replace("-", "−")

    def holds(self, words: str) -> bool:
        """Whether what ``{guard}`` says is so.

        Raises:
            ValueError: as for :meth:`number`; it is not as the head of the module says.
        """
        if found := _VERDICT.fullmatch(words.strip()):
            if found["verdict"] not in claims.VERDICTS:
                raise ValueError(f"{words!r} must end with {', '.join(claims.VERDICTS)}")
            return self._judged(found["claim"]).verdict == found["verdict"]
        sides = re.split(r"\s([<>=])\s", words)
        if len(sides) != 3:
            raise ValueError(f"a guard must be A < B, A > B, A = B or C10 is refuted, got {words!r}")
        return _COMPARED[sides[1]](self.number(sides[0]), self.number(sides[2]))

    def resolved(self, text: str, mark: Callable[[str], str] | None = None) -> str:
        """Markdown with its roles replaced.

        Args:
            text: with roles or without.
            mark: what stands in place of a role that fails, given what is wrong with it.

        Raises:
            ValueError: a role fails and no ``mark`` is given; the message says why.
        """
        def put(found: re.Match[str]) -> str:
            if wrong := self.wrong(found):
                if mark is None:
                    raise ValueError(wrong)
                return mark(wrong)
            return "" if found["rec"] is None else self.quoted(found["rec"])

        return ROLES.sub(put, text)

    def wrong(self, role: re.Match[str]) -> str:
        """Why a role fails: its guard does not hold, or the record does not have it; empty where it does not."""
        try:
            if role["rec"] is not None:
                self.quoted(role["rec"])
                return ""
            return "" if self.holds(role["guard"]) else f"does not hold: {role['guard']}"
        except ValueError as error:
            return str(error)

    def _measured(self, words: str) -> tuple[Interval, str]:
        """The interval that some words ask for, and which part of it."""
        if found := _OF_CLAIM.fullmatch(words):
            effects = self._judged(found["claim"]).effects
            if not 1 <= int(found["place"]) <= len(effects):
                raise ValueError(f"{words!r}: {found['claim']} is decided by {len(effects)}, counted from 1")
            return effects[int(found["place"]) - 1], found["part"] or "mean"
        if not (found := _OF_RUNS.fullmatch(words)):
            raise ValueError(f"{words!r} is no number and no quantity, as EXPERIMENT[ARM - ARM].METRIC.low is one")
        measures.get(found["metric"])
        given = self._evidence(found["experiment"])
        first, *other = found["arms"].split(" - ")
        if unknown := [arm for arm in (first, *other) if arm not in set(given.table["arm"])]:
            raise ValueError(f"{words!r}: {found['experiment']} has no arm {unknown[0]!r}; it has "
                             f"{', '.join(given.table['arm'].unique())}")
        if found["metric"] not in given.table:
            raise ValueError(f"{words!r}: {found['experiment']} was not measured in {found['metric']!r}")
        weights = {first: 1.0} | {arm: -1.0 for arm in other}
        pictures = given.knows(found["metric"], weights)
        return evidence.contrast(given, found["metric"], weights, pictures=pictures), found["part"] or "mean"

    def _read(self, experiment: str) -> Evidence:
        if experiment in self.given:
            return self.given[experiment]
        experiments.check([experiment])
        found = recording.evidence(experiment, self.profile)
        if found is None:
            raise ValueError(f"{experiment} is not recorded to its end for profile {self.profile!r}")
        return found

    def _judge(self, name: str) -> claims.Judgement:
        known = claims.load()
        if name not in known:
            raise ValueError(f"no claim is named {name!r}; known: {', '.join(known)}")
        claim = known[name]
        return claim.judge(None if claim.experiment is None else self._evidence(claim.experiment))


def _chosen(loss: str, option: str) -> float:
    """A setting that tuning chose for a loss."""
    run = choices.choice(loss)
    settings = {"learning_rate": run.learning_rate, "head_std": run.head_std, **run.loss_options}
    numbers = {name: value for name, value in settings.items() if isinstance(value, float)}
    if option not in numbers:
        raise ValueError(f"choice[{loss}].{option}: the choice of {loss} has no number of that name; it has "
                         f"{', '.join(numbers)}")
    return numbers[option]


def experiments_of(text: str) -> set[str]:
    """The experiments that the roles of a text rest on."""
    known, found = claims.load(), set()
    for role in ROLES.finditer(text):
        words = role["rec"] if role["rec"] is not None else role["guard"]
        found |= {"tuning" for _ in _CHOSEN.finditer(words)}
        found |= {one["experiment"] for one in _OF_RUNS.finditer(_CHOSEN.sub("", words))}
        found |= {str(known[name].experiment) for name in re.findall(r"\bC\d+\b", words)
                  if name in known and known[name].experiment}
    return found


def broken(record: Record | None = None, root: Path | None = None) -> list[str]:
    """What the record no longer bears of all pages: page, sentence, and the guard or number that fails."""
    record = record or Record()
    return [f"{path.name}: {sentence(text, role)!r}: {words}"
            for path, text in pages(root or project_root()) for role in ROLES.finditer(text)
            if (words := record.wrong(role))]


def discussed(root: Path) -> dict[str, list[str]]:
    """The chapters that rest on each claim, by its name."""
    found: dict[str, list[str]] = {}
    for path, text in pages(root):
        names = {name for role in ROLES.finditer(text) for name in re.findall(r"\bC\d+\b", role[0])}
        for name in names if path.suffix == ".ipynb" else ():
            found.setdefault(name, []).append(path.stem)
    return found


def pages(root: Path) -> Iterator[tuple[Path, str]]:
    """Each page of the book with its Markdown."""
    for path in sorted((root / "book").rglob("*.md")):
        yield path, path.read_text(encoding="utf-8")
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield path, "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def sentence(text: str, role: re.Match[str]) -> str:
    """The sentence that a role stands in or behind, without its roles."""
    around = ROLES.sub("", text[: role.start()]) + HERE + ROLES.sub("", text[role.end() :])
    one = next(part for part in _BETWEEN_SENTENCES.split(around) if HERE in part)
    return " ".join(one.replace(HERE, "").split())
