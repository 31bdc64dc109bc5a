"""What each loss charges a pixel, and the slope of that charge: the one definition behind every form of a loss.

A charge takes logits ``x`` and constants that broadcast, and returns ``(value, d value / d x)``. The slopes are written
out because they come almost free with the value, keep one map where autograd would keep seven, and stay finite where
autograd's chain of powers does not (a slope of ``p ** gamma`` is infinite at p = 0 when gamma < 1).

Throughout, p = sigmoid(x), q = 1 - p, and softplus(x) = -log(1 - p) is what cross entropy charges label 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

Charge = tuple[Tensor, Tensor]


def cross_entropy(x: Tensor, y: Tensor, positive_weight: float) -> Charge:
    """-w y log p - (1 - y) log(1 - p), for y in [0, 1]."""
    one, zero = positive_weight * y, 1 - y
    return one * _minus_log_p(x) + zero * _minus_log_q(x), zero * _p(x) - one * _q(x)


def focal(x: Tensor, y: Tensor, gamma: float, weight_1: float, weight_0: float) -> Charge:
    """-w1 y (1 - p)^g log p - w0 (1 - y) p^g log(1 - p)."""
    positive, slope_1 = _focused_1(x, gamma)
    negative, slope_0 = _focused_0(x, gamma)
    one, zero = weight_1 * y, weight_0 * (1 - y)
    return one * positive + zero * negative, one * slope_1 + zero * slope_0


def quality_focal(x: Tensor, y: Tensor, beta: float) -> Charge:
    """|y - p|^b (-y log p - (1 - y) log(1 - p))."""
    value, slope = cross_entropy(x, y, 1.0)  # its slope is p - y, exact at both ends
    if beta == 0:
        return value, slope
    gap = slope.abs()
    power = _power(gap, beta)
    # d|p - y|^b / dx = b |p - y|^(b - 1) sign(p - y) p q; where p = y it is 0 or, for b <= 1, undefined: 0 is taken.
    steeper = torch.where(gap > 0, power / torch.where(gap > 0, slope, 1.0), 0.0)
    return power * value, power * slope + beta * steeper * _p(x) * _q(x) * value


def varifocal(x: Tensor, y: Tensor, alpha: float, gamma: float) -> Charge:
    """y times cross entropy where y > 0, a p^g times it elsewhere."""
    value, slope = cross_entropy(x, y, 1.0)
    negative, negative_slope = _focused_0(x, gamma)
    labelled = y > 0
    return (torch.where(labelled, y * value, alpha * negative),
            torch.where(labelled, y * slope, alpha * negative_slope))


def distance_aware(x: Tensor, y: Tensor, positive: Tensor, alpha: float, beta: float) -> Charge:
    """Focal at positives; elsewhere (1 - y)^b times focal's charge of label 0."""
    value, slope = _focused_0(torch.where(positive, -x, x), alpha)
    spared = torch.where(positive, 1.0, _power(1 - y, beta))
    return spared * value, torch.where(positive, -spared, spared) * slope


def squared(z: Tensor, y: Tensor, scale: float, positive_weight: float) -> Charge:
    """(1 + w y) (z - s y)^2 of a raw output z."""
    error = z - scale * y
    weight = 1 + positive_weight * y
    return weight * error.square(), 2 * weight * error


def adaptive_wing(z: Tensor, y: Tensor, omega: float, theta: float, epsilon: float, alpha: float) -> Charge:
    """w log(1 + |d / e|^(a - y)) for |d| < t, d = z - y, and the straight line that continues it beyond."""
    gap, exponent = (z - y).abs(), alpha - y
    # Where |d| >= theta the curve is not used: holding it at theta there keeps its powers in range.
    near = gap.clamp(max=theta) / epsilon
    power = near.pow(exponent)
    # exponent |d / e|^(a - y - 1) / (e (1 + |d / e|^(a - y))), which is also the line's slope when |d| = theta
    slope = omega * exponent * torch.where(near > 0, power / torch.where(near > 0, near, 1.0), 0.0) / (
        epsilon * (1 + power)
    )
    value = omega * torch.log1p(power) + slope * (gap - theta).clamp(min=0.0)
    return value, slope * torch.sign(z - y)


def _focused_0(x: Tensor, gamma: float) -> Charge:
    """p^g softplus(x), and its slope p^g (g q softplus(x) + p)."""
    p, s = _p(x), _minus_log_q(x)
    if gamma == 0:
        return s, p
    power = _power(p, gamma)
    # sigmoid(-x) and not 1 - p, which rounds to 0 long before (1 - p) softplus(x) does.
    return power * s, power * (p + gamma * _q(x) * s)


def _focused_1(x: Tensor, gamma: float) -> Charge:
    """q^g softplus(-x), and its slope: what label 0 is charged at -x."""
    q, s = _q(x), _minus_log_p(x)
    if gamma == 0:
        return s, -q
    power = _power(q, gamma)
    return power * s, -power * (q + gamma * _p(x) * s)


def _power(base: Tensor, exponent: float) -> Tensor:
    """base ** exponent for a base of at least 0, by products where the exponent is one of the usual ones."""
    if exponent == 0:
        return torch.ones_like(base)
    if exponent == 1:
        return base
    if exponent in (2, 4):
        return base.square() if exponent == 2 else base.square().square()
    return base.pow(exponent)


# A compiled loss takes p, q and both logarithms from one exponential e = exp(-|x|) and one division; its log(1 + e) is
# the series of 2 artanh(e / (2 + e)), exact to float32's last digits over [0, 1] and cheaper than a logarithm. Eager
# code, which pays for every operation with a pass over memory, takes PyTorch's own functions instead.


def _p(x: Tensor) -> Tensor:
    if not _fast(x):
        return torch.sigmoid(x)
    e, inverse, _ = _shared(x)
    return torch.where(x >= 0, inverse, e * inverse)


def _q(x: Tensor) -> Tensor:
    if not _fast(x):
        return torch.sigmoid(-x)
    e, inverse, _ = _shared(x)
    return torch.where(x >= 0, e * inverse, inverse)


def _minus_log_q(x: Tensor) -> Tensor:
    return torch.relu(x) + _shared(x)[2] if _fast(x) else _softplus(x)


def _minus_log_p(x: Tensor) -> Tensor:
    return torch.relu(x) - x + _shared(x)[2] if _fast(x) else _softplus(-x)


def _softplus(x: Tensor) -> Tensor:
    # Beyond 40 softplus(x) is x in every dtype; PyTorch's default stops at 20.
    return torch.nn.functional.softplus(x, threshold=40.0)


def _fast(x: Tensor) -> bool:
    return torch.compiler.is_compiling() and x.dtype == torch.float32 and not x.requires_grad


def _shared(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """e = exp(-|x|), 1 / (1 + e) and log(1 + e)."""
    e = torch.exp(-x.abs())
    inverse = 1 / ((1 + e) * (2 + e))
    t = e * (1 + e) * inverse
    square = t * t
    series = torch.full_like(t, 1 / 13)
    for odd in (11, 9, 7, 5, 3, 1):
        series = series * square + 1 / odd
    return e, (2 + e) * inverse, 2 * t * series
