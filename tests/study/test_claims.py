import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from falloff import measures
from falloff.study import claims, formulas, recording
from falloff.study.claims import Claim
from falloff.study.experiments import settings
from falloff.study.statistics import Interval

PROJECT = Path(__file__).parents[2]


def entry(**test):
    """A claim that one number decides: of an experiment's table unless it is told where the number comes from."""
    sources = {"contrast", "slope", "difference", "of", "ranges", "number"}
    source = {} if sources & test.keys() else {"metric": "ap", "difference": ["focal", "bce"]}
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


def rows(focal, bce, **more):
    """A table of two arms or more whose AP at each seed is given."""
    arms = {"focal": focal, "bce": bce, **more}
    return pd.DataFrame([(arm, seed, ap) for arm, aps in arms.items() for seed, ap in enumerate(aps)],
                        columns=["arm", "seed", "ap"])


# Differences of 0.3, 0.4 and 0.5: mean 0.4, s = 0.1, t of 2 degrees of freedom 4.3027, so 0.4 +- 0.2484.
APART = rows([0.5, 0.7, 0.9], [0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("asked", "verdict"),
    [
        ({"above": 0}, "supported"), ({"above": 0.15}, "supported"), ({"above": 0.1517}, "undecided"),
        ({"above": 0.4}, "undecided"), ({"above": 0.65}, "refuted"),
        ({"below": 0}, "refuted"), ({"below": 0.4}, "undecided"), ({"below": 0.65}, "supported"),
        # Of one end alone 5 % may lie beyond it: t of 2 degrees is then 2.9200, so 0.4 +- 0.1686.
        ({"above": 0.2314, "one_sided": True}, "supported"), ({"above": 0.2315, "one_sided": True}, "undecided"),
        ({"above": 0.5686, "one_sided": True}, "refuted"), ({"below": 0.5686, "one_sided": True}, "supported"),
        ({"within": [0.4, 0.1686]}, "supported"), ({"within": [0.4, 0.1685]}, "undecided"),
        ({"within": [0.3, 0.2686]}, "supported"), ({"within": [0.3, 0.2685]}, "undecided"),
        ({"within": [0.0, 0.2314]}, "refuted"), ({"within": [0.0, 0.2315]}, "undecided"),
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
def test_one_arm_is_measured_by_its_mean(claim, above, verdict):
    # Mean 0.7, s = 0.2, so 0.7 +- 0.4968.
    table = rows([0.5, 0.7, 0.9], [9.0, 9.0, 9.0])
    judged = claim(entry(metric="ap", of="focal", above=above)).judge(table)
    assert judged.verdict == verdict and judged.effects[0].mean == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("asked", "verdict"),
    [({"difference": ["focal", "bce"]}, "supported"), ({"contrast": {"focal": 1, "bce": -1}}, "supported"),
     ({"contrast": {"focal": 1, "bce": -1}, "paired": False}, "undecided"),
     ({"contrast": {"bce": 1, "focal": -1}}, "refuted"),
     ({"slope": {"bce": 1, "focal": 3}}, "supported"), ({"slope": {"bce": 3, "focal": 1}}, "refuted")],
)
def test_a_contrast_is_a_weighted_sum_over_arms(claim, asked, verdict):
    # Unpaired, with s = 0.2 and 0.1, t of 2.94 degrees 3.22: 0.4 +- 0.416.
    assert claim(entry(metric="ap", above=0, **asked)).judge(APART).verdict == verdict


def test_a_difference_of_differences_takes_four_arms(claim):
    table = rows([0.9, 0.8, 0.9], [0.5, 0.5, 0.5], dense=[0.6, 0.6, 0.7], plain=[0.5, 0.5, 0.4], other=[9.0, 9.0, 9.0])
    one = claim(entry(metric="ap", contrast={"focal": 1, "bce": -1, "dense": -1, "plain": 1}, within=[0.2, 0.5]))
    [effect] = one.judge(table).effects
    half = 2.919986 * 0.1 / math.sqrt(3)
    assert (effect.mean, effect.high) == pytest.approx((0.2, 0.2 + half))
    assert one.arms == {"focal", "bce", "dense", "plain"} and one.metrics == {"ap"}


@pytest.mark.parametrize(("start", "verdict"), [(0.9, "supported"), (0.42, "undecided"), (0.1, "refuted")])
def test_a_range_is_held_against_the_largest_difference_between_two_others(claim, start, verdict):
    # Of the three others c lies 0.40, 0.41 and 0.42 above a.
    table = rows([start, start + 0.01, start - 0.01], [0.0] * 3, a=[0.0] * 3, b=[0.2] * 3, c=[0.4, 0.41, 0.42])
    one = claim(entry(metric="ap", ranges={"ends": ["focal", "bce"], "over": ["a", "b", "c"]}, above=0))
    judged = one.judge(table)
    assert judged.verdict == verdict and judged.effects[0].mean == pytest.approx(start - 0.41)
    assert one.arms == {"focal", "bce", "a", "b", "c"}


def test_a_range_of_one_end_among_the_others_is_held_against_them_too(claim):
    table = rows([0.9, 0.8, 0.9], [0.1, 0.2, 0.1], a=[0.2, 0.3, 0.3])
    one = claim(entry(metric="ap", ranges={"ends": ["focal", "bce"], "over": ["a", "bce"]}, above=0))
    assert one.judge(table).verdict == "supported"


def test_ends_that_are_both_among_the_others_can_not_lie_further_apart(claim):
    with pytest.raises(ValueError, match=r"claim C1: ranges must name arms, .* that do not cancel out"):
        claim(entry(metric="ap", ranges={"ends": ["focal", "bce"], "over": ["focal", "mse", "bce"]}, above=0))


def test_of_many_equal_arms_hardly_any_are_claimed_to_differ(claim):
    # Whatever is said of arms that are all alike is false, but that no range is larger than another.
    two, four = ["focal", "bce"], {"focal": 1, "bce": -1, "a": -1, "b": 1}
    asked = [{"difference": two}, {"difference": two, "paired": False}, {"difference": two, "one_sided": True},
             {"contrast": four}, {"slope": {"focal": 1, "bce": 2, "a": 4}},
             {"ranges": {"ends": two, "over": ["a", "b"]}}]
    several = [claim(entry(metric="ap", above=0, **one)) for one in asked]
    rng, found = np.random.default_rng(0), []
    for _ in range(150):
        focal, bce, a, b = rng.normal(0.5, [[0.01], [0.02], [0.01], [0.03]], size=(4, 6))
        found.append([one.judge(rows(focal, bce, a=a, b=b)).verdict for one in several])
    supported = (np.array(found) == "supported").mean(axis=0)
    refuted = (np.array(found) == "refuted").mean(axis=0)
    assert (supported < 0.09).all() and (refuted[:-1] < 0.09).all()  # 5 % and two standard errors


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
        columns=["arm", "seed", "steps_to_ap", "steps"],
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
        (entry(number="near", above=0), None, {"far": 1.0}, "claim C1 is judged by near, got far"),
        (entry(above=0), APART[APART["arm"] == "bce"], {}, "claim C1: table must have each seed of 'focal' once"),
        (entry(above=0), APART[1:], {}, "claim C1: 'focal' must have every seed"),
        (entry(above=0), APART.drop(columns="ap"), {}, "claim C1: table must have .*'ap'"),
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


@pytest.mark.parametrize("name", ["C1", "C6"])
def test_a_claim_about_a_formula_is_judged_by_the_formula_itself(name):
    assert claims.judge(name).verdict == "supported"
    assert all(effect.count == 0 for effect in claims.judge(name).effects)


def test_numbers_that_are_given_stand_in_for_what_the_formula_gives():
    assert claims.judge("C1", charge_ratio=2.0).verdict == "refuted"
    near, at_label, far = claims.judge("C6", near=0.6).effects
    assert near.mean == 0.6 and (at_label, far) == claims.judge("C6").effects[1:]


def test_other_data_than_the_claims_own_is_not_judged(claim):
    one = claim(entry(above=0))
    mine, other = one.judge(APART), one.judge(APART, dataset="mice")
    assert (mine.verdict, other.verdict) == ("supported", claims.UNJUDGED) and mine.effects == other.effects
    assert claims.judge("C1", dataset="mice", charge_ratio=2.0).verdict == claims.UNJUDGED


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
     {"difference": None, "of": "focal"}, {"paired": False}, {"one_sided": True},
     {"difference": None, "contrast": {"focal": 1, "bce": -2}}],
    ids=["threshold", "metric", "order", "side", "source", "pairing", "level", "weights"],
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
    longer = entry(metric="ap", contrast={"bce": -1.0, "focal": 1.0}, above=0, paired=True, one_sided=False)
    assert claims.from_json(judged.as_json(), claim(longer)).verdict == "supported"


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
    "a metric that nobody made": entry(above=0, metric="apt", difference=["focal", "bce"]),
    "no metric": entry(above=0, difference=["focal", "bce"]),
    "a difference of three": entry(above=0, metric="ap", difference=["focal", "bce", "mse"]),
    "a difference of one": entry(above=0, metric="ap", difference="focal"),
    "a difference and a mean": entry(above=0, of="mse", **PAIR),
    "a metric of a formula": entry(above=0, number="one", metric="ap"),
    "a formula and a mean": entry(above=0, number="one", of="mse"),
    "a difference of nothing": entry(above=0, metric="ap", difference=["mse", "mse"]),
    "weights in words": entry(above=0, metric="ap", contrast={"focal": "much"}),
    "weights of nothing": entry(above=0, metric="ap", contrast={}),
    "weights of 0": entry(above=0, metric="ap", contrast={"focal": 0, "bce": 0}),
    "a list of weights": entry(above=0, metric="ap", contrast=["focal"]),
    "an arm that is a number": entry(above=0, metric="ap", contrast={0.1: 1, 0.2: -1}),
    "contrasts as they are kept": entry(above=0, contrasts=[{"focal": 1}], **PAIR),
    "a slope on one place": entry(above=0, metric="ap", slope={"focal": 1, "bce": 1}),
    "ranges without ends": entry(above=0, metric="ap", ranges={"over": ["a", "b"]}),
    "ranges over one": entry(above=0, metric="ap", ranges={"ends": ["focal", "bce"], "over": ["a"]}),
    "ranges over a word": entry(above=0, metric="ap", ranges={"ends": ["focal", "bce"], "over": "ab"}),
    "one end": entry(above=0, metric="ap", ranges={"ends": ["focal"], "over": ["a", "b"]}),
    "pairs in words": entry(above=0, paired="no"),
    "one side in words": entry(above=0, one_sided="yes"),
    "one side of an equivalence": entry(within=[0, 1], one_sided=True),
    "one side of ranges": entry(above=0, metric="ap", ranges={"ends": ["a", "b"], "over": ["c", "d"]}, one_sided=True),
    "one side of a formula": entry(above=0, number="one", one_sided=True),
    "pairs of a formula": entry(above=0, number="one", paired=False),
}


@pytest.mark.parametrize("how", MALFORMED)
def test_an_entry_that_is_not_as_it_must_be_is_named(claim, how):
    with pytest.raises(ValueError, match="claim C1"):
        claim(MALFORMED[how])


def test_the_claims_of_the_study_can_be_judged():
    found = claims.load(PROJECT / "data" / "claims.yml")
    assert found and all(isinstance(one, Claim) and one.claim and one.name == name for name, one in found.items())
    for one in found.values():
        assert one.chapter is None or (PROJECT / "notebooks" / f"{one.chapter}.ipynb").is_file()
        assert one.metrics <= measures.METRICS.keys()
        stages = recording.planned(one.experiment, "study", settings("study")) if one.experiment else []
        assert one.arms <= {run.arm for stage in stages for run in stage if run.role == "reported"}
        for criterion in one.criteria:
            assert criterion.number is None or criterion.number in formulas.NUMBERS
            assert criterion.in_words().startswith(f"{criterion.what}, which must ")


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
    assert claim(entry(number="one", **asked)).criteria[0].in_words() == words


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"above": 0.8}, "A, which must lie above 0.8"),
        ({"above": -0.02, "one_sided": True}, "A, which must lie above -0.02 by its 90 % interval"),
        ({"within": [0, 0.02]}, "A, which must be 0 within 0.02 by its 90 % interval"),
    ],
)
def test_an_interval_that_is_not_the_usual_one_is_named(claim, asked, words):
    assert claim(entry(**asked)).criteria[0].in_words() == words
