"""The losses as elementwise formulas on dense maps, in logit space: no clamp, no epsilon.

Every function takes logits, real numbers of any shape, and returns the loss of each element, unreduced. With
:math:`x` the logit, :math:`p = 1 / (1 + e^{-x})` is the probability that it stands for; all of them work on
:math:`-\\log(1 - p) = \\mathrm{softplus}(x)` and :math:`-\\log p = \\mathrm{softplus}(-x)`, which stay exact where
:math:`p` itself rounds to 0 or 1. Value and gradient are finite for every finite logit.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from falloff.heatmaps import check_positive
from falloff.losses import charges
from falloff.losses.autograd import elementwise


def bce(
    logits: Float[Tensor, "*shape"], labels: Bool[Tensor, "*shape"] | Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Binary cross entropy.

    .. math:: L = -y \\log p - (1 - y) \\log(1 - p)

    Args:
        logits: any shape, floating point.
        labels: the same shape, bool or in [0, 1]. With a Gaussian heatmap for labels this is "soft BCE".

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit; a label is NaN or outside [0, 1] (read on the CPU only).

    The expected loss is smallest at :math:`p = y`, for soft labels too, but is then not 0.
    """
    return elementwise(charges.cross_entropy, logits, _check_maps(logits, labels=labels), 1.0)


def weighted_bce(
    logits: Float[Tensor, "*shape"],
    labels: Bool[Tensor, "*shape"] | Float[Tensor, "*shape"],
    *,
    positive_weight: float = 100.0,
) -> Float[Tensor, "*shape"]:
    """Binary cross entropy with a weight on label 1.

    .. math:: L = -w\\, y \\log p - (1 - y) \\log(1 - p)

    Args:
        logits, labels: as for :func:`bce`.
        positive_weight: :math:`w \\ge 0`; 1 is :func:`bce`.

    Raises:
        TypeError, ValueError: as for :func:`bce`; a weight out of range.

    Smallest at :math:`p = w y / (w y + 1 - y)`: what it learns is no longer the frequency of the label.
    """
    labels = _check_maps(logits, labels=labels)
    _check_at_least_zero("positive_weight", positive_weight)
    return elementwise(charges.cross_entropy, logits, labels, positive_weight)


def focal(
    logits: Float[Tensor, "*shape"],
    labels: Bool[Tensor, "*shape"] | Float[Tensor, "*shape"],
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
) -> Float[Tensor, "*shape"]:
    """Focal loss: cross entropy, weighted by how wrong the prediction still is.

    .. math:: L = -\\alpha\\, y (1 - p)^\\gamma \\log p - (1 - \\alpha) (1 - y)\\, p^\\gamma \\log(1 - p)

    Args:
        logits, labels: as for :func:`bce`; the paper defines labels 0 and 1 only.
        gamma: at least 0; 0 is :func:`bce`.
        alpha: weight of label 1 in [0, 1], with 1 - alpha for label 0; None leaves both at 1.

    Raises:
        TypeError, ValueError: as for :func:`bce`; ``gamma`` or ``alpha`` out of range.

    For a label that is 1 with frequency t it is smallest at a p between t and 1/2, nearer to 1/2 the larger gamma:
    its probabilities are drawn towards the middle.

    Source: Lin et al. 2017, equations 4 and 5 (RetinaNet: gamma 2, alpha 0.25).
    """
    labels = _check_maps(logits, labels=labels)
    _check_at_least_zero("gamma", gamma)
    if alpha is not None:
        _check_at_least_zero("alpha", alpha)
    if alpha is not None and alpha > 1.0:
        raise ValueError(f"alpha must be None or in [0, 1], got {alpha!r}")
    weight_1, weight_0 = (1.0, 1.0) if alpha is None else (alpha, 1.0 - alpha)
    return elementwise(charges.focal, logits, labels, gamma, weight_1, weight_0)


def distance_aware(
    logits: Float[Tensor, "*shape"],
    positives: Bool[Tensor, "*shape"],
    heatmap: Float[Tensor, "*shape"],
    *,
    alpha: float = 2.0,
    beta: float = 4.0,
) -> Float[Tensor, "*shape"]:
    """Distance-aware focal loss: focal loss that spares label-0 pixels near a labelled point.

    .. math::

        L = \\begin{cases}
            -(1 - p)^\\alpha \\log p & \\text{at a positive} \\\\
            -(1 - y)^\\beta\\, p^\\alpha \\log(1 - p) & \\text{elsewhere}
        \\end{cases}

    Args:
        logits: any shape, floating point.
        positives: bool, the same shape; the pixels nearest to the points.
        heatmap: :math:`y` in [0, 1], the same shape: 1 at a point, falling to 0 with distance.
        alpha: focusing exponent, at least 0; gamma in Lin et al. 2017.
        beta: how strongly nearness spares, at least 0; 0 is :func:`focal` with hard labels.

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit; an exponent below 0; a heatmap value that is NaN or
            outside [0, 1] (read on the CPU only).

    At a positive it is smallest at p = 1, elsewhere at p = 0, whatever y: the heatmap is a weight, not a target.

    Source: Law and Deng 2018, equation 1; also called penalty-reduced or Gaussian focal loss.
    """
    if positives.dtype != torch.bool:
        raise TypeError(f"positives must be bool, got {positives.dtype}")
    heatmap = _check_maps(logits, heatmap=heatmap)
    _check_shape(logits, "positives", positives)
    _check_at_least_zero("alpha", alpha)
    _check_at_least_zero("beta", beta)
    return elementwise(charges.distance_aware, logits, heatmap, positives, alpha, beta)


def mse(
    output: Float[Tensor, "*shape"],
    heatmap: Float[Tensor, "*shape"],
    *,
    scale: float = 1.0,
    positive_weight: float = 0.0,
) -> Float[Tensor, "*shape"]:
    """Squared error against a heatmap, optionally scaled and weighted towards the points.

    .. math:: L = (1 + w\\,y)\\,(z - s\\,y)^2

    Args:
        output: :math:`z`, what the net puts out, taken as it is: no sigmoid.
        heatmap: :math:`y` in [0, 1], the same shape.
        scale: :math:`s > 0`, the height of the target's peaks.
        positive_weight: :math:`w \\ge 0`, extra weight where the heatmap is high; 0 is plain squared error.

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit; an option out of range; a heatmap value that is NaN or
            outside [0, 1] (read on the CPU only).

    Smallest at :math:`z = s\\,y`.

    Source: Tompson et al. 2014; Newell et al. 2016 (plain: scale 1, no extra weight).
    """
    heatmap = _check_maps(output, heatmap=heatmap)
    check_positive("scale", scale)
    _check_at_least_zero("positive_weight", positive_weight)
    return elementwise(charges.squared, output, heatmap, scale, positive_weight)


def _check_maps(logits: Tensor, **maps: Tensor) -> Tensor:
    """Check the one map in ``maps`` against the logits; returns it in their dtype."""
    (name, value), = maps.items()
    _check_shape(logits, name, value)
    if value.dtype == torch.bool:
        return value.to(logits.dtype)
    if not value.is_floating_point():
        raise TypeError(f"{name} must be bool or floating point, got {value.dtype}")
    # Reading values on an accelerator would make every step wait for it.
    if value.device.type == "cpu" and value.numel() and not torch.compiler.is_compiling():
        low, high = (bound.item() for bound in value.detach().aminmax())
        if not (low >= 0.0 and high <= 1.0):
            raise ValueError(f"{name} must be in [0, 1] and not NaN, got values from {low:g} to {high:g}")
    return value.to(logits.dtype)


def _check_shape(logits: Tensor, name: str, value: Tensor) -> None:
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}")
    if value.shape != logits.shape:
        raise ValueError(f"{name} must have the logits' shape {tuple(logits.shape)}, got {tuple(value.shape)}")


def _check_at_least_zero(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not 0.0 <= value < float("inf"):
        raise ValueError(f"{name} must be finite and at least 0, got {value!r}")
