import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import special, stats

from falloff import measures
from falloff.study import claims, evidence, formulas, outcomes, recording, simultaneous
from falloff.study.claims import Claim, Judgement
from falloff.study.evidence import Evidence
from falloff.study.experiments import EXPERIMENTS, settings
from falloff.study.statistics import Interval

PROJECT = Path(__file__).parents[2]


def entry(**test):
    """A claim that one number decides: of an experiment's table unless it is told where the number comes from."""
    sources = {"contrast", "slope", "gap_slope", "difference", "of", "ranges", "number"}
    source = {} if sources & test.keys() else {"metric": "ap", "difference": ["focal", "bce"]}
    by_runs = {} if "number" in test else {"experiment": "head-to-head"}
    return {"claim": "So it is.", **by_runs, "decided_by": [{"what": "A", **source, **test}]}


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
    json.dumps(judged.described(), allow_nan=False)  # which has infinite ends


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


# Evidence.


def test_a_manifest_has_the_numbers_what_decided_and_the_verdict(claim):
    one = claim(entry(above=0))
    judged = one.judge(APART)
    assert judged.described() == {"asked": one.digest(), "verdict": "supported", "effects": [
        [judged.effects[0].mean, judged.effects[0].low, judged.effects[0].high, 3]]}
    assert one.judge(rows([0.5], [0.25])).described()["effects"] == [[0.25, "nan", "nan", 1]]
    moved = dataclasses.replace(judged, effects=(Interval(-1.0, -2.0, -0.5, 3),))
    assert moved.verdict == "refuted"  # which follows from the numbers


@pytest.mark.parametrize(
    "changed",
    [{"above": 0.1}, {"metric": "f1"}, {"difference": ["bce", "focal"]}, {"above": None, "below": 0},
     {"difference": None, "of": "focal"}, {"paired": False}, {"one_sided": True},
     {"difference": None, "contrast": {"focal": 1, "bce": -2}}, {"interval": "pictures"}, {"scale": "logit"},
     {"paired": False, "family": "main"}, {"paired": False, "trim": 0.2}, {"paired": False, "share_below": 0.5}],
    ids=["threshold", "metric", "order", "side", "source", "pairing", "level", "weights", "pictures", "scale", "family",
         "trim", "share"],
)
def test_a_digest_is_another_once_something_else_decides(claim, changed):
    before = entry(above=0)
    after = {**before["decided_by"][0], **changed}
    after = {**before, "decided_by": [{name: value for name, value in after.items() if value is not None}]}
    assert claim(before).digest() != claim(after).digest()


def test_a_digest_is_another_once_another_experiment_decides(claim):
    assert claim(entry(above=0)).digest() != claim({**entry(above=0), "experiment": "ablation"}).digest()


def test_a_digest_stays_when_only_words_change(claim):
    before = entry(above=0)
    digest = claim(before).digest()
    after = {**before, "claim": "So it truly is.", "scope": "Here.", "known_before": "Nothing.",
             "predicted": {"value": 1, "reason": "hope"},
             "decided_by": [{**before["decided_by"][0], "what": "In short", "why": "It is enough."}]}
    assert claim(after).digest() == digest
    longer = entry(metric="ap", contrast={"bce": -1.0, "focal": 1.0}, above=0, paired=True, one_sided=False,
                   interval="seeds", scale="raw", restricted=False)
    assert claim(longer).digest() == digest


def test_the_digests_of_entries_without_the_later_options_are_those_of_before():
    found = claims.load(PROJECT / "data" / "claims.yml")
    assert found["C1"].digest() == "aef07824944ef0e5" and found["C6"].digest() == "327d97446804a74e"
    assert found["C8"].digest() == "15d7be5dcff9b898"


# Pictures, families, trimmed means, shares, steps, scales.


def known(pictures, **arms):
    """Evidence of arms, each of seeds with an AP, that differ from picture to picture as given."""
    table = rows(**arms)
    return Evidence(table, {"ap": table["ap"].to_numpy()[:, None] + np.array([pictures[arm] for arm in table["arm"]])})


SPREAD = {"focal": [-0.3, 0.0, 0.3, 0.0], "bce": [0.0, 0.0, 0.0, 0.0], "mse": [0.1, -0.1, 0.0, 0.0]}
SEEDS = {"focal": [0.5, 0.51, 0.49, 0.5], "bce": [0.4, 0.41, 0.39, 0.4], "mse": [0.45, 0.44, 0.46, 0.45]}


def test_an_interval_for_new_pictures_is_wider_and_more_seeds_may_not_be_enough(claim):
    asked = {"metric": "ap", "difference": ["focal", "bce"], "above": 0, "paired": False}
    seeds, both = (claim(entry(**asked, **more)).judge(known(SPREAD, **SEEDS))
                   for more in ({}, {"interval": "pictures"}))
    assert (seeds.verdict, both.verdict) == ("supported", "undecided")
    assert both.effects[0].mean == pytest.approx(seeds.effects[0].mean)
    # Over the pictures the difference has a variance of 0.06 and so an error of 0.122, more than all of the effect.
    assert both.would_decide == math.inf and math.isnan(seeds.would_decide)


def test_what_is_undecided_says_how_many_seeds_would_decide_it(claim):
    one = claim(entry(above=0.35))
    judged = one.judge(APART)  # 0.4 +- 0.2484 over 3 seeds, s = 0.1
    n = judged.would_decide
    assert stats.t.ppf(0.975, n - 1) * 0.1 / math.sqrt(n) < 0.05 <= stats.t.ppf(0.975, n - 2) * 0.1 / math.sqrt(n - 1)
    within = claim(entry(within=[0.5, 0.15])).judge(APART)  # the nearer limit, 0.35, by the 90 % interval
    assert 2 < within.would_decide < n
    assert math.isnan(one.judge(rows([0.5], [0.2])).would_decide)


def test_a_familys_intervals_hold_together(tmp_path):
    path = tmp_path / "claims.yml"
    one, other = (entry(metric="ap", difference=[arm, "bce"], above=0, paired=False, family="main")
                  for arm in ("focal", "mse"))
    path.write_text(yaml.safe_dump({"C1": one, "C2": other, "C3": {**other, "experiment": "ablation"}}))
    found = claims.load(path)
    assert found["C1"].arms == {"focal", "bce", "mse"} and found["C3"].arms == {"mse", "bce"}
    judged = {name: one.judge(known(SPREAD, **SEEDS)).effects[0] for name, one in found.items()}
    means = evidence.means(known(SPREAD, **SEEDS), "ap", ["focal", "bce", "mse"], pictures=False)
    wanted = simultaneous.max_t(means, [{"focal": 1, "bce": -1}, {"mse": 1, "bce": -1}])
    assert judged["C1"].low == pytest.approx(wanted[0].interval.low, abs=0.002)
    assert judged["C2"].low == pytest.approx(wanted[1].interval.low, abs=0.002)
    assert judged["C3"].high - judged["C3"].low < judged["C2"].high - judged["C2"].low  # alone in its experiment
    path.write_text(yaml.safe_dump({"C1": one}))
    assert claims.load(path)["C1"].digest() != found["C1"].digest()


def test_a_bare_table_is_judged_over_seeds_and_by_itself(claim):
    asked = {"metric": "ap", "difference": ["focal", "bce"], "above": 0, "paired": False}
    whole = claim(entry(**asked, interval="pictures", family="main"))
    table = rows(**SEEDS)
    assert whole.judge(table).effects == claim(entry(**asked)).judge(table).effects
    with pytest.raises(ValueError, match="claim C1: an interval over pictures needs 'ap' picture by picture"):
        whole.judge(Evidence(table))


def test_what_a_bare_table_was_not_measured_in_is_undefined(claim):
    content = entry(above=0)
    content["decided_by"] += [{"what": "B", "metric": "peak_brier_platt", "difference": ["focal", "bce"], "above": 0}]
    judged = claim(content).judge(APART)
    assert judged.verdict == "undecided" and str(judged.effects[1]) == "undefined" and judged.effects[1].count == 3
    with pytest.raises(ValueError, match=r"claim C1: table must have .*'peak_brier_platt'"):
        claim(content).judge(Evidence(APART))


def test_collapsed_runs_are_left_out_of_a_trimmed_mean_and_counted(claim):
    table = rows([0.9, 0.91, 0.89, 0.9, 0.1], [0.8, 0.81, 0.79, 0.8, 0.8])
    asked = {"metric": "ap", "difference": ["focal", "bce"], "paired": False}
    assert claim(entry(**asked, above=0)).judge(table).verdict == "undecided"
    judged = claim(entry(**asked, above=0, trim=0.2)).judge(table)
    assert judged.verdict == "supported" and judged.effects[0].mean == pytest.approx(2.69 / 3 - 0.8)
    share = claim(entry(metric="ap", of="focal", paired=False, share_below=0.5, below=0.15, one_sided=True))
    share = share.judge(table)
    assert share.verdict == "undecided" and share.effects == (outcomes.share(1, 5, 0.9),)
    both = claim(entry(**asked, share_below=0.5, below=0)).judge(table)
    assert both.effects == (outcomes.share_difference(outcomes.share(1, 5), outcomes.share(0, 5)),)
    lost = claim(entry(metric="ap", of="focal", paired=False, share_below=0.5, below=1)).judge(
        rows([math.nan, 0.9], [0.1, 0.1]))
    assert lost.effects[0].mean == 0.5  # what has no number is no success


def test_none_of_twenty_runs_shows_that_few_collapse(claim):
    asked = claim(entry(metric="ap", of="focal", paired=False, share_below=0.5, below=0.15, one_sided=True))
    none, one = (asked.judge(rows([0.9] * (20 - count) + [0.1] * count, [0.5] * 20)) for count in (0, 1))
    assert (none.verdict, one.verdict) == ("supported", "undecided")


def test_steps_of_runs_that_never_arrive_count_to_the_end_where_they_are_restricted(claim):
    steps = [("bce", [math.nan, 250, 225, 250]), ("focal", [100, 125, 100, 125])]
    table = pd.DataFrame([(arm, seed, at, 250) for arm, some in steps for seed, at in enumerate(some)],
                         columns=["arm", "seed", "steps_to_ap", "steps"])
    asked = {"metric": "steps_to_ap", "difference": ["bce", "focal"], "above": 0, "paired": False}
    judged = claim(entry(**asked, restricted=True)).judge(table)
    assert judged.verdict == "supported" and judged.effects[0].mean == 243.75 - 112.5
    assert math.isnan(claim(entry(**asked)).judge(table).effects[0].mean)


def test_a_slope_of_a_gap_is_the_gap_for_each_doubling(claim):
    levels = {"a": 1, "b": 4}
    table = rows([0.0] * 3, [0.0] * 3, **{"x, a": [0.5, 0.5, 0.6], "x, b": [0.6, 0.6, 0.6], "y, a": [0.5, 0.4, 0.4],
                                          "y, b": [0.9, 0.8, 0.8]})
    one = claim(entry(metric="ap", gap_slope={"gap": ["x", "y"], "log2": levels}, below=0, paired=False))
    [effect] = one.judge(table).effects
    assert effect.mean == pytest.approx(((1.8 - 2.5) / 3 - (1.6 - 1.3) / 3) / 2)
    assert one.arms == {"x, a", "x, b", "y, a", "y, b"}


def test_ends_and_others_may_be_means_of_arms(claim):
    table = rows([0.9, 0.8, 0.9], [0.1, 0.2, 0.1], a=[0.7, 0.7, 0.6], b=[0.3, 0.2, 0.2], c=[0.0, 0.0, 0.1])
    one = claim(entry(metric="ap", ranges={"ends": [["focal", "a"], ["bce", "c"]], "over": ["a", "b"]}, above=0))
    [effect] = one.judge(table).effects
    assert effect.mean == pytest.approx((2.6 + 2.0) / 6 - (0.4 + 0.1) / 6 - (2.0 - 0.7) / 3)


@pytest.mark.parametrize(
    ("raw", "logit", "verdict"),
    [("supported", "supported", "supported"), ("supported", "undecided", "undecided"),
     ("supported", "refuted", "undecided"), ("undecided", "supported", "undecided"),
     ("undecided", "refuted", "undecided"), ("refuted", "refuted", "refuted"), ("refuted", "undecided", "refuted"),
     ("refuted", "supported", "undecided")],
)
def test_a_sign_must_be_kept_on_both_scales(claim, raw, logit, verdict):
    content = entry(above=0)
    content["decided_by"] += [{**content["decided_by"][0], "scale": "logit"}]
    ends = {"supported": (1.0, 0.5, 1.5), "undecided": (0.0, -1.0, 1.0), "refuted": (-1.0, -1.5, -0.5)}
    judged = Judgement(claim(content), tuple(Interval(*ends[word], 3) for word in (raw, logit)))
    assert judged.verdict == verdict


def test_a_logit_is_taken_run_by_run(claim):
    [effect] = claim(entry(metric="ap", difference=["focal", "bce"], above=0, scale="logit")).judge(APART).effects
    assert effect.mean == pytest.approx(np.mean(special.logit([0.5, 0.7, 0.9]) - special.logit([0.2, 0.3, 0.4])))


# The file.


def without(name):
    return {part: value for part, value in entry(above=0).items() if part != name}


PAIR = {"metric": "ap", "difference": ["focal", "bce"]}
MALFORMED = {
    "nothing": None,
    "words": "words",
    "empty": {},
    "no reason": {"claim": "A."},
    "planned": {"claim": "A.", "planned": "Some day."},
    "a prediction without its reason": {**entry(above=0), "predicted": {"value": 1}},
    "a verdict": {**entry(above=0), "verdict": "supported"},
    "no claim": without("claim"),
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
    "pictures of a formula": entry(above=0, number="one", interval="pictures"),
    "an interval of its own": entry(above=0, interval="runs"),
    "pictures of what is not known of each": entry(above=0, metric="f1", difference=["a", "b"], interval="pictures"),
    "a scale of its own": entry(above=0, scale="log"),
    "trimmed pairs": entry(above=0, trim=0.2),
    "trimmed by half": entry(above=0, trim=0.5, paired=False),
    "a trimmed mean": entry(above=0, metric="ap", of="focal", trim=0.2, paired=False),
    "trimmed pictures": entry(above=0, trim=0.2, paired=False, interval="pictures"),
    "a share of pairs": entry(below=1, metric="ap", of="focal", share_below=0.5),
    "a share in words": entry(below=1, metric="ap", of="focal", share_below="half", paired=False),
    "a share of a slope": entry(below=1, metric="ap", slope={"a": 1, "b": 2, "c": 4}, share_below=0.5, paired=False),
    "a trimmed share": entry(below=1, share_below=0.5, trim=0.2, paired=False),
    "steps to what is always reached": entry(above=0, restricted=True),
    "a family of pairs": entry(above=0, family="main"),
    "a family of ranges": entry(above=0, metric="ap", ranges={"ends": ["a", "b"], "over": ["c", "d"]}, family="main",
                                paired=False),
    "a slope of a gap without levels": entry(above=0, metric="ap", gap_slope={"gap": ["a", "b"]}),
    "a slope of a gap on nothing": entry(above=0, metric="ap", gap_slope={"gap": ["a", "b"], "log2": {"x": 0, "y": 1}}),
}


@pytest.mark.parametrize("how", MALFORMED)
def test_an_entry_that_is_not_as_it_must_be_is_named(claim, how):
    with pytest.raises(ValueError, match="claim C1"):
        claim(MALFORMED[how])


def test_the_claims_of_the_study_can_be_judged():
    found = claims.load(PROJECT / "data" / "claims.yml")
    assert found and all(isinstance(one, Claim) and one.claim and one.name == name for name, one in found.items())
    for one in found.values():
        assert one.metrics <= measures.METRICS.keys()
        assert bool(one.experiment) == bool(one.scope) == bool(one.known_before) == bool(one.predicted)
        if one.experiment in EXPERIMENTS:  # one that is not planned yet has its claims before
            stages = recording.planned(one.experiment, "study", settings("study"))
            assert one.arms <= {run.arm for stage in stages for run in stage if run.role == "reported"}, one.name
        for criterion in one.criteria:
            assert criterion.number is None or criterion.number in formulas.NUMBERS
            assert criterion.in_words().startswith(f"{criterion.what}, which must ")
            margin = criterion.within is not None or criterion.one_sided
            assert not (one.experiment and margin) or criterion.why, one.name


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
        ({"above": 0, "interval": "pictures"}, "A, which must lie above 0 by its interval over seeds and pictures"),
        ({"above": 0, "paired": False, "family": "main"},
         "A, which must lie above 0 by its interval together with all of the family main"),
    ],
)
def test_an_interval_that_is_not_the_usual_one_is_named(claim, asked, words):
    assert claim(entry(**asked)).criteria[0].in_words() == words
