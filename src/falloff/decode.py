"""From score maps to points: local maxima, the best of them, and where between pixels they lie."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import max_pool2d

from falloff.checks import check_count, check_number, check_one_of, is_whole
from falloff.points import Points

Refinement = Literal["none", "quarter", "parabola", "log-parabola", "soft-argmax", "offsets"]
SOFT_REACH = 2  # the local soft-argmax looks at 5 x 5 pixels


def peaks(
    scores: Float[Tensor, "batch classes height width"],
    *,
    count: int,
    threshold: float | None = None,
    window: int = 3,
    refine: Refinement = "none",
    offsets: Float[Tensor, "batch 2 height width"] | None = None,
) -> Points:
    """The ``count`` highest local maxima of each image, over all its classes, best first.

    A pixel is a local maximum when no pixel of the ``window`` x ``window`` square around it is higher. Of equal pixels
    in one square the first in reading order counts, so a flat top as wide as a window gives one point, not one for
    each pixel; pixels at the border compare with what lies inside.

    Args:
        scores: floating point; probabilities, logits or raw outputs: only their order matters, except for
            ``threshold`` and the refinements after "quarter"; "log-parabola" and "soft-argmax" take what is below 0
            for 0, so they want probabilities or heatmaps.
        count: points per image, above 0; images with fewer maxima are padded.
        threshold: smallest score that counts; None keeps all.
        window: odd, at least 1, in pixels.
        refine: where between pixels a point lies. "none": on its pixel. "quarter": 0.25 px towards the higher
            neighbour, along each axis (Newell et al. 2016, section 3.3). "parabola": the top of the parabola through
            three pixels, along each axis. "log-parabola": the top of the paraboloid through the logarithm of the
            3 x 3 pixels, :math:`-H^{-1} g` with gradient g and Hessian H from differences; exact for a Gaussian
            (DARK, Zhang et al. 2020, without its smoothing). "soft-argmax": the mean position of the 5 x 5
            pixels, weighted by their scores. "offsets": what the net learned, read from ``offsets``. No refinement
            but the last moves a point by more than half a pixel along an axis; a point at the border is not moved
            across it, and where a neighbour is missing an axis is left alone.
        offsets: for ``refine="offsets"``, how far each pixel's point lies from its centre, (x, y) in pixels,
            ``(B, 2, H, W)`` for all classes (Law and Deng 2018, equation 2).

    Returns:
        Points with ``score``; the label is the class of the map. Positions in pixels, float32 (float64 when
        the scores are).

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or range; NaN among the scores (on the CPU).

    Example:
        >>> import torch
        >>> from falloff import decode
        >>> scores = torch.tensor([[.1, .2, .1], [.3, .9, .5], [.1, .2, .1]])
        >>> decode.peaks(scores[None, None], count=1, refine="quarter").xy
        tensor([[[1.2500, 1.0000]]])
    """
    _check(scores, count, threshold, window, refine, offsets)
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
    if offsets is not None:
        image = torch.arange(len(scores), device=scores.device)[:, None]
        edge = xy.new_tensor([width, height]) - 0.5
        xy = (xy + offsets.to(dtype)[image, :, row, column]).clamp(min=-0.5).minimum(edge)
    elif refine != "none":
        xy = xy + _refined(_around(scores.to(dtype), label, row, column, refine), refine)
    score = torch.where(valid, score, 0.0)
    return _padded(xy, label, valid, score, count)


def _around(scores: Tensor, label: Tensor, row: Tensor, column: Tensor, refine: Refinement) -> Tensor:
    """The square of pixels around each peak, ``(B, count, w, w)``; NaN outside the picture."""
    reach = SOFT_REACH if refine == "soft-argmax" else 1
    height, width = scores.shape[2:]
    step = torch.arange(-reach, reach + 1, device=scores.device)
    rows, columns = row[..., None, None] + step[:, None], column[..., None, None] + step
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    image = torch.arange(len(scores), device=scores.device)[:, None, None, None]
    there = scores[image, label[..., None, None], rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
    return torch.where(inside, there, torch.nan)


def _refined(square: Tensor, refine: Refinement) -> Tensor:
    """How far the peak in the middle of each square moves along x and y, in pixels."""
    if refine == "soft-argmax":
        weight = square.nan_to_num(nan=0.0).clamp(min=0.0)
        weight = weight / weight.sum((-2, -1), keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
        step = torch.arange(-SOFT_REACH, SOFT_REACH + 1, dtype=weight.dtype, device=weight.device)
        move = torch.stack([(weight.sum(-2) * step).sum(-1), (weight.sum(-1) * step).sum(-1)], dim=-1)
        across = torch.stack([square[..., SOFT_REACH, :].sum(-1), square[..., :, SOFT_REACH].sum(-1)], dim=-1)
        move = torch.where(torch.isnan(across), torch.nan, move)
    else:
        if refine == "log-parabola":
            square = square.clamp(min=torch.finfo(square.dtype).tiny).log()
        centre = square[..., 1, 1]
        before = torch.stack([square[..., 1, 0], square[..., 0, 1]], dim=-1)  # left, above
        after = torch.stack([square[..., 1, 2], square[..., 2, 1]], dim=-1)  # right, below
        rise, bend = 0.5 * (after - before), before - 2 * centre[..., None] + after
        if refine == "quarter":
            move = 0.25 * torch.sign(rise)
        else:
            move = _top(rise, bend)
            if refine == "log-parabola":
                corners = square[..., 2, 2] + square[..., 0, 0] - square[..., 0, 2] - square[..., 2, 0]
                move = _joint_top(rise, bend, 0.25 * corners, move)
    # At the border a neighbour is NaN: along that axis the point stays.
    return torch.where(torch.isfinite(move), move, 0.0).clamp(-0.5, 0.5)


def _top(rise: Tensor, bend: Tensor) -> Tensor:
    """Where a parabola with this slope and curvature at 0 is highest; 0 if it is flat."""
    return torch.where(bend < 0, -rise / torch.where(bend < 0, bend, 1.0), torch.where(bend >= 0, 0.0, bend))


def _joint_top(rise: Tensor, bend: Tensor, twist: Tensor, separate: Tensor) -> Tensor:
    """Where the paraboloid with that twist is highest; what the axes say separately where it has no top."""
    determinant = bend[..., 0] * bend[..., 1] - twist**2
    has_top = (determinant > 1e-6 * bend[..., 0] * bend[..., 1]) & (bend < 0).all(-1)
    safe = torch.where(has_top, determinant, 1.0)
    x = (twist * rise[..., 1] - bend[..., 1] * rise[..., 0]) / safe
    y = (twist * rise[..., 0] - bend[..., 0] * rise[..., 1]) / safe
    return torch.where(has_top[..., None], torch.stack([x, y], dim=-1), separate)


def _padded(xy: Tensor, label: Tensor, valid: Tensor, score: Tensor, count: int) -> Points:
    missing = count - xy.shape[1]
    if missing > 0:
        xy = torch.nn.functional.pad(xy, (0, 0, 0, missing))
        label, valid, score = (torch.nn.functional.pad(part, (0, missing)) for part in (label, valid, score))
    return Points(xy, label, valid, score)


def _check(
    scores: Tensor, count: int, threshold: float | None, window: int, refine: str, offsets: Tensor | None
) -> None:
    if not isinstance(scores, Tensor) or not scores.is_floating_point():
        raise TypeError("scores must be a floating point tensor")
    if scores.ndim != 4:
        raise ValueError(f"scores must have shape (batch, classes, height, width), got {tuple(scores.shape)}")
    check_count("count", count)
    if threshold is not None:
        check_number("threshold", threshold)
    if not (is_whole(window) and window > 0 and window % 2 == 1):
        raise ValueError(f"window must be an odd integer, at least 1, got {window!r}")
    check_one_of("refine", refine, get_args(Refinement))
    if (refine == "offsets") != (offsets is not None):
        raise ValueError(f"offsets and refine='offsets' go together, got refine={refine!r}")
    if offsets is not None:
        wanted = (len(scores), 2, *scores.shape[2:])
        if not isinstance(offsets, Tensor) or not offsets.is_floating_point():
            raise TypeError("offsets must be a floating point tensor")
        if offsets.shape != wanted:
            raise ValueError(f"offsets must have shape {wanted}, got {tuple(offsets.shape)}")
    if scores.device.type == "cpu" and bool(torch.isnan(scores).any()):
        raise ValueError("scores hold NaN")
