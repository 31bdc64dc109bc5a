"""The record: experiments carried out stage by stage and written down, to go on wherever they ended.

What is committed lies in ``data/recorded``; whoever records anew writes to ``runs/recorded`` and leaves that as it is.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from falloff import profiles, sets
from falloff.project import carried, commit, project_root, written
from falloff.run import Run
from falloff.study import claims, costs, engine, experiments, subjects
from falloff.study.evidence import Evidence
from falloff.study.experiments import EXPERIMENTS, Planned, Sizes, Stage, settings
from falloff.study.store import Measuring, Store
from falloff.study.subjects import Subject, identity, key
from falloff.study.tables import KEY, Tables

log = logging.getLogger(__name__)

PART = 12_000  # steps of training after which the tables are written
WHERE = ("versions", "machine")  # what a manifest says of the last run that was trained
DIVERGED = "FloatingPointError: training diverged"  # what is a result; any other failure is tried again


def folder(profile: str, kind: str = "data") -> Path:
    """Where a profile's recorded tables are: the committed ones in ``data``, one's own in ``runs``.

    Raises:
        ValueError: there is no such profile.
    """
    profiles.profile(profile)
    path = kind, "recorded", profile
    return carried(*path) if kind == "data" else project_root().joinpath(*path)


def write(profile: str = "study", device: str | None = None, names: Sequence[str] | None = None, *,
          publish: bool = False) -> list[Path]:
    """Run experiments of a profile, as far as tables and store lack them, and write the tables.

    The tables are written again after every so many runs: killed, the next call goes on from there. A run that one's
    own or the committed tables have is not trained again, also on another machine, whose store lacks it, as long as
    today's code is what trained it. Runs on stored sets that are not here are left out, unless they are recorded.

    Args:
        profile: by name.
        device: instead of the profile's own.
        names: of experiments, all by default.
        publish: write to ``data/recorded``, not to ``runs/recorded``.

    Returns:
        The manifests; of an experiment that needs sets of which none is here there is none.

    Raises:
        ValueError: an unknown profile, experiment or device; a table that an experiment rests on is not recorded; what
            is committed of a set that is not here would be lost.
        RuntimeError: a run failed for another reason than that its training diverged; what had finished is recorded.
    """
    names = list(EXPERIMENTS) if names is None else list(names)
    experiments.check(names)
    sizes = settings(profile, device)
    paths = [_carry_out(name, profile, sizes, Store(), publish) for name in names]
    return [path for path in paths if path is not None]


def _carry_out(name: str, profile: str, sizes: Sizes, store: Store, publish: bool) -> Path | None:
    path = folder(profile, "data" if publish else "runs") / f"{name}.json"
    tables = known(name, profile, sizes.base)
    log.info("experiment %s, profile %s: %s", name, profile, forecast(name, profile, sizes))
    plan = EXPERIMENTS[name].stages(sizes, _needed(name, profile))
    planned: list[dict[str, Any]] = []
    absent: set[str] = set()
    published = _sets(tables) if publish else set()
    stage = next(plan)
    for number in range(1, 1000):
        stage = _possible(stage, tables, absent)
        if lost := absent & published:
            raise ValueError(f"what {path} holds of {', '.join(sorted(lost))} would be lost: other code trained "
                             f"it, and the sets are not found under {sets.root()}, which FALLOFF_DATA names; without "
                             "PUBLISH=1 the committed tables stay as they are")
        if not stage:
            break
        keys = [key(one.run)[:KEY] for one in stage]
        mine = [_arm(one, short) for one, short in zip(stage, keys, strict=True)]
        planned += mine
        tables.arms = planned
        for _ in fill(tables, stage, keys, store, f"{name}, stage {number}"):
            _write(path, tables, name, profile, sizes, complete=False)
        try:
            stage = plan.send(tables.frame(mine))
        except StopIteration:
            break
    if not planned:
        return None
    tables.only(planned)
    _write(path, tables, name, profile, sizes, complete=not absent)
    log.info("wrote %s", path)
    return path


def fill(tables: Tables, stage: Stage, keys: Sequence[str], store: Store, label: str) -> Iterator[None]:
    """Put into some tables what they lack of a stage; a step for every so many runs.

    Raises:
        RuntimeError: a run failed for another reason than that its training diverged.
    """
    runs: dict[str, Subject] = {}
    asked: dict[str, tuple[Measuring, ...]] = {}
    for short, one in zip(keys, stage, strict=True):
        if not tables.has(short, one.asked):
            runs[short] = one.run
            asked[short] = tuple(dict.fromkeys((*asked.get(short, ()), *one.asked)))  # of all arms that have this run
    alike = [[short for short in runs if asked[short] == some] for some in dict.fromkeys(asked.values())]
    parts = [some[start : start + size] for some in alike for size in [_size(runs[short] for short in some)]
             for start in range(0, len(some), size)]
    for number, part in enumerate(parts, start=1):
        wanted = asked[part[0]]
        found = subjects.results([runs[short] for short in part], store, wanted,
                                 stage=f"{label}, part {number} of {len(parts)}")
        failed = []
        for short, (stored, numbers, error) in zip(part, found, strict=True):
            if stored is not None:
                said = {"code": stored["code"], "seconds": round(stored["seconds"], 2), "commit": stored["commit"][:12],
                        "device_model": stored["machine"]["model"], "finished": stored["finished"]}
                named = {one.title: {"by": one.code, **values} for one, values in zip(wanted, numbers, strict=True)}
                tables.add(short, runs[short], said, named, stored["curve"])
                tables.where = {part: stored[part] for part in WHERE}
            elif error and error.startswith(DIVERGED):
                tables.add(short, runs[short], {"code": identity(runs[short])["code"],
                                                "commit": commit()["commit"][:12], "failure": error}, {}, [])
            else:
                failed.append(error)
        yield
        if failed:
            raise RuntimeError(f"{len(failed)} of {len(part)} runs failed; the first: {failed[0]}")


def _size(some: Iterable[Subject]) -> int:
    """How many of some runs are one part; a floor, which no store holds, is written as soon as it is measured."""
    longest = max(map(subjects.steps, some))
    return max(1, PART // longest) if longest else 1


def _possible(stage: Stage, tables: Tables, absent: set[str]) -> Stage:
    """What of a stage is recorded or can be, its sets being here; those that are not are added to ``absent``."""
    kept = []
    for one in stage:
        if sets.is_here(one.run.dataset) or tables.has(key(one.run)[:KEY], one.asked):
            kept.append(one)
        else:
            absent.add(sets.parts(one.run.dataset)[0])
    return kept


def _arm(one: Planned, short: str) -> dict[str, Any]:
    arm = {"key": short, "arm": one.arm, "role": one.role, "trial": one.trial, "seed": one.run.seed}
    return arm | ({"decoder": one.decoder} if one.decoder else {})


def known(name: str, profile: str, base: Run) -> Tables:
    """What is recorded of an experiment already, here or in the committed tables.

    Tables that are damaged, as by a kill between two files, are left out with a warning: the store has what they had.
    """
    tables = Tables(base)
    for kind in ("data", "runs"):
        path = folder(profile, kind) / f"{name}.json"
        if path.exists():
            try:
                tables.update(read(path)[1])
            except ValueError as error:
                log.warning("%s; it is left out, and what the store lacks of it is done again", error)
    return tables


def _needed(name: str, profile: str) -> pd.DataFrame | None:
    """The table that an experiment rests on: one's own, if there is one, else the committed one."""
    needs = EXPERIMENTS[name].needs
    if needs is None:
        return None
    own = (folder(profile, "runs") / f"{needs}.json").exists()
    return recorded(needs, profile, "runs" if own else "data")


def recorded(name: str, profile: str = "study", kind: str = "data") -> pd.DataFrame:
    """The table of a recorded experiment, a row for each run of an arm: see :meth:`Tables.frame`.

    Raises:
        ValueError: no such experiment or profile, or it is not recorded, not to its end, or damaged.
    """
    return _whole(name, profile, kind).frame()


def recorded_curves(name: str, profile: str = "study") -> pd.DataFrame:
    """The measurements along the way of a recorded experiment's reported runs, one row per run and evaluation.

    They were made on the validation split, as those of :func:`falloff.study.curves`.

    Raises:
        ValueError: as for :func:`recorded`.
    """
    tables = _whole(name, profile, "data")
    return pd.DataFrame([
        {"loss": tables.run(arm["key"]).describe().get("loss"), **arm, **row}
        for arm in tables.reported for row in tables.curves.get(arm["key"], [])])


def recorded_lists(name: str, metric: str, profile: str = "study") -> dict[str, np.ndarray]:
    """A metric with a number for each picture or point, of a recorded experiment: by arm, ``(runs, numbers)``.

    Args:
        name: of the experiment.
        metric: such as "error_of_points", the error of each labelled point in pixels, NaN where it was missed.
        profile: by name.

    Raises:
        ValueError: as for :func:`recorded`; no arm has such a list.
    """
    tables = _whole(name, profile, "data")
    found: dict[str, list[np.ndarray]] = {}
    for arm in tables.reported:
        if (numbers := tables.pictures.get(arm["key"], {}).get(metric)) is not None:
            found.setdefault(arm["arm"], []).append(numbers)
    if not found:
        raise ValueError(f"{name!r} has no list of {metric!r}")
    return {arm: np.stack(some) for arm, some in found.items()}


def _whole(name: str, profile: str, kind: str) -> Tables:
    """The tables of an experiment that is recorded to its end."""
    experiments.check([name])
    path = folder(profile, kind) / f"{name}.json"
    manifest, tables = read(path) if path.exists() else ({"complete": False}, None)
    if tables is None or not manifest["complete"]:
        raise ValueError(f"{name!r} is not recorded{' to its end' if tables else ''} for profile {profile!r}: "
                         f"make record EXPERIMENT={name} PROFILE={profile} does it")
    return tables


def evidence(name: str, profile: str = "study") -> Evidence | None:
    """What the committed tables of an experiment are judged on; None until it is recorded to its end.

    Raises:
        ValueError: no such profile, or the tables are damaged.
    """
    path = folder(profile) / f"{name}.json"
    if not path.exists():
        return None
    manifest, tables = read(path)
    return tables.evidence() if manifest["complete"] else None


def read(path: Path) -> tuple[dict[str, Any], Tables]:
    """A manifest and its tables.

    Raises:
        ValueError: one of the files is missing or damaged, or not the one that the manifest was written for.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        base, digests = Run.of(manifest["base"]), manifest["files"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    tables = Tables.read(path, base, digests)
    tables.where = {part: manifest[part] for part in WHERE if part in manifest}
    return manifest, tables


def is_of_this_code(manifest: Mapping[str, Any], tables: Tables) -> bool:
    """Whether today's code is what trained what is recorded, or has given a sample of it again bit for bit."""
    return set(codes(tables)) <= {*(run["code"] for run in tables.runs.values()), *manifest["adopted"]}


def codes(tables: Tables) -> set[str]:
    """The digests of the code that would train the recorded runs today."""
    return subjects.codes(tables.run(short) for short in tables.runs)


# What is to come.


def forecast(name: str, profile: str, sizes: Sizes) -> str:
    """How many runs an experiment has, how many are recorded, and what time and memory the rest will take here.

    Runs on sets that are not here do not count; the last words name these sets and where they were looked for.
    """
    tables = known(name, profile, sizes.base)
    keys: set[str] = set()
    left: dict[str, Planned] = {}
    absent: set[str] = set()
    for stage, _ in _answered(name, profile, sizes, absent):
        for one in stage:
            keys.add(short := key(one.run)[:KEY])
            if not tables.has(short, one.asked):
                left[short] = one
    words = [f"{len(keys)} runs, {len(keys) - len(left)} of them recorded" if keys else "nothing can be recorded here"]
    if left:
        words.append(_time(left.values(), profile, sizes.base))
        words.append(f"{costs.memory([(one.run, one.asked) for one in left.values()])} for the largest run")
    if absent:
        words.append(f"left out: what needs {', '.join(sorted(absent))}, not found under {sets.root()}, which "
                     "FALLOFF_DATA names")
    return "; ".join(words)


def _time(left: Collection[Planned], profile: str, base: Run) -> str:
    """How long some runs will take."""
    rates = {kind: _seconds_a_unit(profile, base, kind) for kind in {type(one.run) for one in left}}
    if any(map(math.isnan, rates.values())):
        return "no time can be told before something is recorded"
    alike = defaultdict(list)
    for one in left:
        alike[type(one.run), costs.pictures(one.run)].append(one)
    at_once, minutes = set(), 0.0
    for (kind, _), some in alike.items():
        memory = engine.needed([some[0].run], some[0].asked)
        at_once.add(count := engine.workers([base.device], memory) if kind is Run else 1)
        minutes += rates[kind] * sum(costs.work(one.run) for one in some) / count / 60
    words = " to ".join(map(str, sorted(at_once)))
    return f"about {minutes:.0f} minutes for the rest, {words} at once"


def planned(name: str, profile: str, sizes: Sizes) -> list[Stage]:
    """The stages of an experiment: as what is recorded has it, and from there on as if all runs came out alike."""
    return [stage for stage, _ in _answered(name, profile, sizes)]


def _answered(
    name: str, profile: str, sizes: Sizes, absent: set[str] | None = None
) -> Iterator[tuple[Stage, pd.DataFrame]]:
    """Each stage and its table; where ``absent`` is given, what needs sets that are not here is left out."""
    needs, tables = EXPERIMENTS[name].needs, known(name, profile, sizes.base)
    try:
        needed = _needed(name, profile)
    except ValueError:  # it is still to be recorded
        needed = pd.concat([table for _, table in _answered(str(needs), profile, sizes)])
    plan = EXPERIMENTS[name].stages(sizes, needed)
    stage = next(plan)
    while stage := stage if absent is None else _possible(stage, tables, absent):
        arms = [_arm(one, key(one.run)[:KEY]) for one in stage]
        there = all(tables.has(arm["key"], one.asked) for arm, one in zip(arms, stage, strict=True))
        table = tables.frame(arms) if there else _alike(stage)
        yield stage, table
        try:
            stage = plan.send(table)
        except StopIteration:
            return


def _alike(stage: Stage) -> pd.DataFrame:
    return pd.DataFrame([one.run.describe() | _arm(one, "") | {f"val_{metric}": 0.5 for asked in one.asked
                                                              for metric in asked.metrics} for one in stage])


def _seconds_a_unit(profile: str, base: Run, kind: type[Subject]) -> float:
    """Of the work of what is recorded, on sets that are here; NaN where nothing is."""
    rates = []
    for name in EXPERIMENTS:
        tables = known(name, profile, base)
        done = [(tables.run(short), row["seconds"]) for short, row in tables.runs.items() if "seconds" in row]
        rates += [seconds / costs.work(run) for run, seconds in done
                  if isinstance(run, kind) and sets.is_here(run.dataset)]
    return statistics.median(rates) if rates else math.nan


# Manifests.


def _write(path: Path, tables: Tables, name: str, profile: str, sizes: Sizes, *, complete: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    digests = tables.write(path)
    manifest = _manifest(name, profile, sizes, tables) | {"complete": complete, "files": digests}
    if complete:
        manifest["claims"] = judged(name, tables)
    save(path, manifest)


def save(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest."""
    with written(path) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _manifest(name: str, profile: str, sizes: Sizes, tables: Tables) -> dict[str, Any]:
    given = {what.name: getattr(sizes, what.name) for what in dataclasses.fields(sizes) if what.name != "base"}
    seconds = sum(row.get("seconds", 0.0) for row in tables.runs.values())
    used = sorted(_sets(tables))
    return {
        "experiment": name, "question": EXPERIMENTS[name].question, "profile": profile, "base": sizes.base.describe(),
        "sizes": given, "runs": len(tables.runs), "seconds": round(seconds, 1), "adopted": [], **commit(),
        **tables.where, "data": dict(zip(used, map(sets.expected, used), strict=True)),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _sets(tables: Tables) -> set[str]:
    """The sets that the recorded runs were trained on, whatever was made of these."""
    return {sets.parts(tables.run(short).dataset)[0] for short in tables.runs}


def judged(name: str, tables: Tables) -> dict[str, Any]:
    """What the claims of an experiment come to on its tables."""
    return {claim.name: claim.judge(tables.evidence()).described()
            for claim in claims.load().values() if claim.experiment == name}


def or_null(value: Any) -> Any:
    """The value, or None for a number that is not one: JSON has no NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value
