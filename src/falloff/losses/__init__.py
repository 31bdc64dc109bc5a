"""Losses for sparse point labels: elementwise formulas, and a family that takes (logits, Points)."""

from falloff.losses.autograd import compiler_works
from falloff.losses.base import PointLoss
from falloff.losses.dense import (
    adaptive_wing,
    bce,
    distance_aware,
    distance_map_bce,
    focal,
    mse,
    quality_focal,
    varifocal,
    weighted_bce,
    weighted_mse,
)
from falloff.losses.family import best_constant, make, modules, names, options, prior_bias
from falloff.losses.pixelwise import PixelLoss
from falloff.losses.whole import dice, dsnt, soft_argmax, softmax_distance_aware, spatial_js, spatial_kl, tversky

__all__ = [
    "PixelLoss", "PointLoss", "adaptive_wing", "bce", "best_constant", "compiler_works", "dice", "distance_aware",
    "distance_map_bce", "dsnt", "focal", "make", "modules", "mse", "names", "options", "prior_bias", "quality_focal",
    "soft_argmax", "softmax_distance_aware", "spatial_js", "spatial_kl", "tversky", "varifocal", "weighted_bce",
    "weighted_mse",
]
