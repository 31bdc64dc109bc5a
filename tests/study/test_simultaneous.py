import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from falloff.study import evidence, simultaneous
from falloff.study.evidence import Evidence
from falloff.study.statistics import contrast, interval

pytestmark = pytest.mark.filterwarnings("error")  # what is degenerate has an answer of its own


@pytest.fixture
def few(monkeypatch):
    """So few draws that many studies can be simulated."""
    monkeypatch.setattr(simultaneous, "DRAWS", 4000)


def of(pictures=False, **arms):
    """The means of arms, each of (seeds,) runs or of (seeds, pictures)."""
    rows = [(arm, seed, np.mean(row)) for arm, of in arms.items() for seed, row in enumerate(of)]
    table = pd.DataFrame(rows, columns=["arm", "seed", "ap"])
    on_each = {"ap": np.concatenate(list(arms.values()))} if pictures else {}
    return evidence.means(Evidence(table, on_each), "ap", list(arms), pictures=pictures)


def against(first, *others):
    return [{other: 1.0, first: -1.0} for other in others]


def test_of_one_contrast_the_interval_is_the_ordinary_one():
    arms = {"a": [1.0, 2.0, 4.0, 3.0, 2.5], "b": [0.0, 0.5, 1.5, 1.0, 0.5]}
    [found] = simultaneous.max_t(of(**arms), [{"a": 1}])
    wanted = interval(arms["a"])
    assert (found.interval.mean, found.interval.low) == pytest.approx((wanted.mean, wanted.low), abs=0.03)
    table = pd.DataFrame([(arm, seed, x) for arm, values in arms.items() for seed, x in enumerate(values)],
                         columns=["arm", "seed", "ap"])
    [found] = simultaneous.max_t(of(**arms), [{"a": 1, "b": -1}])
    welch = contrast(table, "ap", {"a": 1, "b": -1}, paired=False)
    assert (found.interval.low, found.interval.high) == pytest.approx((welch.low, welch.high), abs=0.05)
    p = stats.ttest_ind(arms["a"], arms["b"], equal_var=False).pvalue
    assert found.p == pytest.approx(p, abs=0.005)


def test_of_independent_means_with_many_seeds_it_is_sidak():
    # Three means that share nothing, so 1 - 0.95^(1/3) for each; with 200 seeds t is nearly normal.
    rng = np.random.default_rng(0)
    arms = {name: rng.normal(0, 1, 200) for name in "abc"}
    found = simultaneous.max_t(of(**arms), [{name: 1} for name in "abc"])
    quantile = stats.t.ppf(0.5 + 0.95 ** (1 / 3) / 2, 199)
    for one, values in zip(found, arms.values(), strict=True):
        half = quantile * values.std(ddof=1) / math.sqrt(200)
        assert one.interval.high - one.interval.mean == pytest.approx(half, rel=0.02)


def test_p_says_what_the_interval_says_and_draws_are_the_same_each_time():
    rng = np.random.default_rng(3)
    means = of(**{name: rng.normal(at, 1, 8) for name, at in zip("abcd", (0, 0, 1.5, 3), strict=True)})
    found = simultaneous.max_t(means, against("a", *"bcd"))
    assert [one.p < 0.05 for one in found] == [not one.interval.low <= 0 <= one.interval.high for one in found]
    assert found == simultaneous.max_t(means, against("a", *"bcd"))


@pytest.mark.parametrize(("seeds", "spread"), [(20, [3, 1, 1, 1, 1, 1]), (8, [1, 1, 1, 1, 1, 4])])
def test_all_intervals_hold_together_whatever_the_spread_of_arms(few, seeds, spread):
    rng, held = np.random.default_rng(seeds), []
    names = [f"a{number}" for number in range(len(spread))]
    for _ in range(250):
        arms = {name: rng.normal(0, by, seeds) for name, by in zip(names, spread, strict=True)}
        found = simultaneous.max_t(of(**arms), against(*names))
        held.append(all(one.interval.low <= 0 <= one.interval.high for one in found))
    assert 0.92 <= np.mean(held) <= 0.985


def test_all_intervals_hold_together_for_new_seeds_and_pictures(few):
    rng, held, names = np.random.default_rng(5), [], [f"a{number}" for number in range(5)]
    for _ in range(200):
        common = rng.normal(0, 0.2, 60)
        arms = {name: common + rng.normal(0, 0.05, 60) + rng.normal(0, 0.01, (10, 1)) + rng.normal(0, 0.15, (10, 60))
                for name in names}
        found = [simultaneous.max_t(of(new, **arms), against(*names)) for new in (True, False)]
        held.append([all(one.interval.low <= 0 <= one.interval.high for one in some) for some in found])
    covered, over_seeds = np.mean(held, axis=0)
    assert covered >= 0.92 and over_seeds < 0.9


def test_an_undefined_run_leaves_its_contrast_undefined_and_the_others_as_without_it():
    arms = {"a": [1.0, 2.0, 1.5], "c": [0.0, 1.0, 0.2], "d": [0.0, 1.0, 0.5]}
    undefined, *rest = simultaneous.max_t(of(b=[math.nan, 1.0, 0.0], **arms), against("a", "b", "c", "d"))
    assert math.isnan(undefined.interval.mean) and math.isnan(undefined.interval.low) and math.isnan(undefined.p)
    assert rest == simultaneous.max_t(of(**arms), against("a", "c", "d"))
    [alone] = simultaneous.max_t(of(a=[1.0], b=[0.5]), against("a", "b"))
    assert str(alone.interval) == "-0.500 (one seed)"


def test_what_does_not_vary_has_no_width():
    [found] = simultaneous.max_t(of(a=[1.0, 1.0], b=[2.0, 2.0]), [{"b": 1, "a": -1}])
    assert (found.interval.low, found.interval.high) == (1.0, 1.0) and found.p < 1e-3


# The best.


def test_the_best_of_two_worked_by_hand():
    # With 200 seeds one-sided t is nearly normal: 1.6525 of 199 degrees. Arms apart by 2 standard errors of that kind.
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, 200)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    for apart, low in ((0.3, 0.0), (0.1, 0.1 - 1.649 * math.sqrt(2 / 200))):
        found = simultaneous.best_set(of(a=noise + apart, b=noise))
        half = 1.649 * math.sqrt(2 / 200)
        assert (found["a"].mean, found["a"].high) == pytest.approx((apart, apart + half), abs=0.004)
        assert found["a"].low == pytest.approx(low, abs=0.004)
        assert found["b"].high == pytest.approx(max(0, -apart + half), abs=0.004)
        assert found["b"].mean == pytest.approx(-apart)


def test_the_set_of_the_best_is_the_same_where_low_is_better():
    rng = np.random.default_rng(1)
    arms = {name: rng.normal(at, 1, 10) for name, at in zip("abc", (0, 1, 3), strict=True)}
    high = simultaneous.best_set(of(**arms))
    low = simultaneous.best_set(of(**{name: -values for name, values in arms.items()}), better="low")
    for name, one in high.items():
        assert (low[name].mean, low[name].low, low[name].high) == pytest.approx((one.mean, one.low, one.high), abs=0.03)


@pytest.mark.parametrize("truth", [(0.0, 0.0, 0.0, -1.0), (0.0, -0.5, -1.0, -3.0)])
def test_the_set_of_the_best_holds_what_is_best_and_its_intervals_hold_together(few, truth):
    rng, held, names = np.random.default_rng(7), [], "abcd"
    gap = {name: at - max(other for place, other in enumerate(truth) if place != number)
           for number, (name, at) in enumerate(zip(names, truth, strict=True))}
    for _ in range(200):
        found = simultaneous.best_set(of(**{name: rng.normal(at, 1, 8) for name, at in
                                            zip(names, truth, strict=True)}))
        held.append(all(found[name].low <= gap[name] <= found[name].high for name in names))
    assert np.mean(held) >= 0.92


# Lines.


def test_departures_from_a_line_worked_by_hand():
    # 0, 1, 5 at 0, 1, 2: the line is -0.5 + 2.5 x, so the means lie 0.5, -1 and 0.5 off.
    weights = simultaneous.departures({"a": 0, "b": 1, "c": 2})
    means = {"a": 0.0, "b": 1.0, "c": 5.0}
    off = {arm: sum(w * means[other] for other, w in mine.items()) for arm, mine in weights.items()}
    assert off == pytest.approx({"a": 0.5, "b": -1.0, "c": 0.5})
    with pytest.raises(ValueError, match="three arms or more"):
        simultaneous.departures({"a": 0, "b": 1})


def test_a_bend_is_found_and_a_line_is_none():
    rng = np.random.default_rng(2)
    x = {"a": 0.0, "b": 1.0, "c": 2.0, "d": 3.0}
    for bend, found in ((0.0, False), (1.0, True)):
        means = of(**{arm: 2 * at + bend * (at - 1.5) ** 2 + rng.normal(0, 0.3, 10) for arm, at in x.items()})
        off = simultaneous.max_t(means, list(simultaneous.departures(x).values()))
        assert (min(one.p for one in off) < 0.05) == found
