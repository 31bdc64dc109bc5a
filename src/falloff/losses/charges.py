"""What each loss charges a pixel, and the slope of that charge: the one definition behind every form of a loss.

A charge takes logits ``x`` and constants that broadcast, and returns ``(value, d value / d x)``. The slopes are written
out because they come almost free with the value, keep one map where autograd would keep seven, and stay finite where
autograd's chain of powers does not (a slope of ``p ** gamma`` is infinite at p = 0 when gamma < 1).

Throughout, p = sigmoid(x), and softplus(x) = -log(1 - p) is what cross entropy charges label 0.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

Charge = tuple[Tensor, Tensor]


def cross_entropy(x: Tensor, y: Tensor | float, positive_weight: float) -> Charge:
    """-w y log p - (1 - y) log(1 - p), for y in [0, 1]."""
    p = torch.sigmoid(x)
    if isinstance(y, float) and y == 0.0:
        return _softplus(x), p
    if positive_weight == 1.0:
        # relu(x) - y x is exact for y = 0 and y = 1, so a small loss keeps its digits.
        return torch.relu(x) - y * x + _softplus(-x.abs()), p - y
    value = positive_weight * y * _softplus(-x) + (1 - y) * _softplus(x)
    return value, (1 - y) * p - positive_weight * y * torch.sigmoid(-x)


def focal(x: Tensor, y: Tensor | float, gamma: float, weight_1: float, weight_0: float) -> Charge:
    """-w1 y (1 - p)^g log p - w0 (1 - y) p^g log(1 - p): label 1 at x pays what label 0 pays at -x."""
    negative, slope_0 = _focused(x, gamma)
    if isinstance(y, float) and y == 0.0:
        return (negative, slope_0) if weight_0 == 1.0 else (weight_0 * negative, weight_0 * slope_0)
    positive, slope_1 = _focused(-x, gamma)
    one, zero = weight_1 * y, weight_0 * (1 - y)
    return one * positive + zero * negative, zero * slope_0 - one * slope_1


def distance_aware(x: Tensor, y: Tensor | float, positive: Tensor | bool, alpha: float, beta: float) -> Charge:
    """Focal at positives; elsewhere (1 - y)^b times focal's charge of label 0."""
    if isinstance(positive, bool) and not positive:
        value, slope = _focused(x, alpha)
        if isinstance(y, float) and y == 0.0:
            return value, slope
        spared = (1 - y) ** beta
        return spared * value, spared * slope
    value, slope = _focused(torch.where(positive, -x, x), alpha)
    spared = torch.where(positive, 1.0, (1 - y) ** beta)
    return spared * value, torch.where(positive, -1.0, spared) * slope


def squared(z: Tensor, y: Tensor | float, scale: float, positive_weight: float) -> Charge:
    """(1 + w y) (z - s y)^2 of a raw output z."""
    error = z - scale * y
    weight = 1 + positive_weight * y
    return weight * error.square(), 2 * weight * error


def _focused(x: Tensor, gamma: float) -> Charge:
    """p^g softplus(x), and its slope p^g (g (1 - p) softplus(x) + p)."""
    p, s = torch.sigmoid(x), _softplus(x)
    if gamma == 0:
        return s, p
    power = p.square() if gamma == 2 else p.pow(gamma)
    # sigmoid(-x) and not 1 - p, which rounds to 0 long before (1 - p) softplus(x) does.
    return power * s, power * torch.addcmul(p, torch.sigmoid(-x), s, value=gamma)


def _softplus(x: Tensor) -> Tensor:
    return softplus(x, threshold=40.0)  # beyond 40 softplus(x) is x in every dtype; the default stops at 20
