"""Losses whose background counts by its distance from the nearest point."""

import math
from decimal import Decimal

import pytest
import torch
from equations import law_2018
from family import SIZE
from hypothesis import given
from hypothesis import strategies as st
from scenes import one

from falloff import losses
from falloff.points import Points


def test_the_whole_of_law_2018_on_a_small_map():
    logits = torch.linspace(-3, 3, 30).view(1, 1, 5, 6)
    places = [(1.0, 1.0), (4.0, 3.0)]
    total = Decimal(0)
    for row in range(5):
        for column in range(6):
            squares = min((column - x) ** 2 + (row - y) ** 2 for x, y in places)
            y = (-Decimal(squares) / (2 * Decimal("1.5") ** 2)).exp()
            total += law_2018(Decimal(float(logits[0, 0, row, column])), squares == 0, y)
    points = Points.from_lists([(places, [0, 0])])
    assert float(losses.make("distance-aware", sigma=1.5)(logits, points)) == pytest.approx(
        float(total / 2), rel=1e-6
    )


@given(st.floats(-30, 30), st.floats(0, 1), st.booleans(), st.sampled_from([0.0, 0.5, 2.0, 3.0]))
def test_distance_aware_at_beta_0_is_focal_with_hard_labels(x, y, positive, exponent):
    logits, heat = torch.tensor([x], dtype=torch.float64), torch.tensor([y], dtype=torch.float64)
    hard = torch.tensor([positive])
    value = losses.distance_aware(logits, hard, heat, alpha=exponent, beta=0.0)
    assert torch.allclose(value, losses.focal(logits, hard, gamma=exponent), rtol=1e-12)


def test_distance_aware_leaves_positives_and_far_background_as_focal_has_them_and_spares_the_neighbours():
    torch.manual_seed(0)
    logits, points = torch.randn(1, 1, 24, 24), one(5.0, 5.0)
    ours = losses.make("distance-aware", sigma=1.0).elementwise(logits, points)[0, 0]
    focal = losses.make("focal").elementwise(logits, points)[0, 0]
    assert float(ours[5, 5]) == pytest.approx(float(focal[5, 5]))
    assert torch.allclose(ours[12:, 12:], focal[12:, 12:])
    # exp(-1/2) at one pixel's distance leaves (1 - 0.6065)^4 = 2.4 %.
    assert float(ours[5, 6] / focal[5, 6]) == pytest.approx((1 - math.exp(-0.5)) ** 4, rel=1e-5)


@given(st.floats(-20, 20), st.floats(0.0, 0.99))
def test_distance_aware_takes_the_heatmap_for_a_weight_and_never_for_a_target(x, y):
    logit = torch.tensor([x], dtype=torch.float64, requires_grad=True)
    heat = torch.tensor([y], dtype=torch.float64)
    (up,) = torch.autograd.grad(losses.distance_aware(logit, torch.tensor([True]), heat).sum(), logit)
    (down,) = torch.autograd.grad(losses.distance_aware(logit, torch.tensor([False]), heat).sum(), logit)
    assert float(up) < 0 < float(down)


def test_a_distance_map_of_little_reach_is_cross_entropy():
    torch.manual_seed(0)
    logits, points = torch.randn(1, 2, *SIZE), Points.from_lists([([[1.0, 2.0], [7.0, 5.0]], [0, 1])])
    near = losses.make("distance-map-bce", reach=1e-3)(logits, points)
    assert float(near) == pytest.approx(float(losses.make("bce")(logits, points)), rel=1e-6)


def test_the_distance_map_weighs_by_the_distance_to_the_nearest_point_of_the_class():
    logits, places = torch.zeros(1, 1, 9, 12), [(2.3, 3.0), (9.0, 7.4)]
    points = Points.from_lists([(places, [0, 0])])
    found = losses.make("distance-map-bce", reach=4.0, normalizer=1).elementwise(logits, points)[0, 0] / math.log(2)
    for row in range(9):
        for column in range(12):
            near = min(math.hypot(column - x, row - y) for x, y in places)
            wanted = 1.0 if (column, row) in ((2, 3), (9, 7)) else min(near / 4, 1.0)
            assert float(found[row, column]) == pytest.approx(wanted, abs=1e-6)
