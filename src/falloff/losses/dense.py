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

from falloff.checks import check_above, check_at_least_zero, check_positive, check_share
from falloff.losses import charges
from falloff.losses.autograd import elementwise, is_readable


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
    return elementwise(charges.cross_entropy, logits, check_maps(logits, labels=labels), 1.0)


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
    labels = check_maps(logits, labels=labels)
    check_at_least_zero("positive_weight", positive_weight)
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

    Without ``alpha``, for a label that is 1 with frequency t it is smallest at a p between t and 1/2, nearer to 1/2 the
    larger gamma: its probabilities are drawn towards the middle.

    Source: Lin et al. 2017, equations 4 and 5 (RetinaNet: gamma 2, alpha 0.25).
    """
    labels = check_maps(logits, labels=labels)
    check_at_least_zero("gamma", gamma)
    if alpha is not None:
        check_share("alpha", alpha)
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
    heatmap = check_maps(logits, heatmap=heatmap)
    check_shape(logits, "positives", positives)
    check_at_least_zero("alpha", alpha)
    check_at_least_zero("beta", beta)
    return elementwise(charges.distance_aware, logits, heatmap, positives, alpha, beta)


def quality_focal(
    logits: Float[Tensor, "*shape"],
    labels: Bool[Tensor, "*shape"] | Float[Tensor, "*shape"],
    *,
    beta: float = 2.0,
) -> Float[Tensor, "*shape"]:
    """Quality focal loss: cross entropy towards a soft target, weighted by the distance from it.

    .. math:: L = |y - p|^\\beta \\left(-y \\log p - (1 - y) \\log(1 - p)\\right)

    Args:
        logits, labels: as for :func:`bce`; soft labels are what it is made for.
        beta: at least 0; 0 is :func:`bce`. With labels 0 and 1 it is :func:`focal` with gamma = beta.

    Raises:
        TypeError, ValueError: as for :func:`bce`; ``beta`` out of range.

    Smallest at :math:`p = y`, where it is 0 (beta > 0): a proper loss for soft targets, unlike :func:`focal`.

    Source: Li et al. 2020 (generalized focal loss): beta 2.
    """
    labels = check_maps(logits, labels=labels)
    check_at_least_zero("beta", beta)
    return elementwise(charges.quality_focal, logits, labels, beta)


def varifocal(
    logits: Float[Tensor, "*shape"],
    labels: Bool[Tensor, "*shape"] | Float[Tensor, "*shape"],
    *,
    alpha: float = 0.75,
    gamma: float = 2.0,
) -> Float[Tensor, "*shape"]:
    """Varifocal loss: focal loss for background, cross entropy weighted by the target for the rest.

    .. math::

        L = \\begin{cases}
            y \\left(-y \\log p - (1 - y) \\log(1 - p)\\right) & y > 0 \\
            -\\alpha\\, p^\\gamma \\log(1 - p) & y = 0
        \\end{cases}

    Args:
        logits, labels: as for :func:`bce`. With a Gaussian heatmap every pixel of its window is "y > 0".
        alpha: weight of the background, at least 0.
        gamma: focusing exponent of the background, at least 0.

    Raises:
        TypeError, ValueError: as for :func:`bce`; ``alpha`` or ``gamma`` out of range.

    Smallest at :math:`p = y`. On a Gaussian the factor y makes a confident mistake near a point, but not on it, almost
    free.

    Source: Zhang et al. 2021 (VarifocalNet): alpha 0.75, gamma 2.
    """
    labels = check_maps(logits, labels=labels)
    check_at_least_zero("alpha", alpha)
    check_at_least_zero("gamma", gamma)
    return elementwise(charges.varifocal, logits, labels, alpha, gamma)


def distance_map_bce(
    logits: Float[Tensor, "*shape"],
    positives: Bool[Tensor, "*shape"],
    distance: Float[Tensor, "*shape"],
    *,
    reach: float = 8.0,
) -> Float[Tensor, "*shape"]:
    """Binary cross entropy whose background counts the more, the farther it is from the nearest label.

    .. math::

        L = \\begin{cases}
            -\\log p & \\text{at a positive} \\
            -\\min(d / r, 1)\\, \\log(1 - p) & \\text{elsewhere}
        \\end{cases}

    Args:
        logits: any shape, floating point.
        positives: bool, the same shape; the pixels nearest to the points.
        distance: :math:`d \\ge 0` in pixels to the nearest labelled point, the same shape; ``inf`` where there is none.
        reach: :math:`r > 0`, the distance in pixels from which on background counts in full.

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit; ``reach`` out of range.

    At a positive it is smallest at p = 1, elsewhere at p = 0: the distance is a weight, not a target.

    Source: a distance map as the weight of cross entropy, as in Ronneberger et al. 2015 and Caliva et al. 2019, but in
    the opposite direction: they weigh most what is near a border, this spares what is near a label, as
    :func:`distance_aware` does. It saturates, so that only a window around each point needs it.
    """
    check_shape(logits, "distance", distance)
    check_positive("reach", reach)
    near = (1 - distance.to(logits.dtype) / reach).clamp(min=0.0)
    return distance_aware(logits, positives, near, alpha=0.0, beta=1.0)


def mse(
    output: Float[Tensor, "*shape"],
    heatmap: Float[Tensor, "*shape"],
    *,
    scale: float = 1.0,
) -> Float[Tensor, "*shape"]:
    """Squared error against a heatmap.

    .. math:: L = (z - s\\,y)^2

    Args:
        output: :math:`z`, what the net puts out, taken as it is: no sigmoid.
        heatmap: :math:`y` in [0, 1], the same shape.
        scale: :math:`s > 0`, the height of the target's peaks.

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit; an option out of range; a heatmap value that is NaN or
            outside [0, 1] (read on the CPU only).

    Smallest at :math:`z = s\\,y`.

    Source: Tompson et al. 2014; Newell et al. 2016 (scale 1).
    """
    return weighted_mse(output, heatmap, scale=scale, positive_weight=0.0)


def weighted_mse(
    output: Float[Tensor, "*shape"],
    heatmap: Float[Tensor, "*shape"],
    *,
    scale: float = 1.0,
    positive_weight: float = 10.0,
) -> Float[Tensor, "*shape"]:
    """Squared error against a heatmap that counts more near the points.

    .. math:: L = (1 + w\\,y)\\,(z - s\\,y)^2

    Args:
        output, heatmap, scale: as for :func:`mse`.
        positive_weight: :math:`w \\ge 0`, extra weight where the heatmap is high; 0 is :func:`mse`.

    Raises:
        TypeError, ValueError: as for :func:`mse`; a weight out of range.

    Smallest at :math:`z = s\\,y`: the weight moves nothing, it only hurries.

    Source: a common practice without one origin; the weight of 10 is that of the map in Wang et al. 2019.
    """
    heatmap = check_maps(output, heatmap=heatmap)
    check_positive("scale", scale)
    check_at_least_zero("positive_weight", positive_weight)
    return elementwise(charges.squared, output, heatmap, scale, positive_weight)


def adaptive_wing(
    output: Float[Tensor, "*shape"],
    heatmap: Float[Tensor, "*shape"],
    *,
    omega: float = 14.0,
    theta: float = 0.5,
    epsilon: float = 1.0,
    alpha: float = 2.1,
) -> Float[Tensor, "*shape"]:
    """Adaptive wing loss: close to the target it is steep where the heatmap is high and flat on background.

    .. math::

        L = \\begin{cases}
            \\omega \\log\\left(1 + |d / \\epsilon|^{\\alpha - y}\\right) & |d| < \\theta \\
            A\\,|d| - C & \\text{else}
        \\end{cases} \\quad d = z - y

    with A and C such that value and slope go on without a break at :math:`|d| = \\theta`.

    Args:
        output: :math:`z`, what the net puts out, taken as it is: no sigmoid.
        heatmap: :math:`y` in [0, 1], the same shape.
        omega: height, above 0.
        theta: where the curve becomes a line, above 0.
        epsilon: width of the curve, above 0.
        alpha: exponent on background, above 2 in the paper, above 1 here (at y = 1 the exponent is alpha - 1).

    Raises:
        TypeError, ValueError: as for :func:`mse`; an option out of range.

    Smallest at :math:`z = y`. Its second derivative is infinite at z = y where alpha - y < 2.

    Source: Wang et al. 2019: omega 14, theta 0.5, epsilon 1, alpha 2.1.
    """
    heatmap = check_maps(output, heatmap=heatmap)
    for name, value in (("omega", omega), ("theta", theta), ("epsilon", epsilon)):
        check_positive(name, value)
    check_above("alpha", alpha, 1.0)
    return elementwise(charges.adaptive_wing, output, heatmap, omega, theta, epsilon, alpha)


def check_maps(logits: Tensor, **maps: Tensor) -> Tensor:
    """Check the one map in ``maps`` against the logits; returns it in their dtype."""
    (name, value), = maps.items()
    check_shape(logits, name, value)
    if value.dtype == torch.bool:
        return value.to(logits.dtype)
    if not value.is_floating_point():
        raise TypeError(f"{name} must be bool or floating point, got {value.dtype}")
    # Reading values on an accelerator would make every step wait for it.
    if is_readable(value) and value.numel():
        low, high = (bound.item() for bound in value.detach().aminmax())
        if not (low >= 0.0 and high <= 1.0):
            raise ValueError(f"{name} must be in [0, 1] and not NaN, got values from {low:g} to {high:g}")
    return value.to(logits.dtype)


def check_shape(logits: Tensor, name: str, value: Tensor) -> None:
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}")
    if value.shape != logits.shape:
        raise ValueError(f"{name} must have the logits' shape {tuple(logits.shape)}, got {tuple(value.shape)}")
