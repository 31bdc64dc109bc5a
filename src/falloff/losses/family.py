"""The family of losses by name."""

from __future__ import annotations

import math
from dataclasses import MISSING, fields

from falloff import checks
from falloff.losses.base import PointLoss
from falloff.losses.pixelwise import (
    BCE,
    MSE,
    AdaptiveWing,
    DistanceAware,
    DistanceMapBCE,
    Focal,
    QualityFocal,
    SoftBCE,
    Varifocal,
    WeightedBCE,
    WeightedMSE,
)
from falloff.losses.whole import DSNT, Dice, SoftmaxDistanceAware, SpatialJS, SpatialKL, Tversky
from falloff.points import Points

_FAMILY = {
    loss.name: loss
    for loss in (
        BCE, WeightedBCE, Focal, SoftBCE, MSE, DistanceAware, QualityFocal, Varifocal, WeightedMSE, AdaptiveWing,
        DistanceMapBCE, SoftmaxDistanceAware, Dice, Tversky, SpatialKL, SpatialJS, DSNT,
    )
}


def names() -> list[str]:
    """All names that :func:`make` knows, in the order in which the study introduces them."""
    return list(_FAMILY)


def options(name: str) -> dict[str, object]:
    """The options of a loss with their defaults.

    Raises:
        ValueError: no loss has this name; the message gives the nearest.
    """
    loss = checks.choose("loss", name, _FAMILY)
    return {f.name: f.default for f in fields(loss) if f.init and f.default is not MISSING}


def modules() -> dict[str, str]:
    """The module that each loss of :func:`names` is written in."""
    return {name: loss.__module__ for name, loss in _FAMILY.items()}


def make(name: str, **given: object) -> PointLoss:
    """A loss by name, as a function of ``(logits, points)`` and a mask: see :class:`PointLoss` for how it is called.

    Args:
        name: one of :func:`names`.
        given: the loss's own options, see :func:`options` and each loss's class; :class:`PixelLoss` describes
            ``normalizer``, which most losses have.

    Raises:
        ValueError: an unknown name, an unknown option or an option out of range.
        TypeError: an option of the wrong type.

    Example:
        >>> import torch
        >>> from falloff import losses
        >>> from falloff.points import Points
        >>> loss = losses.make("distance-aware", sigma=1.5)
        >>> logits = torch.zeros(1, 1, 8, 8, requires_grad=True)
        >>> points = Points.from_lists([([[3.2, 4.0]], [0])])
        >>> loss(logits, points).backward()
    """
    known = options(name)
    for option in given:
        checks.check_option(name, option, known)
    return _FAMILY[name](**given)


def prior_bias(probability: float) -> float:
    """Bias of a last layer whose sigmoid then starts at ``probability``.

    .. math:: b = -\\log\\frac{1 - \\pi}{\\pi}

    Args:
        probability: :math:`\\pi` in (0, 1), such as the share of labelled pixels.

    Raises:
        TypeError, ValueError: not a number, or outside (0, 1).

    Source: Lin et al. 2017, section 4.1 (their prior: 0.01).
    """
    checks.check_number("probability", probability)
    if not 0.0 < probability < 1.0:
        raise ValueError(f"probability must be in (0, 1), got {probability!r}")
    return -math.log((1.0 - probability) / probability)


def best_constant(loss: PointLoss, points: Points, size: tuple[int, ...], classes: int) -> float:
    """The one logit that, put out everywhere, makes a loss smallest on some points, with their weights.

    A last layer whose bias starts here starts without the large first loss that only teaches it how rare points are.
    For cross entropy it is :func:`prior_bias` of the share of labelled pixels; focal losses, which hardly charge a low
    p, have theirs much higher; for a squared error it is near 0. Losses of a spatial softmax, which no constant
    changes, give 0; the overlap losses, which like a constant best at p = 0 or 1, the mean of the heatmap.

    Args:
        loss: from :func:`make`.
        points: labelled points of some typical images.
        size: (height, width) of the maps in pixels.
        classes: number of maps per image.

    Raises:
        ValueError: a point outside the picture or a label outside ``[0, classes)``.
    """
    if not isinstance(loss, PointLoss):
        raise TypeError(f"loss must come from losses.make(...), got {loss!r}")
    return loss.best_constant(points, tuple(size), classes)
