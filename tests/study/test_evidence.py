import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from falloff.study import evidence, statistics
from falloff.study.evidence import Evidence

pytestmark = pytest.mark.filterwarnings("error")  # what is degenerate has an answer of its own


def of(**arms):
    """Evidence whose metric "ap" is the mean over pictures of each arm's (seeds, pictures)."""
    rows = [(arm, seed, row.mean()) for arm, of in arms.items() for seed, row in enumerate(np.array(of))]
    table = pd.DataFrame(rows, columns=["arm", "seed", "ap"])
    return Evidence(table, {"ap": np.concatenate([np.array(of, float) for of in arms.values()])})


def drawn(rng, seeds=8, pictures=60, arms=2, *, seed=0.02, picture=0.2, both=0.05, within=0.15):
    """Arms that are alike: values of seeds, pictures, arm by picture and seed by picture, all with mean 0."""
    common = rng.normal(0, picture, pictures)
    return {f"a{number}": common + rng.normal(0, both, pictures) + rng.normal(0, seed, (seeds, 1))
            + rng.normal(0, within, (seeds, pictures)) for number in range(arms)}


A, B = [[1.0, 2.0, 6.0], [3.0, 2.0, 4.0]], [[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]


def test_an_interval_over_seeds_and_pictures_worked_by_hand():
    # Arm a: means of seeds 3 and 3, of pictures 2, 2 and 5, interaction -1, 0, 1 and 1, 0, -1: mean square 4 / 2 = 2.
    # Arm b: means of seeds 1 and 1, of pictures 1, 1 and 1, the same interaction. So seeds give 0; the difference on
    # pictures is 1, 1 and 4, of variance 3, over 3 pictures 1; the interaction has 2 x 2 / (2 x 3) of it: 1/3 is left.
    found = evidence.contrast(of(a=A, b=B), "ap", {"a": 1, "b": -1})
    half = stats.t.ppf(0.975, 1) * math.sqrt(1 / 3)
    assert (found.mean, found.low, found.high) == pytest.approx((2, 2 - half, 2 + half)) and found.count == 2


def test_what_seeds_and_pictures_add_up_to_is_no_less_than_seeds_alone():
    # Pictures differ by seed by picture alone, by less than it is expected to leave.
    shaken = [[1.0, 0.0, 0.5], [0.0, 1.0, 0.4], [0.5, 0.5, 0.9]]
    one = of(a=shaken, b=[[0.0] * 3] * 3)
    over_seeds = statistics.contrast(one.table, "ap", {"a": 1, "b": -1}, paired=False)
    found = evidence.contrast(one, "ap", {"a": 1, "b": -1})
    assert (found.low, found.high) == pytest.approx((over_seeds.low, over_seeds.high))


@pytest.mark.parametrize("paired", [True, False])
def test_without_pictures_it_is_the_contrast_over_seeds(paired):
    one = of(**drawn(np.random.default_rng(0), arms=3))
    weights = {"a0": 1, "a1": -0.5, "a2": -0.5}
    found = evidence.contrast(one, "ap", weights, pictures=False, paired=paired, confidence=0.9)
    wanted = statistics.contrast(one.table, "ap", weights, paired=paired, confidence=0.9)
    assert (found.mean, found.low, found.high) == pytest.approx((wanted.mean, wanted.low, wanted.high))


def test_what_a_seed_does_to_both_arms_cancels_where_they_are_paired():
    rng = np.random.default_rng(0)
    arms, luck = drawn(rng, seed=0.0), rng.normal(0, 0.2, (8, 1))
    one = of(**{arm: values + luck for arm, values in arms.items()})
    paired, apart = (evidence.contrast(one, "ap", {"a0": 1, "a1": -1}, paired=paired) for paired in (True, False))
    assert paired.mean == pytest.approx(apart.mean) and paired.high - paired.low < 0.5 * (apart.high - apart.low)


def test_what_is_hard_for_all_arms_cancels_and_the_order_of_rows_does_not_matter():
    one = of(**drawn(np.random.default_rng(0)))
    hard = np.linspace(-5, 5, 60)
    other = Evidence(one.table, {"ap": one.pictures["ap"] + hard})
    order = np.random.default_rng(1).permutation(len(one.table))
    mixed = Evidence(one.table.iloc[order], {"ap": one.pictures["ap"][order]})
    found, *same = (evidence.contrast(x, "ap", {"a0": 1, "a1": -1}) for x in (one, other, mixed))
    assert all((x.low, x.high) == pytest.approx((found.low, found.high)) for x in same)
    assert evidence.contrast(other, "ap", {"a0": 1}).high > found.high + 0.5  # of one arm alone it does not


@pytest.mark.parametrize(("seeds", "pictures", "seed"), [(20, 100, 0.01), (8, 100, 0.015), (20, 400, 0.02)])
def test_intervals_cover_for_new_seeds_and_pictures_where_those_over_seeds_do_not(seeds, pictures, seed):
    rng, hits = np.random.default_rng(seeds + pictures), []
    for _ in range(200):
        one = of(**drawn(rng, seeds, pictures, seed=seed))
        both = (evidence.contrast(one, "ap", {"a0": 1, "a1": -1}, pictures=new) for new in (True, False))
        hits.append([found.low <= 0 <= found.high for found in both])
    covered, over_seeds = np.mean(hits, axis=0)
    assert 0.93 <= covered <= 0.995
    assert over_seeds < covered and (seed > 0.01 or over_seeds < 0.9)


def test_one_seed_and_an_undefined_run_leave_no_interval():
    nan, inf = math.nan, math.inf
    for arms in ({"a": A[:1], "b": B[:1]}, {"a": A, "b": [[nan] * 3, *B[1:]]}, {"a": [[inf] * 3] * 2, "b": B}):
        found = evidence.contrast(of(**arms), "ap", {"a": 1, "b": -1})
        assert math.isnan(found.low) and math.isnan(found.high)
    found = evidence.means(of(a=A, b=[[nan] * 3, *B[1:]]), "ap", ["a", "b"])
    assert found.interval({"a": 1}) == evidence.contrast(of(a=A), "ap", {"a": 1})


def test_arms_may_have_seeds_of_their_own_unless_they_are_paired():
    one = of(a=A, b=[*B, [1.0, 2.0, 3.0]])
    assert evidence.contrast(one, "ap", {"a": 1, "b": -1}).count == 2
    with pytest.raises(ValueError, match="'a' must have every seed of the table"):
        evidence.contrast(one, "ap", {"a": 1, "b": -1}, paired=True)


def test_what_is_not_there_is_named():
    one = of(a=A, b=B)
    with pytest.raises(ValueError, match="needs 'f1' picture by picture, got pictures of ap"):
        evidence.contrast(one, "f1", {"a": 1})
    with pytest.raises(ValueError, match="each seed of 'c' once"):
        evidence.contrast(one, "ap", {"c": 1})
    with pytest.raises(ValueError, match=r"contrasts must be over a, b, got 'c'"):
        evidence.means(one, "ap", ["a", "b"]).interval({"c": 1})
    with pytest.raises(ValueError, match=r"pictures of 'ap' must be .*\(4, P\), got \(3, 3\)"):
        Evidence(one.table, {"ap": one.pictures["ap"][1:]})


def test_rows_are_taken_with_their_pictures():
    one = of(a=A, b=B)
    kept = one.where(one.table["arm"] == "b")
    assert kept.table["arm"].tolist() == ["b", "b"] and kept.pictures["ap"].tolist() == B


def test_pictures_are_known_where_all_runs_of_all_arms_have_them():
    one = of(a=A, b=B)
    assert one.knows("ap", ["a"]) and one.knows("ap", {"a": 1.0, "b": -1.0}) and not one.knows("error", ["a"])
    one.pictures["ap"][3] = math.nan
    assert one.knows("ap", ["a"]) and not one.knows("ap", ["a", "b"])


def test_a_logit_is_that_of_each_run_and_moves_with_pictures_by_its_slope():
    one = of(a=[[0.5, 0.7], [1.0, 1.0]])
    found = one.on_logits("ap")
    assert found.table["ap"].tolist() == pytest.approx([math.log(0.6 / 0.4), math.log(999)])
    assert found.pictures["ap"][0] == pytest.approx([math.log(1.5) - 0.1 / 0.24, math.log(1.5) + 0.1 / 0.24])
    assert one.table["ap"].tolist() == [0.6, 1.0]
