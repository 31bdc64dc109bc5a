"""What is recorded: runs, which are trained, and floors, which are measured as they are."""

from __future__ import annotations

import functools
import json
import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from falloff import data, digests, machine, measures, sets
from falloff.measures import Measured
from falloff.project import commit
from falloff.recipe import Recipe
from falloff.run import Run
from falloff.study import engine, floors, store
from falloff.study.floors import Floor
from falloff.study.store import Measuring, Store

log = logging.getLogger(__name__)

Subject = Run | Floor

_CODE = digests.package()  # as this process loaded it


def of(described: Mapping[str, Any]) -> Subject:
    """The run or the floor that was described; a floor takes no notice of what a run has and it has not."""
    return Floor.of(described) if "floor" in described else Run.of(described)


def identity(one: Subject) -> dict[str, str]:
    """What determines a run: :func:`falloff.study.store.identity`; and likewise what is said by a floor."""
    if isinstance(one, Run):
        return store.identity(one)
    code, libraries = _made_of(data.reader(one.dataset).__module__)
    described = one.describe() | {"dataset": sets.kind(one.dataset)}
    return {"run": json.dumps(described, sort_keys=True), "code": code, "libraries": libraries,
            "data": sets.expected(one.dataset)}


@functools.cache
def _made_of(reader: str) -> tuple[str, str]:
    return store.made_of(digests.ingredients({floors.__name__, reader}, _CODE))


def key(one: Subject) -> str:
    """Digest of all that determines a run or a floor."""
    return store.key(one) if isinstance(one, Run) else digests.of_text(json.dumps(identity(one), sort_keys=True))


def steps(one: Subject) -> int:
    """Of its training; none of a floor."""
    return one.steps if isinstance(one, Run) else 0


def codes(some: Iterable[Subject]) -> set[str]:
    """The digests of the code that would make the same today."""
    kinds = {(one.dataset, one.floor) if isinstance(one, Floor) else
             (one.dataset, one.system, one.model, one.loss, bool(one.augment), one.watched): one for one in some}
    return {identity(one)["code"] for one in kinds.values()}


def results(some: Sequence[Subject], store: Store, asked: Sequence[Measuring], stage: str = "") -> list[engine.Found]:
    """What the store holds of each run, as :func:`falloff.study.engine.results`; floors are measured here and now."""
    runs = [one for one in some if isinstance(one, Run)]
    trained = iter(engine.results(runs, store, asked, stage=stage) if runs else [])
    return [next(trained) if isinstance(one, Run) else _measured(one, asked) for one in some]


def _measured(floor: Floor, asked: Sequence[Measuring]) -> engine.Found:
    """What is said of a floor, in the words that a store has for a run, and the numbers that are asked for."""
    for one in asked:
        if one.decoder:
            raise ValueError(f"a floor has no decoder with options, got {dict(one.decoder)!r} for {floor.floor!r}")
    log.info("measuring %s", floor)
    started = time.perf_counter()
    predict = functools.cache(floor.predict)

    def said(one: Measuring) -> Measured:
        alone = one.split == one.reference or one.threshold == "own"
        refer = None if alone else functools.partial(said, replace(one, split=one.reference))
        given = None if isinstance(one.threshold, str) else one.threshold
        return Measured(predict(one.split), data.load(floor.dataset, one.split, floor.size), given, refer)

    numbers = []
    with Recipe(Run(form="eager")).pinned():
        for one in asked:
            found = said(one).numbers({name: measures.get(name) for name in one.metrics})
            numbers.append({name: found.get(name, math.nan) for name in one.metrics})
    versions = machine.versions() | {"scikit-image": version("scikit-image")}
    made = {"versions": versions, "machine": machine.machine(torch.device("cpu"))}
    return {**identity(floor), **made, **commit(), "curve": [], "seconds": time.perf_counter() - started,
            "finished": datetime.now(UTC).isoformat(timespec="seconds")}, numbers, None
