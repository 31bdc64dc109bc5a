"""What the losses make of a logit x: p = sigmoid(x), q = 1 - p, their logarithms, and the halves of focal loss.

No clamp and no epsilon: softplus(x) = -log(1 - p) and softplus(-x) = -log p stay exact where p itself rounds to 0 or 1,
so that value and slope are finite for every finite logit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from falloff.losses.autograd import USUAL, Charge

# A compiled loss takes p, q and both logarithms from one exponential e = exp(-|x|) and one division; its log(1 + e) is
# the series of 2 artanh(e / (2 + e)), exact to float32's last digits over [0, 1] and cheaper than a logarithm. Eager
# code, which pays for every operation with a pass over memory, takes PyTorch's own functions instead.


def p_of(x: Tensor) -> Tensor:
    """p = sigmoid(x)."""
    if not _fast(x):
        return torch.sigmoid(x)
    e, inverse, _ = _shared(x)
    return torch.where(x >= 0, inverse, e * inverse)


def q_of(x: Tensor) -> Tensor:
    """q = 1 - p, exact where p rounds to 1."""
    if not _fast(x):
        return torch.sigmoid(-x)
    e, inverse, _ = _shared(x)
    return torch.where(x >= 0, e * inverse, inverse)


def minus_log_q(x: Tensor) -> Tensor:
    """-log(1 - p): what cross entropy charges label 0."""
    return torch.relu(x) + _shared(x)[2] if _fast(x) else _softplus(x)


def minus_log_p(x: Tensor) -> Tensor:
    """-log p: what cross entropy charges label 1."""
    return torch.relu(x) - x + _shared(x)[2] if _fast(x) else _softplus(-x)


def focused_0(x: Tensor, gamma: float | Tensor) -> Charge:
    """p^g softplus(x), and its slope p^g (g q softplus(x) + p)."""
    p, s = p_of(x), minus_log_q(x)
    if is_zero(gamma):
        return s, p
    power = power_of(p, gamma)
    # sigmoid(-x) and not 1 - p, which rounds to 0 long before (1 - p) softplus(x) does.
    return power * s, power * (p + gamma * q_of(x) * s)


def focused_1(x: Tensor, gamma: float | Tensor) -> Charge:
    """q^g softplus(-x), and its slope: what label 0 is charged at -x."""
    q, s = q_of(x), minus_log_p(x)
    if is_zero(gamma):
        return s, -q
    power = power_of(q, gamma)
    return power * s, -power * (q + gamma * p_of(x) * s)


def is_zero(exponent: float | Tensor) -> bool:
    """Whether an exponent is 0; a tensor stands for one that is none of :data:`USUAL`."""
    return not isinstance(exponent, Tensor) and exponent == 0


def power_of(base: Tensor, exponent: float | Tensor) -> Tensor:
    """base ** exponent for a base of at least 0, by products where the exponent is one of :data:`USUAL`."""
    if isinstance(exponent, Tensor):
        return base.pow(exponent)
    if exponent == 0:
        return torch.ones_like(base)
    if exponent == 1:
        return base
    if exponent in USUAL:
        return base.square() if exponent == 2 else base.square().square()
    return base.pow(exponent)


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
