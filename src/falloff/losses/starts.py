"""Where a training starts: the last layer's first bias."""

from __future__ import annotations

import math

from jaxtyping import Bool
from torch import Tensor

from falloff.checks import check_number, plain
from falloff.heatmaps import placed
from falloff.losses.base import PointLoss
from falloff.losses.inputs import check_mask
from falloff.points import Points


def prior_bias(probability: float) -> float:
    """Bias of a last layer whose sigmoid then starts at ``probability``.

    .. math:: b = -\\log\\frac{1 - \\pi}{\\pi}

    Args:
        probability: :math:`\\pi` in (0, 1), such as the share of labelled pixels.

    Raises:
        TypeError, ValueError: not a number, or outside (0, 1).

    Source: Lin et al. 2017, section 4.1 (their prior: 0.01).
    """
    check_number("probability", probability)
    if not 0.0 < probability < 1.0:
        raise ValueError(f"probability must be in (0, 1), got {probability!r}")
    return -math.log((1.0 - probability) / probability)


def best_constant(
    loss: PointLoss, points: Points, size: tuple[int, ...], classes: int, *,
    mask: Bool[Tensor, "..."] | None = None, stride: int | float = 1,
) -> float:
    """The one logit that, put out everywhere, makes a loss smallest on some points, with their weights.

    A last layer whose bias starts here starts without the large first loss that only teaches it how rare points are.
    For cross entropy it is :func:`prior_bias` of the share of labelled pixels; focal losses, which hardly charge a low
    p, have theirs much higher; for a squared error it is near 0. Losses of a spatial softmax, which no constant
    changes, give 0; the overlap losses, which like a constant best at p = 0 or 1, the mean of the heatmap.

    Args:
        loss: from :func:`make`.
        points: labelled points of some typical images, in pixels of the image.
        size: (height, width) of the maps in pixels.
        classes: number of maps per image.
        mask, stride: as a call of the loss gets them; where images are padded, a mask keeps the padding from being
            taken for background.

    Raises:
        TypeError: ``loss`` is none, a mask is not bool.
        ValueError: ``size``, ``classes`` or ``stride`` out of range; a mask that does not fit; no point counts; a point
            outside the picture or a label outside ``[0, classes)``; no finite constant is best, since options leave out
            one side (focal loss with ``alpha`` 0 or 1).
    """
    if not isinstance(loss, PointLoss):
        raise TypeError(f"loss must come from losses.make(...), got {loss!r}")
    points = placed(points, size, classes, stride)
    size, classes = tuple(map(plain, size)), plain(classes)
    if mask is None:
        return loss.best_constant(points, size, classes)
    check_mask(mask, (len(points), classes, *size))
    return loss.best_constant(points, size, classes, mask.expand(len(points), classes, *size))
