"""Replays of recorded runs: how near they come, what is said of it, and what is adopted."""

import json
import math
import shutil

import pandas as pd
import pytest
import torch
import yaml
from recordings import CHOOSING, CLAIMS, COUNT, LATE, add, bytes_of, edit, table, use

from falloff import cli
from falloff.run import Run
from falloff.study import claims, recording, replay
from falloff.study.claims import Judgement
from falloff.study.experiments import Experiment, Planned
from falloff.study.statistics import Interval
from falloff.study.store import Measuring

SAMPLE = 3  # the shortest run, and one of each of the two arms that claims rest on


@pytest.fixture
def verify(capsys):
    """``falloff verify``: its exit status and what it said."""
    def run(*words, profile="tiny"):
        capsys.readouterr()
        status = cli.main(["verify", "--profile", profile, *words])
        return status, capsys.readouterr()

    return run


def verdict(copied):
    """What was written down."""
    return json.loads((copied.parent / "verified.json").read_text())


def redefine(copied, **metrics):
    """Let claims rest on other metrics."""
    changed = json.loads(json.dumps(CLAIMS))
    for claim, metric in metrics.items():
        changed[claim]["decided_by"][0]["metric"] = metric
    (copied.parents[2] / "claims.yml").write_text(yaml.safe_dump(changed))


def test_a_replay_here_gives_identical_runs_and_claims(copied, verify):
    before = bytes_of(copied.parent)
    status, said = verify("--all")
    assert status == 0 and f"runs: {COUNT} identical\nclaims: 2 identical\n" in said.out
    assert bytes_of(copied.parent) == before
    found = verdict(copied)
    assert len(found["runs"]) == found["total"] == COUNT and {row["verdict"] for row in found["runs"]} == {"identical"}
    assert found["claims"]["C2"] == {
        "recorded": "supported", "verdict": "supported", "compared": "identical", "runs": 3, "replayed": 3}
    assert found["claims"]["C1"]["runs"] == 6 and {"machine", "versions", "commit", "date"} <= found.keys()
    assert found["machine"] == json.loads(copied.read_text())["machine"]
    assert {row["metric"] for row in found["runs"]} == {"val_ap"} and found["runs"][0]["recorded"] is not None


def test_a_replay_is_a_sample_and_computes_anew_each_time(copied, verify):
    for _ in range(2):
        status, said = verify()
        assert status == 0 and "0 of 1 stored, 1 to do" in said.err and "0 of 2 stored, 2 to do" in said.err
    assert [(row["arm"], row["role"], row["seed"]) for row in verdict(copied)["runs"]] == [
        ("focal", "block 1", 1000), ("focal", "reported", 0), ("bce", "reported", 0)]
    assert len(verdict(copied)["runs"]) == SAMPLE
    assert not (copied.parents[3] / "runs" / "replays").exists()
    assert f"wrote {copied.parent / 'verified.json'}" in said.err


def test_a_claim_of_which_nothing_was_replayed_is_not_called_identical(copied, verify, monkeypatch):
    monkeypatch.setattr(replay, "sample", lambda name, tables: tables.arms[:2])
    status, said = verify()
    assert status == 0 and "C2: supported, not replayed (0 of 3 runs" in said.out
    assert "runs: 2 identical\nclaims: 2 not replayed\n" in said.out


def test_a_recorded_value_that_does_not_come_out_is_told_by_how_far_it_is_off(copied, verify):
    add(copied, 1e-6, role="block 1", arm="bce")
    add(copied, 0.01, role="block 1", arm="focal")
    before = bytes_of(copied.parent)
    status, said = verify("--all")
    assert status == 0 and "runs: 9 identical, 2 within tolerance, 2 within seed noise\n" in said.out
    found = {row["arm"]: row for row in verdict(copied)["runs"] if row["verdict"] != "identical"}
    assert found["bce"]["verdict"] == "within tolerance" and found["focal"]["verdict"] == "within seed noise"
    assert found["focal"]["recorded"] - found["focal"]["replayed"] == pytest.approx(0.01)
    assert bytes_of(copied.parent) == before


def test_what_does_not_come_out_at_all_is_different_and_so_is_the_exit_status(copied, verify):
    add(copied, 0.9, role="block 1", arm="bce")
    add(copied, -5.0, split="test", role="reported", arm="bce", C1="supported")  # by which one would be better
    status, said = verify("--all")
    assert status == 1 and "C1: undecided (recorded: supported), different (6 of 6 runs" in said.out
    rows = verdict(copied)["runs"]
    assert sorted((row["arm"], row["role"]) for row in rows if row["verdict"] == "different") == [
        ("bce", "block 1"), ("bce", "block 1"), ("bce", "reported"), ("bce", "reported"), ("bce", "reported")]


def test_a_claim_on_the_curve_is_judged_by_the_replayed_curve(copied, verify):
    redefine(copied, C2="steps_to_ap")
    content = json.loads(copied.read_text())
    content["claims"]["C2"] = {"asked": claims.load()["C2"].digest(), "verdict": "undecided", "effects": []}
    copied.write_text(json.dumps(content))
    edit(copied, "curves.csv", lambda curves: curves.assign(ap=0.9))  # by which the goal was reached at once
    content["files"] = json.loads(copied.read_text())["files"]
    then = claims.load()["C2"].judge(recording.read(copied)[1].evidence()).verdict
    content["claims"]["C2"]["verdict"] = then
    copied.write_text(json.dumps(content))
    verify("--all")
    assert then == "supported" and verdict(copied)["claims"]["C2"]["verdict"] != then


def test_a_manifest_whose_verdict_is_not_that_of_its_table_is_different(copied, verify):
    add(copied, 0.0, C2="refuted")
    status, said = verify()
    assert status == 1 and "C2: supported (recorded: refuted), different" in said.out


def test_a_claim_that_something_else_decides_by_now_is_different_and_one_in_other_words_is_not(copied, verify):
    changed = json.loads(json.dumps(CLAIMS))
    changed["C1"] |= {"claim": "It truly is."}
    changed["C1"]["decided_by"][0]["what"] = "By how much"
    changed["C2"]["decided_by"][0]["below"] = 8
    (copied.parents[2] / "claims.yml").write_text(yaml.safe_dump(changed))
    status, said = verify()
    assert status == 1 and "C2: supported, different" in said.out and "C1: undecided, identical" in said.out


@pytest.mark.parametrize("how", ["numbers.csv", "no numbers.csv", "no digest", "half a manifest"])
def test_what_was_edited_by_hand_is_refused(copied, verify, how):
    path, named = table(copied, "numbers.csv"), copied
    if how == "numbers.csv":
        text = path.read_text()
        place = text.rindex("0.")
        path.write_text(text[:place] + "1." + text[place + 2 :])
        named = path
    elif how == "no numbers.csv":
        path.unlink()
        named = path
    elif how == "no digest":
        copied.write_text(json.dumps({"experiment": "pair"}))
    else:
        copied.write_text(copied.read_text()[:-20])
    status, said = verify()
    assert status == 2 and str(named) in said.err and "to do" not in said.err
    assert not (copied.parent / "verified.json").exists()


def test_a_profile_of_which_nothing_is_recorded_is_named(copied, verify):
    status, said = verify(profile="full")
    assert status == 2 and "nothing is recorded for profile 'full'" in said.err


def test_runs_on_a_set_that_is_not_here_are_not_replayable_and_no_error(copied, verify, tmp_path, monkeypatch):
    monkeypatch.setenv("FALLOFF_DATA", str(tmp_path / "nowhere"))
    before = bytes_of(copied.parent)
    status, said = verify()
    assert status == 0 and f"runs: {SAMPLE} not replayable without the set\nclaims: 2 not replayed\n" in said.out
    assert "to do" not in said.err and bytes_of(copied.parent) == before


def test_what_diverged_is_identical_when_it_does_so_again(copied, verify, monkeypatch):
    def plan(sizes):
        bad = sizes.base.replace(loss="mse", learning_rate=1e30, steps=20)
        yield [Planned("good", "reported", sizes.base, (CHOOSING, LATE)), Planned("bad", "reported", bad, (LATE,))]

    shutil.rmtree(copied.parent)
    use(monkeypatch, far=Experiment(question="How far?", plan=plan, metrics=("ap",)))
    [path] = recording.write("tiny", publish=True)
    status, said = verify("--all")
    assert status == 0 and "runs: 2 identical\n" in said.out
    edit(path, "runs.csv", lambda runs: runs.assign(failure="FloatingPointError: training diverged at step 1"))
    assert verify("--all")[0] == 1 and [row["verdict"] for row in verdict(path)["runs"]] == ["different", "identical"]


def test_a_threshold_is_chosen_again_where_it_was(copied, monkeypatch):
    """On the pictures for choosing of the record; on those of validation elsewhere."""
    _, tables = recording.read(copied)
    arm = next(arm for arm in tables.arms if arm["role"] == "reported")
    assert [(one.split, one.threshold, one.reference) for one in replay._asked(tables, arm)] == [
        ("val", "own", "val"), ("test", "validation", "val")]
    tables.numbers[arm["key"]] = {"choosing": {"ap": 0.5, "by": "a"}, "fresh": {"f1": 0.5, "by": "b"},
                                  "fresh refine=parabola": {"recall": 0.5, "by": "c"}}
    assert [(one.split, one.threshold, one.reference, one.metrics) for one in replay._asked(tables, arm)] == [
        ("choosing", "own", "choosing", ("ap",)), ("fresh", "validation", "choosing", ("f1",))]
    assert replay._asked(tables, arm | {"decoder": "refine=parabola"}) == (
        Measuring(split="fresh", reference="choosing", metrics=("recall",), decoder={"refine": "parabola"}),)


@pytest.mark.parametrize("native", [False, True])
def test_bfloat16_is_replayed_where_the_processor_has_it_or_it_is_asked_for(monkeypatch, native):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    half, whole = (Run(precision=precision) for precision in ("bfloat16", "float32"))
    assert replay._on(half, None, False) == (half if native else whole)
    assert replay._on(half, "cpu", True) == half and replay._on(whole, None, False) == whole


def test_the_precision_of_a_training_is_no_number_of_it():
    old, new = ({"precision": precision, "val_ap": 0.5} for precision in ("bfloat16", "float32"))
    assert replay.row_word(old, new, {}) == "identical"
    assert replay.row_word(old | {"precision": 0.75}, new | {"precision": 0.5}, {}) != "identical"


# Adoption.


def test_tables_of_other_code_are_adopted_once_a_sample_of_them_is_identical(copied, verify):
    edit(copied, "runs.csv", lambda runs: runs.assign(code="of before"))
    before = bytes_of(copied.parent)
    assert not recording.is_of_this_code(*recording.read(copied))
    assert verify()[0] == 0
    assert recording.is_of_this_code(*recording.read(copied))
    after = bytes_of(copied.parent)
    assert {name for name in before if before[name] != after[name]} == {"pair.json"}


def test_tables_of_other_code_that_do_not_come_out_are_not_adopted(copied, verify):
    add(copied, 1e-6, split="test", role="reported", arm="bce")
    edit(copied, "runs.csv", lambda runs: runs.assign(code="of before"))
    verify("--all")
    assert not recording.is_of_this_code(*recording.read(copied))


# Words for differences, worked by hand.

METRICS = {"ap": 0.5, "val_ap": 0.5, "error": 1.0, "steps_to_ap": 10.0, "learning_rate": 0.1, "trial": None}


def compared(runs=1, **changes):
    """The word for a run whose recorded AP is 0.5, as one of so many; seeds have 0.49, 0.50 and 0.51: s = 0.01."""
    rows = [METRICS | {"ap": ap, "val_ap": ap, "arm": "bce", "role": "reported"} for ap in (0.49, 0.5, 0.51)]
    return replay.row_word(rows[1], rows[1] | changes, replay.seed_noise(pd.DataFrame(rows), runs))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "identical"),
        ({"learning_rate": 0.2}, "identical"),  # which was not measured
        ({"ap": 0.5 + 1e-12}, "within tolerance"),
        ({"ap": 0.5019}, "within tolerance"), ({"ap": 0.5021}, "within seed noise"),
        ({"val_ap": 0.4981}, "within tolerance"), ({"val_ap": 0.4979}, "within seed noise"),
        ({"error": 1.009}, "within tolerance"), ({"error": 1.011}, "within seed noise"),  # no claim rests on it
        ({"steps_to_ap": 11.0}, "within seed noise"),
        # Two numbers are watched, AP for a claim and that on validation for choices. So 98.75 %: t of 2 degrees of
        # freedom is (2p - 1) / sqrt(2p(1 - p)) = 6.2053, and the bound 6.2053 * 0.01 * sqrt(2) = 0.08776.
        ({"ap": 0.5877}, "within seed noise"), ({"ap": 0.5878}, "different"), ({"ap": 0.4122}, "different"),
        ({"val_ap": 0.5877}, "within seed noise"), ({"val_ap": 0.5878}, "different"),
        ({"ap": math.nan}, "different"),
        ({"error": math.nan}, "within seed noise"),
        ({"failure": "it diverged"}, "different"),
    ],
)
def test_a_word_says_how_far_a_run_is_off(copied, changes, word):
    assert compared(**changes) == word


def test_each_of_several_watched_metrics_gets_its_share_of_the_level(copied):
    # Three, so 99.1667 %: the same formula gives 7.6488, and the bound 0.10817.
    redefine(copied, C2="error")
    assert compared(ap=0.6081) == "within seed noise" and compared(ap=0.6082) == "different"
    assert compared(error=1.011) == "different"  # which no seed changes


def test_each_of_several_runs_gets_its_share_of_the_level(copied):
    # Twenty, so 99.9375 %: the same formula gives 28.258, and the bound 0.39963.
    assert compared(ap=0.8996, runs=20) == "within seed noise" and compared(ap=0.8997, runs=20) == "different"


def test_the_noise_of_seeds_is_pooled_over_arms_but_not_over_trials(copied):
    rows = [("bce", "reported", None, 0.1), ("bce", "reported", None, 0.2), ("mse", "reported", None, 0.5),
            ("mse", "reported", None, 0.7), ("bce, alpha 0", "reported", None, 0.9), ("bce", "block 1", 0, 0.0),
            ("bce", "block 1", 1, 0.8)]
    table = pd.DataFrame([METRICS | {"arm": arm, "role": role, "trial": trial, "ap": ap}
                          for arm, role, trial, ap in rows])
    # Squares around the means of two pairs: 0.005 + 0.02, over 1 + 1; t of 2 degrees of freedom as above.
    expected = {"ap": 6.2053 * math.sqrt(2 * 0.025 / 2), "val_ap": 0.0}
    assert replay.seed_noise(table, 1) == pytest.approx(expected, rel=1e-4)


def test_where_no_arm_has_two_seeds_their_noise_is_unknown(copied):
    table = pd.DataFrame([METRICS | {"arm": arm, "role": "reported"} for arm in ("bce", "mse")])
    assert replay.seed_noise(table, 1) == {"ap": 0.0, "val_ap": 0.0}


def test_steps_that_a_run_never_reached_count_as_those_it_had(copied):
    redefine(copied, C2="steps_to_ap")
    rows = [METRICS | {"arm": "bce", "role": "reported", "steps": 40, "steps_to_ap": steps}
            for steps in (20.0, 30.0, math.nan)]
    noise = replay.seed_noise(pd.DataFrame(rows), 1)
    assert noise["steps_to_ap"] == pytest.approx(7.6488 * 10 * math.sqrt(2), rel=1e-4)
    assert replay.row_word(rows[0], rows[2], noise) == "within seed noise"


def test_what_is_undefined_in_both_is_the_same():
    row = METRICS | {"ap": math.nan, "arm": "bce", "role": "reported"}
    assert replay.row_word(row, dict(row), {}) == "identical"


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
    assert replay.claim_word(*judged) == word


@pytest.mark.parametrize("end", [math.inf, -math.inf])
def test_ends_of_an_interval_beyond_all_bounds_can_be_the_same(end):
    assert replay.difference(end, end) == 0.0
    assert replay.difference(end, -end) == replay.difference(end, 1.0) == math.inf
