"""Binary cross entropy."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from falloff import losses


@given(st.floats(-5, 5), st.floats(0, 1))
def test_a_weight_of_one_changes_nothing(x, y):
    logits, labels = torch.tensor([x], dtype=torch.float64), torch.tensor([y], dtype=torch.float64)
    assert torch.equal(losses.weighted_bce(logits, labels, positive_weight=1.0), losses.bce(logits, labels))


def test_bce_takes_bool_labels():
    labels = torch.tensor([True, False])
    assert torch.equal(
        losses.bce(torch.tensor([1.0, 2.0]), labels), losses.bce(torch.tensor([1.0, 2.0]), labels.float())
    )
