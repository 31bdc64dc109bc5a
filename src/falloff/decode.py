"""From score maps to points: local maxima, the best of them, and where between pixels they lie."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from falloff.checks import check_count, check_number, check_one_of, check_ratio, is_whole, plain
from falloff.points import Points, is_plain

Refinement = Literal["none", "quarter", "parabola", "log-parabola", "soft-argmax", "offsets"]
AT_ONCE = 2**17  # pixels that a thread looks at in one go
STRIP = 128  # pixels of which the highest maximum is known before any are sorted


def peaks(
    scores: Float[Tensor, "batch classes height width"],
    *,
    count: int | None = None,
    threshold: float | None = None,
    window: int = 3,
    refine: Refinement = "none",
    soft_window: int = 5,
    offsets: Float[Tensor, "batch axes height width"] | None = None,
    per_class: bool = False,
    mask: Bool[Tensor, "batch #classes height width"] | None = None,
    stride: int | float = 1,
) -> Points:
    """The ``count`` highest local maxima of each image, over all its classes, best first; or those of each map.

    A pixel is a local maximum when no pixel of the ``window`` x ``window`` square around it is higher. Of equal pixels
    in one square the first in reading order counts, so a flat top as wide as a window gives one point, not one for
    each pixel; pixels at the border compare with what lies inside. Of equal maxima the first come first: by class,
    then in reading order.

    Args:
        scores: floating point; probabilities, logits or raw outputs: only their order matters, except for
            ``threshold`` and the refinements after "quarter"; "log-parabola" and "soft-argmax" take what is below 0
            for 0, so they want probabilities or heatmaps.
        count: points per image, or per map, above 0; where there are fewer maxima the rest is padding. With
            ``per_class`` it may be left out and is 1.
        threshold: smallest score that counts; None keeps all.
        window: odd, at least 1, in pixels; its size costs no time.
        refine: where between pixels a point lies. "none": on its pixel. "quarter": 0.25 px towards the higher
            neighbour, along each axis (Newell et al. 2016, section 3.3). "parabola": the top of the parabola through
            three pixels, along each axis. "log-parabola": the top of the paraboloid through the logarithm of the
            3 x 3 pixels, :math:`-H^{-1} g` with gradient g and Hessian H from differences; exact for a Gaussian
            (DARK, Zhang et al. 2020, without its smoothing). "soft-argmax": the mean position of the
            ``soft_window`` x ``soft_window`` pixels, weighted by their scores. "offsets": what the net learned, read
            from ``offsets``. No refinement but the last moves a point by more than half a pixel along an axis; a point
            at the border is not moved across it, and where a neighbour is missing an axis is left alone.
        soft_window: odd, at least 3, in pixels.
        offsets: for ``refine="offsets"``, how far each pixel's point lies from its centre, (x, y) in pixels of the
            map: ``(B, 2, H, W)`` for all classes (Law and Deng 2018, equation 2), or ``(B, 2 C, H, W)``, two
            channels for each class.
        per_class: the highest of each map in place of those of the image, as where each class is one key point of one
            person: ``C * count`` points, sorted by class and then best first, so that point ``c * count`` is the best
            of class ``c``.
        mask: bool, ``(B, 1, H, W)`` or ``(B, C, H, W)``; what is False is as if it lay outside of the picture. None
            is True everywhere.
        stride: pixels of the image along a pixel of the maps; positions are then those in the image,
            ``(x + 0.5) * stride - 0.5``.

    Returns:
        Points with ``score``; the label is the class of the map. Positions in pixels of the image, float32 (float64
        when the scores are).

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or range; NaN among the scores (on the CPU, and not
            inside a graph that is compiled, traced or exported: there NaN gives no point, but may take up the place
            of one).

    Example:
        >>> import torch
        >>> from falloff import decode
        >>> scores = torch.tensor([[.1, .2, .1], [.3, .9, .5], [.1, .2, .1]])
        >>> decode.peaks(scores[None, None], count=1, refine="quarter").xy
        tensor([[[1.2500, 1.0000]]])
    """
    count = _checked_count(count, per_class)
    _check(scores, threshold, window, refine, soft_window, offsets, mask, stride)
    threshold, stride = plain(threshold), plain(stride)
    batch, _, height, width = scores.shape
    label, pixel, valid = _highest(scores.detach(), mask, count, int(window), per_class)
    row, column = pixel // width, pixel % width
    image = torch.arange(batch, device=scores.device)[:, None]
    score = scores[image, label, row, column]
    if threshold is not None:
        valid = valid & (score >= threshold)
    dtype = _dtype(scores)
    xy = torch.stack([column, row], dim=-1).to(dtype)
    if offsets is not None:
        channel = torch.zeros_like(label) if offsets.shape[1] == 2 else 2 * label
        moves = [offsets[image, channel + axis, row, column].to(dtype) for axis in (0, 1)]
        edge = xy.new_tensor([width, height]) - 0.5
        xy = (xy + torch.stack(moves, dim=-1)).clamp(min=-0.5).minimum(edge)
    elif refine != "none":
        reach = int(soft_window) // 2 if refine == "soft-argmax" else 1
        xy = xy + _refined(_around(scores, mask, label, row, column, reach).to(dtype), refine)
    return Points(xy, label, valid, torch.where(valid, score, 0.0)).at_stride(1 / stride)


def _highest(
    scores: Tensor, mask: Tensor | None, count: int, window: int, per_class: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Class and pixel of the highest local maxima in each image or map, and where there is one, ``(B, points)``.

    Strips of pixels are chosen first: one that is not among the ``count`` strips with the highest maxima has none of
    the ``count`` highest maxima, so the rest is never sorted.
    """
    if count == 1:
        window = 1  # the highest of all is a maximum in any window
    if window == 1 and _on_cpu(scores):  # then maps can be cut into any lines, and short ones are slow
        pixels = scores.shape[2] * scores.shape[3]
        length = max(scores.shape[3], math.gcd(pixels, STRIP))
        scores = scores.flatten(2).unflatten(2, (pixels // length, length))
        mask = mask if mask is None else mask.flatten(2).unflatten(2, (pixels // length, length))
    batch, classes, height, width = scores.shape
    split = width // STRIP if isinstance(width, int) and width % STRIP == 0 else 1  # strips in a line
    is_peak, best = _in_parts(scores, mask, window, split)
    if _on_cpu(scores) and bool(torch.isnan(best).any()):
        image, label, *_ = torch.isnan(best).nonzero()[0].tolist()
        raise ValueError(f"scores hold NaN: image {image}, class {label}")
    best = best.flatten(0, 1).flatten(1) if per_class else best.flatten(1)
    strip = _first_highest(best, min(count, best.shape[1]))
    strip = strip + best.shape[1] * torch.arange(best.shape[0], device=scores.device)[:, None]
    line = strip // split
    where = line // (classes * height), line // height % classes, line % height, strip % split
    cut = split, width // split
    value = torch.where(is_peak.unflatten(3, cut)[where], scores.unflatten(3, cut)[where].to(best.dtype), -torch.inf)
    value = value.flatten(1)
    place = _first_highest(value, min(count, value.shape[1]))
    value, order = _falling(value.gather(1, place))
    place = place.gather(1, order)
    pixel = strip.gather(1, place // cut[1]) * cut[1] + place % cut[1]
    found = pixel // (height * width) % classes, pixel % (height * width), value > -torch.inf
    shape = batch, count * classes if per_class else count
    label, pixel, valid = (pad(part, (0, count - part.shape[1])).reshape(shape) for part in found)
    return label, pixel, valid


def _first_highest(value: Tensor, count: int) -> Tensor:
    """Where the ``count`` highest of each row are, in rising order; of equals the first, which ``topk`` leaves open."""
    if count == 1:
        return value.argmax(1, keepdim=True)
    last = value.topk(count).values[:, -1:]
    left = torch.arange(value.shape[1], 0, -1, device=value.device)
    rank = (value >= last) * left + (value > last) * value.shape[1]
    return ((value.shape[1] - rank.topk(count).values) % value.shape[1]).sort().values


def _falling(value: Tensor) -> tuple[Tensor, Tensor]:
    """Each row from high to low, equals as they came, and where each was: a stable sort, which ONNX lacks."""
    value, place = value.sort(dim=1, descending=True)
    equals = pad((value[:, 1:] != value[:, :-1]).cumsum(1), (1, 0))
    return value, (equals * value.shape[1] + place).sort(dim=1).values % value.shape[1]


def _on_cpu(scores: Tensor) -> bool:
    """Whether all happens here and now: no device is waited for, and no graph is being made."""
    return scores.device.type == "cpu" and is_plain()


def _dtype(scores: Tensor) -> torch.dtype:
    return torch.float64 if scores.dtype == torch.float64 else torch.float32


def _in_parts(scores: Tensor, mask: Tensor | None, window: int, split: int) -> tuple[Tensor, Tensor]:
    """What ``_local_maxima`` gives, computed on a CPU for as many maps, or lines of one, as its cache holds."""
    if not _on_cpu(scores):
        return _local_maxima(scores, mask, window, split)
    batch, classes, height, width = scores.shape
    lines = max(1, AT_ONCE * torch.get_num_threads() // width)
    maps = max(1, lines // height)
    images, labels, lines = max(1, maps // classes), min(maps, classes), min(lines, height)
    is_peak = torch.empty(scores.shape, dtype=torch.bool)
    best = torch.empty(batch, classes, height, split, dtype=_dtype(scores))
    for b in range(0, batch, images):
        for c in range(0, classes, labels):
            for y in range(0, height, lines):
                above = min(y, window // 2)  # lines that are looked at beside these
                part = slice(b, b + images), slice(c, c + labels), slice(y - above, y + lines + window // 2)
                masked = mask if mask is None else mask.expand(scores.shape)[part]
                found = _local_maxima(scores[part], masked, window, split)
                for all_of_them, some in zip((is_peak, best), found, strict=True):
                    all_of_them[part[0], part[1], y : y + lines] = some[:, :, above : above + lines]
    return is_peak, best


def _local_maxima(scores: Tensor, mask: Tensor | None, window: int, split: int) -> tuple[Tensor, Tensor]:
    """Which pixels are local maxima, and the highest of them in each strip of each line, -inf for none.

    All maps lie in one row of pixels, each line and each map followed by as many of -inf as a window reaches; the row,
    shifted by pixels and by lines, is compared with itself.
    """
    values = scores.to(_dtype(scores))
    if mask is not None:
        values = torch.where(mask, values, -torch.inf)
    height, width = values.shape[2:]
    if window == 1:
        everywhere = torch.ones((), dtype=torch.bool, device=values.device) if mask is None else mask
        return everywhere.expand(values.shape), values.unflatten(3, (split, width // split)).amax(-1)
    reach = min(window // 2, height + width)  # further than that lies nothing
    line = width + reach
    before = reach * line + reach
    maps = pad(values.flatten(0, 1), (0, reach, 0, reach), value=-torch.inf)
    size = maps.numel()
    row = pad(maps.flatten(), (before, before), value=-torch.inf)
    side = _running_maximum(row, reach, 1)  # the highest of the pixels i ... i + reach - 1
    across = torch.maximum(torch.maximum(side[: -reach - 1], side[reach + 1 :]), row[reach:-reach])
    lines = _running_maximum(across, reach, line)
    centre = row[before : before + size]
    # Of equal pixels the first counts: what comes earlier in reading order must be lower, what comes later not higher.
    earlier = torch.maximum(lines[:size], side[reach * line :][:size])
    later = torch.maximum(lines[(reach + 1) * line :][:size], side[before + 1 :][:size])
    # 0 or 1, as numbers: on a CPU booleans and torch.where cost ten times as much.
    is_peak = earlier.lt_(centre).mul_(later.le_(centre))
    heights = torch.minimum(centre, is_peak.sub(0.5).mul_(torch.inf))
    shape = *values.shape[:2], height + reach, line
    is_peak, heights = (part.view(shape)[:, :, :height, :width] for part in (is_peak, heights))
    return is_peak.bool(), heights.unflatten(3, (split, width // split)).amax(-1)


def _running_maximum(row: Tensor, length: int, step: int) -> Tensor:
    """The highest of ``length`` elements, ``step`` apart, from each element on; as many passes as doublings."""
    reached = 1
    while reached < length:
        more = min(reached, length - reached)
        row = torch.maximum(row[: -more * step], row[more * step :])
        reached += more
    return row


def _around(
    scores: Tensor, mask: Tensor | None, label: Tensor, row: Tensor, column: Tensor, reach: int
) -> Tensor:
    """The pixels up to ``reach`` from each peak, ``(B, points, w, w)``; NaN outside the picture and the mask."""
    height, width = scores.shape[2:]
    step = torch.arange(-reach, reach + 1, device=scores.device)
    rows, columns = row[..., None, None] + step[:, None], column[..., None, None] + step
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    image = torch.arange(scores.shape[0], device=scores.device)[:, None, None, None]
    label = label[..., None, None]
    if mask is not None:
        inside = inside & mask.expand_as(scores)[image, label, rows, columns]
    return torch.where(inside, scores[image, label, rows, columns], torch.nan)


def _refined(square: Tensor, refine: Refinement) -> Tensor:
    """How far the peak in the middle of each square moves along x and y, in pixels."""
    if refine == "soft-argmax":
        weight = square.nan_to_num(nan=0.0).clamp(min=0.0)
        weight = weight / weight.sum((-2, -1), keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
        middle = square.shape[-1] // 2
        step = torch.arange(-middle, middle + 1, dtype=weight.dtype, device=weight.device)
        move = torch.stack([(weight.sum(-2) * step).sum(-1), (weight.sum(-1) * step).sum(-1)], dim=-1)
        across = torch.stack([square[..., middle, :].sum(-1), square[..., :, middle].sum(-1)], dim=-1)
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


def _checked_count(count: int | None, per_class: bool) -> int:
    if count is None:
        if not per_class:
            raise ValueError("count must be given, unless per_class=True asks for the highest of each map")
        return 1
    check_count("count", count)
    return int(count)


def _check(
    scores: Tensor, threshold: float | None, window: int, refine: str, soft_window: int, offsets: Tensor | None,
    mask: Tensor | None, stride: int | float,
) -> None:
    if not isinstance(scores, Tensor) or not scores.is_floating_point():
        raise TypeError(f"scores must be a floating point tensor, got {_kind(scores)}")
    if scores.ndim != 4 or 0 in scores.shape[1:]:
        raise ValueError(f"scores must have shape (batch, classes, height, width), got {tuple(scores.shape)}")
    if threshold is not None:
        check_number("threshold", threshold)
    if not (is_whole(window) and window > 0 and window % 2 == 1):
        raise ValueError(f"window must be an odd integer, at least 1, got {window!r}")
    check_one_of("refine", refine, get_args(Refinement))
    if not (is_whole(soft_window) and soft_window >= 3 and soft_window % 2 == 1):
        raise ValueError(f"soft_window must be an odd integer, at least 3, got {soft_window!r}")
    check_ratio("stride", stride)
    if (refine == "offsets") != (offsets is not None):
        raise ValueError(f"offsets and refine='offsets' go together, got refine={refine!r}")
    classes = scores.shape[1]
    if offsets is not None:
        if not isinstance(offsets, Tensor) or not offsets.is_floating_point():
            raise TypeError(f"offsets must be a floating point tensor, got {_kind(offsets)}")
        _check_shape("offsets", offsets, (2, 2 * classes), scores)
    if mask is not None:
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            raise TypeError(f"mask must be a bool tensor, got {_kind(mask)}")
        _check_shape("mask", mask, (1, classes), scores)


def _kind(value: object) -> object:
    return value.dtype if isinstance(value, Tensor) else type(value).__name__


def _check_shape(name: str, value: Tensor, channels: tuple[int, int], scores: Tensor) -> None:
    batch, _, height, width = scores.shape
    allowed = [(batch, depth, height, width) for depth in channels]
    if tuple(value.shape) not in allowed:
        shapes = " or ".join(str(shape) for shape in dict.fromkeys(allowed))
        raise ValueError(f"{name} must have shape {shapes}, got {tuple(value.shape)}")
