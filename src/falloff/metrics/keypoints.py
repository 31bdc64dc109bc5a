"""Key points: at most one labelled point of a class in an image."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from falloff.checks import check_positive, is_number, plain
from falloff.metrics.matching import apart, best_first, check_labels, check_points, detached
from falloff.points import Points


def keypoint_distances(predicted: Points, truth: Points) -> Float[Tensor, "batch points"]:
    """How far each key point lies from the prediction for it, in pixels, ``(B, N)``, float64.

    A key point is the only labelled point of its class in its image, and the prediction for it is the valid prediction
    of that class with the highest score in that image, the earlier in the tensor of equal ones, however far away.
    Where an image has no prediction of the class the distance is infinite; on padding it is NaN.

    Args:
        predicted: points with ``score``.
        truth: labelled points of the same images, at most one of a class in an image.

    Raises:
        TypeError, ValueError: different numbers of images or of coordinates, no scores, or several labelled points of
            a class in one image.
    """
    check_points(predicted, truth)
    _check_single(truth)
    predicted, truth = detached(predicted), detached(truth)
    order = best_first(predicted)
    turn = torch.where(predicted.valid, order.argsort(dim=1), order.shape[1])
    names, label = torch.cat([predicted.label, truth.label], dim=1).unique(return_inverse=True)
    said, asked = label.split([order.shape[1], truth.label.shape[1]], dim=1)
    first = turn.new_full((len(order), len(names)), order.shape[1]).scatter_reduce(1, said, turn, "amin")
    # In the order of scores; one row more, infinitely far away, answers for no prediction.
    places = pad(predicted.xy.take_along_dim(order[:, :, None], 1), (0, 0, 0, 1), value=torch.inf)
    found = places.take_along_dim(first.gather(1, asked)[:, :, None], 1)
    return torch.where(truth.valid, apart(found, truth.xy), torch.nan)


def pck(predicted: Points, truth: Points, *, threshold: float | Float[Tensor, " batch"]) -> float:
    """Share of key points whose prediction lies at most ``threshold`` pixels away, in [0, 1]; NaN without key points.

    PCK, the percentage of correct key points, as a share. All key points of all images count the same; one that has
    no prediction is not correct.

    Args:
        predicted, truth: as for :func:`keypoint_distances`.
        threshold: in pixels, finite and above 0, one for all images or one for each, floating point, ``(B,)``. That of
            an image without key points may be anything: here, and in the metrics below, it does not count.

    Raises:
        TypeError, ValueError: as for :func:`keypoint_distances`; ``threshold`` of another shape or out of range.

    Source: Yang and Ramanan 2013, Articulated human detection with flexible mixtures of parts.
    """
    distance = keypoint_distances(predicted, truth)
    correct = distance <= _per_image("threshold", threshold, truth)[:, None]
    return float(correct[truth.valid].double().mean())


def pckh(
    predicted: Points, truth: Points, *, head_size: float | Float[Tensor, " batch"], fraction: float = 0.5
) -> float:
    """:func:`pck` with a threshold of ``fraction`` times the size of each image's head, in [0, 1].

    Args:
        predicted, truth: as for :func:`keypoint_distances`.
        head_size: in pixels, finite and above 0, one for all images or one for each, floating point, ``(B,)``. The
            source's own code takes 0.6 times the diagonal of the head's box.
        fraction: finite and above 0; PCKh@0.5 is the usual one.

    Raises:
        TypeError, ValueError: as for :func:`pck`; ``fraction`` out of range.

    Source: Andriluka et al. 2014, 2D human pose estimation: new benchmark and state of the art analysis.
    """
    check_points(predicted, truth)
    check_positive("fraction", fraction)
    return pck(predicted, truth, threshold=plain(fraction) * _per_image("head_size", head_size, truth))


def nme(predicted: Points, truth: Points, *, scale: float | Float[Tensor, " batch"]) -> float:
    r"""Normalised mean error: mean distance of key points to their predictions, in units of ``scale``, at least 0.

    .. math:: \frac{1}{N} \sum_{n=1}^{N} \frac{d_n}{s_n}

    over the N key points of all images together, with :math:`d_n` of :func:`keypoint_distances` and :math:`s_n` the
    scale of the point's image. It is infinite as soon as one key point has no prediction, and NaN without key points.

    Args:
        predicted, truth: as for :func:`keypoint_distances`.
        scale: in pixels, finite and above 0, one for all images or one for each, floating point, ``(B,)``: for faces
            often the distance between the eyes.

    Raises:
        TypeError, ValueError: as for :func:`keypoint_distances`; ``scale`` of another shape or out of range.

    Source: Sagonas et al. 2013, 300 faces in-the-wild challenge, which gives it face by face.
    """
    distance = keypoint_distances(predicted, truth)
    return float((distance / _per_image("scale", scale, truth)[:, None])[truth.valid].mean())


def oks(
    predicted: Points,
    truth: Points,
    *,
    scale: float | Float[Tensor, " batch"],
    kappa: float | Float[Tensor, " classes"],
) -> Float[Tensor, " batch"]:
    r"""Object key-point similarity of each image, ``(B,)``, float64, in [0, 1]; 1 is every key point met exactly.

    .. math:: \frac{1}{N} \sum_{n=1}^{N} \exp\left(-\frac{d_n^2}{2 s^2 \kappa_n^2}\right)

    over the N key points of the image, with :math:`d_n` of :func:`keypoint_distances`, s the image's scale and
    :math:`\kappa_n` that of the point's class. A key point without a prediction adds 0; an image without key points
    has NaN.

    Args:
        predicted, truth: as for :func:`keypoint_distances`.
        scale: square root of the object's area in pixels, finite and above 0, one for all images or one for each,
            floating point, ``(B,)``.
        kappa: how far people's labels of a class scatter, in units of ``scale``, finite and above 0: one for all
            classes or one for each, floating point, ``(C,)``. COCO takes twice the standard deviation of
            repeated labels.

    Raises:
        TypeError, ValueError: as for :func:`keypoint_distances`; ``scale`` or ``kappa`` of another shape or out of
            range; a labelled class that ``kappa`` has no value for.

    Source: COCO keypoint evaluation (Lin et al. 2014, Microsoft COCO: common objects in context).
    """
    distance = keypoint_distances(predicted, truth)
    scale = _per_image("scale", scale, truth)[:, None]
    if is_number(kappa):
        check_positive("kappa", kappa)
        kappa = plain(kappa)
    else:
        kappa = checked_values("kappa", kappa, truth)
        check_labels("truth", truth, len(kappa))
        kappa = pad(kappa, (0, 1), value=1.0)[torch.where(truth.valid, truth.label, -1)]  # padding reads the 1
    return similarity(distance, scale, kappa).nanmean(dim=1)


def similarity(distance: Tensor, scale: Tensor, kappa: Tensor | float) -> Tensor:
    """The part of each key point in OKS, from its distance; the three broadcast."""
    # One division after the other: the product of two small numbers could become 0, and 0 / 0 NaN.
    return torch.exp(-(distance / scale / kappa).square() / 2)


def _per_image(name: str, value: float | Tensor, truth: Points) -> Tensor:
    """A number for all images, or one for each, as ``(B,)`` in float64; 1 for an image without key points."""
    if not is_number(value):
        return checked_values(name, value, truth, len(truth), truth.valid.any(1))
    check_positive(name, value)
    return torch.full((len(truth),), float(value), dtype=torch.float64, device=truth.xy.device)


def checked_values(
    name: str, value: Any, truth: Points, length: int | None = None, images: Tensor | None = None
) -> Tensor:
    """Numbers that must be finite and above 0, in float64 on the device of the points.

    Where ``images``, ``(B,)``, is given, they are one for each image, and 1 where it is False, whatever they were.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        got = value.dtype if isinstance(value, Tensor) else repr(value)
        raise TypeError(f"{name} must be a number or a floating point tensor, one for each, got {got}")
    if value.ndim != 1 or length not in (None, len(value)):
        shape = "(classes,)" if length is None else (length,)
        raise ValueError(f"{name} must be a number or have the shape {shape}, got {tuple(value.shape)}")
    value = value.detach().to(truth.xy.device, torch.float64)
    if images is not None:
        value = torch.where(images, value, 1.0)
    bad = (~(torch.isfinite(value) & (value > 0))).nonzero()[:, 0].tolist()
    if bad:
        where = "class" if images is None else "image"
        raise ValueError(f"{name} must be finite and above 0, got {float(value[bad[0]])} for {where} {bad[0]}")
    return value


def _check_single(truth: Points) -> None:
    if truth.crowded():
        crowds = [truth[image].extent.max_per_class for image in range(len(truth))]
        image, crowd = next((image, crowd) for image, crowd in enumerate(crowds) if crowd > 1)
        raise ValueError(f"truth holds {crowd} points of one class in image {image}: key-point metrics allow 1. For "
                         "several animals or people in a picture, metrics.instances(points, classes=...) joins the key "
                         "points of each, and metrics.average_precision with distance=metrics.oks_distance(kappa) "
                         "compares those; points that belong to nothing go to metrics.average_precision as they are")
