"""Squared error against the Gaussian heatmap."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from falloff import losses


@given(st.floats(-5, 5), st.floats(0, 1))
def test_a_weight_of_none_changes_nothing(z, y):
    output, heatmap = torch.tensor([z], dtype=torch.float64), torch.tensor([y], dtype=torch.float64)
    assert torch.equal(losses.weighted_mse(output, heatmap, positive_weight=0.0), losses.mse(output, heatmap))
