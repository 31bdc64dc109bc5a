import dataclasses
import math
from pathlib import Path

import pandas as pd
import pytest
import yaml

from falloff import losses
from falloff.study import Store, claims, store
from falloff.study.claims import Claim
from falloff.study.experiments import EXPERIMENTS
from falloff.study.statistics import Interval
from falloff.training import Run, train

PROJECT = Path(__file__).parents[1]


def entry(**test):
    """A claim that one number decides: of an experiment's table unless it is told where the number comes from."""
    source = {} if {"difference", "of", "number"} & test.keys() else {"metric": "ap", "difference": ["focal", "bce"]}
    by_runs = {} if "number" in test else {"experiment": "head-to-head"}
    return {"claim": "So it is.", "chapter": "01_one", **by_runs, "decided_by": [{"what": "A", **source, **test}]}


@pytest.fixture
def claim(tmp_path):
    """A claim from a file that holds one entry, "C1"."""

    def make(content):
        path = tmp_path / "claims.yml"
        path.write_text(yaml.safe_dump({"C1": content}))
        return claims.load(path)["C1"]

    return make


def rows(focal, bce):
    """A table of two losses whose AP at each seed is given."""
    return pd.DataFrame(
        [("focal", seed, ap) for seed, ap in enumerate(focal)] + [("bce", seed, ap) for seed, ap in enumerate(bce)],
        columns=["loss", "seed", "ap"],
    )


# Differences of 0.3, 0.4 and 0.5: mean 0.4, s = 0.1, t of 2 degrees of freedom 4.3027, so 0.4 +- 0.2484.
APART = rows([0.5, 0.7, 0.9], [0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("asked", "verdict"),
    [
        ({"above": 0}, "supported"), ({"above": 0.15}, "supported"), ({"above": 0.1517}, "undecided"),
        ({"above": 0.4}, "undecided"), ({"above": 0.65}, "refuted"),
        ({"below": 0}, "refuted"), ({"below": 0.4}, "undecided"), ({"below": 0.65}, "supported"),
        ({"within": [0.4, 0.3]}, "supported"), ({"within": [0.0, 0.1]}, "refuted"),
        ({"within": [0.4, 0.1]}, "undecided"),
    ],
)
def test_a_verdict_is_that_of_the_whole_interval(claim, asked, verdict):
    assert claim(entry(**asked)).judge(APART).verdict == verdict


def test_a_difference_is_paired_by_seed_and_first_minus_second(claim):
    found = claim(entry(above=0)).judge(APART.sample(frac=1, random_state=0))
    [effect] = found.effects
    assert effect.mean == pytest.approx(0.4) and effect.count == 3
    assert effect.high - effect.mean == pytest.approx(4.302653 * 0.1 / math.sqrt(3))
    swapped = claim(entry(above=0, metric="ap", difference=["bce", "focal"]))
    assert swapped.judge(APART).verdict == "refuted"


@pytest.mark.parametrize(("above", "verdict"), [(0.2, "supported"), (0.9, "undecided"), (1.5, "refuted")])
def test_one_loss_is_measured_by_its_mean(claim, above, verdict):
    # Mean 0.7, s = 0.2, so 0.7 +- 0.4968.
    table = rows([0.5, 0.7, 0.9], [9.0, 9.0, 9.0])
    judged = claim(entry(metric="ap", of="focal", above=above)).judge(table)
    assert judged.verdict == verdict and judged.effects[0].mean == pytest.approx(0.7)


@pytest.mark.parametrize("asked", [{"above": 0}, {"below": 0}, {"within": [0.3, 0.1]}, {"within": [5, 0.1]}])
def test_one_seed_decides_nothing(claim, asked):
    assert claim(entry(**asked)).judge(rows([0.5], [0.2])).verdict == "undecided"


@pytest.mark.parametrize("asked", [{"above": 0}, {"below": 0}, {"within": [0.3, 0.1]}])
def test_a_run_without_the_number_leaves_a_claim_undecided(claim, asked):
    assert claim(entry(**asked)).judge(rows([0.5, math.nan, 0.9], [0.2, 0.3, 0.4])).verdict == "undecided"


@pytest.mark.parametrize(
    ("slow", "fast", "verdict"),
    [
        ([200, 225, 250], [100, 100, 125], "supported"),
        ([math.nan] * 3, [100, 100, 125], "supported"),  # all of 250 steps were not enough
        ([200, 225, 250], [math.nan] * 3, "undecided"),
        ([math.nan] * 3, [math.nan] * 3, "undecided"),
        ([100, 100, 100], [math.nan] * 3, "refuted"),
        ([math.nan], [100], "undecided"),
    ],
)
def test_runs_that_never_arrive_took_more_steps_than_they_had(claim, slow, fast, verdict):
    table = pd.DataFrame(
        [("bce", seed, steps, 250) for seed, steps in enumerate(slow)]
        + [("focal", seed, steps, 250) for seed, steps in enumerate(fast)],
        columns=["loss", "seed", "steps_to_ap", "steps"],
    )
    judged = claim(entry(metric="steps_to_ap", difference=["bce", "focal"], above=0)).judge(table)
    assert judged.verdict == verdict
    assert claims.from_json(judged.as_json(), judged.claim).verdict == verdict  # infinite ends go through JSON


@pytest.mark.parametrize(
    ("asked", "number", "verdict"),
    [
        ({"within": [1, 1e-6]}, 1.0 + 1e-7, "supported"), ({"within": [1, 1e-6]}, 1.0 + 1e-5, "refuted"),
        ({"within": [0, 0]}, 0.0, "supported"), ({"within": [0, 0]}, 5e-324, "refuted"),
        ({"within": [0, 1]}, math.inf, "refuted"), ({"within": [0, 1]}, math.nan, "undecided"),
        ({"below": 0.5}, 0.4, "supported"), ({"below": 0.5}, 0.6, "refuted"), ({"below": 0.5}, math.nan, "undecided"),
        ({"above": 0.5}, 0.6, "supported"), ({"above": 0.5}, 0.5, "undecided"),
    ],
)
def test_a_number_of_a_formula_decides_by_itself(claim, asked, number, verdict):
    assert claim(entry(number="charge-ratio", **asked)).judge(charge_ratio=number).verdict == verdict


def test_a_claim_needs_all_of_its_numbers(claim):
    content = entry(number="one", above=0)
    content["decided_by"] += [{"what": "B", "number": "other", "above": 0}]
    both = claim(content)
    verdicts = {(one, other): both.judge(one=one, other=other).verdict for one in (-1, 0, 1) for other in (-1, 0, 1)}
    assert verdicts == {
        (-1, -1): "refuted", (-1, 0): "refuted", (-1, 1): "refuted", (0, -1): "refuted", (1, -1): "refuted",
        (0, 0): "undecided", (0, 1): "undecided", (1, 0): "undecided", (1, 1): "supported",
    }
    assert set(verdicts.values()) == set(claims.VERDICTS)


@pytest.mark.parametrize(
    ("content", "table", "numbers", "named"),
    [
        (entry(above=0), None, {}, "claim C1 is judged by a table of runs, got no number"),
        (entry(above=0), APART, {"ratio": 1.0}, "claim C1 is judged by a table of runs, got ratio and a table"),
        (entry(number="ratio", above=0), None, {}, "claim C1 is judged by ratio, got no number"),
        (entry(number="ratio", above=0), None, {"ration": 1.0}, "judged by ratio, got ration"),
        (entry(number="ratio", above=0), APART, {"ratio": 1.0}, "judged by ratio, got ratio and a table"),
        ({"claim": "So it will be.", "planned": "Some day."}, APART, {}, "claim C1 has no experiment yet"),
    ],
)
def test_what_a_claim_is_judged_by_is_named(claim, content, table, numbers, named):
    with pytest.raises(ValueError, match=named):
        claim(content).judge(table, **numbers)


def test_a_claim_that_nobody_made_is_named():
    with pytest.raises(ValueError, match="no claim is named 'C99'; known: C1, "):
        claims.judge("C99", ratio=1.0)


# Evidence.


def test_evidence_goes_to_another_process_and_back(claim):
    one = claim(entry(above=0))
    for table in (APART, rows([0.5], [0.2]), rows([math.nan, 0.1], [0.2, 0.3])):
        judged = one.judge(table)
        found = claims.from_json(judged.as_json(), one)
        assert repr(found) == repr(judged) and found.verdict == judged.verdict


def test_a_verdict_follows_from_the_numbers_and_is_not_in_the_evidence(claim):
    one = claim(entry(above=0))
    judged = one.judge(APART)
    assert not [word for word in claims.VERDICTS if word in judged.as_json()]
    moved = dataclasses.replace(judged, effects=(Interval(-1.0, -2.0, -0.5, 3),))
    assert claims.from_json(moved.as_json(), one).verdict == "refuted"


@pytest.mark.parametrize(
    "changed",
    [{"above": 0.1}, {"metric": "f1"}, {"difference": ["bce", "focal"]}, {"above": None, "below": 0},
     {"difference": None, "of": "focal"}],
    ids=["threshold", "metric", "order", "side", "source"],
)
def test_evidence_is_stale_once_something_else_decides(claim, changed):
    before = entry(above=0)
    judged = claim(before).judge(APART)
    after = {**before["decided_by"][0], **changed}
    after = {**before, "decided_by": [{name: value for name, value in after.items() if value is not None}]}
    assert claims.from_json(judged.as_json(), claim(after)) is None


def test_evidence_is_stale_once_another_experiment_decides(claim):
    judged = claim(entry(above=0)).judge(APART)
    assert claims.from_json(judged.as_json(), claim({**entry(above=0), "experiment": "ablation"})) is None


def test_evidence_stays_when_only_words_change(claim):
    before = entry(above=0)
    judged = claim(before).judge(APART)
    after = {**before, "claim": "So it truly is.", "decided_by": [{**before["decided_by"][0], "what": "In short"}]}
    assert claims.from_json(judged.as_json(), claim(after)).verdict == "supported"


# The file.


def without(name):
    return {part: value for part, value in entry(above=0).items() if part != name}


PAIR = {"metric": "ap", "difference": ["focal", "bce"]}
MALFORMED = {
    "nothing": None,
    "words": "words",
    "empty": {},
    "no reason": {"claim": "A."},
    "a chapter alone": {"claim": "A.", "chapter": "01_one"},
    "planned and a chapter": {"claim": "A.", "chapter": "01_one", "planned": "Some day."},
    "planned and decided": {**entry(above=0), "planned": "Some day."},
    "a verdict": {**entry(above=0), "verdict": "supported"},
    "no claim": without("claim"),
    "no chapter": without("chapter"),
    "no experiment": without("experiment"),
    "an experiment of a formula": {**entry(number="one", above=0), "experiment": "head-to-head"},
    "decided by nothing": {**entry(above=0), "decided_by": None},
    "decided by words": {**entry(above=0), "decided_by": ["words"]},
    "no threshold": entry(),
    "two thresholds": entry(above=0, below=1),
    "a threshold in words": entry(above="much"),
    "1e-6, which is text to YAML": entry(within=[1, "1e-6"]),
    "no number": entry(above=math.nan),
    "within one": entry(within=[1]),
    "within less than nothing": entry(within=[1, -1]),
    "no metric": entry(above=0, difference=["focal", "bce"]),
    "a difference of three": entry(above=0, metric="ap", difference=["focal", "bce", "mse"]),
    "a difference of one": entry(above=0, metric="ap", difference="focal"),
    "a difference and a mean": entry(above=0, of="mse", **PAIR),
    "a metric of a formula": entry(above=0, number="one", metric="ap"),
    "a formula and a mean": entry(above=0, number="one", of="mse"),
}


@pytest.mark.parametrize("how", MALFORMED)
def test_an_entry_that_is_not_as_it_must_be_is_named(claim, how):
    with pytest.raises(ValueError, match="claim C1"):
        claim(MALFORMED[how])


def test_the_claims_of_the_study_can_be_judged(spots, tmp_path):
    found = claims.load(PROJECT / "data" / "claims.yml")
    run = Run(dataset="spots", width=2, steps=2, batch=4, evaluations=2)
    kept = Store(tmp_path)
    kept.put(train(run))
    columns = store.flat(kept.read(store.key(run))).keys()
    assert found and all(isinstance(one, Claim) and one.claim and one.name == name for name, one in found.items())
    for one in found.values():
        assert one.chapter is None or (PROJECT / "notebooks" / f"{one.chapter}.ipynb").is_file()
        assert one.experiment is None or one.experiment in EXPERIMENTS
        for test in one.tests:
            assert test.what and (test.metric is None or test.metric in columns)
            named = {*(test.difference or ()), test.of} - {None}
            assert named <= set(losses.names())
            assert one.experiment is None or named <= set(EXPERIMENTS[one.experiment].losses)
            assert test.asked().startswith(f"{test.what}, which must ")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"above": 0.8}, "A, which must lie above 0.8"),
        ({"below": 0}, "A, which must lie below 0"),
        ({"within": [1, 1e-6]}, "A, which must be 1 within 1e-6"),
        ({"within": [0, 0]}, "A, which must be 0 exactly"),
    ],
)
def test_what_is_asked_is_said_in_words(claim, asked, words):
    assert claim(entry(number="one", **asked)).tests[0].asked() == words
