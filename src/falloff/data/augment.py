"""Random changes of pictures in which their points go along, made by kornia, whose pixels are counted as ours are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import Bool, Float
from kornia.augmentation import AugmentationSequential, RandomAffine, RandomBrightness, RandomHorizontalFlip
from kornia.geometry.transform import warp_affine
from torch import Tensor

from falloff import checks
from falloff.points import Points

Batch = tuple[Tensor, Points, Tensor | None]


def make(
    *, flip: float = 0.0, degrees: float = 0.0, scale: float = 0.0, shift: float = 0.0, brightness: float = 0.0,
    swap: Sequence[tuple[int, int]] = (),
) -> Callable[..., Batch]:
    """A function of ``(images, points, mask=None)`` that gives the same, changed at random, each image by itself.

    Args:
        flip: how probable a left/right mirror is, in [0, 1].
        degrees: turned by up to so much either way, at least 0.
        scale: enlarged by a factor in ``1 - scale`` to ``1 + scale``, in [0, 1].
        shift: moved by up to this share of the picture's width and height, in [0, 1].
        brightness: up to so much is added to or taken off all pixels, in their own unit, in [0, 1]; nothing is clipped.
        swap: pairs of classes that change places in a mirror, as :class:`~falloff.data.Dataset` has them.

    Images are floating point, ``(B, C, H, W)``, and are repeated beyond their border; masks ``(B, 1, H, W)`` are False
    there. Points that leave the picture become padding. The draws come from torch's global generator on the CPU.

    Raises:
        ValueError: a number out of range, or none above 0.
    """
    shares = {"flip": flip, "scale": scale, "shift": shift, "brightness": brightness}
    for name, value in shares.items():
        checks.check_share(name, value)
    checks.check_at_least_zero("degrees", degrees)
    if not (degrees or any(shares.values())):
        raise ValueError(f"one of degrees, {', '.join(shares)} must be above 0")
    steps: list[Any] = [RandomHorizontalFlip(p=flip)] if flip else []
    if degrees or scale or shift:
        # The matrix counts from pixels' centres, as points do, and so does sampling with align_corners, whose -1 and 1
        # are the centres of the first and last pixel. Without, kornia does so from 0.9 on alone: before, a shift by t
        # pixels moved a picture that is W wide by t W / (W - 1).
        steps.append(RandomAffine(degrees, (shift, shift), (1 - scale, 1 + scale), p=1.0, align_corners=True,
                                  padding_mode="border"))
    if brightness:
        steps.append(RandomBrightness((1 - brightness, 1 + brightness), clip_output=False))
    sequence = AugmentationSequential(*steps, data_keys=["input"])

    def augment(images: Float[Tensor, "batch channels height width"], points: Points,
                mask: Bool[Tensor, "batch 1 height width"] | None = None) -> Batch:
        size, images = (images.shape[2], images.shape[3]), sequence(images)
        assert sequence.transform_matrix is not None
        matrix = sequence.transform_matrix[:, :2]
        if mask is not None:
            mask = warp_affine(mask.to(images.dtype), matrix, size, "nearest", align_corners=True) > 0.5
        return images, points.affine(matrix, size, swap=swap), mask

    return augment
