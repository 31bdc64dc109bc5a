"""Losses for sparse point labels: elementwise formulas, and a family that takes (logits, Points)."""

from falloff.losses.dense import bce, distance_aware, focal, mse, weighted_bce
from falloff.losses.family import PointLoss, best_constant, make, names, options, prior_bias

__all__ = [
    "PointLoss", "bce", "best_constant", "distance_aware", "focal", "make", "mse", "names", "options",
    "prior_bias", "weighted_bce",
]
