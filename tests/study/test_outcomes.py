import itertools
import math

import numpy as np
import pytest
from run_tables import arrivals, runs
from scipy import stats

from falloff.study import outcomes
from falloff.study.statistics import Interval, contrast, interval

pytestmark = pytest.mark.filterwarnings("error")  # what is degenerate has an answer of its own



# Trimmed means.


def test_a_trimmed_difference_worked_by_hand():
    # Of five runs one goes at either end. Winsorised, a is 2, 2, 3, 4, 4: squares 4 around 3. Yuen's variance of the
    # mean is (n - 1) s^2 / (h (h - 1)) = 4 / 6 for a, and for b, 0 everywhere, 0: t of h - 1 = 2 degrees.
    found = outcomes.trimmed(runs(a=[1.0, 2.0, 3.0, 4.0, 90.0], b=[0.0] * 5), "ap", "a", "b")
    half = 4.302653 * math.sqrt(4 / 6)
    assert (found.mean, found.low, found.high) == pytest.approx((3, 3 - half, 3 + half), rel=1e-6)
    assert found.count == 5


def test_without_trimming_it_is_the_difference_of_means():
    table = runs(a=[1.0, 2.0, 4.0, 3.0], b=[0.0, 0.5, 1.5, 0.5])
    found, wanted = outcomes.trimmed(table, "ap", "a", "b", trim=0), contrast(table, "ap", {"a": 1, "b": -1},
                                                                              paired=False)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_collapsed_runs_leave_a_trimmed_mean_its_interval_and_take_it_from_a_plain_one():
    rng, held = np.random.default_rng(0), []
    for _ in range(300):
        a, b = rng.normal(0.9, 0.01, (2, 20))
        a[rng.random(20) < 0.05] = 0.1
        table = runs(a=a, b=b)
        trimmed, plain = (outcomes.trimmed(table, "ap", "a", "b", trim=trim) for trim in (0.2, 0.0))
        held.append([trimmed.low <= 0 <= trimmed.high, plain.low <= -0.04 <= plain.high])
    trimmed, plain = np.mean(held, axis=0)
    assert 0.92 <= trimmed <= 0.98 and plain < 0.75


def test_what_is_degenerate_or_undefined_has_an_answer():
    same = outcomes.trimmed(runs(a=[1.0, 1.0, 1.0, 1.0, 9.0], b=[0.0] * 5), "ap", "a", "b")
    assert (same.mean, same.low, same.high) == (1.0, 1.0, 1.0)
    undefined = outcomes.trimmed(runs(a=[1.0, math.nan], b=[0.0, 1.0]), "ap", "a", "b")
    assert math.isnan(undefined.mean) and undefined.count == 2
    assert str(outcomes.trimmed(runs(a=[1.0], b=[0.5]), "ap", "a", "b")) == "0.500 (one seed)"
    with pytest.raises(ValueError, match=r"trim must be in \[0, 0.5\), got 0.5"):
        outcomes.trimmed(runs(a=[1.0], b=[0.5]), "ap", "a", "b", trim=0.5)


# Shares.


def test_an_exact_share_worked_by_hand():
    # None of 20: the upper end u has (1 - u)^20 = 0.025; two-sided at 90 %, 0.05: 0.139.
    none = outcomes.share(0, 20)
    assert (none.mean, none.low) == (0.0, 0.0) and none.high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert outcomes.share(0, 20, 0.9).high == pytest.approx(0.139, abs=5e-4)
    with pytest.raises(ValueError, match="hits must be from 0 to count, 3, got 4"):
        outcomes.share(4, 3)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_a_share_is_covered_at_least_as_often_as_said(share):
    hits = np.arange(21)
    chance = stats.binom.pmf(hits, 20, share)
    inside = [(found := outcomes.share(int(k), 20)).low <= share <= found.high for k in hits]
    assert (chance * inside).sum() >= 0.95


@pytest.mark.parametrize(("p", "q"), [(0.05, 0.05), (0.3, 0.05), (0.0, 0.2), (0.5, 0.8)])
def test_a_difference_of_shares_is_covered_at_least_as_often_as_said(p, q):
    each = [outcomes.share(k, 20) for k in range(21)]
    chance = np.outer(stats.binom.pmf(range(21), 20, p), stats.binom.pmf(range(21), 20, q))
    inside = [[(found := outcomes.share_difference(a, b)).low <= p - q <= found.high for b in each] for a in each]
    assert (chance * inside).sum() >= 0.95


# Steps.


def test_a_restricted_mean_counts_what_never_arrived_with_all_its_steps():
    mean, never = outcomes.restricted_mean(arrivals(a=[100, 150, -250, -250], b=[50, 50, 50, 50]), "a")
    wanted = interval([100, 150, 250, 250])
    assert (mean.mean, mean.low, mean.high) == (wanted.mean, wanted.low, wanted.high)
    assert never.mean == 0.5 and never.count == 4


def test_a_restricted_mean_needs_one_horizon():
    with pytest.raises(ValueError, match=r"same last step, 300, in each run of 'a' that did not arrive, got \[250\]"):
        outcomes.restricted_mean(arrivals(a=[100, 300, -250]), "a")


def test_a_restricted_mean_is_covered_with_many_runs_that_never_arrive():
    rng, held = np.random.default_rng(0), []
    times = rng.lognormal(5.4, 0.5, 1_000_000)
    truth = np.minimum(times, 250).mean()
    for _ in range(250):
        drawn = rng.choice(times, 20)
        table = arrivals(a=np.where(drawn < 250, drawn, -250.0))
        mean, _ = outcomes.restricted_mean(table, "a")
        held.append(mean.low <= truth <= mean.high)
    assert 0.91 <= np.mean(held) <= 0.98


# The best of several.


def test_the_expected_best_is_the_mean_over_all_subsets():
    scores = [0.3, 0.9, 0.5, 0.5, 0.1]
    found = outcomes.expected_best(scores, 5)
    assert found.tolist() == pytest.approx([np.mean([max(some) for some in itertools.combinations(scores, k)])
                                            for k in range(1, 6)])
    assert found[0] == pytest.approx(np.mean(scores)) and found[-1] == 0.9


def test_the_expected_best_is_unbiased():
    # Of k uniform values the best is k / (k + 1) on average.
    rng = np.random.default_rng(0)
    found = np.mean([outcomes.expected_best(rng.random(32)) for _ in range(2000)], axis=0)
    k = np.arange(1, 17)
    assert found == pytest.approx(k / (k + 1), abs=0.003)


@pytest.mark.parametrize(("scores", "most"), [([0.1, math.nan], 2), ([0.1], 2), ([], 1), ([0.1], 0)])
def test_scores_that_have_no_best_of_so_many_are_refused(scores, most):
    with pytest.raises(ValueError, match="must be"):
        outcomes.expected_best(scores, most)


# Spread.


def test_the_spread_of_means_is_that_without_noise():
    rng, found = np.random.default_rng(0), []
    for _ in range(250):
        truth = rng.normal(0, 0.02, 9)
        table = runs(**{f"a{place}": rng.normal(at, 0.03, 20) for place, at in enumerate(truth)})
        found.append(outcomes.spread_of_means(table, "ap", [f"a{place}" for place in range(9)]) ** 2)
    assert np.mean(found) == pytest.approx(0.02**2, rel=0.1)


def test_arms_that_are_alike_mostly_have_no_spread():
    table = runs(a=[0.1, 0.3], b=[0.3, 0.1])
    assert outcomes.spread_of_means(table, "ap", ["a", "b"]) == 0.0
    with pytest.raises(ValueError, match="arms must be two or more"):
        outcomes.spread_of_means(table, "ap", ["a"])


# Seeds.


@pytest.mark.parametrize("away", [0.05, -0.05])
def test_the_seeds_that_would_decide_are_the_first_whose_interval_leaves_it_out(away):
    values = np.random.default_rng(0).normal(0, 1, 8)
    values = 0.1 * (values - values.mean()) / values.std(ddof=1)
    needed = outcomes.seeds_to_decide(interval(values), away)
    half = {n: stats.t.ppf(0.975, n - 1) * 0.1 / math.sqrt(n) for n in (needed - 1, needed)}
    assert half[needed] < 0.05 <= half[needed - 1] and needed == 18


def test_where_pictures_leave_too_much_no_number_of_seeds_decides():
    effect = Interval(0.0, -0.2, 0.2, 20)
    assert outcomes.seeds_to_decide(effect, 0.1, of_seeds=0.5) == math.inf
    assert 40 < outcomes.seeds_to_decide(effect, 0.15, of_seeds=0.5) < math.inf
    assert outcomes.seeds_to_decide(effect, 0.0) == math.inf
    assert math.isnan(outcomes.seeds_to_decide(Interval(0.1, math.nan, math.nan, 1), 0.1))
