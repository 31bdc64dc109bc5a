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

from falloff import measures, profiles
from falloff.project import commit, project_root, written
from falloff.run import Run
from falloff.study import claims, engine
from falloff.study.experiments import EXPERIMENTS, settings
from falloff.study.store import Store, identity

log = logging.getLogger(__name__)

SAMPLE = 6  # runs replayed by default
WORDS = ("identical", "within tolerance", "within seed noise", "different")

# A row's columns that are neither of its run nor measured.
_OTHER = {"run", "arm", "role", "seed", "code", "chosen", "at_edge", "seconds", "device_model"}


def folder(profile: str) -> Path:
    """Where a profile's recorded tables are.

    Raises:
        ValueError: there is no such profile.
    """
    profiles.profile(profile)
    return project_root() / "data" / "recorded" / profile


def write(profile: str = "quick", device: str | None = None, names: Sequence[str] | None = None) -> list[Path]:
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
        text = _text(EXPERIMENTS[name].carry_out(**shared).whole)
        path = folder(profile) / f"{name}.json"
        manifest = _manifest(name, profile, shared["base"], _read(text)) | {
            "sha256": hashlib.sha256(text.encode()).hexdigest()
        }
        with written(path.with_suffix(".csv")) as temporary:
            temporary.write_text(text, encoding="utf-8")
        _write(path, manifest)
        log.info("wrote %s", path)
        done.append(path)
    return done


def recorded(name: str, profile: str = "quick") -> pd.DataFrame:
    """The table of a recorded experiment: a row a run, with the fields of the run, ``arm``, ``role`` and all metrics.

    Raises:
        ValueError: no such experiment or profile, or it is not recorded or damaged.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"no experiment is named {name!r}; known: {', '.join(EXPERIMENTS)}")
    path = folder(profile) / f"{name}.json"
    if not path.exists():
        raise ValueError(f"{name!r} is not recorded for profile {profile!r}: make record PROFILE={profile} does it")
    return read(path)[1]


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


def is_of_this_code(manifest: Mapping[str, Any], table: pd.DataFrame) -> bool:
    """Whether today's code is what computed a recorded table, or has given a sample of it again bit for bit."""
    return set(_codes(table)) <= {*table["code"], *manifest["adopted"]}


def _codes(table: pd.DataFrame) -> list[str]:
    """The digest of the code that would compute each row today."""
    return [identity(run)["code"] for run in _runs(table, None)]


def verify(profile: str = "quick", *, everything: bool = False, device: str | None = None) -> dict[str, Any]:
    """Train recorded runs again and say how what comes out compares with what was recorded.

    A run is "identical" when every metric is; "within tolerance" when each differs by no more than the metric allows;
    "within seed noise" when those that something rests on differ by no more than two seeds would,

    .. math:: |d| \\le t_\\nu\\, s \\sqrt 2,

    else "different". On a run of the tuning rests a choice, so the metric that chose is compared; on others rest
    claims, so their metrics are. The standard deviation s of seeds is pooled over the arms of the experiment,
    with :math:`\\nu` degrees of freedom. Student's quantile is that at which 95 of 100 verifications that change
    nothing but the seeds call no run different: metrics and runs share the level (Bonferroni).

    A claim is judged again with the replayed runs in place of the recorded ones. It is "within seed noise" as long as
    the interval that decides it overlaps with the recorded one, even where one of them only just decides it, and
    "different" beyond; also when the manifest's verdict is not that of its table, or something else decides it by now.

    A table that other code has made is adopted by today's where all that is replayed of it is identical.

    Args:
        profile: whose tables are replayed.
        everything: all runs, else six of each experiment, drawn by a fixed rule.
        device: instead of the one that a run was recorded on.

    Returns:
        What is written to ``verified.json`` beside the tables: date, machine, versions, ``runs`` (one row each, with
        what chose on the test split) and ``claims``.

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
        rows: list[dict[str, Any]] = []
        judged: dict[str, Any] = {}
        where: Any = None
        samples = {name: table if everything else table.loc[_sample(table)] for name, (_, table) in recorded.items()}
        count = sum(map(len, samples.values()))
        for name, (manifest, table) in recorded.items():
            chosen, tuned_by = samples[name], EXPERIMENTS[name].tuned_by
            noise = seed_noise(table, count, tuned_by)
            fresh = _replay(chosen, device, Store(home))
            words = [row_word(old, new, noise, tuned_by) for old, new in
                     zip(chosen.to_dict("records"), fresh.to_dict("records"), strict=True)]
            rows += [
                {"experiment": name, **{what: old[what] for what in ("arm", "role", "seed")},
                 "rate": old["learning_rate"], "metric": tuned_by,
                 "recorded": _or_null(old[tuned_by]), "replayed": _or_null(new[tuned_by]),
                 "verdict": word}
                for old, new, word in zip(chosen.to_dict("records"), fresh.to_dict("records"), words, strict=True)
            ]
            if set(words) == {"identical"} and not is_of_this_code(manifest, table):
                adopted = {"adopted": sorted({*manifest["adopted"], *_codes(table)})}
                _write(folder(profile) / f"{name}.json", manifest | adopted)
            judged |= _claims(name, manifest, table, fresh)
            where = Store(home).entry(_runs(chosen.iloc[:1], device)[0]).read()
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


def row_word(
    old: Mapping[str, Any], new: Mapping[str, Any], noise: Mapping[str, float], tuned_by: str = "ap"
) -> str:
    """One of :data:`WORDS` for a replayed row against the recorded one: see :func:`verify`."""
    differences = {name: _difference(old[name], new[name]) for name in _metrics(old)}
    if not any(differences.values()):
        return "identical"
    if all(d <= _metric(name).tolerance for name, d in differences.items()):
        return "within tolerance"
    rests_on = (tuned_by, f"val_{tuned_by}") if old["role"] == "tuning" else _claimed(tuned_by)
    near = all(_difference(_known(old, name), _known(new, name)) <= noise[name] for name in rests_on)
    return "within seed noise" if near else "different"


def seed_noise(table: pd.DataFrame, runs: int, tuned_by: str = "ap") -> dict[str, float]:
    """How far two seeds may lie apart in each metric that something rests on, where so many runs are compared."""
    repeated = _reported(table)
    level, found = 0.05 / (runs * len(_claimed(tuned_by))), {}
    for metric in {*_claimed(tuned_by), f"val_{tuned_by}"}:
        values = repeated.apply(_known, axis=1, metric=metric)
        seeds = repeated.assign(value=values).groupby("arm")["value"]
        freedom = int((seeds.count() - 1).clip(lower=0).sum())
        squares = float(((values - seeds.transform("mean")) ** 2).sum())
        found[metric] = stats.t.ppf(1 - level / 2, freedom) * math.sqrt(2 * squares / freedom) if freedom else 0.0
    return found


def _claimed(tuned_by: str) -> list[str]:
    """What chooses, and the other metrics that claims rest on."""
    return sorted({tuned_by} | {metric for claim in claims.load().values() for metric in claim.metrics})


def _metric(column: str) -> measures.Metric:
    """The metric that a column holds, of either split."""
    return measures.get(column.removeprefix("val_"))


def _known(row: Mapping[str, Any], metric: str) -> float:
    """A metric; where it was never reached, that at which the run ended without it."""
    censored_at = _metric(metric).censored_at
    return row[censored_at] if censored_at and pd.isna(row[metric]) else row[metric]


def _difference(old: float, new: float) -> float:
    """Its size; 0 between two that are both undefined, infinite between one that is and one that is not."""
    if old == new:  # also where both are infinite
        return 0.0
    if pd.isna(old) or pd.isna(new):
        return 0.0 if pd.isna(old) and pd.isna(new) else math.inf
    return abs(float(old) - float(new))


def _metrics(recorded: pd.DataFrame | Mapping[str, Any]) -> list[str]:
    """The columns of a recorded table, or of its row, that were measured, but for time."""
    return [name for name in recorded if name.removeprefix("val_") in measures.METRICS]


def _replay(rows: pd.DataFrame, device: str | None, store: Store) -> pd.DataFrame:
    table = engine.run(_runs(rows, device), store=store)
    if failed := table["failure"].dropna().tolist():
        raise RuntimeError(f"{len(failed)} of {len(table)} replays failed; the first: {failed[0]}")
    return table.set_axis(rows.index)


def _runs(rows: pd.DataFrame, device: str | None) -> list[Run]:
    """The runs of recorded rows, on their own device or another."""
    return [Run.of(json.loads(text) | ({} if device is None else {"device": device})) for text in rows["run"]]


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
        mine = _reported(table)
        mine = mine[mine["arm"].isin(claim.arms)]
        replayed = int(mine.index.isin(fresh.index).sum())
        if then.verdict != old["verdict"] or old["asked"] != claim.digest():
            word = "different"  # not what its own table says, or decided by something else now
        else:
            word = _claim_word(then, now) if replayed else "not replayed"
        found[claim.name] = {"recorded": old["verdict"], "verdict": now.verdict, "compared": word, "runs": len(mine),
                             "replayed": replayed}
    return found


def _claim_word(then: claims.Judgement, now: claims.Judgement) -> str:
    pairs = list(zip(then.effects, now.effects, strict=True))
    apart = [_difference(a, b) for one, other in pairs
             for a, b in ((one.mean, other.mean), (one.low, other.low), (one.high, other.high))]
    if not any(apart):
        return "identical"
    allowed = [_metric(one.metric).tolerance if one.metric else 0.0 for one in then.claim.criteria for _ in range(3)]
    if then.verdict == now.verdict and all(d <= most for d, most in zip(apart, allowed, strict=True)):
        return "within tolerance"
    beyond = any(one.low > other.high or one.high < other.low for one, other in pairs)
    return "different" if beyond else "within seed noise"


def _reported(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["role"] == "reported"]


def _text(table: pd.DataFrame) -> str:
    """A table as CSV: each run as JSON in one column, beside it what was measured."""
    fields = [f.name for f in dataclasses.fields(Run)]
    runs = [Run(**{name: row[name] for name in fields}) for row in table.to_dict("records")]
    described = [json.dumps(run.describe()) for run in runs]
    table = table.assign(run=described, code=[identity(run)["code"] for run in runs])
    measured = [name for name in table if name in _OTHER or name not in fields]
    first = ["arm", "role", "seed"]
    return table[[*first, *(name for name in measured if name not in first)]].to_csv(index=False)


def _read(text: str) -> pd.DataFrame:
    table = pd.read_csv(io.StringIO(text))
    fields = pd.DataFrame([Run.of(json.loads(run)).describe() for run in table["run"]], index=table.index)
    return pd.concat([table, fields[[name for name in fields if name not in table]]], axis=1)


def _write(path: Path, manifest: Mapping[str, Any]) -> None:
    with written(path) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _manifest(name: str, profile: str, base: Run, table: pd.DataFrame) -> dict[str, Any]:
    reported = _reported(table)
    judged = {
        claim.name: {"asked": claim.digest(), "verdict": (one := claim.judge(reported)).verdict,
                     "effects": json.loads(one.as_json())["effects"]}
        for claim in claims.load().values() if claim.experiment == name
    }
    where: Any = Store().entry(_runs(table.iloc[:1], None)[0]).read()  # of a worker, which may be another machine
    return {
        "experiment": name, "question": EXPERIMENTS[name].question, "profile": profile, "base": base.describe(),
        "rates": sorted(table.loc[table["role"] == "tuning", "learning_rate"].unique().tolist()),
        "seeds": sorted(reported["seed"].unique().tolist()),
        "runs": len(table), "seconds": round(float(table["seconds"].sum()), 1), "adopted": [],
        "data": where["data"], **commit(), "versions": where["versions"], "machine": where["machine"],
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "claims": judged,
    }
