"""Whether recorded numbers still come out: a sample of the recorded runs, trained again and compared."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from filelock import FileLock
from scipy import stats

from falloff import measures, sets
from falloff.machine import resolve_precision
from falloff.project import commit, project_root, written
from falloff.run import Run
from falloff.study import claims, recording, store, subjects
from falloff.study.experiments import EXPERIMENTS, Planned
from falloff.study.store import Measuring, Store
from falloff.study.subjects import Subject
from falloff.study.tables import Tables

log = logging.getLogger(__name__)

WORDS = ("identical", "within tolerance", "within seed noise", "different")


def verify(profile: str = "study", *, everything: bool = False, device: str | None = None, exact: bool = False
           ) -> dict[str, Any]:
    """Train recorded runs again and say how what comes out compares with what was recorded.

    A run is "identical" when every number of it is; "within tolerance" when each differs by no more than the metric
    allows; "within seed noise" when those that something rests on differ by no more than two seeds would,

    .. math:: |d| \\le t_\\nu\\, s \\sqrt 2,

    else "different". What chooses is compared of every run; of those that are reported, also what claims rest on. The
    standard deviation s of seeds is pooled over the arms of the experiment, with :math:`\\nu` degrees of freedom.
    Student's quantile is that at which 95 of 100 verifications that change nothing but the seeds call no run different:
    metrics and runs share the level (Bonferroni).

    A claim is judged again with the replayed runs in place of the recorded ones. It is "within seed noise" as long as
    the interval that decides it overlaps with the recorded one, and "different" beyond; also when the manifest's
    verdict is not that of its tables, or something else decides it by now.

    Tables that other code has made are adopted by today's where all that is replayed of them is identical.

    Args:
        profile: whose tables are replayed.
        everything: all runs; else the shortest of each experiment, and one of each arm that a claim rests on.
        device: instead of the one that a run was recorded on.
        exact: replay in bfloat16 what was recorded so, even by a processor that has no bfloat16 of its own and takes
            many times as long for it; else that replays it in float32.

    Returns:
        What is written to ``verified.json`` beside the tables: date, machine, versions, ``runs`` (one row each, with
        what chose) and ``claims``. A run on a set that is not here is "not replayable without the set".

    Raises:
        ValueError: nothing is recorded, or a table is not as recorded.
        RuntimeError: a replay failed.
    """
    folder = recording.folder(profile)
    paths = sorted(path for path in folder.glob("*.json") if path.stem in EXPERIMENTS)
    if not paths:
        raise ValueError(f"nothing is recorded for profile {profile!r} in {folder}: make record makes it")
    recorded = {path.stem: recording.read(path) for path in paths}
    home = project_root() / "runs" / "replays"
    home.parent.mkdir(exist_ok=True)
    samples = {name: tables.arms if everything else sample(name, tables) for name, (_, tables) in recorded.items()}
    count = sum(map(len, samples.values()))
    rows: list[dict[str, Any]] = []
    judged: dict[str, Any] = {}
    where: dict[str, Any] = {}
    with FileLock(home.with_suffix(".lock")):
        shutil.rmtree(home, ignore_errors=True)  # a replay computes anew
        for name, (manifest, tables) in recorded.items():
            here = [arm for arm in samples[name] if is_here(tables.run(arm["key"]))]
            rows += [_row(name, arm, {}, {}, "not replayable without the set") for arm in samples[name]
                     if arm not in here]
            fresh = _again(tables, here, device, exact, Store(home))
            where = fresh.where or where
            noise = seed_noise(tables.frame(), count)
            pairs = list(zip(tables.frame(here).to_dict("records"), fresh.frame(here).to_dict("records"), strict=True))
            words = [row_word(old, new, noise) for old, new in pairs]
            rows += [_row(name, *three) for three in zip(here, *zip(*pairs, strict=True), words, strict=True)]
            if here and set(words) == {"identical"} and not recording.is_of_this_code(manifest, tables):
                adopted = sorted({*manifest["adopted"], *recording.codes(tables)})
                recording.save(folder / f"{name}.json", manifest | {"adopted": adopted})
            judged |= _claims(name, manifest, tables, fresh)
        shutil.rmtree(home, ignore_errors=True)
    verdict = {
        "profile": profile, "date": datetime.now(UTC).isoformat(timespec="seconds"), **commit(),
        "machine": where.get("machine", {}), "versions": where.get("versions", {}),
        "total": sum(len(tables.arms) for _, tables in recorded.values()), "runs": rows, "claims": judged,
    }
    path = folder / "verified.json"
    with written(path) as temporary:
        temporary.write_text(json.dumps(verdict, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    log.info("wrote %s, which the page of claims shows", path)
    return verdict


def counted(words: Sequence[str]) -> str:
    """How often each word is there, such as "3 identical, 1 different"."""
    known = dict.fromkeys((*WORDS, *words))
    return ", ".join(f"{words.count(word)} {word}" for word in known if word in words) or "none"


def sample(name: str, tables: Tables) -> list[dict[str, Any]]:
    """What is replayed of an experiment: its shortest run, and the first seed of each arm that a claim rests on."""
    arms = [arm for arm in tables.arms if "failure" not in tables.runs[arm["key"]]]
    rests = set().union(*(claim.arms for claim in claims.load().values() if claim.experiment == name))
    chosen = {min(arms, key=lambda arm: subjects.steps(tables.run(arm["key"])))["key"]} if arms else set()
    for wanted in sorted(rests):
        chosen |= {arm["key"] for arm in [a for a in arms if a["arm"] == wanted and a["role"] == "reported"][:1]}
    return list({arm["key"]: arm for arm in arms if arm["key"] in chosen}.values())


def is_here(run: Subject) -> bool:
    """Whether the set that a run was trained on is here."""
    return sets.is_here(run.dataset)


def _on(run: Subject, device: str | None, exact: bool) -> Subject:
    """The run as it is replayed: on a device, and in bfloat16 only where that is computed natively or asked for."""
    if not isinstance(run, Run):
        return run
    run = run if device is None else run.replace(device=device)
    return run if exact or run.precision == "float32" else run.replace(precision=resolve_precision("auto", run.device))


def _again(
    tables: Tables, arms: Sequence[Mapping[str, Any]], device: str | None, exact: bool, store: Store
) -> Tables:
    """The tables of some runs, trained here."""
    fresh = Tables(tables.base)
    stage = [Planned(arm["arm"], arm["role"], _on(tables.run(arm["key"]), device, exact), _asked(tables, arm))
             for arm in arms]
    for _ in recording.fill(fresh, stage, [arm["key"] for arm in arms], store, "replays"):
        pass
    fresh.only(arms)
    return fresh


def _asked(tables: Tables, arm: Mapping[str, Any]) -> tuple[Measuring, ...]:
    """What was measured of an arm's run on the splits, with the arm's decoder: lists of numbers are left out."""
    found = tables.numbers.get(arm["key"], {})  # none of a run that diverged
    reading = arm.get("decoder") or ""
    mine = {split: numbers for title, numbers in found.items() for split, by in [store.told(title)] if by == reading}
    reference = "choosing" if "choosing" in mine or reading else "val"
    return tuple(Measuring(split=split, threshold="own" if split == reference else "validation", reference=reference,
                           metrics=tuple(name for name in numbers if name != "by"), decoder=store.options(reading))
                 for split, numbers in mine.items())


def _row(name: str, arm: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any], word: str
         ) -> dict[str, Any]:
    metric = chooses(name)
    return {"experiment": name, **{what: arm[what] for what in ("arm", "role", "seed")}, "metric": metric,
            "recorded": recording.or_null(old.get(metric)), "replayed": recording.or_null(new.get(metric)),
            "verdict": word}


def chooses(name: str) -> str:
    """The column that an experiment's choices rest on."""
    return f"val_{EXPERIMENTS[name].metrics[0]}"


def row_word(old: Mapping[str, Any], new: Mapping[str, Any], noise: Mapping[str, float]) -> str:
    """One of :data:`WORDS` for a replayed row against the recorded one: see :func:`verify`."""
    if pd.isna(old.get("failure")) != pd.isna(new.get("failure")):
        return "different"
    # Where no predictions were measured, "precision" is that of the training.
    measured = [name for name in old if is_metric(name) and not isinstance(old[name], str)]
    differences = {name: difference(old[name], new.get(name, math.nan)) for name in measured}
    if not any(differences.values()):
        return "identical"
    if all(d <= metric(name).tolerance for name, d in differences.items()):
        return "within tolerance"
    near = all(difference(_known(old, name), _known(new, name)) <= noise[name] for name in noise if name in old)
    return "within seed noise" if near else "different"


def seed_noise(table: pd.DataFrame, runs: int) -> dict[str, float]:
    """How far two seeds may lie apart in each number that something rests on, where so many runs are compared."""
    rests = {metric for claim in claims.load().values() for metric in claim.metrics}
    columns = [name for name in table if is_metric(name) and (name.startswith("val_") or name in rests)]
    level, found = 0.05 / max(1, runs * len(columns)), {}
    groups = [table["arm"], table["role"], table["trial"].fillna(-1)]
    for name in columns:
        values = table.apply(_known, axis=1, column=name)
        seeds = values.groupby(groups)
        freedom = int((seeds.count() - 1).clip(lower=0).sum())
        squares = float(((values - seeds.transform("mean")) ** 2).sum())
        found[name] = stats.t.ppf(1 - level / 2, freedom) * math.sqrt(2 * squares / freedom) if freedom else 0.0
    return found


def is_metric(column: str) -> bool:
    """Whether a column of a table is a number that was measured."""
    return column.removeprefix("val_") in measures.METRICS


def metric(column: str) -> measures.Metric:
    """The metric that a column holds, of either split."""
    return measures.get(column.removeprefix("val_"))


def _known(row: Mapping[str, Any], column: str) -> float:
    """A number; where it was never reached, that at which the run ended without it."""
    value, censored_at = row.get(column, math.nan), metric(column).censored_at
    return row[censored_at] if censored_at and pd.isna(value) else value


def difference(old: float, new: float) -> float:
    """Its size; 0 between two that are both undefined, infinite between one that is and one that is not."""
    if old == new:  # also where both are infinite
        return 0.0
    if pd.isna(old) or pd.isna(new):
        return 0.0 if pd.isna(old) and pd.isna(new) else math.inf
    return abs(float(old) - float(new))


def _claims(name: str, manifest: Mapping[str, Any], tables: Tables, fresh: Tables) -> dict[str, Any]:
    """How the claims of an experiment come out with the replayed runs."""
    mixed = replace(tables, curves=tables.curves | fresh.curves, numbers={
        key: found | fresh.numbers.get(key, {}) for key, found in tables.numbers.items()})
    found = {}
    for claim in claims.load().values():
        old = manifest.get("claims", {}).get(claim.name)
        if claim.experiment != name or old is None:
            continue
        then, now = (claim.judge(one.evidence()) for one in (tables, mixed))
        mine = [arm for arm in tables.reported if arm["arm"] in claim.arms]
        replayed = sum(arm["key"] in fresh.runs for arm in mine)
        if then.verdict != old["verdict"] or old["asked"] != claim.digest():
            word = "different"  # not what its own table says, or decided by something else now
        else:
            word = claim_word(then, now) if replayed else "not replayed"
        found[claim.name] = {"recorded": old["verdict"], "verdict": now.verdict, "compared": word, "runs": len(mine),
                             "replayed": replayed}
    return found


def claim_word(then: claims.Judgement, now: claims.Judgement) -> str:
    """One of :data:`WORDS` for a claim that is judged again."""
    pairs = list(zip(then.effects, now.effects, strict=True))
    apart = [difference(a, b) for one, other in pairs
             for a, b in ((one.mean, other.mean), (one.low, other.low), (one.high, other.high))]
    if not any(apart):
        return "identical"
    allowed = [metric(one.metric).tolerance if one.metric else 0.0 for one in then.claim.criteria for _ in range(3)]
    if then.verdict == now.verdict and all(d <= most for d, most in zip(apart, allowed, strict=True)):
        return "within tolerance"
    beyond = any(one.low > other.high or one.high < other.low for one, other in pairs)
    return "different" if beyond else "within seed noise"
