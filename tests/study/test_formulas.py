import math
from pathlib import Path

import pytest

from falloff.study import formulas

PROJECT = Path(__file__).parents[2]


def test_bce_charges_background_the_same_near_a_point_and_far_from_it():
    assert formulas.charge_ratio() == 1.0
    assert formulas.charge_ratio(away=1, size=9) == 1.0


@pytest.mark.parametrize(("beta", "sigma"), [(4.0, 1.5), (1.0, 1.5), (4.0, 3.0), (2.0, 0.7)])
def test_nearness_lowers_the_charge_by_the_factor_of_the_paper(beta, sigma):
    # Law and Deng 2018, equation 1: (1 - y)^beta, with y of the Gaussian one pixel away.
    factor = (1 - math.exp(-1 / (2 * sigma**2))) ** beta
    assert formulas.near(beta=beta, sigma=sigma) == pytest.approx(factor, rel=1e-6)


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.0])
def test_labelled_pixels_are_charged_as_by_focal_loss(alpha):
    assert formulas.at_label(alpha=alpha) == 0.0


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_far_background_is_charged_as_by_focal_loss_but_for_the_tail_of_the_gaussian(beta):
    assert 0 <= formulas.far(beta=beta) <= 1 - (1 - math.exp(-18)) ** beta + 1e-12
