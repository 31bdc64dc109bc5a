"""What the tests of several losses share: the family by kind, and one scene."""

import torch

from falloff import losses
from falloff.points import Points

NAMES = losses.names()
PIXEL = [name for name in NAMES if isinstance(losses.make(name), losses.PixelLoss)]
PROBABLE = [name for name in PIXEL if losses.make(name).is_probability]
NORMALIZED = [name for name in NAMES if "normalizer" in losses.options(name)]
SIZE, CLASSES = (6, 8), 2
LARGE = (2, 2, 256, 256)  # enough for the compiled pass


def scene(dtype=torch.float32, seed=0, shape=(2, CLASSES, *SIZE)):
    """Logits, and points of two classes: sub-pixel, on the border, one image with a single point."""
    logits = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    height, width = shape[2:]
    points = Points.from_lists(
        [([[1.3, 2.0], [width - 1.0, height - 0.6]], [0, 1]), ([[width / 2, 0.0]], [1])]
    )
    return logits.to(dtype).requires_grad_(), points


def with_(points, **changed):
    parts = {"score": points.score, "sigma": points.sigma, "weight": points.weight} | changed
    return Points(points.xy, points.label, points.valid, **parts)


def gradient(loss, logits, points, **given_mask):
    value = loss(logits, points, **given_mask)
    return value.detach(), torch.autograd.grad(value, logits)[0]
