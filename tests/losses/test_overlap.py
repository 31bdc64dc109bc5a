"""Tversky and Dice."""

import torch

from falloff import losses


def test_tversky_at_a_half_is_dice_and_dice_is_the_usual_overlap():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 2, 5, 5).double(), torch.rand(3, 2, 5, 5).double()
    ours = losses.dice(logits, labels, smooth=1e-12)
    assert torch.allclose(ours, losses.tversky(logits, labels, alpha=0.5, beta=0.5, smooth=1e-12), rtol=1e-12)
    p = torch.sigmoid(logits)
    usual = 1 - 2 * (p * labels).sum((1, 2, 3)) / (p.sum((1, 2, 3)) + labels.sum((1, 2, 3)))
    assert torch.allclose(ours, usual, rtol=1e-9)


def test_overlap_losses_of_a_soft_target_are_smallest_at_zero_or_one_never_at_the_target():
    labels = torch.tensor([[0.9, 0.6, 0.3, 0.1]], dtype=torch.float64)
    logits = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(400):
        optimizer.zero_grad()
        losses.dice(logits, labels, smooth=0.01).sum().backward()
        optimizer.step()
    p = torch.sigmoid(logits.detach())[0]
    assert p[0] > 0.99 and p[1] > 0.99 and p[3] < 0.01
