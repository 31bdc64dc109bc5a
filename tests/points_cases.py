"""Points of many kinds and what can be done to them, which tests of points share."""

from dataclasses import replace

import torch

from falloff.points import Points


def some(sigma=None):
    """Two images with 3 and 1 points, and extra arrays of several dtypes."""
    points = Points.from_lists([([[1.0, 2.0], [3.0, 4.0], [5.0, 6.5]], [0, 1, 1], [0.1, 0.2, 0.3]),
                                ([[9.5, 0.0]], [2], [0.4])])
    extra = {"size": torch.rand(2, 3, 2) + 1, "instance": torch.randint(1, 9, (2, 3)),
             "seen": torch.ones(2, 3, dtype=torch.bool), "scale": torch.rand(2, 3) + 1}
    return Points(points.xy, points.label, points.valid, points.score, extra, sigma=sigma)


def rich(sigma=None):
    """Two images with everything that points can carry."""
    return replace(some(sigma), weight=torch.rand(2, 3))


CHANGES = {
    "where": lambda points: points.where(points.xy[..., 0] < 4),
    "above": lambda points: points.above(0.2),
    "slice": lambda points: points[1:],
    "index": lambda points: points[torch.arange(2)],
    "one image": lambda points: points[0],
    "inside": lambda points: points.inside((6, 6), 2),
    "flip": lambda points: points.flip(11, swap=[(0, 1)]),
    "crop": lambda points: points.crop(1, 1, 5, 4),
    "pad": lambda points: points.pad(3, 2),
    "scale": lambda points: points.scale((2, 0.5)),
    "at_stride": lambda points: points.at_stride(4),
    "affine": lambda points: points.affine(torch.tensor([[0.0, -2.0, 12.0], [1.0, 0.5, 0.0]]).expand(2, 2, 3), (9, 9)),
    "cat": lambda points: Points.cat([points, points[:1]]),
    "padded": lambda points: points.padded(5),
    "corners": lambda points: points.corners(),
    "double": lambda points: points.to(torch.float64),
}
SIGMAS = {
    "none": None,
    "one": torch.rand(2, 3) + 1,
    "per axis": torch.rand(2, 3, 2) + 1,
    "covariance": torch.tensor([[4.0, 1.5], [1.5, 2.0]]).expand(2, 3, 2, 2),
}
