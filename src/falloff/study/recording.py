"""The record: experiments carried out stage by stage and written down, to go on wherever they ended.

What is committed lies in ``data/recorded``; whoever records anew writes to ``runs/recorded`` and leaves that as it is.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from falloff import profiles
from falloff.project import commit, project_root, written
from falloff.run import Run
from falloff.study import claims, engine, experiments
from falloff.study.experiments import EXPERIMENTS, Planned, Sizes, Stage, settings
from falloff.study.store import Store, identity, key
from falloff.study.tables import KEY, Tables

log = logging.getLogger(__name__)

PART = 48  # runs after which the tables are written
DIVERGED = "FloatingPointError: training diverged"  # what is a result; any other failure is tried again


def folder(profile: str, kind: str = "data") -> Path:
    """Where a profile's recorded tables are: the committed ones in ``data``, one's own in ``runs``.

    Raises:
        ValueError: there is no such profile.
    """
    profiles.profile(profile)
    return project_root() / kind / "recorded" / profile


def write(profile: str = "study", device: str | None = None, names: Sequence[str] | None = None, *,
          publish: bool = False) -> list[Path]:
    """Run experiments of a profile, as far as tables and store lack them, and write the tables.

    The tables are written again after every so many runs: killed, the next call goes on from there. A run that one's
    own or the committed tables have is not trained again, also on another machine, whose store lacks it, as long as
    today's code is what trained it.

    Args:
        profile: by name.
        device: instead of the profile's own.
        names: of experiments, all by default.
        publish: write to ``data/recorded``, not to ``runs/recorded``.

    Returns:
        The manifests.

    Raises:
        ValueError: an unknown profile, experiment or device; a table that an experiment rests on is not recorded.
        RuntimeError: a run failed for another reason than that its training diverged; what had finished is recorded.
    """
    names = list(EXPERIMENTS) if names is None else list(names)
    experiments.check(names)
    sizes = settings(profile, device)
    home = folder(profile, "data" if publish else "runs")
    return [_carry_out(name, profile, sizes, Store(), home / f"{name}.json") for name in names]


def _carry_out(name: str, profile: str, sizes: Sizes, store: Store, path: Path) -> Path:
    tables = known(name, profile, sizes.base)
    log.info("experiment %s, profile %s: %s", name, profile, forecast(name, profile, sizes))
    plan = EXPERIMENTS[name].stages(sizes, _needed(name, profile))
    planned: list[dict[str, Any]] = []
    stage = next(plan)
    for number in range(1, 1000):
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
    tables.only(planned)
    _write(path, tables, name, profile, sizes, complete=True)
    log.info("wrote %s", path)
    return path


def fill(tables: Tables, stage: Stage, keys: Sequence[str], store: Store, label: str) -> Iterator[None]:
    """Put into some tables what they lack of a stage; a step for every so many runs.

    Raises:
        RuntimeError: a run failed for another reason than that its training diverged.
    """
    missing = {short: one for short, one in zip(keys, stage, strict=True) if not tables.has(short, one.asked)}
    asked = {one.asked for one in missing.values()}
    parts = [part for some in asked for part in _parts({k: one for k, one in missing.items() if one.asked == some})]
    for number, part in enumerate(parts, start=1):
        wanted = next(iter(part.values())).asked
        found = engine.results([one.run for one in part.values()], store, wanted,
                               stage=f"{label}, part {number} of {len(parts)}")
        failed = []
        for (short, one), (stored, numbers, error) in zip(part.items(), found, strict=True):
            if stored is not None:
                said = {"code": stored["code"], "seconds": round(stored["seconds"], 2), "commit": stored["commit"][:12],
                        "device_model": stored["machine"]["model"], "finished": stored["finished"]}
                named = {one.title: {"by": one.code, **values} for one, values in zip(wanted, numbers, strict=True)}
                tables.add(short, one.run, said, named, stored["curve"])
            elif error and error.startswith(DIVERGED):
                tables.add(short, one.run, {"code": identity(one.run)["code"], "commit": commit()["commit"][:12],
                                            "failure": error}, {}, [])
            else:
                failed.append(error)
        yield
        if failed:
            raise RuntimeError(f"{len(failed)} of {len(part)} runs failed; the first: {failed[0]}")


def _parts(missing: Mapping[str, Planned]) -> list[dict[str, Planned]]:
    names = list(missing)
    return [{name: missing[name] for name in names[start : start + PART]} for start in range(0, len(names), PART)]


def _arm(one: Planned, short: str) -> dict[str, Any]:
    return {"key": short, "arm": one.arm, "role": one.role, "trial": one.trial, "seed": one.run.seed}


def known(name: str, profile: str, base: Run) -> Tables:
    """What is recorded of an experiment already, here or in the committed tables."""
    tables = Tables(base)
    for kind in ("data", "runs"):
        path = folder(profile, kind) / f"{name}.json"
        if path.exists():
            tables.update(read(path)[1])
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
    experiments.check([name])
    path = folder(profile, kind) / f"{name}.json"
    manifest, tables = read(path) if path.exists() else ({"complete": False}, None)
    if tables is None or not manifest["complete"]:
        raise ValueError(f"{name!r} is not recorded{' to its end' if tables else ''} for profile {profile!r}: "
                         f"make record EXPERIMENT={name} PROFILE={profile} does it")
    return tables.frame()


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
    return manifest, Tables.read(path, base, digests)


def reported(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that claims are judged on."""
    return table[table["role"] == "reported"]


def is_of_this_code(manifest: Mapping[str, Any], tables: Tables) -> bool:
    """Whether today's code is what trained what is recorded, or has given a sample of it again bit for bit."""
    return set(codes(tables)) <= {*(run["code"] for run in tables.runs.values()), *manifest["adopted"]}


def codes(tables: Tables) -> set[str]:
    """The digests of the code that would train the recorded runs today."""
    runs = [tables.run(short) for short in tables.runs]
    kinds = {(run.dataset, run.system, run.model, run.loss, bool(run.augment), run.watched): run for run in runs}
    return {identity(run)["code"] for run in kinds.values()}


# What is to come.


def forecast(name: str, profile: str, sizes: Sizes) -> str:
    """How many runs an experiment has, how many are recorded, and how long the rest will take here."""
    stages = planned(name, sizes)
    tables = known(name, profile, sizes.base)
    runs = {key(one.run)[:KEY]: one.run for stage in stages for one in stage}
    left = [run for short, run in runs.items() if short not in tables.runs]
    words = f"{len(runs)} runs, {len(runs) - len(left)} of them recorded"
    rate = _seconds_a_unit(profile, sizes.base)
    if not left or rate is None:
        return words + ("" if not left else "; no time can be told before something is recorded")
    at_once = engine.workers([sizes.base.device])
    minutes = rate * sum(map(_work, left)) / at_once / 60
    return f"{words}; about {minutes:.0f} minutes for the rest, {at_once} at once"


def planned(name: str, sizes: Sizes) -> list[Stage]:
    """The stages of an experiment if all trials came out alike."""
    needs = EXPERIMENTS[name].needs
    needed = None if needs is None else pd.concat([_alike(stage) for stage in planned(needs, sizes)])
    plan = EXPERIMENTS[name].stages(sizes, needed)
    stages = [next(plan)]
    while True:
        try:
            stages.append(plan.send(_alike(stages[-1])))
        except StopIteration:
            return stages


def _alike(stage: Stage) -> pd.DataFrame:
    return pd.DataFrame([one.run.describe() | _arm(one, "") | {f"val_{metric}": 0.5 for asked in one.asked
                                                              for metric in asked.metrics} for one in stage])


def _work(run: Run) -> float:
    """What a training costs, in no unit."""
    return run.steps * run.batch * (run.size or 64) ** 2 * run.width


def _seconds_a_unit(profile: str, base: Run) -> float | None:
    """Of the work of what is recorded."""
    rates = []
    for name in EXPERIMENTS:
        tables = known(name, profile, base)
        rates += [row["seconds"] / _work(tables.run(short)) for short, row in tables.runs.items() if "seconds" in row]
    return statistics.median(rates) if rates else None


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
    last = Store().entry(tables.run(next(reversed(tables.runs)))).read() if tables.runs else None
    return {
        "experiment": name, "question": EXPERIMENTS[name].question, "profile": profile, "base": sizes.base.describe(),
        "sizes": given, "runs": len(tables.runs), "seconds": round(seconds, 1), "adopted": [], **commit(),
        **({} if last is None else {part: last[part] for part in ("data", "versions", "machine")}),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def judged(name: str, tables: Tables) -> dict[str, Any]:
    """What the claims of an experiment come to on its tables."""
    found = {}
    for claim in claims.load().values():
        if claim.experiment == name and claim.criteria:
            one = claim.judge(reported(tables.frame()))
            found[claim.name] = {"asked": claim.digest(), "verdict": one.verdict,
                                 "effects": json.loads(one.as_json())["effects"]}
    return found


def or_null(value: Any) -> Any:
    """The value, or None for a number that is not one: JSON has no NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value
