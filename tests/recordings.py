"""What tests of recordings, of replays and of their pages share: a project with a small experiment, and tables that a
test edits."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import yaml

from falloff.run import Run
from falloff.study import engine, experiments, progress, recording, replay, tuning
from falloff.study.experiments import Experiment, Planned, Sizes
from falloff.study.store import Measuring

CLAIMS = {
    "C1": {"claim": "One is better.", "experiment": "pair", "decided_by": [
        {"what": "AP of one minus the other's", "metric": "ap", "difference": ["focal", "bce"], "above": 0}]},
    "C2": {"claim": "Hardly any points are found.", "experiment": "pair", "decided_by": [
        {"what": "AP", "metric": "ap", "of": "bce", "below": 9}]},
    "C3": {"claim": "The formula says so.", "decided_by": [
        {"what": "Ratio", "number": "ratio", "above": 0}]},
    "C4": {"claim": "Others say so.", "experiment": "later", "decided_by": [
        {"what": "AP", "metric": "ap", "of": "bce", "above": 0}]},
}
BASE = Run(dataset="spots", width=2, batch=4, steps=2, evaluations=1, watched=("ap",), precision="float32",
           form="eager")
SMALL = Sizes(base=BASE, seeds=(0, 1, 2))
CHOOSING = Measuring(split="val", metrics=("ap", "ap_1", "error"), threshold="own")
LATE = Measuring(metrics=("ap", "error", "calibration_error"))
RATES = (0.01, 0.02)


def pair(sizes):
    """Two losses, each at the better of two rates with every seed, and a variant of one of them."""
    tried = yield [Planned(loss, "block 1", tuning.of(sizes.base, loss, {"learning_rate": rate}), (CHOOSING,), number)
                   for loss in ("focal", "bce") for number, rate in enumerate(RATES)]
    best = {loss: int(tuning.score(tried[tried["arm"] == loss], "ap").index[0]) for loss in ("focal", "bce")}
    yield [Planned(arm, "reported", sizes.base.replace(loss=loss, learning_rate=RATES[best[loss]], seed=seed, **own),
                   (CHOOSING, LATE))
           for arm, loss, own in (("focal", "focal", {}), ("bce", "bce", {}),
                                  ("focal, gamma 0", "focal", {"loss_options": {"gamma": 0.0}}))
           for seed in sizes.seeds]


PAIR = Experiment(question="Which?", plan=pair, metrics=("ap", "error"))
COUNT = 4 + 9


def use(patch: pytest.MonkeyPatch, **named: Experiment) -> None:
    """Let these be all experiments that there are."""
    for module in (experiments, recording, replay):
        patch.setattr(module, "EXPERIMENTS", named)


@contextmanager
def project(root: Path) -> Iterator[Path]:
    """The root of a project with one small experiment, and a worker for it."""
    (root / "data").mkdir()
    (root / "data" / "claims.yml").write_text(yaml.safe_dump(CLAIMS))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(engine.SCHEDULER, raising=False)
        patch.setenv("FALLOFF_ROOT", str(root))
        patch.setenv(progress.STYLE, "lines")
        patch.setattr(engine, "CPU_COUNT", 1)
        patch.setitem(experiments.SIZES, "tiny", SMALL)
        use(patch, pair=PAIR)
        with engine.cluster() as address:
            patch.setenv(engine.SCHEDULER, address)
            yield root


def bytes_of(folder: Path) -> dict[str, bytes]:
    """All files of a folder but the verdict of replays."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "verified.json"}


def table(manifest: Path, name: str) -> Path:
    """Where one of the tables of a manifest is."""
    return manifest.with_name(f"{manifest.stem}.{name}")


def edit(manifest: Path, name: str, change, **claims: str) -> None:
    """Change a recorded table, by a function from table to table, and its manifest so that the two agree."""
    path = table(manifest, name)
    change(pd.read_csv(path)).to_csv(path, index=False)
    content = json.loads(manifest.read_text())
    content["files"][name] = hashlib.sha256(path.read_bytes()).hexdigest()
    for claim, verdict in claims.items():
        content["claims"][claim]["verdict"] = verdict
    manifest.write_text(json.dumps(content))


def add(manifest: Path, change: float, *, metric: str = "ap", split: str = "val", role: str = "block 1",
        arm: str = "bce", **claims: str) -> None:
    """Add something to a number of all recorded runs of an arm."""
    arms = pd.read_csv(table(manifest, "arms.csv"))
    keys = arms.loc[(arms["role"] == role) & (arms["arm"] == arm), "key"]

    def changed(numbers: pd.DataFrame) -> pd.DataFrame:
        numbers.loc[numbers["key"].isin(keys) & (numbers["measured"] == split), metric] += change
        return numbers

    edit(manifest, "numbers.csv", changed, **claims)
