"""Focal loss."""

import math

import pytest
import torch
from equations import best, sigmoid
from hypothesis import given
from hypothesis import strategies as st

from falloff import losses


def test_published_numbers_of_focal_loss():
    # Lin et al. 2017, section 3.2: at gamma 2, p_t = 0.9 pays 100 times less than under CE, 0.968 1000.
    for p, ratio in ((0.9, 100), (0.968, 1000)):
        x, label = torch.tensor([math.log(p / (1 - p))]), torch.ones(1)
        assert float(losses.bce(x, label) / losses.focal(x, label, gamma=2.0)) == pytest.approx(
            ratio, rel=0.03
        )


@given(st.floats(-30, 30), st.floats(0, 1))
def test_focal_at_gamma_0_is_cross_entropy(x, y):
    logits, labels = torch.tensor([x], dtype=torch.float64), torch.tensor([y], dtype=torch.float64)
    exact = losses.bce(logits, labels)
    assert torch.allclose(losses.focal(logits, labels, gamma=0.0), exact, rtol=1e-12)
    assert torch.allclose(2 * losses.focal(logits, labels, gamma=0.0, alpha=0.5), exact, rtol=1e-12)
    assert torch.allclose(losses.weighted_bce(logits, labels, positive_weight=1.0), exact, rtol=1e-12)


@pytest.mark.parametrize(("y", "p"), [(0.3, 0.422), (0.9, 0.694), (0.5, 0.5)])
def test_focal_loss_draws_probabilities_to_the_middle(y, p):
    # 0.422 and 0.694 were measured of kornia's binary focal loss, which has the same form.
    assert sigmoid(best(losses.focal, y)) == pytest.approx(p, abs=1e-3)
