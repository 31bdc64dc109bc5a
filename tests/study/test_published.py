from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from falloff.study import published, recording
from falloff.study.evidence import Evidence
from falloff.study.experiments import EXPERIMENTS, settings
from falloff.study.statistics import Interval

PROJECT = Path(__file__).parents[2]
OURS = {"experiment": "head-to-head", "metric": "ap", "difference": ["focal", "bce"]}
ROW = {
    "question": "Which is better?", "source": "one2001", "where": "Table 1", "compared": "Two losses",
    "task": "boxes", "metric": "AP", "numbers": {"focal": 34.0, "cross entropy": 31.1},
    "difference": ["focal", "cross entropy"], "ours": OURS,
}
NONE = {name: value for name, value in ROW.items() if name != "ours"} | {"no_counterpart": "There is none."}


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Rows by name, read from a project that has two papers and a claim on an experiment that is not planned."""
    monkeypatch.setenv("FALLOFF_ROOT", str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "book").mkdir()
    claim = {"claim": "So it is.", "experiment": "later", "decided_by": [
        {"what": "AP", "metric": "ap", "of": "bce", "above": 0}]}
    (tmp_path / "data" / "claims.yml").write_text(yaml.safe_dump({"C1": claim}))
    (tmp_path / "book" / "references.bib").write_text("@misc{one2001,\n  title = {One}\n}\n\n@article{two2002,\n}\n")

    def read(**rows):
        (tmp_path / "data" / "published.yml").write_text(yaml.safe_dump(rows, sort_keys=False))
        return {row.name: row for row in published.load()}

    return read


@pytest.fixture
def study(monkeypatch):
    """The rows of the study by name."""
    monkeypatch.setenv("FALLOFF_ROOT", str(PROJECT))
    return {row.name: row for row in published.load()}


def runs(**arms):
    """A table of runs of some arms whose AP and error at each seed are given."""
    rows = [(arm, seed, value, value) for arm, values in arms.items() for seed, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["arm", "seed", "ap", "error"])


def test_a_row_has_what_the_file_says(load):
    row = load(A=ROW)["A"]
    assert (row.name, row.source, row.difference) == ("A", ("one2001",), ("focal", "cross entropy"))
    assert row.ours == published.Counterpart("head-to-head", "ap", ("focal", "bce"))
    assert (row.note, row.lower_is_better, row.no_counterpart) == ("", False, "")
    assert load(A={**ROW, "source": ["one2001", "two2002"]})["A"].source == ("one2001", "two2002")


def test_an_experiment_that_only_a_claim_names_is_known(load):
    assert load(A={**ROW, "ours": {**OURS, "experiment": "later"}})["A"].ours.experiment == "later"


@pytest.mark.parametrize(
    ("first", "second", "gain"),
    [(34.0, 31.1, "+2.9"), (4.02, 4.06, "-0.04"), (22, 86, "-64"), (0.354, 0.334, "+0.020"), (34.0, 30, "+4.0"),
     (30.2, "diverges", None), ("at most 10", 37.4, None)],
)
def test_their_difference_has_a_sign_and_as_many_digits_as_the_numbers(load, first, second, gain):
    assert load(A={**ROW, "numbers": {"focal": first, "cross entropy": second, "other": 1}})["A"].gain == gain


def test_ours_is_welchs_interval_over_seeds_where_no_picture_is_known(load):
    focal, bce = [0.9, 0.8, 0.85, 0.95], [0.7, 0.75, 0.6]
    found = load(A=ROW)["A"].measure(Evidence(runs(focal=focal, bce=bce, mse=[0.1, 0.2])))
    expected = stats.ttest_ind(focal, bce, equal_var=False).confidence_interval(0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(focal) - np.mean(bce), *expected))
    assert found.count == 3


def test_pictures_that_differ_in_what_the_arms_make_of_them_widen_the_interval(load):
    table = runs(focal=[0.9, 0.8, 0.85], bce=[0.7, 0.75, 0.6])
    swing = np.where(np.arange(8) % 2, 0.5, -0.5)
    pictures = table["ap"].to_numpy()[:, None] + swing * (table["arm"] == "focal").to_numpy()[:, None]
    row = load(A=ROW)["A"]
    narrow, wide = row.measure(Evidence(table)), row.measure(Evidence(table, {"ap": pictures}))
    assert wide.mean == pytest.approx(narrow.mean) and wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    pictures[(table["arm"] == "bce").to_numpy()] = np.nan  # the record keeps lists of some arms alone
    assert row.measure(Evidence(table, {"ap": pictures})) == narrow


@pytest.mark.parametrize(
    ("lower", "metric", "low", "high", "sign"),
    [
        (False, "ap", 0.1, 0.3, "the same sign"), (False, "ap", -0.3, -0.1, "the opposite sign"),
        (False, "ap", -0.1, 0.3, "open, as the interval holds 0"),
        (False, "ap", 0.0, 0.3, "open, as the interval holds 0"),
        (False, "error", -0.3, -0.1, "the same sign"), (True, "ap", 0.1, 0.3, "the opposite sign"),
        (True, "error", 0.1, 0.3, "the same sign"), (True, "error", -0.3, -0.1, "the opposite sign"),
        (False, "ap", np.nan, np.nan, None),
    ],
)
def test_signs_are_compared_by_which_side_is_better(load, lower, metric, low, high, sign):
    row = load(A={**ROW, "lower_is_better": lower, "ours": {**OURS, "metric": metric}})["A"]
    assert row.sign(Interval((low + high) / 2, low, high, 3)) == sign


def test_no_sign_is_compared_where_theirs_is_no_number_or_nothing(load):
    effect = Interval(0.2, 0.1, 0.3, 3)
    for numbers in ({"focal": 30.2, "cross entropy": "diverges"}, {"focal": 30.2, "cross entropy": 30.2}):
        assert load(A={**ROW, "numbers": numbers})["A"].sign(effect) is None
    assert load(A=NONE)["A"].sign(effect) is None


def test_what_the_record_lacks_names_the_row(load):
    row = load(A=ROW)["A"]
    with pytest.raises(ValueError, match=r"published row A: .*'bce'"):
        row.measure(Evidence(runs(focal=[0.9, 0.8])))
    with pytest.raises(ValueError, match="published row A has no counterpart: There is none"):
        load(A=NONE)["A"].measure(Evidence(runs(focal=[0.9, 0.8])))


def without(name):
    return {part: value for part, value in ROW.items() if part != name}


MALFORMED = {
    "nothing": (None, "a row must have question, source"),
    "an unknown key": ({**ROW, "tabel": 1}, "a row has no 'tabel'.*it has: question, source"),
    "a key that is nearly known": ({**ROW, "notes": "Hm."}, r"no 'notes' \(did you mean 'note'\?\)"),
    "no question": (without("question"), "a row must have 'question'"),
    "no numbers": (without("numbers"), "a row must have 'numbers'"),
    "neither ours nor a reason": (without("ours"), "either ours or no_counterpart"),
    "ours and a reason": ({**ROW, "no_counterpart": "None."}, "either ours or no_counterpart"),
    "a reason without words": ({**NONE, "no_counterpart": " "}, "no_counterpart must be words, got ' '"),
    "an unknown paper": ({**ROW, "source": "one2002"}, r"no 'one2002' \(did you mean 'one2001'\?\)"),
    "one unknown paper of two": ({**ROW, "source": ["one2001", "three"]}, "references.bib has no 'three'"),
    "no paper": ({**ROW, "source": []}, "source must be"),
    "one number": ({**ROW, "numbers": {"focal": 34.0}}, "numbers must be two or more by name"),
    "a list of numbers": ({**ROW, "numbers": [34.0, 31.1]}, "numbers must be two or more by name"),
    "a number that is none": ({**ROW, "numbers": {"focal": True, "cross entropy": 31.1}}, "number of 'focal' must be"),
    "an infinite number": ({**ROW, "numbers": {"focal": float("inf"), "cross entropy": 31.1}}, "must be finite"),
    "a difference of what has no number": ({**ROW, "difference": ["focal", "bce"]},
                                           "difference must be one of focal, cross entropy, got 'bce'"),
    "a difference of one": ({**ROW, "difference": ["focal"]}, "difference must be two names"),
    "a difference of the same": ({**ROW, "difference": ["focal", "focal"]}, "difference must be two names"),
    "a year for words": ({**ROW, "where": 2017}, "where must be words, got 2017"),
    "better in words": ({**ROW, "lower_is_better": "yes"}, "lower_is_better must be true or false, got 'yes'"),
    "ours in words": ({**ROW, "ours": "head-to-head"}, "ours must have experiment, metric, difference"),
    "no metric of ours": ({**ROW, "ours": {**OURS, "metric": None}}, "no metric is named None"),
    "a metric that nobody made": ({**ROW, "ours": {**OURS, "metric": "apt"}}, "no metric is named 'apt'"),
    "a metric with no better side": ({**ROW, "ours": {**OURS, "metric": "threshold"}}, "better high or low"),
    "an unknown experiment": ({**ROW, "ours": {**OURS, "experiment": "heads"}},
                              "experiment must be one of .*head-to-head.*later.*, got 'heads'"),
    "more of ours": ({**ROW, "ours": {**OURS, "value": 0.1}}, "ours has no 'value'"),
    "ours without arms": ({**ROW, "ours": {"experiment": "later", "metric": "ap"}}, "ours must have 'difference'"),
    "three arms of ours": ({**ROW, "ours": {**OURS, "difference": ["a", "b", "c"]}}, "difference of ours must be two"),
}


@pytest.mark.parametrize("how", MALFORMED)
def test_a_row_that_is_not_as_it_must_be_is_named(load, how):
    row, words = MALFORMED[how]
    with pytest.raises(ValueError, match=f"published row A: .*{words}"):
        load(B={**ROW, "question": "And else?"}, A=row)


def test_a_file_without_rows_and_rows_apart_are_refused(load, tmp_path):
    with pytest.raises(ValueError, match="one question must stand together, those of 'Which is better"):
        load(A=ROW, B={**ROW, "question": "And else?"}, C=ROW)
    (tmp_path / "data" / "published.yml").write_text("- one\n")
    with pytest.raises(ValueError, match=r"published.yml must hold rows by name"):
        published.load()


def test_the_rows_of_the_study_rest_on_arms_that_are_planned(study):
    rows = study.values()
    asked = {}
    for row in rows:
        assert row.ours is None or row.ours.experiment not in {"pilot", "tuning"}, row.name
        if row.ours and row.ours.experiment in EXPERIMENTS:  # one that is not planned yet has its claims before
            asked.setdefault(row.ours.experiment, set()).update(row.ours.difference)
    assert {"head-to-head", "start"} <= asked.keys()
    for name, arms in asked.items():
        stages = recording.planned(name, "study", settings("study"))
        assert arms <= {run.arm for stage in stages for run in stage if run.role == "reported"}, name


# Law and Deng 2018, Table 2; Lin et al. 2017, Table 1; the README of DARK; the tables of mmpose.
@pytest.mark.parametrize(("name", "gain"), [
    ("cornernet-fixed", "+2.7"), ("cornernet-object", "+2.8"), ("lin-gamma", "+2.9"), ("lin-alpha", "+0.9"),
    ("lin-ohem", "+3.2"), ("dark-small", "+3.8"), ("mmpose-wing", "-0.04"), ("newell-stacks", "+0.7"),
])
def test_their_differences_are_those_that_their_texts_name(study, name, gain):
    assert study[name].gain == gain
