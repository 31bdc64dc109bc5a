"""Focal losses for soft targets."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from falloff import losses


@given(st.floats(-30, 30), st.floats(0, 1))
def test_quality_focal_at_beta_0_is_cross_entropy(x, y):
    logits, labels = torch.tensor([x], dtype=torch.float64), torch.tensor([y], dtype=torch.float64)
    assert torch.allclose(losses.quality_focal(logits, labels, beta=0.0), losses.bce(logits, labels), rtol=1e-12)


@given(st.floats(-30, 30), st.booleans(), st.sampled_from([0.5, 1.0, 2.0]))
def test_quality_focal_with_hard_labels_is_focal(x, label, beta):
    logits, hard = torch.tensor([x], dtype=torch.float64), torch.tensor([label])
    ours = losses.quality_focal(logits, hard, beta=beta)
    assert torch.allclose(ours, losses.focal(logits, hard, gamma=beta), rtol=1e-9)


@given(st.floats(-30, 30), st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 2.0]))
def test_varifocal_with_hard_labels_is_focal_on_background_and_cross_entropy_on_points(x, y, gamma):
    logits, labels = torch.tensor([x], dtype=torch.float64), torch.tensor([y], dtype=torch.float64)
    other = losses.bce(logits, labels) if y else losses.focal(logits, labels, gamma=gamma)
    assert torch.allclose(losses.varifocal(logits, labels, alpha=1.0, gamma=gamma), other, rtol=1e-12)
