"""The equations of the papers in decimal arithmetic, where 1 - p does not round, and where a loss is smallest."""

import math
from decimal import Decimal

import torch


def probability(x):
    return 1 / (1 + (-x).exp())


def power(base, exponent):
    return Decimal(1) if exponent == 0 else base**exponent


def lin_2017(x, label, gamma=2, alpha=None):
    """Equation 5 (equation 4 without alpha): -a_t (1 - p_t)^gamma log(p_t)."""
    p = probability(x)
    p_t = p if label else 1 - p
    a_t = 1 if alpha is None else alpha if label else 1 - alpha
    return -a_t * power(1 - p_t, gamma) * p_t.ln()


def law_2018(x, positive, y, alpha=2, beta=4):
    """Equation 1, one pixel."""
    p = probability(x)
    if positive:
        return -power(1 - p, alpha) * p.ln()
    return -power(1 - y, beta) * power(p, alpha) * (1 - p).ln()


def wang_2019(z, y, omega=14, theta=Decimal("0.5"), epsilon=1, alpha=Decimal("2.1")):
    """Equations 3 and 4, with the paper's A and C."""
    gap, exponent = abs(z - y), alpha - y
    if gap < theta:
        return omega * (1 + power(gap / epsilon, exponent)).ln()
    slope = omega / (1 + power(theta / epsilon, exponent)) * exponent * power(theta / epsilon, exponent - 1) / epsilon
    return slope * gap - (theta * slope - omega * (1 + power(theta / epsilon, exponent)).ln())


def cross_entropy(x, y, weight=1):
    p = probability(x)
    return -weight * y * p.ln() - (1 - y) * (1 - p).ln()


def root(slope, low=-40.0, high=40.0):
    """Where a rising function crosses 0."""
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return middle


def best(loss, y):
    """The logit at which a loss of one pixel with target y is smallest."""

    def slope(x):
        logit = torch.tensor([x], dtype=torch.float64, requires_grad=True)
        loss(logit, torch.tensor([y], dtype=torch.float64)).sum().backward()
        return float(logit.grad)

    return root(slope)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))
