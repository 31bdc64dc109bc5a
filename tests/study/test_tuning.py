"""Worked by hand: axes, trials, the rule for edges, and what is chosen by which rows."""

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import qmc

from falloff.run import Run
from falloff.study import tuning
from falloff.study.tuning import SPACES, Axis, Choice

RATE, GAMMA = Axis("learning_rate", 1e-3, 1e-1), SPACES["focal"][-1]


# Axes.


@pytest.mark.parametrize(
    ("axis", "share", "value"),
    [
        (RATE, 0.0, 1e-3), (RATE, 0.5, 1e-2), (RATE, 1.0, 1e-1), (RATE, 0.25, 3.162e-3),  # 10 ** -2.5
        (GAMMA, 0.0, 0.0), (GAMMA, 0.25, 1.0), (GAMMA, 1.0, 4.0), (GAMMA, 1 / 3, 1.333),
        (Axis("beta", 1.0, 8.0), 2 / 3, 4.0),
    ],
)
def test_a_share_of_an_axis_is_a_value_to_four_digits_and_the_other_way_round(axis, share, value):
    assert axis.at(share) == value
    assert axis.where(value) == pytest.approx(share, abs=1e-4)


def test_an_axis_moves_by_a_share_of_its_length():
    up, down = RATE.shifted(0.5), RATE.shifted(-0.5)
    assert (up.low, up.high) == pytest.approx((1e-2, 1.0)) and (down.low, down.high) == pytest.approx((1e-4, 1e-2))
    assert (up.name, up.log) == (RATE.name, True)
    assert (GAMMA.shifted(0.5).low, GAMMA.shifted(0.5).high) == (2.0, 6.0)


def test_an_axis_does_not_move_beyond_its_least_value():
    assert GAMMA.least == 0.0 and GAMMA.shifted(-0.5) == GAMMA
    raised = dataclasses.replace(GAMMA, low=2.0, high=6.0)
    assert raised.shifted(-0.5) == GAMMA and raised.shifted(-0.6) == raised


@pytest.mark.parametrize("loss", SPACES)
def test_every_value_that_any_trial_may_have_can_be_run(loss):
    spaces = [tuple(axis.shifted(by) for axis in SPACES[loss]) for by in (-0.5, 0.0, 0.5)]
    for space, share in itertools.product(spaces, (0.0, 0.5, 1.0)):
        values = {axis.name: axis.at(share) for axis in space}
        run = tuning.of(Run(), loss, values)
        row = run.describe()
        assert (run.loss, run.seed) == (loss, tuning.TRIAL_SEED)
        assert {axis.name: tuning.value(row, axis) for axis in space} == values


# Trials.


@pytest.mark.parametrize("count", [4, 32])
def test_all_losses_share_the_points_of_one_scrambled_sobol_sequence(count):
    points = qmc.Sobol(4, scramble=True, rng=tuning.SEED).random_base2(int(math.log2(count)))
    for space in SPACES.values():
        found = np.array([[axis.where(values[axis.name]) for axis in space]
                          for values in tuning.trials(space, count)])
        assert found == pytest.approx(points[:, :len(space)], abs=1e-3)  # values have four digits


def test_each_half_of_the_trials_is_spread_over_every_axis():
    shares = np.array([RATE.where(values["learning_rate"]) for values in tuning.trials((RATE,), 32)])
    for half in (shares[:16], shares[16:]):
        assert sorted((half * 16).astype(int)) == list(range(16))  # one in each sixteenth


def test_a_second_block_is_the_rest_of_the_same_sequence_on_the_moved_axis():
    all_of_it = tuning.trials((RATE,), 32)
    moved = tuning.trials((RATE.shifted(0.5),), 32)
    assert [one["learning_rate"] for one in moved] == pytest.approx(
        [10 * one["learning_rate"] for one in all_of_it], rel=1e-3)


# The rule for edges, and choices, on rows made by hand.

SPACE = SPACES["focal"]


def row(trial, ap, *, role="block 1", arm="focal", seed=1000, rate=1e-2, head=1e-2, gamma=2.0, **more):
    """A row of the tuning; AP at 1 px and mean PCK are the same, unless they are given."""
    run = tuning.of(Run(), arm, {"learning_rate": rate, "head_std": head, "gamma": gamma} if arm == "focal" else
                    {"learning_rate": rate, "head_std": head}, seed)
    values = {f"val_{criterion}": ap for criterion in tuning.CRITERIA} | more
    return run.describe() | {"arm": arm, "role": role, "trial": trial} | values


def table(*rows):
    return pd.DataFrame(rows)


def test_no_axis_moves_when_the_best_lies_well_inside_all():
    assert tuning.moved(SPACE, table(row(0, 0.5), row(1, 0.4, rate=0.1))) == SPACE


@pytest.mark.parametrize(
    ("best", "moves"),
    [
        ({"rate": 1e-3}, {"learning_rate": -0.5}), ({"rate": 0.1}, {"learning_rate": 0.5}),
        # An eighth of two decades is a quarter of one: 10 ** -2.75 = 1.778e-3.
        ({"rate": 1.77e-3}, {"learning_rate": -0.5}), ({"rate": 1.79e-3}, {}),
        ({"rate": 5.65e-2}, {"learning_rate": 0.5}), ({"rate": 5.6e-2}, {}),
        ({"gamma": 3.51}, {"gamma": 0.5}), ({"gamma": 3.49}, {}),
        ({"gamma": 0.1}, {}),  # below 0 it may not go
        ({"rate": 0.1, "head": 1e-3}, {"learning_rate": 0.5, "head_std": -0.5}),
    ],
)
def test_an_axis_moves_when_the_best_lies_in_its_outer_eighth(best, moves):
    found = tuning.moved(SPACE, table(row(0, 0.4), row(1, 0.5, **best), row(2, 0.3, rate=1e-3, gamma=4.0)))
    assert found == tuple(axis.shifted(moves[axis.name]) if axis.name in moves else axis for axis in SPACE)


def test_a_score_is_the_mean_over_seeds_and_a_run_that_failed_counts_nothing():
    rows = table(row(7, 0.9, seed=1), row(7, math.nan, seed=2), row(3, 0.5, seed=1), row(3, 0.5, seed=2),
                 row(9, math.nan, seed=1), row(9, math.nan, seed=2))
    assert tuning.score(rows).to_dict() == {3: 0.5, 7: 0.45, 9: 0.0}
    assert tuning.score(rows).index.tolist() == [3, 7, 9]


def test_of_equal_trials_the_first_is_the_better():
    assert tuning.score(table(row(2, 0.5), row(1, 0.5), row(3, 0.5))).index.tolist() == [1, 2, 3]


def test_finalists_are_the_best_by_any_criterion():
    rows = table(row(0, 0.9), row(1, 0.8), row(2, 0.1, val_ap_1=1.0), row(3, 0.2, val_pck_mean=1.0), row(4, 0.7))
    assert tuning.finalists(rows, 1) == [0, 2, 3]
    assert tuning.finalists(rows, 2) == [0, 1, 2, 3]


# Trial 4 is the best of its block and does not hold; 1 is the best again, but for 1 px.
TUNED = table(
    *(row(trial, ap, rate=rate) for trial, ap, rate in ((0, 0.1, 0.03), (1, 0.80, 0.02), (2, 0.2, 0.03))),
    *(row(trial, ap, role="block 2", rate=rate) for trial, ap, rate in ((3, 0.7, 0.03), (4, 0.95, 0.04), (5, 0.3, 0.03))
      ),
    *(row(trial, ap, role="again, 250 steps", seed=seed, rate=rate, **more)
      for trial, rate, aps, more in ((1, 0.02, (0.8, 0.9), {}), (4, 0.04, (0.7, 0.8), {"val_ap_1": 0.99}),
                                     (5, 0.03, (1.0, 1.0), {}))
      for seed, ap in zip((2000, 2001), aps, strict=True)),
    *(row(trial, ap, role="again, 1000 steps", seed=2000, rate=rate) for trial, ap, rate in ((1, 0.8, 0.02),
                                                                                          (4, 0.9, 0.04))),
    *(row(trial, ap, arm="mse", rate=0.05) for trial, ap in ((1, 0.99), (4, 0.1))),
)


def test_the_choice_is_the_best_by_fresh_seeds_among_the_best_trials():
    assert tuning.chosen(TUNED, "focal", 250, count=2) == Choice(
        1, {"learning_rate": 0.02, "head_std": 0.01, "gamma": 2.0}, ())
    assert tuning.chosen(TUNED, "focal", 250, count=1).trial == 4  # which was alone among the finalists
    assert tuning.chosen(TUNED, "focal", 250, count=6).trial == 5


def test_a_choice_is_made_anew_at_another_length_and_by_another_criterion():
    assert tuning.chosen(TUNED, "focal", 1000, count=2).trial == 4
    assert tuning.chosen(TUNED, "focal", 250, "ap_1", count=2).trial == 4


def test_the_winner_of_a_half_is_the_best_of_every_other_trial():
    assert [tuning.winner(TUNED, "focal", half).trial for half in (0, 1)] == [4, 1]
    assert tuning.winner(TUNED, "focal", 0) == Choice(4, {"learning_rate": 0.04, "head_std": 0.01, "gamma": 2.0}, ())


def test_a_choice_says_at_which_edges_of_all_that_was_searched_it_lies():
    # The first block's best has the highest rate, so that the second goes from 0.01 to 1.
    first = (row(0, 0.5, rate=0.1), row(1, 0.4))
    for rate, gamma, edges in ((0.1, 2.0, ()), (0.9, 2.0, ("learning_rate",)), (0.9, 0.1, ("learning_rate", "gamma"))):
        rows = table(*first, row(2, 0.9, role="block 2", rate=rate, gamma=gamma))
        assert tuning.winner(rows, "focal", 0).at_edge == edges
    assert [axis.high for axis in tuning.searched(rows, "focal")] == pytest.approx([1.0, 0.1, 4.0])
    assert [axis.low for axis in tuning.searched(rows, "focal")] == pytest.approx([1e-3, 1e-3, 0.0])
