"""From score maps to points: local maxima, the best of them, and where between pixels they lie."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import max_pool2d

from falloff.points import Points

Refinement = Literal["none", "quarter", "parabola"]


def peaks(
    scores: Float[Tensor, "batch classes height width"],
    *,
    count: int,
    threshold: float | None = None,
    window: int = 3,
    refine: Refinement = "none",
) -> Points:
    """The ``count`` highest local maxima of each image, over all its classes, best first.

    A pixel is a local maximum when no pixel of the ``window`` x ``window`` square around it is higher. Of equal
    neighbours the first in reading order counts, so a flat top gives one point, not one for each pixel; pixels at the
    border compare with what lies inside.

    Args:
        scores: floating point; probabilities, logits or raw outputs: only their order matters, except for
            ``threshold`` and ``refine="parabola"``.
        count: points per image, above 0; images with fewer maxima are padded.
        threshold: smallest score that counts; None keeps all.
        window: odd, at least 1, in pixels.
        refine: "none" leaves a point on its pixel; "quarter" moves it by 0.25 px towards the higher neighbour,
            along each axis (Newell et al. 2016, section 3.3); "parabola" to the top of the parabola through
            three pixels, along each axis. A point at the border is not moved across it.

    Returns:
        Points with ``score``; the label is the class of the map. Positions in pixels, float32 (float64 when
        the scores are).

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or range; NaN among the scores (on the CPU).
    """
    _check(scores, count, threshold, window, refine)
    height, width = scores.shape[2:]
    pooled = scores.contiguous(memory_format=torch.channels_last)  # pooling runs twice as fast in this layout
    _, winner = max_pool2d(pooled, window, stride=1, padding=window // 2, return_indices=True)
    own = torch.arange(height * width, device=scores.device).view(height, width)
    is_peak = winner == own
    if threshold is not None:
        is_peak &= scores >= threshold
    flat = torch.where(is_peak, scores, -torch.inf).flatten(1)
    score, index = flat.topk(min(count, flat.shape[1]), dim=1)
    valid = score > -torch.inf
    label, pixel = index // (height * width), index % (height * width)
    row, column = pixel // width, pixel % width
    dtype = torch.float64 if scores.dtype == torch.float64 else torch.float32
    xy = torch.stack([column, row], dim=-1).to(dtype)
    if refine != "none":
        xy = xy + _offset(scores.to(dtype), label, row, column, refine)
    score = torch.where(valid, score, 0.0)
    return _padded(xy, label, valid, score, count)


def _offset(scores: Tensor, label: Tensor, row: Tensor, column: Tensor, refine: Refinement) -> Tensor:
    """How far to move each peak along x and y, in pixels."""
    batch, _, height, width = scores.shape
    image = torch.arange(batch, device=scores.device)[:, None]
    centre = scores[image, label, row, column]
    moves = []
    for step_row, step_column, at, length in ((0, 1, column, width), (1, 0, row, height)):
        before = scores[image, label, (row - step_row).clamp(min=0), (column - step_column).clamp(min=0)]
        below, right = (row + step_row).clamp(max=height - 1), (column + step_column).clamp(max=width - 1)
        after = scores[image, label, below, right]
        if refine == "quarter":
            move = 0.25 * torch.sign(after - before)
        else:
            bend = before - 2 * centre + after  # at a maximum not above 0
            move = torch.where(bend < 0, 0.5 * (before - after) / torch.where(bend < 0, bend, 1.0), 0.0)
        moves.append(torch.where((at > 0) & (at < length - 1), move, 0.0))
    return torch.stack(moves, dim=-1)


def _padded(xy: Tensor, label: Tensor, valid: Tensor, score: Tensor, count: int) -> Points:
    missing = count - xy.shape[1]
    if missing > 0:
        xy = torch.nn.functional.pad(xy, (0, 0, 0, missing))
        label, valid, score = (torch.nn.functional.pad(part, (0, missing)) for part in (label, valid, score))
    return Points(xy, label, valid, score)


def _check(scores: Tensor, count: int, threshold: float | None, window: int, refine: str) -> None:
    if not isinstance(scores, Tensor) or not scores.is_floating_point():
        raise TypeError("scores must be a floating point tensor")
    if scores.ndim != 4:
        raise ValueError(f"scores must have shape (batch, classes, height, width), got {tuple(scores.shape)}")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"count must be an integer above 0, got {count!r}")
    if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, (int, float))):
        raise TypeError(f"threshold must be None or a number, got {threshold!r}")
    if not isinstance(window, int) or isinstance(window, bool) or window < 1 or window % 2 == 0:
        raise ValueError(f"window must be an odd integer, at least 1, got {window!r}")
    if refine not in get_args(Refinement):
        raise ValueError(f"refine must be one of {', '.join(get_args(Refinement))}, got {refine!r}")
    if scores.device.type == "cpu" and bool(torch.isnan(scores).any()):
        raise ValueError("scores hold NaN")
