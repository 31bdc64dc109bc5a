"""Losses for sparse point labels: elementwise formulas, and a family that takes (logits, Points).

A file holds one family: what each of its losses charges and the slope of that, its form on dense maps, its class. A new
loss is a new file, named otherwise than any function here, and a row of the table.
"""

from __future__ import annotations

from dataclasses import MISSING, fields

from falloff import checks
from falloff.losses.autograd import compiler_works
from falloff.losses.base import PointLoss, check_declared
from falloff.losses.counting import count
from falloff.losses.cross_entropy import BCE, SoftBCE, WeightedBCE, bce, weighted_bce
from falloff.losses.distance import DistanceAware, DistanceMapBCE, distance_aware, distance_map_bce
from falloff.losses.focal_loss import Focal, focal
from falloff.losses.overlap import Dice, Tversky, dice, tversky
from falloff.losses.pixelwise import PixelLoss
from falloff.losses.regression import at_pixels, at_points
from falloff.losses.soft_focal import QualityFocal, Varifocal, quality_focal, varifocal
from falloff.losses.softmax import SoftmaxDistanceAware, softmax_distance_aware
from falloff.losses.spatial import DSNT, SpatialJS, SpatialKL, dsnt, soft_argmax, spatial_js, spatial_kl
from falloff.losses.squared_error import MSE, WeightedMSE, mse, weighted_mse
from falloff.losses.starts import best_constant, prior_bias
from falloff.losses.wing import AdaptiveWing, adaptive_wing

__all__ = [
    "PixelLoss", "PointLoss", "adaptive_wing", "at_pixels", "at_points", "bce", "best_constant", "compiler_works",
    "count", "dice", "distance_aware", "distance_map_bce", "dsnt", "find", "focal", "make", "mse", "names", "options",
    "prior_bias", "quality_focal", "soft_argmax", "softmax_distance_aware", "spatial_js", "spatial_kl", "tversky",
    "varifocal", "weighted_bce", "weighted_mse",
]

# In the order in which the study introduces them.
_FAMILY = {
    loss.name: loss
    for loss in (
        BCE,
        WeightedBCE,
        Focal,
        SoftBCE,
        MSE,
        DistanceAware,
        QualityFocal,
        Varifocal,
        WeightedMSE,
        AdaptiveWing,
        DistanceMapBCE,
        SoftmaxDistanceAware,
        Dice,
        Tversky,
        SpatialKL,
        SpatialJS,
        DSNT,
    )
}


def names() -> list[str]:
    """All losses of the family by name, in the order in which the study introduces them."""
    return list(_FAMILY)


def find(name: str) -> type[PointLoss]:
    """The class of a loss.

    Args:
        name: one of :func:`names`, or ``"module:Name"`` for a :class:`PointLoss` of a module outside the package.

    Raises:
        ValueError: no loss has this name (the message gives the nearest), or there is no such module, or no such name
            in it.
        TypeError: what has this name is no subclass of :class:`PointLoss`, or one with options of its own that is no
            dataclass.
    """
    loss = checks.choose("loss", name, _FAMILY)
    if not (isinstance(loss, type) and issubclass(loss, PointLoss)):
        raise TypeError(f"loss {name!r} must be a subclass of falloff.losses.PointLoss, got {loss!r}")
    check_declared(loss)
    return loss


def options(name: str) -> dict[str, object]:
    """The options of a loss with their defaults. Argument and errors: as for :func:`find`."""
    return {f.name: f.default for f in fields(find(name)) if f.init and f.default is not MISSING}


def make(name: str, **given: object) -> PointLoss:
    """A loss by name, as a function of ``(logits, points)`` and a mask: see :class:`PointLoss` for how it is called.

    Args:
        name: as for :func:`find`.
        given: the loss's own options, see :func:`options` and each loss's class; :class:`PixelLoss` describes
            ``normalizer``, which most losses have.

    Raises:
        ValueError: an unknown name, an unknown option or an option out of range.
        TypeError: an option of the wrong type, or what has this name is no loss.

    Example:
        >>> import torch
        >>> from falloff import losses
        >>> from falloff.points import Points
        >>> loss = losses.make("distance-aware", sigma=1.5)
        >>> logits = torch.zeros(1, 1, 8, 8, requires_grad=True)
        >>> points = Points.from_lists([([[3.2, 4.0]], [0])])
        >>> loss(logits, points).backward()
    """
    loss, known = find(name), options(name)
    for option in given:
        checks.check_option(name, option, known)
    return loss(**given)
