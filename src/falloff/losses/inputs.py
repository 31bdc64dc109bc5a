"""Checks of the tensors that losses are called with."""

from __future__ import annotations

import torch
from torch import Tensor

from falloff.losses.autograd import is_plain, is_readable
from falloff.points import Points


def check_logits(logits: object, points: object, name: str = "logits") -> None:
    """Raise unless these fit a call of :class:`falloff.losses.PointLoss`: types, dtypes and shapes."""
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        kind = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise TypeError(f"{name} must be a floating point tensor, got {kind}")
    if logits.ndim not in (4, 5):
        raise ValueError(
            f"{name} must have shape (batch, classes, height, width) or, for a volume, (batch, classes, depth, "
            f"height, width), got {tuple(logits.shape)}"
        )
    if not isinstance(points, Points):
        raise TypeError(f"points must be falloff.points.Points, got {type(points).__name__}")
    if len(points) != len(logits):
        raise ValueError(f"{name} hold {len(logits)} images, points {len(points)}: the two must be equal")


def check_mask(mask: object, shape: tuple[int, ...]) -> None:
    """Raise unless a mask is bool and fits maps of a shape."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask must be a bool tensor, got {kind}")
    if not (mask.ndim == len(shape) and all(m in (1, n) for m, n in zip(mask.shape, shape, strict=True))):
        raise ValueError(
            f"mask must have as many axes as the logits {shape}, each as long or of length 1, as in (batch, 1, height, "
            f"width); got {tuple(mask.shape)}"
        )


def refuse_probabilities(logits: Tensor) -> None:
    """Raise ValueError where autograd says that logits are the output of a sigmoid or softmax: all of their parts.

    Looks through what only moves, joins, converts, clamps or averages numbers: mostly at one node, never at a value.
    """
    pending, found = [logits.grad_fn] if is_plain() else [], ""
    for _ in range(64):
        if not pending:
            break
        made_by = pending.pop()
        name, _, version = type(made_by).__name__.partition("Backward")  # somebody's own functions have no version
        if name in _SQUASHES:
            found = name.lower()
        elif made_by is not None and version and name.startswith(_KEEPS):
            pending += [before for before, _ in made_by.next_functions]
        elif made_by is not None:  # None made a constant, such as a border
            return
    if found and not pending:
        raise ValueError(f"logits must be what comes before the sigmoid, got the output of a {found}")


_SQUASHES = ("Sigmoid", "Hardsigmoid", "LogSigmoid", "Softmax", "LogSoftmax")
# How autograd's names of operations begin that move, join, convert, clamp or average numbers.
_KEEPS = ("AdaptiveAvgPool", "AdaptiveMaxPool", "Alias", "AsStrided", "AvgPool", "Cat", "Clamp", "Clone",
          "ConstantPad", "Diagonal", "Expand", "Flip", "Gather", "Index", "MaskedFill", "MaxPool", "Permute", "Pixel",
          "Reflection", "Repeat", "Replication", "Reshape", "Roll", "Rot90", "Select", "Slice", "Split", "Squeeze",
          "Stack", "ToCopy", "Transpose", "Unbind", "Unfold", "Unsafe", "Unsqueeze", "Upsample", "View",
          "Where")


def check_finite(logits: Tensor, mask: Tensor | None) -> None:
    """Raise ValueError where a logit is NaN or infinite; a loss that is may also just be past the dtype's range."""
    bad = ~torch.isfinite(logits) if mask is None else ~torch.isfinite(logits) & mask
    if bool(bad.any()):
        place = bad.nonzero()[0].tolist()
        raise ValueError(
            f"logits must be finite: {int(bad.sum())} of {logits.numel()} are not, the first at (image, class, "
            f"{'slice, ' * (logits.ndim - 4)}row, column) {tuple(place)} is {logits[tuple(place)].item()}"
        )


def check_map(name: str, value: Tensor, logits: Tensor) -> None:
    """Raise unless ``value`` is bool or in [0, 1] and has the shape of the logits."""
    check_shape(name, value, logits)
    if value.dtype == torch.bool:
        return
    if not value.is_floating_point():
        raise TypeError(f"{name} must be bool or floating point, got {value.dtype}")
    # Reading values on an accelerator would make every step wait for it.
    if is_readable(value) and value.numel():
        low, high = (bound.item() for bound in value.detach().aminmax())
        if not (low >= 0.0 and high <= 1.0):
            raise ValueError(f"{name} must be in [0, 1] and not NaN, got values from {low:g} to {high:g}")


def check_bool_map(name: str, value: Tensor, logits: Tensor) -> None:
    """Raise unless ``value`` is bool and has the shape of the logits."""
    if value.dtype != torch.bool:
        raise TypeError(f"{name} must be bool, got {value.dtype}")
    check_shape(name, value, logits)


def check_shape(name: str, value: Tensor, logits: Tensor) -> None:
    """Raise unless the logits are floating point and ``value`` has their shape."""
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}")
    if value.shape != logits.shape:
        raise ValueError(f"{name} must have the logits' shape {tuple(logits.shape)}, got {tuple(value.shape)}")
