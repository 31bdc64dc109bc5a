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

from falloff.project import commit, project_root, written
from falloff.study import claims, engine
from falloff.study.experiments import EXPERIMENTS, settings
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
            temporary.write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n", encoding="utf-8")
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
    allows; "within seed noise" when those that something rests on differ by no more than two seeds would,

    .. math:: |d| \\le t_\\nu\\, s \\sqrt 2,

    else "different". On a run of the tuning rests the choice of a rate, so its APs are compared; on others rest claims,
    so their metrics are. The standard deviation s of seeds is pooled over the losses and variants of the experiment,
    with :math:`\\nu` degrees of freedom. Student's quantile is that at which 95 of 100 verifications that change
    nothing but the seeds call no run different: metrics and runs share the level (Bonferroni).

    A claim is judged again with the replayed runs in place of the recorded ones. It is "within seed noise" as long as
    the interval that decides it overlaps with the recorded one, even where one of them only just decides it, and
    "different" beyond; also when the manifest's verdict is not that of its table, or something else decides it by now.

    Args:
        profile: whose tables are replayed.
        everything: all runs, else six of each experiment, drawn by a fixed rule.
        device: instead of the one that a run was recorded on.

    Returns:
        What is written to ``verified.json`` beside the tables: date, machine, versions, ``runs`` (one row each, with
        the AP on the test split) and ``claims``.

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
        samples = {name: table if everything else table.loc[_sample(table)] for name, (_, table) in recorded.items()}
        count = sum(map(len, samples.values()))
        for name, (manifest, table) in recorded.items():
            chosen, noise = samples[name], seed_noise(table, count)
            fresh = _replay(chosen, device, Store(home))
            rows += [
                {"experiment": name, "loss": old["loss"], "variant": _or_null(old.get("variant")), "role": old["role"],
                 "seed": int(old["seed"]), "rate": old["learning_rate"], "recorded": _or_null(old["ap"]),
                 "replayed": _or_null(new["ap"]), "verdict": compare(old, new, noise, manifest["tolerance"])}
                for old, new in zip(chosen.to_dict("records"), fresh.to_dict("records"), strict=True)
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
    path = folder(profile) / "verified.json"
    with written(path) as temporary:
        temporary.write_text(json.dumps(verdict, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    log.info("wrote %s, which the page of claims shows", path)
    return verdict


def counted(words: Sequence[str]) -> str:
    """How often each word is there, such as "3 identical, 1 different"."""
    return ", ".join(f"{words.count(word)} {word}" for word in (*WORDS, "not replayed") if word in words) or "none"


def _or_null(value: Any) -> Any:
    """The value, or None for a number that is not one: JSON has no NaN."""
    return None if pd.isna(value) else value


def compare(
    old: Mapping[str, Any], new: Mapping[str, Any], noise: Mapping[str, float], tolerance: Mapping[str, float]
) -> str:
    """One of :data:`WORDS` for a replayed row against the recorded one: see :func:`verify`."""
    differences = {name: _difference(old[name], new[name]) for name in _metrics(old)}
    if not any(differences.values()):
        return "identical"
    if all(d <= tolerance.get(name.removeprefix("val_"), tolerance["default"]) for name, d in differences.items()):
        return "within tolerance"
    rests_on = ("ap", "val_ap") if old["role"] == "tuning" else _claimed()
    near = all(_difference(_known(old, name), _known(new, name)) <= noise[name] for name in rests_on)
    return "within seed noise" if near else "different"


def seed_noise(table: pd.DataFrame, runs: int) -> dict[str, float]:
    """How far two seeds may lie apart in each metric that something rests on, where so many runs are compared."""
    repeated = table[table["role"] != "tuning"]
    setting = [name for name in ("loss", "variant") if name in table]
    level, found = 0.05 / (runs * len(_claimed())), {}
    for metric in {*_claimed(), "val_ap"}:
        values = repeated.apply(_known, axis=1, metric=metric)
        seeds = repeated.assign(value=values).groupby(setting, dropna=False)["value"]
        freedom = int((seeds.count() - 1).clip(lower=0).sum())
        squares = float(((values - seeds.transform("mean")) ** 2).sum())
        found[metric] = stats.t.ppf(1 - level / 2, freedom) * math.sqrt(2 * squares / freedom) if freedom else 0.0
    return found


def _claimed() -> list[str]:
    """AP, and the other metrics that claims rest on."""
    return sorted({"ap"} | {test.metric for claim in claims.load().values() for test in claim.tests if test.metric})


def _known(row: Mapping[str, Any], metric: str) -> float:
    """A metric; of the steps to a threshold that a run never reached, those that it had: it took more."""
    return row["steps"] if metric == "steps_to_ap" and pd.isna(row[metric]) else row[metric]


def _difference(old: float, new: float) -> float:
    """Its size; 0 between two that are both undefined, infinite between one that is and one that is not."""
    if old == new:  # also where both are infinite
        return 0.0
    if pd.isna(old) or pd.isna(new):
        return 0.0 if pd.isna(old) and pd.isna(new) else math.inf
    return abs(float(old) - float(new))


def _metrics(recorded: pd.DataFrame | Mapping[str, Any]) -> list[str]:
    """The columns of a recorded table, or of its row, that were measured, but for time."""
    other = {*_FIELDS, "role", "variant", "chosen", "at_edge", "seconds", "device_model"}
    return [name for name in recorded if name not in other]


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
        losses = {loss for test in claim.tests for loss in (test.difference or (test.of,))}
        mine = _reported(table)
        mine = mine[mine["loss"].isin(losses)]
        replayed = int(mine.index.isin(fresh.index).sum())
        if then.verdict != old["verdict"] or old["asked"] != claim.digest():
            word = "different"  # not what its own table says, or decided by something else now
        else:
            word = _word(then, now, manifest["tolerance"]) if replayed else "not replayed"
        found[claim.name] = {"recorded": old["verdict"], "verdict": now.verdict, "compared": word, "runs": len(mine),
                             "replayed": replayed}
    return found


def _word(then: claims.Judgement, now: claims.Judgement, tolerance: Mapping[str, float]) -> str:
    pairs = list(zip(then.effects, now.effects, strict=True))
    apart = [_difference(a, b) for one, other in pairs
             for a, b in ((one.mean, other.mean), (one.low, other.low), (one.high, other.high))]
    if not any(apart):
        return "identical"
    metrics = [test.metric for test in then.claim.tests for _ in range(3)]
    if then.verdict == now.verdict and all(
        d <= tolerance.get(m, tolerance["default"]) for d, m in zip(apart, metrics, strict=True)
    ):
        return "within tolerance"
    beyond = any(one.low > other.high or one.high < other.low for one, other in pairs)
    return "different" if beyond else "within seed noise"


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
