"""Numbers that follow from the formulas of the losses alone, and that claims rest on: no run, no data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from falloff import losses
from falloff.points import Points

CONFIDENT = 0.9  # the probability that a net gives every pixel


def charge_ratio(away: float = 2.0, size: int = 64) -> float:
    """BCE's charge of a background pixel near a labelled point over that of one in a corner of the picture.

    Both have the same probability of 0.9.

    Args:
        away: distance of the near one, in pixels.
        size: of the picture, in pixels; the point is in its middle.
    """
    charge, distance = _charges(losses.make("bce"), size // 2)
    return float(charge[distance == away].max() / charge[distance == distance.max()].min())


def near(alpha: float = 2.0, beta: float = 4.0, sigma: float = 1.5) -> float:
    """Distance-aware loss's charge over focal loss's, one pixel from a labelled point.

    Args:
        alpha: of distance-aware loss, and the gamma of focal loss.
        beta: how strongly nearness lowers the charge.
        sigma: width of the Gaussian around the point, in pixels.
    """
    aware, focal, distance = _both(alpha, beta, sigma)
    return float((aware / focal)[distance == 1].max())


def at_label(alpha: float = 2.0, beta: float = 4.0, sigma: float = 1.5) -> float:
    """How far distance-aware and focal loss's charges of a labelled point differ; arguments as for :func:`near`."""
    aware, focal, distance = _both(alpha, beta, sigma)
    return float((aware - focal)[distance == 0].abs().max())


def far(alpha: float = 2.0, beta: float = 4.0, sigma: float = 1.5) -> float:
    """Their largest difference from 6 sigma on, over focal loss's charge; arguments as for :func:`near`."""
    aware, focal, distance = _both(alpha, beta, sigma)
    return float(((aware - focal) / focal)[distance >= 6 * sigma].abs().max())


# By the names in data/claims.yml.
NUMBERS: Mapping[str, Callable[[], float]] = {
    "charge-ratio": charge_ratio, "near": near, "at-label": at_label, "far": far,
}


def _both(alpha: float, beta: float, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
    """The charges of distance-aware and of focal loss, and each pixel's distance."""
    reach = math.ceil(8 * sigma)
    aware, distance = _charges(losses.make("distance-aware", alpha=alpha, beta=beta, sigma=sigma), reach)
    focal, _ = _charges(losses.make("focal", gamma=alpha), reach)
    return aware, focal, distance


def _charges(loss: losses.PointLoss, reach: int) -> tuple[Tensor, Tensor]:
    """What each pixel of a picture with a point in its middle is charged, and its distance from the point."""
    side = 2 * reach + 1
    middle = Points(torch.full((1, 1, 2), float(reach), dtype=torch.float64), torch.zeros(1, 1, dtype=torch.int64),
                    torch.ones(1, 1, dtype=torch.bool))
    logits = torch.full((1, 1, side, side), losses.prior_bias(CONFIDENT), dtype=torch.float64)
    away = torch.arange(side, dtype=torch.float64) - reach
    assert isinstance(loss, losses.PixelLoss)
    return loss.elementwise(logits, middle)[0, 0], torch.hypot(away[None, :], away[:, None])
