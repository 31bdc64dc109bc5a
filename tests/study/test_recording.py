import hashlib
import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from falloff import cli
from falloff.profiles import PROFILES
from falloff.study import claims, engine, experiments, progress, recording
from falloff.study.claims import Judgement
from falloff.study.experiments import Arm, Experiment, settings
from falloff.study.statistics import Interval

CLAIMS = {
    "C1": {"claim": "One is better.", "chapter": "01_one", "experiment": "pair", "decided_by": [
        {"what": "AP of one minus the other's", "metric": "ap", "difference": ["focal", "bce"], "above": 0}]},
    "C2": {"claim": "Hardly any points are found.", "chapter": "01_one", "experiment": "pair", "decided_by": [
        {"what": "AP", "metric": "ap", "of": "bce", "below": 9}]},
    "C3": {"claim": "The formula says so.", "chapter": "01_one", "decided_by": [
        {"what": "Ratio", "number": "ratio", "above": 0}]},
    "C4": {"claim": "Others say so.", "planned": "Some day."},
}
SMALL = {"dataset": "spots", "width": 2, "batch": 4, "steps": 2, "evaluations": 1, "seeds": [0, 1, 2], "rates": [0.01]}
ARMS = {name: Arm(changes={"loss": name}) for name in ("focal", "bce")}
VARIANT = Arm(changes={"loss": "focal", "loss_options": {"gamma": 0.0}}, as_tuned="focal")
PAIR = Experiment(question="Which?", arms={**ARMS, "focal, gamma 0": VARIANT})


@pytest.fixture(scope="module")
def project(spots, tmp_path_factory):
    """The root of a project with one small experiment, and a worker for it."""
    root = tmp_path_factory.mktemp("project")
    (root / "data").mkdir()
    (root / "data" / "claims.yml").write_text(yaml.safe_dump(CLAIMS))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(engine.SCHEDULER, raising=False)
        patch.setenv("FALLOFF_ROOT", str(root))
        patch.setenv(progress.STYLE, "lines")
        patch.setattr(engine, "CPU_COUNT", 1)
        patch.setitem(PROFILES, "tiny", SMALL)
        for module in (experiments, recording):
            patch.setattr(module, "EXPERIMENTS", {"pair": PAIR})
        with engine.cluster() as address:
            patch.setenv(engine.SCHEDULER, address)
            yield root


@pytest.fixture(scope="module")
def recorded(project):
    """The manifest of what was recorded."""
    [path] = recording.write("tiny")
    return path


@pytest.fixture
def copied(recorded, project, tmp_path, monkeypatch):
    """The manifest in a copy of the project, without its runs, that a test may change."""
    shutil.copytree(project / "data", tmp_path / "data")
    monkeypatch.setenv("FALLOFF_ROOT", str(tmp_path))
    return tmp_path / recorded.relative_to(project)


@pytest.fixture
def falloff(capsys):
    """The command, here and now: its exit status and what it said."""
    before, handlers = signal.getsignal(signal.SIGTERM), list(logging.getLogger("falloff").handlers)

    def run(*words):
        capsys.readouterr()
        status = cli.main(list(words))
        return status, capsys.readouterr()

    yield run
    signal.signal(signal.SIGTERM, before)
    logging.getLogger("falloff").handlers = handlers


def edit(manifest, column, change, *, role="tuning", arm="bce", **claims):
    """Change a column of a recorded table, and its manifest so that the two agree."""
    path = manifest.with_suffix(".csv")
    table = pd.read_csv(path)
    table.loc[(table["role"] == role) & (table["arm"] == arm), column] += change
    table.to_csv(path, index=False)
    content = json.loads(manifest.read_text())
    content["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    for name, verdict in claims.items():
        content["claims"][name]["verdict"] = verdict
    manifest.write_text(json.dumps(content))


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "verified.json"}


# Recording.


def test_a_record_is_a_table_and_what_one_must_know_of_it(recorded, project):
    assert recorded == project / "data" / "recorded" / "tiny" / "pair.json"
    assert sorted(path.name for path in recorded.parent.iterdir()) == ["pair.csv", "pair.json"]
    manifest, table = recording.read(recorded)
    assert table["role"].value_counts().to_dict() == {"tuning": 2, "reported": 9}
    assert (manifest["experiment"], manifest["question"], manifest["profile"]) == ("pair", "Which?", "tiny")
    assert (manifest["runs"], manifest["seeds"], manifest["rates"]) == (11, [0, 1, 2], [0.01])
    assert manifest["base"]["dataset"] == "spots" and manifest["base"]["precision"] in ("float32", "bfloat16")
    assert {"data", "commit", "clean", "versions", "machine", "date", "seconds"} <= manifest.keys()
    assert manifest["adopted"] == [] and recording.is_of_this_code(manifest, table)
    assert manifest["claims"].keys() == {"C1", "C2"}  # those of this experiment
    assert manifest["claims"]["C2"]["verdict"] == "supported"
    assert manifest["sha256"] == hashlib.sha256(recorded.with_suffix(".csv").read_bytes()).hexdigest()


def test_what_is_read_back_is_what_was_measured_to_the_last_bit(recorded, capsys):
    capsys.readouterr()
    measured = PAIR.carry_out(**settings("tiny")).whole
    assert "to do" not in capsys.readouterr().err  # nothing was computed again
    table = recording.recorded("pair", "tiny")
    assert set(table.columns) == {*measured.columns, "run", "code"}
    numbers = measured.select_dtypes("number").columns
    assert {"ap", "val_error", "calibration_error", "learning_rate", "seed"} <= set(numbers)
    for name in numbers:
        assert repr(table[name].tolist()) == repr(measured[name].tolist())
    assert table["loss_options"].tolist() == measured["loss_options"].tolist()


def test_an_experiment_that_is_not_recorded_is_named(recorded):
    with pytest.raises(ValueError, match="no experiment is named 'pairs'; known: pair"):
        recording.recorded("pairs", "tiny")
    with pytest.raises(ValueError, match="profile must be one of quick, full, tiny, got 'huge'"):
        recording.recorded("pair", "huge")
    with pytest.raises(ValueError, match="'pair' is not recorded for profile 'quick': make record"):
        recording.recorded("pair", "quick")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"profile": "huge"}, "profile must be one of"),
        ({"names": ["pairs"]}, "no experiment is named 'pairs'; known: pair"),
        ({"device": "tpu"}, "device must be"),
    ],
)
def test_what_cannot_be_recorded_is_named(copied, monkeypatch, words, named):
    monkeypatch.delenv(engine.SCHEDULER)
    monkeypatch.setattr(engine, "cluster", lambda *_: pytest.fail("workers were started"))
    before = bytes_of(copied.parent)
    with pytest.raises(ValueError, match=named):
        recording.write(**{"profile": "tiny", **words})
    assert bytes_of(copied.parent) == before


# Replays.


def test_a_replay_here_gives_identical_runs_and_claims(copied, falloff):
    before = bytes_of(copied.parent)
    status, said = falloff("verify", "--profile", "tiny", "--all")
    assert status == 0 and "0 of 11 stored, 11 to do" in said.err
    assert "runs: 11 identical\nclaims: 2 identical\n" in said.out
    assert bytes_of(copied.parent) == before
    found = json.loads((copied.parent / "verified.json").read_text())
    assert len(found["runs"]) == found["total"] == 11 and {row["verdict"] for row in found["runs"]} == {"identical"}
    assert found["claims"]["C2"] == {
        "recorded": "supported", "verdict": "supported", "compared": "identical", "runs": 3, "replayed": 3}
    assert found["claims"]["C1"]["runs"] == 6 and {"machine", "versions", "commit", "date"} <= found.keys()


def test_a_replay_is_a_sample_and_computes_anew_each_time(copied, falloff):
    for _ in range(2):
        status, said = falloff("verify", "--profile", "tiny")
        assert status == 0 and "0 of 6 stored, 6 to do" in said.err
    assert len(json.loads((copied.parent / "verified.json").read_text())["runs"]) == recording.SAMPLE
    assert not (copied.parents[3] / "runs" / "replays").exists()
    assert f"wrote {copied.parent / 'verified.json'}" in said.err


def test_a_claim_of_which_nothing_was_replayed_is_not_called_identical(copied, falloff, monkeypatch):
    monkeypatch.setattr(recording, "_sample", lambda table: table.index[table["role"] == "tuning"].tolist())
    status, said = falloff("verify", "--profile", "tiny")
    assert status == 0 and "C2: supported, not replayed (0 of 3 runs" in said.out
    assert "runs: 2 identical\nclaims: 2 not replayed\n" in said.out


def test_a_recorded_value_that_does_not_come_out_is_told_by_how_far_it_is_off(copied, falloff):
    edit(copied, "ap", 1e-6, role="tuning", arm="bce")
    edit(copied, "ap", 0.01, role="tuning", arm="focal")
    before = bytes_of(copied.parent)
    status, said = falloff("verify", "--profile", "tiny", "--all")
    assert status == 0 and "runs: 9 identical, 1 within tolerance, 1 within seed noise\n" in said.out
    rows = json.loads((copied.parent / "verified.json").read_text())["runs"]
    found = {row["arm"]: row for row in rows if row["verdict"] != "identical"}
    assert found["bce"]["verdict"] == "within tolerance" and found["focal"]["verdict"] == "within seed noise"
    assert found["focal"]["recorded"] - found["focal"]["replayed"] == pytest.approx(0.01)
    assert bytes_of(copied.parent) == before


def test_what_does_not_come_out_at_all_is_different_and_so_is_the_exit_status(copied, falloff):
    edit(copied, "ap", 0.9, role="tuning", arm="bce")
    edit(copied, "ap", -5.0, role="reported", arm="bce", C1="supported")  # by which one would be better
    status, said = falloff("verify", "--profile", "tiny", "--all")
    assert status == 1 and "C1: undecided (recorded: supported), different (6 of 6 runs" in said.out
    rows = json.loads((copied.parent / "verified.json").read_text())["runs"]
    assert sorted((row["arm"], row["role"]) for row in rows if row["verdict"] == "different") == [
        ("bce", "reported"), ("bce", "reported"), ("bce", "reported"), ("bce", "tuning")
    ]


def test_a_manifest_whose_verdict_is_not_that_of_its_table_is_different(copied, falloff):
    edit(copied, "ap", 0.0, C2="refuted")
    status, said = falloff("verify", "--profile", "tiny")
    assert status == 1 and "C2: supported (recorded: refuted), different" in said.out


def test_a_claim_that_something_else_decides_by_now_is_different_and_one_in_other_words_is_not(copied, falloff):
    changed = json.loads(json.dumps(CLAIMS))
    changed["C1"] |= {"claim": "It truly is."}
    changed["C1"]["decided_by"][0]["what"] = "By how much"
    changed["C2"]["decided_by"][0]["below"] = 8
    (copied.parents[2] / "claims.yml").write_text(yaml.safe_dump(changed))
    status, said = falloff("verify", "--profile", "tiny")
    assert status == 1 and "C2: supported, different" in said.out and "C1: undecided, identical" in said.out


@pytest.mark.parametrize("how", ["csv", "no csv", "no digest", "json"])
def test_what_was_edited_by_hand_is_refused(copied, falloff, how):
    table = copied.with_suffix(".csv")
    if how == "csv":
        text = table.read_text()
        place = text.rindex("0.")
        table.write_text(text[:place] + "1." + text[place + 2 :])
    elif how == "no csv":
        table.unlink()
    elif how == "no digest":
        copied.write_text(json.dumps({"experiment": "pair"}))
    else:
        copied.write_text(copied.read_text()[:-20])
    status, said = falloff("verify", "--profile", "tiny")
    assert status == 2 and str(table if how == "csv" else copied) in said.err and "to do" not in said.err
    assert not (copied.parent / "verified.json").exists()


def test_a_profile_of_which_nothing_is_recorded_is_named(copied, falloff):
    status, said = falloff("verify", "--profile", "full")
    assert status == 2 and "nothing is recorded for profile 'full'" in said.err


def test_a_table_of_other_code_is_adopted_once_a_sample_of_it_is_identical(copied, falloff):
    path, content = copied.with_suffix(".csv"), json.loads(copied.read_text())
    table = pd.read_csv(path).assign(code="of before")
    table.to_csv(path, index=False)
    copied.write_text(json.dumps(content | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))
    assert not recording.is_of_this_code(*recording.read(copied))
    assert falloff("verify", "--profile", "tiny")[0] == 0
    assert recording.is_of_this_code(*recording.read(copied))
    assert path.read_bytes() == table.to_csv(index=False).encode()


def test_a_table_of_other_code_that_does_not_come_out_is_not_adopted(copied, falloff):
    edit(copied, "ap", 1e-6, role="reported", arm="bce")
    path, content = copied.with_suffix(".csv"), json.loads(copied.read_text())
    pd.read_csv(path).assign(code="of before").to_csv(path, index=False)
    copied.write_text(json.dumps(content | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))
    falloff("verify", "--profile", "tiny", "--all")
    assert not recording.is_of_this_code(*recording.read(copied))


# Words for differences, worked by hand.

METRICS = {"ap": 0.5, "val_ap": 0.5, "error": 1.0, "steps_to_ap": 10.0, "learning_rate": 0.1}


def compared(role="reported", runs=1, **changes):
    """The word for a run whose recorded AP is 0.5, as one of so many; seeds have 0.49, 0.50 and 0.51: s = 0.01."""
    table = pd.DataFrame([METRICS | {"ap": ap, "arm": "bce", "role": "reported"} for ap in (0.49, 0.5, 0.51)])
    old = table.iloc[1].to_dict() | {"role": role}
    return recording.row_word(old, old | changes, recording.seed_noise(table, runs))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "identical"),
        ({"learning_rate": 0.2}, "identical"),  # which was not measured
        ({"ap": 0.5 + 1e-12}, "within tolerance"),
        ({"ap": 0.5019}, "within tolerance"), ({"ap": 0.5021}, "within seed noise"),
        ({"val_ap": 0.4981}, "within tolerance"), ({"val_ap": 0.9}, "within seed noise"),  # no claim rests on it
        ({"error": 1.009}, "within tolerance"), ({"error": 1.011}, "within seed noise"),
        ({"steps_to_ap": 11.0}, "within seed noise"),
        # One metric is watched, so t of 2 degrees of freedom at 97.5 %: 4.3027 * 0.01 * sqrt(2) = 0.06085.
        ({"ap": 0.5608}, "within seed noise"), ({"ap": 0.5609}, "different"), ({"ap": 0.4391}, "different"),
        ({"ap": math.nan}, "different"),
        ({"error": math.nan}, "within seed noise"),
    ],
)
def test_a_word_says_how_far_a_run_is_off(copied, changes, word):
    assert compared(**changes) == word


def test_each_of_several_watched_metrics_gets_its_share_of_the_level(copied):
    # Two metrics, so 98.75 %: t of 2 degrees of freedom is (2p - 1) / sqrt(2p(1 - p)) = 6.2053, and the bound 0.08776.
    changed = json.loads(json.dumps(CLAIMS))
    changed["C2"]["decided_by"][0]["metric"] = "error"
    (copied.parents[2] / "claims.yml").write_text(yaml.safe_dump(changed))
    assert compared(ap=0.5877) == "within seed noise" and compared(ap=0.5878) == "different"
    assert compared(error=1.011) == "different"  # which no seed changes


def test_each_of_several_runs_gets_its_share_of_the_level(copied):
    # Twenty, so 99.875 %: the same formula gives 19.962, and the bound 0.28231.
    assert compared(ap=0.7822, runs=20) == "within seed noise" and compared(ap=0.7824, runs=20) == "different"


def test_on_a_run_of_the_tuning_rests_a_choice_by_validation_ap(copied):
    assert compared(val_ap=0.51) == "within seed noise" and compared(val_ap=0.51, role="tuning") == "different"


def test_the_noise_of_seeds_is_pooled_over_arms_but_not_over_rates(copied):
    rows = [("bce", "reported", 0.1), ("bce", "reported", 0.2), ("mse", "reported", 0.5), ("mse", "reported", 0.7),
            ("bce, alpha 0", "reported", 0.9), ("bce", "tuning", 0.0)]
    table = pd.DataFrame([METRICS | {"arm": arm, "role": role, "ap": ap} for arm, role, ap in rows])
    # Squares around the means of two pairs: 0.005 + 0.02, over 1 + 1; t of 2 degrees of freedom as above.
    assert recording.seed_noise(table, 1) == pytest.approx({"ap": 4.30265 * math.sqrt(2 * 0.025 / 2), "val_ap": 0.0})


def test_steps_that_a_run_never_reached_count_as_those_it_had(copied):
    changed = json.loads(json.dumps(CLAIMS))
    changed["C2"]["decided_by"][0]["metric"] = "steps_to_ap"
    (copied.parents[2] / "claims.yml").write_text(yaml.safe_dump(changed))
    rows = [METRICS | {"arm": "bce", "role": "reported", "steps": 40, "steps_to_ap": steps}
            for steps in (20.0, 30.0, math.nan)]
    noise = recording.seed_noise(pd.DataFrame(rows), 1)
    assert noise["steps_to_ap"] == pytest.approx(6.2053 * 10 * math.sqrt(2), rel=1e-4)
    assert recording.row_word(rows[0], rows[2], noise) == "within seed noise"


def test_what_is_undefined_in_both_is_the_same():
    row = METRICS | {"ap": math.nan, "arm": "bce", "role": "reported"}
    assert recording.row_word(row, dict(row), {}) == "identical"


@pytest.mark.parametrize(
    ("then", "now", "word"),
    [
        ((0.1, 0.01, 0.19), (0.1, 0.01, 0.19), "identical"),
        ((0.1, 0.01, 0.19), (0.101, 0.011, 0.191), "within tolerance"),
        ((0.1, 0.001, 0.19), (0.1, -0.0005, 0.19), "within seed noise"),  # as near, but another verdict
        ((0.1, 0.01, 0.19), (0.05, -0.04, 0.14), "within seed noise"),
        ((math.nan, -60.0, math.inf), (83.0, 11.0, 155.0), "within seed noise"),
        ((0.1, 0.01, 0.19), (0.3, 0.2, 0.4), "different"),  # both support it
        ((0.1, 0.01, 0.19), (-0.1, -0.2, -0.001), "different"),
    ],
)
def test_a_word_says_how_far_a_claim_is_off(copied, then, now, word):
    claim = claims.load()["C1"]
    judged = (Judgement(claim, (Interval(*ends, 3),)) for ends in (then, now))
    assert recording._claim_word(*judged) == word


@pytest.mark.parametrize("end", [math.inf, -math.inf])
def test_ends_of_an_interval_beyond_all_bounds_can_be_the_same(end):
    assert recording._difference(end, end) == 0.0
    assert recording._difference(end, -end) == recording._difference(end, 1.0) == math.inf


# Without what only the book and the charts need.

HOOK = """
import sys
from importlib.machinery import PathFinder

class Rest(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        return None if top.startswith("jupyter") or top in %r else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Rest
"""
REFUSED = ("papermill", "nbformat", "nbclient", "matplotlib", "sphinx", "myst_nb", "tqdm", "IPython", "tabulate",
           "ipykernel", "seaborn", "pytest", "hypothesis")
SCRIPT = """
import sys
from falloff.cli import main

if __name__ == "__main__":
    from falloff.study.experiments import EXPERIMENTS, Arm, Experiment
    from falloff.profiles import PROFILES
    from falloff.training import Run, train

    PROFILES["tiny"] = %r | {"seeds": [0]}
    EXPERIMENTS.clear()
    EXPERIMENTS["pair"] = Experiment(question="Which?", arms={name: Arm(changes={"loss": name})
                                                              for name in ("focal", "bce")})
    train(Run(dataset="spots", width=2, steps=2, batch=4, evaluations=2))
    sys.exit(main(["record", "--profile", "tiny"]) or main(["verify", "--profile", "tiny"]))
"""


def test_recording_and_replaying_need_nothing_that_only_the_book_needs(project, tmp_path):
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK % (REFUSED,))
    (tmp_path / "script.py").write_text(SCRIPT % SMALL)
    root = tmp_path / "root"
    shutil.copytree(project / "data", root / "data", ignore=shutil.ignore_patterns("recorded"))
    path = [str(tmp_path / "hook"), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=120,
        env=os.environ | {"FALLOFF_ROOT": str(root), "PYTHONPATH": os.pathsep.join(path)},
    )
    assert done.returncode == 0, done.stderr
    assert Path(root, "data", "recorded", "tiny", "pair.csv").exists() and "runs: 4 identical\n" in done.stdout
