import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_tables import arrivals, runs
from scipy import stats

from falloff.study import statistics

NAN, INF = math.nan, math.inf
FLOATS = st.floats(-100, 100)
FEW = st.lists(FLOATS, min_size=2, max_size=6)


pytestmark = pytest.mark.filterwarnings("error")  # what is degenerate has an answer of its own



# Means and differences.


def test_an_interval_worked_by_hand():
    # Mean 5, s = sqrt(20 / 3) = 2.58199, t of 3 degrees of freedom at 97.5 % is 3.18245 in any table.
    found = statistics.interval([2.0, 4.0, 6.0, 8.0])
    half = 3.182446 * math.sqrt(20 / 3) / 2
    assert (found.mean, found.count) == (5.0, 4)
    assert (found.low, found.high) == pytest.approx((5 - half, 5 + half), rel=1e-6)
    assert str(found) == "5.000\u00a0±\u00a04.109"


def test_one_seed_has_a_mean_and_no_interval():
    found = statistics.interval([0.25])
    assert found.mean == 0.25 and found.count == 1 and math.isnan(found.low) and math.isnan(found.high)
    assert str(found) == "0.250 (one seed)"


@pytest.mark.parametrize("values", [[1.0, NAN], [NAN], [1.0, INF, 2.0], [INF, -INF]])
def test_what_is_undefined_for_one_run_is_undefined(values):
    found = statistics.interval(values)
    assert np.isnan([found.mean, found.low, found.high]).all() and found.count == len(values)
    assert str(found) == "undefined"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((0.5, 0.4, 0.7, 9), "0.500 [0.400, 0.700]"),
        ((0.5, 0.5, 0.5, 3), "0.500\u00a0±\u00a00.000"),
        ((INF, 300.0, INF, 5), "inf [300.000, inf]"),
        ((NAN, 41.0, INF, 3), "above 41.000"),
        ((NAN, -INF, 41.0, 3), "below 41.000"),
        ((NAN, -INF, INF, 3), "undefined"),
    ],
)
def test_an_interval_says_what_it_knows(parts, said):
    assert str(statistics.Interval(*parts)) == said


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((0.25, 0.125, 0.5, 3), "+0.25 px (+0.12 to +0.50)"),
        ((0.25, math.nan, math.nan, 1), "+0.25 px"),
        ((math.nan, math.nan, math.nan, 2), "undefined"),
        ((math.nan, 2.0, math.inf, 2), "above 2.000"),
    ],
)
def test_a_sentence_has_the_ends_that_there_are(parts, said):
    assert statistics.Interval(*parts).in_words("{:+.2f} px", " ({:+.2f} to {:+.2f})") == said


@given(FEW, FLOATS, st.floats(0.1, 10))
def test_an_interval_moves_and_grows_with_its_values(values, shift, scale):
    one, other = statistics.interval(values), statistics.interval([shift + scale * x for x in values])
    wanted = [shift + scale * end for end in (one.mean, one.low, one.high)]
    assert (other.mean, other.low, other.high) == pytest.approx(wanted, abs=1e-8)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_intervals_cover_the_mean_as_often_as_they_say(count):
    # Exact for normal values: 95 % at every count.
    draws = np.random.default_rng(count).normal(1.0, 2.0, size=(2000, count))
    found = [statistics.interval(row) for row in draws]
    assert 0.93 < np.mean([i.low <= 1.0 <= i.high for i in found]) < 0.97


def test_paired_differences_are_taken_seed_by_seed():
    rows = [("a", 0, 0.9), ("a", 1, 0.5), ("a", 2, 0.7), ("b", 2, 0.6), ("b", 0, 0.8), ("b", 1, 0.4)]
    found = statistics.paired(pd.DataFrame(rows, columns=["arm", "seed", "ap"]), "ap", "a", "b")
    # The two vary by 0.4, their difference not at all.
    assert (found.mean, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))


def test_a_metric_that_one_run_lacks_leaves_the_difference_undefined():
    table = runs(a=[0.9, NAN, 0.7], b=[0.8, 0.4, 0.6], c=[0.1, 0.2, 0.2])
    assert str(statistics.paired(table, "ap", "a", "b")) == "undefined"
    assert statistics.paired(table, "ap", "b", "c").mean == pytest.approx(1.3 / 3)


@pytest.mark.parametrize(
    ("rows", "second", "named"),
    [
        ([("a", 0, 0.9), ("a", 1, 0.5), ("b", 0, 0.8)], "b", "'b' must have every seed of the table, \\[0, 1\\]"),
        ([("a", 0, 0.9), ("a", 1, 0.5), ("b", 0, 0.8)], "c", "each seed of 'c' once, got \\[\\]"),
        ([("a", 0, 0.9), ("b", 0, 0.5), ("b", 0, 0.8)], "b", "each seed of 'b' once, got \\[0, 0\\]"),
        ([("a", 0, 0.9), ("b", 0, 0.5), ("c", 1, 0.8)], "b", "'a' must have every seed"),
        ([], "b", "0 rows"),
    ],
    ids=["lacks a seed", "not there", "a seed twice", "a seed that both lack", "empty"],
)
def test_paired_neither_drops_nor_averages_seeds_in_silence(rows, second, named):
    with pytest.raises(ValueError, match=named):
        statistics.paired(pd.DataFrame(rows, columns=["arm", "seed", "ap"]), "ap", "a", second)


def test_a_paired_p_value_worked_by_hand():
    # Differences 1, 2, 3: mean 2, s = 1, t = 2 sqrt(3) = 3.4641 with 2 degrees of freedom. The two-sided p of t with 2
    # degrees is 1 - t / sqrt(2 + t^2) = 1 - 3.4641 / sqrt(14) = 0.07418.
    rows = pd.DataFrame(
        {"arm": list("aaabbb"), "seed": [0, 1, 2] * 2, "ap": [1.0, 2.0, 3.0, 0.0, 0.0, 0.0]}
    )
    assert statistics.paired_p(rows, "ap", "a", "b") == pytest.approx(1 - 2 * math.sqrt(3 / 14), rel=1e-9)
    assert statistics.paired_p(rows.assign(ap=0.5), "ap", "a", "b") == 1.0
    assert math.isnan(statistics.paired_p(rows[rows["seed"] == 0], "ap", "a", "b"))


# Contrasts.

NOISE = [0.5, 2.0, 1.0, 0.3]  # of four arms whose seeds are independent


def draws(means, seeds, sds, rng, shared=0.0):
    """A table of arms "a", "b", ... with these means and standard deviations; what each seed adds to all is shared."""
    luck = rng.normal(0, shared, seeds) if shared else 0.0
    return runs(**{arm: mean + luck + rng.normal(0, sd, seeds)
                   for arm, mean, sd in zip("abcdefgh", means, sds, strict=False)})


def test_a_difference_of_differences_worked_by_hand():
    # Seed by seed (0.9 - 0.5) - (0.6 - 0.5) = 0.3, then 0.2 and 0.1: mean 0.2, s = 0.1, t of 2 degrees 4.3027.
    table = runs(a=[0.9, 0.8, 0.9], b=[0.5, 0.5, 0.5], c=[0.6, 0.6, 0.7], d=[0.5, 0.5, 0.4])
    found = statistics.contrast(table, "ap", {"a": 1, "b": -1, "c": -1, "d": 1})
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert (found.mean, found.low, found.high) == pytest.approx((0.2, 0.2 - half, 0.2 + half), rel=1e-6)
    assert found.count == 3


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_a_difference_of_independent_seeds_is_that_of_welch_as_scipy_has_it(confidence):
    table = runs(a=[0.9, 0.5, 0.8, 0.7], b=[0.1, 0.15, 0.2])
    a, b = (table.loc[table["arm"] == arm, "ap"] for arm in "ab")
    found = statistics.contrast(table, "ap", {"a": 1, "b": -1}, paired=False, confidence=confidence)
    wanted = stats.ttest_ind(a, b, equal_var=False).confidence_interval(confidence)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high)) and found.count == 3
    assert found.mean == pytest.approx(0.725 - 0.15)


@given(FEW, FLOATS.filter(lambda weight: abs(weight) > 1e-3))
def test_a_contrast_of_one_arm_is_its_weighted_mean_paired_or_not(values, weight):
    wanted = statistics.interval([weight * value for value in values])
    for paired in (True, False):
        found = statistics.contrast(runs(a=values), "ap", {"a": weight}, paired=paired)
        assert (found.mean, found.low, found.high) == pytest.approx((wanted.mean, wanted.low, wanted.high), abs=1e-9)


@pytest.mark.parametrize("paired", [True, False])
def test_degenerate_contrasts_have_an_answer(paired):
    def of(**values):
        return statistics.contrast(runs(**values), "ap", {"a": 1, "b": -1}, paired=paired)

    same = of(a=[0.5, 0.5], b=[0.25, 0.25])
    assert (same.mean, same.low, same.high) == (0.25, 0.25, 0.25)
    assert str(of(a=[0.5], b=[0.25])) == "0.250 (one seed)"
    assert str(of(a=[0.5, NAN], b=[0.25, 0.5])) == "undefined"


def test_a_slope_is_that_of_least_squares_on_the_means():
    x = {"a": 0.0, "b": 1.0, "c": 4.0}
    table = runs(a=[0.1, 0.3], b=[0.2, 0.6], c=[0.9, 0.7])
    wanted = stats.linregress([0, 0, 1, 1, 4, 4], table["ap"]).slope
    for paired in (True, False):
        found = statistics.contrast(table, "ap", statistics.slope_weights(x), paired=paired)
        assert found.mean == pytest.approx(wanted)


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(-9, 9), min_size=2), FLOATS, FLOATS)
def test_a_slope_finds_the_slope_of_a_line_and_ignores_its_level(x, level, slope):
    if len(set(x.values())) > 1:
        weights = statistics.slope_weights(x)
        found = sum(weight * (level + slope * x[arm]) for arm, weight in weights.items())
        assert found == pytest.approx(slope, abs=1e-9)


@pytest.mark.parametrize("seeds", [3, 8])
@pytest.mark.parametrize("weights", [{"a": 1, "b": -1}, {"a": 1, "b": -1, "c": -1, "d": 1}], ids=["two", "four"])
def test_contrasts_of_independent_seeds_cover_as_often_as_they_say(seeds, weights):
    # 20000 repetitions with 3 and 8 seeds covered 94.5 and 95.0 % for two arms, 95.0 and 95.0 % for four.
    rng = np.random.default_rng(seeds)
    tables = (draws([1, 0, 0, 0], seeds, NOISE, rng) for _ in range(500))
    found = [statistics.contrast(table, "ap", weights, paired=False) for table in tables]
    assert 0.925 < np.mean([one.low <= 1 <= one.high for one in found]) < 0.975


def test_paired_contrasts_cover_as_often_as_they_say_and_lose_what_a_seed_does_to_all():
    rng, weights = np.random.default_rng(0), {"a": 1, "b": -1, "c": -1, "d": 1}
    tables = [draws([1, 0, 0, 0], 4, NOISE, rng, shared=9.0) for _ in range(500)]
    found = [statistics.contrast(table, "ap", weights) for table in tables]
    assert 0.925 < np.mean([one.low <= 1 <= one.high for one in found]) < 0.975
    loose = [statistics.contrast(table, "ap", weights, paired=False) for table in tables[:50]]
    assert np.median([one.high - one.low for one in loose[:50]]) > 3 * np.median([one.high - one.low for one in found])


@pytest.mark.parametrize("paired", [True, False])
def test_an_equivalence_is_claimed_of_arms_that_differ_by_the_margin_in_at_most_five_percent(paired):
    rng = np.random.default_rng(1)
    tables = (draws([0.02, 0], 8, [0.01, 0.02], rng) for _ in range(500))
    found = [statistics.contrast(table, "ap", {"a": 1, "b": -1}, paired=paired, confidence=0.9) for table in tables]
    assert np.mean([one.low >= -0.02 and one.high <= 0.02 for one in found]) < 0.07
    assert 0.03 < np.mean([one.low > 0.02 for one in found]) < 0.07  # and refuted as rarely


RANGES = [{"a": 1, "b": -1, i: -1, j: 1} for i in "cde" for j in "cde" if i != j]


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("others", [(0.03, 0, 0), (0.03, 0.03, 0), (0.03, 0.015, 0)])
def test_equal_ranges_are_told_apart_in_at_most_five_percent(paired, others):
    # 4000 repetitions, paired: the one range beyond the other in 2.0, 2.4 and 4.2 %, short of it in 1.6, 1.7 and 0.8 %.
    rng = np.random.default_rng(2)
    tables = (draws([0.03, 0, *others], 6, [0.01, 0.02, 0.01, 0.015, 0.01], rng) for _ in range(150))
    found = [statistics.smallest(table, "ap", RANGES, paired=paired, confidence=0.9) for table in tables]
    assert np.mean([one.low > 0 for one in found]) < 0.08
    assert np.mean([one.high < 0 for one in found]) < 0.08


def test_a_range_far_beyond_another_is_told_from_it():
    table = draws([0.06, 0, 0.02, 0.01, 0], 20, [0.01] * 5, np.random.default_rng(3))
    found = statistics.smallest(table, "ap", RANGES, confidence=0.9)
    assert found.low > 0 and found.low < found.mean < found.high
    swapped = [{"c": 1, "e": -1, i: -1, j: 1} for i, j in ("ab", "ba")]
    assert statistics.smallest(table, "ap", swapped, confidence=0.9).high < 0


def test_the_smallest_of_some_contrasts_has_the_lowest_of_their_low_ends_and_no_correction():
    table = runs(a=[0.9, 0.7, 0.8], b=[0.5, 0.4, 0.1], c=[0.2, 0.3, 0.2])
    parts = [{"a": 1, "b": -1}, {"a": 1, "c": -1}, {"b": 1, "c": -1}]
    each = [statistics.contrast(table, "ap", one, confidence=0.9) for one in parts]
    wider = [statistics.contrast(table, "ap", one, confidence=1 - 0.1 / 3) for one in parts]
    found = statistics.smallest(table, "ap", parts, confidence=0.9)
    assert found.low == min(one.low for one in each) and found.mean == min(one.mean for one in each)
    assert found.high == pytest.approx(min(one.high for one in wider))
    for one in parts:
        assert statistics.smallest(table, "ap", [one]) == statistics.contrast(table, "ap", one)


@given(st.lists(st.tuples(*[st.integers(1, 20)] * 4), min_size=2, max_size=6), st.booleans())
def test_a_contrast_of_what_was_not_reached_limits_the_contrast_of_what_was_to_come(rows, paired):
    weights, budget = {"a": 1.0, "b": -2.0, "c": -0.5, "d": 0.0}, 12
    true = runs("took", **dict(zip("abcd", np.array(rows, float).T, strict=True)))
    seen = true.assign(took=true["took"].where(true["took"] <= budget), steps=budget)
    truth = statistics.contrast(true, "took", weights, paired=paired).mean
    found = statistics.contrast(seen, "took", weights, paired=paired, censored_at="steps")
    late = {arm: group.isna().any() for arm, group in seen.groupby("arm")["took"]}
    assert (found.low == -INF) == (late["b"] or late["c"]) and (found.high == INF) == late["a"]
    assert math.isnan(found.mean) == (late["a"] or late["b"] or late["c"])
    assert not found.low > truth and not found.high < truth


# Steps to a threshold.


def test_steps_to_a_threshold_keep_the_runs_that_never_get_there():
    rows = [("a", 0, 10, 0.2), ("a", 0, 20, 0.8), ("a", 0, 30, 0.7), ("b", 0, 10, NAN), ("b", 0, 30, 0.3)]
    found = statistics.steps_to(pd.DataFrame(rows, columns=["arm", "seed", "step", "ap"]), 0.7)
    assert found.set_index("arm")[["steps", "reached"]].T.to_dict("list") == {
        "a": [20, True],
        "b": [30, False],
    }


def test_steps_to_a_threshold_can_ask_for_several_evaluations_in_a_row_and_are_those_of_the_first():
    aps = {"a": [0.8, 0.6, 0.7, 0.9, 0.1], "b": [0.8, 0.6, 0.8, NAN, 0.8]}
    rows = [(arm, 0, 10 * number, ap) for arm, some in aps.items() for number, ap in enumerate(some, start=1)]
    table = pd.DataFrame(rows, columns=["arm", "seed", "step", "ap"]).sample(frac=1, random_state=0)
    found = statistics.steps_to(table, 0.7, in_a_row=2).set_index("arm")
    assert found.loc["a", ["steps", "reached"]].tolist() == [30, True]
    assert found.loc["b", ["steps", "reached"]].tolist() == [50, False]  # its last evaluation has none after it
    with pytest.raises(ValueError, match="in_a_row must be an integer above 0, got 0"):
        statistics.steps_to(table, 0.7, in_a_row=0)


def test_two_runs_under_one_name_are_not_taken_for_one():
    rows = [("a", 0, 10, 0.2), ("a", 0, 20, 0.8), ("a", 0, 10, 0.9)]
    with pytest.raises(ValueError, match="curves must have each step of one arm and seed once"):
        statistics.steps_to(pd.DataFrame(rows, columns=["arm", "seed", "step", "ap"]), 0.7)


def test_a_median_of_censored_steps_worked_by_hand():
    # Conover, Practical Nonparametric Statistics, 3rd edition, page 91: fan belts, those with a minus still whole. S is
    # 7/8 after 47, then 3/4 after 56, 3/4 * 2/3 = 1/2 after 77.
    found = statistics.median_steps(arrivals(a=[77, 47, 81, 56, 80, -62, -60, -43, -71, -37]), "a")
    assert (found.mean, found.count) == (77.0, 10)
    # Dropping the whole ones would give 77 as well, but taking them as broken 60.
    # The log-log interval of S = 7/8 at 47 has its low end at exp(-exp(log(-log 7/8) + 1.96 / sqrt(7 * 8) / -log(7/8)))
    # = 0.387 < 1/2, and that at 80, S = 1/4 with Greenwood's sum 1/56 + 1/42 + 1/6 + 1/2 = 0.708, its high end at
    # exp(-exp(log(log 4) - 1.96 sqrt(0.708) / log 4)) = 0.656 > 1/2; at 81 one run is left and says nothing.
    assert (found.low, found.high) == (47.0, INF)


def test_a_median_that_was_not_reached_is_infinite_and_bounded_below():
    found = statistics.median_steps(arrivals(a=[-400] * 6, b=[100, 200] + [-400] * 4), "a")
    assert (found.mean, found.low, found.high) == (INF, 400.0, INF) and str(found) == "inf [400.000, inf]"
    # Of 30 runs 4 arrived: all that was seen lies below the median, so its low end is the last step.
    found = statistics.median_steps(arrivals(a=[10, 20, 30, 40] + [-400] * 26), "a")
    assert (found.mean, found.low, found.high) == (INF, 400.0, INF)


def test_few_runs_give_a_median_and_no_ends():
    # The first of n runs is above the median with probability 1 / 2^n: 6 % for 4, 3 % for 5.
    found = statistics.median_steps(arrivals(a=[10, 20, 30, 40]), "a")
    assert (found.mean, found.low, found.high) == (20.0, 0.0, INF)
    assert statistics.median_steps(arrivals(a=[10, 20, 30, 40, 50]), "a").low == 10.0
    assert statistics.median_steps(arrivals(a=[10, 20, 30, 40]), "a", confidence=0.9).low == 10.0


def test_runs_that_arrive_together_bound_the_median():
    # All of n at one step: the median is above it with probability 1 / 2^n, below 2.5 % from 6 on.
    found = [statistics.median_steps(arrivals(a=[70] * count), "a") for count in (5, 6)]
    assert [(one.mean, one.low, one.high) for one in found] == [(70.0, 70.0, INF), (70.0, 70.0, 70.0)]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(1, 50))
def test_a_median_is_that_of_all_runs_wherever_it_was_reached(steps, budget):
    lower = sorted(steps)[(len(steps) - 1) // 2]
    found = statistics.median_steps(arrivals(a=[s if s <= budget else -budget for s in steps]), "a")
    assert found.mean == (lower if lower <= budget else INF)
    assert found.low <= found.mean <= found.high


@pytest.mark.parametrize("share_late", [0.0, 0.25, 0.4])
def test_intervals_of_a_median_cover_as_often_as_they_say(share_late):
    # 4000 repetitions with 5, 6, 8, 10, 15, 20, 30 and 50 runs covered 97, 98, 96, 94, 93, 97, 96 and 95 %, whatever
    # share was late and whichever the distribution. With 3 and 4 runs [first, inf) would cover 88 and 94 %: no ends.
    # Rounded up to a grid that puts many runs on one step, they cover more: 97 to 100 %.
    rng, hits = np.random.default_rng(8), []
    budget = -math.log(share_late) if share_late else INF
    for _ in range(600):
        steps = rng.exponential(size=30)
        table = pd.DataFrame({"arm": "a", "seed": range(30), "steps": np.minimum(steps, budget)})
        found = statistics.median_steps(table.assign(reached=steps <= budget), "a")
        hits.append(found.low <= math.log(2) <= found.high)
    assert 0.93 < np.mean(hits) < 0.97


def test_differences_of_steps_worked_by_hand():
    found = statistics.paired_steps(arrivals(a=[100, 150, 200], b=[300, 300, 450]), "a", "b")
    assert found.interval == statistics.interval([-200.0, -150.0, -250.0])
    assert (found.fewer, found.more, found.same, found.unknown) == (3, 0, 0, 0)


def test_a_run_that_did_not_arrive_bounds_a_difference_and_is_no_difference():
    # b took more than 400 steps twice: the differences are below -300, exactly -150, below -280.
    table = arrivals(a=[100, 150, 120], b=[-400, 300, -400])
    found, limits = statistics.paired_steps(table, "a", "b"), statistics.interval([-300.0, -150.0, -280.0])
    assert math.isnan(found.interval.mean) and found.interval.low == -INF
    assert found.interval.high == limits.high and str(found.interval) == f"below {limits.high:.3f}"
    assert (found.fewer, found.more, found.same, found.unknown) == (3, 0, 0, 0)


def test_two_runs_that_did_not_arrive_say_nothing_of_each_other():
    found = statistics.paired_steps(arrivals(a=[-400, 200, 100], b=[-400, 200, -400]), "a", "b")
    assert str(found.interval) == "undefined"
    assert (found.fewer, found.more, found.same, found.unknown) == (1, 0, 1, 1)
    # With another budget: 300 may be fewer or more than a run that had 200; 200 is fewer than one that had 200.
    found = statistics.paired_steps(arrivals(a=[300, 200], b=[-200, -200]), "a", "b")
    assert (found.fewer, found.unknown) == (1, 1)


@given(st.lists(st.tuples(*[st.integers(1, 20)] * 4), min_size=1, max_size=6))
def test_what_is_said_of_steps_is_true_of_the_steps_that_were_not_seen(pairs):
    true = np.array(pairs)[:, :2]
    seen = np.where(true <= np.array(pairs)[:, 2:], true, -np.array(pairs)[:, 2:])
    found = statistics.paired_steps(arrivals(a=seen[:, 0], b=seen[:, 1]), "a", "b")
    difference = true[:, 0] - true[:, 1]
    assert found.fewer <= (difference < 0).sum() and found.more <= (difference > 0).sum()
    assert found.same <= (difference == 0).sum()
    assert found.fewer + found.more + found.same + found.unknown == len(pairs)
    assert not found.interval.low > difference.mean() and not found.interval.high < difference.mean()
    assert math.isnan(found.interval.mean) == (seen < 0).any()
    other = statistics.paired_steps(arrivals(a=seen[:, 0], b=seen[:, 1]), "b", "a")
    assert (other.fewer, other.more, other.same) == (found.more, found.fewer, found.same)
    assert str(-other.interval.low) == str(found.interval.high)


def test_limits_of_a_difference_hold_at_least_as_often_as_an_interval_does():
    # 4000 repetitions with 3, 5 and 10 seeds: the limit lies below the true mean in 98 to 100 %, with 30 % of the first
    # arm's runs late or 70 %.
    rng, held = np.random.default_rng(0), []
    truth = math.exp(0.3**2 / 2)  # of exp(normal) twice as long, less another
    for _ in range(400):
        true = np.exp(rng.normal(0, 0.3, size=(5, 2))) * [2.0, 1.0]
        seen = np.where(true <= 2.3, true, -2.3)
        held.append(statistics.paired_steps(arrivals(a=seen[:, 0], b=seen[:, 1]), "a", "b").interval.low <= truth)
    assert np.mean(held) > 0.97


# Multiple comparisons.


def test_holms_correction_worked_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, and the last may not fall: 0.06.
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert statistics.holm([0.04]).tolist() == [0.04]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_adjusted_p_values_keep_the_order_and_lie_between_p_and_bonferroni(p, random):
    found, p = statistics.holm(p), np.array(p)
    assert (p <= found).all() and (found <= np.minimum(1, len(p) * p)).all()
    assert (np.diff(found[np.argsort(p)]) >= 0).all()
    order = random.sample(range(len(p)), len(p))
    assert statistics.holm(p[order]).tolist() == found[order].tolist()


# Bad arguments.

CURVE = pd.DataFrame({"arm": ["a"], "seed": [0], "step": [1], "ap": [0.5]})
STEPS = arrivals(a=[1, 2], b=[3, 4])


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: statistics.interval([]), r"values must be a flat list of at least one number, got \[\]"),
        (lambda: statistics.interval([[1.0]]), "values must be"),
        (lambda: statistics.interval([1.0], 1.0), r"confidence must be in \(0, 1\), got 1.0"),
        (lambda: statistics.interval([NAN], 0.0), "confidence"),
        (lambda: statistics.paired(runs(a=[1.0], b=[1.0]), "error", "a", "b"), "columns .*'error'"),
        (lambda: statistics.contrast(STEPS, "steps", {"a": 1, "c": -1}), "each seed of 'c' once"),
        (lambda: statistics.contrast(STEPS, "ap", {"a": 1}), "columns .*'ap'"),
        (lambda: statistics.contrast(STEPS, "steps", {"a": 1}, censored_at="most"), "columns .*'most'"),
        (lambda: statistics.contrast(STEPS[:3], "steps", {"a": 1, "b": -1}), "'b' must have every seed"),
        (lambda: statistics.contrast(STEPS, "steps", {"a": 1}, paired=False, confidence=1.0), "confidence"),
        (lambda: statistics.contrast(STEPS.assign(seed=0), "steps", {"a": 1}, paired=False), "each seed of 'a' once"),
        (lambda: statistics.smallest(STEPS, "steps", []), "contrasts must hold at least one"),
        (lambda: statistics.slope_weights({"a": 1, "b": 1}), "x must hold two different finite numbers"),
        (lambda: statistics.slope_weights({"a": 1, "b": NAN}), "x must hold two different finite numbers"),
        (lambda: statistics.slope_weights({}), "x must be"),
        (lambda: statistics.steps_to(CURVE, NAN), "threshold must be a number, got nan"),
        (lambda: statistics.steps_to(CURVE, 0.5, "f1"), "curves must have .*'f1'"),
        (lambda: statistics.steps_to(CURVE[:0], 0.5), "got 0 rows"),
        (lambda: statistics.median_steps(STEPS, "c"), "table must have each seed of 'c' once"),
        (lambda: statistics.median_steps(STEPS, "a", 2.0), "confidence"),
        (lambda: statistics.median_steps(CURVE, "a"), "table must have .*'steps', 'reached'"),
        (lambda: statistics.median_steps(STEPS.assign(steps=NAN), "a"), "finite steps"),
        (lambda: statistics.median_steps(STEPS.assign(reached="yes"), "a"), "bools in reached"),
        (lambda: statistics.paired_steps(STEPS[:3], "a", "b"), "'b' must have every seed"),
        (lambda: statistics.holm([]), "p_values must be"),
        (lambda: statistics.holm([0.5, NAN]), r"p_values must be in \[0, 1\]"),
        (lambda: statistics.holm([0.5, 1.1]), r"p_values must be in \[0, 1\]"),
    ],
)
@pytest.mark.bad_input
def test_what_cannot_be_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
