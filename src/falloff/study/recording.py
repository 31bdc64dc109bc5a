"""Recorded numbers: experiments written to ``data/recorded``, and replayed to see whether they still come out."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import math
import random
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from scipy import stats

from falloff.study import claims, engine
from falloff.study.experiments import EXPERIMENTS, settings
from falloff.study.files import project_root, written
from falloff.study.provenance import commit
from falloff.study.store import Store
from falloff.training import Run

log = logging.getLogger(__name__)

# How far a replay may lie from what was recorded and still be called the same: what other versions of the same kind of
# machine may change. Metrics are shares in [0, 1]; distances are in pixels.
TOLERANCE = {"error": 0.01, "steps_to_ap": 0.0, "default": 0.002}
SAMPLE = 6  # runs replayed by default
WORDS = ("identical", "within tolerance", "within seed noise", "different")

_FIELDS = [f.name for f in dataclasses.fields(Run)]


def folder(profile: str) -> Path:
    """Where a profile's recorded tables are."""
    return project_root() / "data" / "recorded" / profile


def record(profile: str = "quick", device: str | None = None, names: Sequence[str] | None = None) -> list[Path]:
    """Run experiments of a profile, as far as the store lacks them, and write a CSV and a JSON manifest for each.

    Args:
        profile: by name.
        device: instead of the profile's own.
        names: of experiments, all by default.

    Returns:
        The manifests.

    Raises:
        ValueError: an unknown profile, experiment or device.
        RuntimeError: a run failed; what had finished is stored.
    """
    names = list(EXPERIMENTS) if names is None else list(names)
    if unknown := [name for name in names if name not in EXPERIMENTS]:
        raise ValueError(f"no experiment is named {unknown[0]!r}; known: {', '.join(EXPERIMENTS)}")
    shared = settings(profile, device)
    done = []
    for name in names:
        log.info("experiment %s, profile %s", name, profile)
        table = EXPERIMENTS[name].run(**shared)
        text = table.assign(loss_options=table["loss_options"].map(json.dumps)).to_csv(index=False)
        path = folder(profile) / f"{name}.json"
        manifest = _manifest(name, profile, shared, _read(text)) | {
            "sha256": hashlib.sha256(text.encode()).hexdigest()
        }
        with written(path.with_suffix(".csv")) as temporary:
            temporary.write_text(text, encoding="utf-8")
        with written(path) as temporary:
            temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        log.info("wrote %s", path)
        done.append(path)
    return done


def read(path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """A manifest and its table.

    Raises:
        ValueError: one of the two is missing or damaged, or the table is not the one that the manifest was written for.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        content = path.with_suffix(".csv").read_bytes()
        digest = manifest["sha256"]
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} and its table cannot be read: {type(error).__name__}: {error}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{path.with_suffix('.csv')} is not the table that {path.name} was written for")
    return manifest, _read(content.decode())


def verify(profile: str = "quick", *, everything: bool = False, device: str | None = None) -> dict[str, Any]:
    """Train recorded runs again and say how what comes out compares with what was recorded.

    A run is "identical" when every metric is; "within tolerance" when each differs by no more than the manifest
    allows; "within seed noise" when those that claims rest on differ by no more than two seeds would in 95 of 100
    cases, :math:`|d| \\le t_{n-1} s \\sqrt 2` with the standard deviation s over the n recorded seeds of its loss and
    the level shared between the metrics (Bonferroni); else "different". A claim is judged again with the replayed runs
    in place of the recorded ones, and is "different" when its verdict is.

    Args:
        profile: whose tables are replayed.
        everything: all runs, else six of each experiment, drawn by a fixed rule.
        device: instead of the one that a run was recorded on.

    Returns:
        What is written to ``verified.json`` beside the tables: date, machine, versions, ``runs`` (one row each) and
        ``claims``.

    Raises:
        ValueError: nothing is recorded, or a table is not as recorded.
        RuntimeError: a replay failed.
    """
    paths = sorted(path for path in folder(profile).glob("*.json") if path.stem in EXPERIMENTS)
    if not paths:
        raise ValueError(f"nothing is recorded for profile {profile!r} in {folder(profile)}: make record makes it")
    recorded = {path.stem: read(path) for path in paths}
    home = project_root() / "runs" / "replays"
    home.parent.mkdir(exist_ok=True)
    with FileLock(home.with_suffix(".lock")):
        rows, judged, where = [], {}, {}
        for name, (manifest, table) in recorded.items():
            chosen = table if everything else table.loc[_sample(table)]
            fresh = _replay(chosen, device, Store(home))
            rows += [
                {"experiment": name, "loss": old["loss"], "variant": old.get("variant"), "role": old["role"],
                 "seed": int(old["seed"]), "rate": old["learning_rate"], "recorded": old["ap"], "replayed": new["ap"],
                 "verdict": compare(old, new, table, manifest["tolerance"])}
                for (_, old), (_, new) in zip(chosen.iterrows(), fresh.iterrows(), strict=True)
            ]
            judged |= _claims(name, manifest, table, fresh)
            where = Store(home).read(engine.key(_run(chosen.iloc[0], device)))
        shutil.rmtree(home, ignore_errors=True)  # a replay is one: the next verification computes anew
    verdict = {
        "profile": profile, "date": datetime.now(UTC).isoformat(timespec="seconds"), **commit(),
        "machine": where["machine"], "versions": where["versions"],
        "total": sum(len(table) for _, table in recorded.values()),
        "runs": rows, "claims": judged,
    }
    with written(folder(profile) / "verified.json") as temporary:
        temporary.write_text(json.dumps(verdict, indent=1) + "\n", encoding="utf-8")
    return verdict


def compare(old: Mapping[str, Any], new: Mapping[str, Any], table: pd.DataFrame, tolerance: Mapping[str, float]) -> str:
    """One of :data:`WORDS` for a replayed row against the recorded one, within its recorded table."""
    metrics = _metrics(table)
    differences = {name: _difference(old[name], new[name]) for name in metrics}
    if not any(differences.values()):
        return "identical"
    if all(d <= tolerance.get(name.removeprefix("val_"), tolerance["default"]) for name, d in differences.items()):
        return "within tolerance"
    seeds = table[(table["loss"] == old["loss"]) & (table["role"] == "reported")]
    watched = ["ap", *(name for name in _claimed() if name != "ap")]
    return "within seed noise" if all(
        differences[name] <= _noise(seeds[name], 0.05 / len(watched)) for name in watched
    ) else "different"


def _claimed() -> list[str]:
    """Metrics that claims rest on."""
    return sorted({test.metric for claim in claims.load().values() for test in claim.tests if test.metric})


def _noise(values: pd.Series, level: float) -> float:
    """How far two seeds may lie apart."""
    if len(values) < 2 or values.isna().any():
        return 0.0
    return float(stats.t.ppf(1 - level / 2, len(values) - 1) * values.std(ddof=1) * math.sqrt(2))


def _difference(old: float, new: float) -> float:
    """Its size; 0 between two that are both undefined, infinite between one that is and one that is not."""
    if old == new:  # also where both are infinite
        return 0.0
    if pd.isna(old) or pd.isna(new):
        return 0.0 if pd.isna(old) and pd.isna(new) else math.inf
    return abs(float(old) - float(new))


def _metrics(table: pd.DataFrame) -> list[str]:
    """The columns of a recorded table that were measured, but for time."""
    other = {*_FIELDS, "role", "variant", "chosen", "at_edge", "seconds", "device_model"}
    return [name for name in table.columns if name not in other]


def _replay(rows: pd.DataFrame, device: str | None, store: Store) -> pd.DataFrame:
    runs = [_run(row, device) for _, row in rows.iterrows()]
    table = engine.run(runs, store=store)
    if failed := table["failure"].dropna().tolist():
        raise RuntimeError(f"{len(failed)} of {len(runs)} replays failed; the first: {failed[0]}")
    return table.set_axis(rows.index)


def _run(row: Mapping[str, Any], device: str | None) -> Run:
    """The run of a recorded row."""
    given = {name: None if pd.isna(row[name]) else row[name] for name in _FIELDS if name != "loss_options"}
    whole = ("size", "width", "steps", "batch", "seed", "evaluations")
    given |= {name: int(given[name]) for name in whole if given[name] is not None}
    given["loss_options"] = json.loads(row["loss_options"])
    return Run(**(given | ({} if device is None else {"device": device})))


def _sample(table: pd.DataFrame) -> list[int]:
    """The rows to replay: the same ones for the same table, whole losses left out rather than one loss preferred."""
    return sorted(random.Random(len(table)).sample(range(len(table)), min(SAMPLE, len(table))))


def _claims(name: str, manifest: Mapping[str, Any], table: pd.DataFrame, fresh: pd.DataFrame) -> dict[str, Any]:
    """How the claims of an experiment come out with the replayed runs."""
    mixed = table.copy()
    metrics = _metrics(table)
    mixed.loc[fresh.index, metrics] = fresh[metrics]
    found = {}
    for claim in claims.load().values():
        if claim.experiment != name or claim.name not in manifest["claims"]:
            continue
        old = manifest["claims"][claim.name]
        now = claim.judge(_reported(mixed))
        then = claim.judge(_reported(table))
        if then.verdict != old["verdict"] or old["asked"] != claim.digest():
            word = "different"  # not what its own table says, or decided by something else now
        else:
            word = _word(then, now, manifest["tolerance"])
        losses = {loss for test in claim.tests for loss in (test.difference or (test.of,))}
        mine = _reported(table)
        mine = mine[mine["loss"].isin(losses)]
        found[claim.name] = {"verdict": now.verdict, "compared": word, "runs": len(mine),
                             "replayed": int(mine.index.isin(fresh.index).sum())}
    return found


def _word(then: claims.Judgement, now: claims.Judgement, tolerance: Mapping[str, float]) -> str:
    if then.verdict != now.verdict:
        return "different"
    apart = [_difference(a, b) for one, other in zip(then.effects, now.effects, strict=True)
             for a, b in ((one.mean, other.mean), (one.low, other.low), (one.high, other.high))]
    if not any(apart):
        return "identical"
    metrics = [test.metric for test in then.claim.tests for _ in range(3)]
    near = all(d <= tolerance.get(m, tolerance["default"]) for d, m in zip(apart, metrics, strict=True))
    return "within tolerance" if near else "within seed noise"


def _reported(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["role"] == "reported"]


def _manifest(name: str, profile: str, shared: Mapping[str, Any], table: pd.DataFrame) -> dict[str, Any]:
    base: Run = shared["base"]
    judged = {
        claim.name: {"asked": claim.digest(), "verdict": (one := claim.judge(_reported(table))).verdict,
                     "effects": json.loads(one.as_json())["effects"]}
        for claim in claims.load().values() if claim.experiment == name
    }
    where = Store().read(engine.key(_run(table.iloc[0], None)))  # of a worker, which may be another machine
    return {
        "experiment": name, "question": EXPERIMENTS[name].question, "profile": profile, "base": base.describe(),
        "rates": sorted(table.loc[table["role"] == "tuning", "learning_rate"].unique().tolist()),
        "seeds": sorted(table.loc[table["role"] == "reported", "seed"].unique().tolist()),
        "runs": len(table), "seconds": round(float(table["seconds"].sum()), 1),
        "code": where["code"], "data": where["data"], **commit(), "versions": where["versions"],
        "machine": where["machine"],
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "tolerance": TOLERANCE, "claims": judged,
    }


def _read(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text))
