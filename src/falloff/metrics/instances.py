"""Instances with several key points each, such as people, as one point each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from falloff.checks import check_count, check_positive, plain
from falloff.metrics.keypoints import checked_values, similarity
from falloff.metrics.matching import Distance, check_extra, check_labels
from falloff.points import Points


def instances(points: Points, *, classes: int) -> Points:
    """One point for each instance, such as a person, from its key points, for :func:`oks_distance`.

    Args:
        points: key points whose ``extra["instance"]``, ``int64``, ``(B, N)``, counts the instances of an image from 0;
            at most one of a class in an instance.
        classes: of key points, above 0.

    Returns:
        Points ``(B, I)`` of label 0 at the mean position of their key points, with the mean of their scores where
        they have scores. Their ``extra`` has "keypoints" ``(B, I, classes, 2)``, "visible" ``(B, I, classes)``, True
        where the instance has such a key point, and, where the key points have it, the largest "scale" ``(B, I)``.

    Raises:
        ValueError: no ``extra["instance"]`` or a negative one; ``classes`` or a label out of range; two key points of
            one class in one instance.
    """
    check_count("classes", classes)
    classes = plain(classes)
    check_labels("points", points, classes)
    check_extra("points", points, "instance")
    owner = torch.where(points.valid, points.extra["instance"], 0)
    if bool((owner < 0).any()):
        raise ValueError(f"points must have instances of at least 0 in extra, got {int(owner.min())}")
    batch, count = len(points), int(owner.max()) + 1 if owner.numel() else 0
    # Padding goes to one column too many, which is cut off.
    slot = torch.where(points.valid, owner * classes + points.label, count * classes)

    def gathered(values: Tensor) -> Tensor:
        room = values.new_zeros(batch, count * classes + 1, *values.shape[2:])
        room[torch.arange(batch, device=slot.device)[:, None], slot] = values
        return room[:, :-1].unflatten(1, (count, classes))

    visible = gathered(points.valid)
    if int(visible.sum()) < int(points.valid.sum()):
        raise ValueError("points hold two key points of one class in one instance: 1 is allowed")
    keypoints, shown = gathered(points.xy), visible.sum(-1).clamp(min=1)
    extra = {"keypoints": keypoints, "visible": visible}
    if "scale" in points.extra:
        extra["scale"] = gathered(points.extra["scale"]).amax(-1)
    score = None if points.score is None else gathered(points.score).sum(-1) / shown
    label = torch.zeros_like(shown)
    return Points(keypoints.sum(2) / shown[..., None], label, visible.any(-1), score, extra=extra)


def oks_distance(kappa: float | Sequence[float] | Float[Tensor, " classes"]) -> Distance:
    r"""1 - OKS of each predicted instance with each labelled one, a distance in [0, 1] for :func:`match`.

    .. math:: 1 - \frac{1}{K} \sum_{k=1}^{K} \exp\left(-\frac{d_k^2}{2 s^2 \kappa_k^2}\right)

    over the K key points that the labelled instance shows, with :math:`d_k` how far the prediction's lies from it (a
    key point that is not predicted adds 0), s the labelled instance's scale and :math:`\kappa_k` that of the class.
    Radius 0.5 asks for an OKS of at least 0.5.

    Args:
        kappa: as for :func:`oks`, for all classes or ``(C,)``, also a list. COCO's are twice the sigmas that it
            publishes.

    Returns:
        A distance between what :func:`instances` gives. The labelled one must carry ``extra["scale"]``, the square
        root of each instance's area in pixels, finite and above 0; it raises ValueError where something is missing.

    Source: COCO keypoint evaluation (Lin et al. 2014, Microsoft COCO: common objects in context).
    """
    kappa = torch.tensor(kappa, dtype=torch.float64) if isinstance(kappa, (list, tuple)) else plain(kappa)
    if not isinstance(kappa, Tensor):
        check_positive("kappa", kappa)

    def distance(predicted: Points, truth: Points) -> Float[Tensor, "batch predictions points"]:
        check_extra("predicted", predicted, "keypoints", "visible")
        check_extra("truth", truth, "keypoints", "visible", "scale")
        visible, scale = truth.extra["visible"], truth.extra["scale"].double()
        bad = (truth.valid & visible.any(-1) & ~(torch.isfinite(scale) & (scale > 0))).nonzero().tolist()
        if bad:
            image, instance = bad[0]
            raise ValueError(f"truth must carry a 'scale' that is finite and above 0 with each instance that shows key "
                             f"points, got {float(scale[image, instance])} in image {image}")
        each = checked_values("kappa", kappa, truth, visible.shape[-1]) if isinstance(kappa, Tensor) else kappa
        apart = predicted.extra["keypoints"][:, :, None].double() - truth.extra["keypoints"][:, None].double()
        length = torch.linalg.vector_norm(apart, dim=-1)
        length = torch.where(predicted.extra["visible"][:, :, None], length, torch.inf)
        alike = similarity(length, scale[:, None, :, None], each)
        return 1 - torch.where(visible[:, None], alike, 0.0).sum(-1) / visible.sum(-1)[:, None]

    return distance
