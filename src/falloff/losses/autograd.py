"""Charges as functions that autograd knows: pixel by pixel on dense maps, and summed from the points in one pass."""

from __future__ import annotations

import copy
import functools
import inspect
import mmap
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from falloff.checks import plain
from falloff.heatmaps import Window
from falloff.points import Points, is_plain

# What a loss charges each element of some logits x, and the slope of that charge, d value / d x. Slopes are written out
# because they come almost free with the value, keep one map where autograd would keep seven, and stay finite where its
# chain of powers does not (a slope of ``p ** gamma`` is infinite at p = 0 when gamma < 1).
Charge = tuple[Tensor, Tensor]

COMPILED_FROM = 2**18  # elements of the logits; a compiler's start-up costs more than it saves on smaller maps
# Before PyTorch 2.13 the shapes of all losses are counted together, and no more than eight are compiled.
COMPILES = "isolate_recompiles" in inspect.signature(torch.compile).parameters
USUAL = (0, 1, 2, 4)  # exponents for which products take the place of a power
PART = 2**22  # pixels that are drawn at a time: 16 MB


@runtime_checkable
class Summand(Protocol):
    """What a loss that is a sum over pixels says about itself.

    With ``marked``, a positive is charged by another rule than its heat, and weights of points concern positives alone.
    ``numbers`` names the options that ``charge`` and ``pixel_weight`` calculate with but take no decision by, and
    ``exponents`` those that do so for the values in :data:`USUAL` alone: a compiled loss takes them as tensors, and is
    not compiled anew for another value.
    """

    marked: ClassVar[bool]
    numbers: ClassVar[tuple[str, ...]]
    exponents: ClassVar[tuple[str, ...]]

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge: ...

    def pixel_weight(self, heat: Tensor) -> Tensor | None: ...


def elementwise(charge: Callable[..., Charge], x: Tensor, *constants: object) -> Tensor:
    """The charge of each element of ``x``. Where a constant wants a gradient, too, all of them are autograd's."""
    constants = tuple(one if isinstance(one, Tensor) else plain(one) for one in constants)
    learned = any(isinstance(constant, Tensor) and constant.requires_grad for constant in constants)
    if learned or not (x.requires_grad and torch.is_grad_enabled()):  # the latter lets forward-mode derivatives through
        return _pair(charge(x, *constants))[0]
    return _Elementwise.apply(x, charge, *constants)[0]


def _pair(charged: object) -> Charge:
    """What a charge has returned, if it is a charge and its slope."""
    if not (isinstance(charged, tuple) and len(charged) == 2 and all(isinstance(part, Tensor) for part in charged)):
        raise TypeError("charge must return two tensors, the charge of each pixel and its slope by the logit, got "
                        f"{type(charged).__name__}")
    return charged


def total(loss: Summand, x: Tensor, window: Window, points: Points, shares: Tensor, mask: Tensor | None) -> Tensor:
    """The sums of a loss over the labelled pixels and over all others of maps ``(B, C, ...)``: ``(B, 2)``.

    Each image's are multiplied by its share; in float32 or float64. Large maps that want a gradient go through the
    compiled pass where there is a compiler. Everything else (torch.func, a compiler around the call, second
    derivatives, points whose Gaussians are learned) goes through the eager form, which is the reference.
    """
    learned = points.xy.requires_grad or (points.sigma is not None and points.sigma.requires_grad)
    if _compiled_pass_wanted(x) and not learned:
        try:
            return _Compiled.apply(x, loss, window, points, shares, mask)
        except _compiler_errors() as error:
            _give_up(error)
    return reference(loss, x, window, points, shares, mask)


def reference(loss: Summand, x: Tensor, window: Window, points: Points, shares: Tensor, mask: Tensor | None) -> Tensor:
    """:func:`total` in plain tensor operations."""
    flat = _flat(x, window).to(work_dtype(x))
    heat, positive, weight = targets(loss, window, points, flat.dtype)
    if mask is not None:
        mask = _flat(mask, window)
        flat = torch.where(mask, flat, 0.0)
    value = elementwise(loss.charge, flat, heat, positive)
    if weight is not None:
        value = value * weight
    if mask is not None:
        value = torch.where(mask, value, 0.0)
    return _parted(value, positive) * shares[:, None]


def targets(
    loss: Summand, window: Window, points: Points, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The rendered maps, the labelled pixels and what their charges are multiplied by, as flat rows ``(B, pixels)``."""
    index, value = window.pixels(points)
    value = value.to(dtype)
    heat = window.merged(index, value)
    weight, own = _weight(loss, window, points, index, value, heat), loss.pixel_weight(_unflat(heat, window))
    if own is not None:
        weight = _flat(own, window) if weight is None else weight * _flat(own, window)
    return heat, window.labelled(points, index), weight


def is_readable(x: Tensor) -> bool:
    """Whether Python may look at ``x`` without making an accelerator wait."""
    return x.device.type == "cpu" and is_plain()


def is_channels_last(x: Tensor) -> bool:
    """Whether maps lie in memory with the class last, as convolutions on the CPU prefer."""
    return x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


class _Elementwise(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, charge: Callable[..., Charge], *constants: object) -> Charge:
        return _pair(charge(x, *constants))

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        x, ctx.charge, *ctx.constants = inputs
        ctx.save_for_backward(x, output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted: the slope must know where it came from
            slope = ctx.charge(x, *ctx.constants)[1]
        return grad * slope, None, *(None for _ in ctx.constants)


class _Compiled(torch.autograd.Function):
    """One pass over the logits for value and gradient, some images at a time, whose maps a buffer holds."""

    # Nothing in here needs a gradient, but the mode stays what it is outside: where a sampling profiler such as that of
    # Dask's workers holds a frame of the compiler for a moment, the compiler leaves it on, and fails if it was off.
    @staticmethod
    @torch.enable_grad()
    def forward(ctx, x: Tensor, loss: Summand, window: Window, points: Points, shares: Tensor,
                mask: Tensor | None) -> Tensor:
        flat = _flat(x.detach(), window)
        slope = _room(flat, work_dtype(x))
        one_pass = _compiled(type(loss), torch.get_num_threads(), x.device.type)
        numbered = _with_tensors(loss, x.device)
        part = _part(flat, window, points)
        marks = _room(slope[:part], slope.dtype)
        sums = []
        for first in range(0, len(flat), part):
            some = slice(first, first + part)
            weight = _draw(loss, window, points if part == len(flat) else points[some], marks.zero_())
            hidden = None if mask is None else _flat(mask[some], window)
            sums.append(one_pass(numbered, window, flat[some], marks, slope[some], shares[some, None], weight, hidden))
        ctx.save_for_backward(x)
        ctx.slope, ctx.again = slope, (loss, window, points, shares, mask)
        return torch.cat(sums).to(slope.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        loss, window, *rest = ctx.again
        slope, ctx.slope = ctx.slope, None  # handed over: it may become the logits' own grad, to be changed in place
        if slope is None or torch.is_grad_enabled():
            with torch.enable_grad():
                value = reference(loss, x, window, *rest)
            (slope,) = torch.autograd.grad(value, x, grad, create_graph=torch.is_grad_enabled())
        else:
            # loss.backward() hands down 1: on the CPU, where looking is free, a pass over the maps is saved.
            if not (is_readable(grad) and bool((grad == 1).all())):
                index, labelled = window.nearest(rest[0], window.pixels(rest[0])[0])
                there = slope.gather(1, index) * torch.where(labelled, grad[:, :1], grad[:, 1:])
                slope = (slope * grad[:, 1:]).scatter_(1, index, there)
            slope = _unflat(slope, window)
        return slope.to(x.dtype), None, None, None, None, None


def _room(like: Tensor, dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor; on the CPU in the memory of an earlier one, if no tensor lies in that any more.

    Memory of this size comes from the system and goes back to it, and to have its pages filled again can take as long
    as the loss.
    """
    size = like.numel() * dtype.itemsize
    if like.device.type != "cpu" or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty_like(like, dtype=dtype)
    with _rooms_lock:
        room = next((room for room, user in _rooms if len(room) == size and user() is None), None)
        if room is None:
            room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            room.madvise(mmap.MADV_HUGEPAGE)
        user = memoryview(room)  # lives as long as any tensor in it
        others = [other for other in _rooms if other[0] is not room]
        _rooms[:] = [(room, weakref.ref(user)), *others[:2]]
        return torch.frombuffer(user, dtype=dtype).view(like.shape)


# The latest three, for two gradients and a buffer, and who uses each.
_rooms: list[tuple[mmap.mmap, weakref.ref[memoryview]]] = []
_rooms_lock = threading.Lock()


def _part(flat: Tensor, window: Window, points: Points) -> int:
    """How many images to draw at a time on the CPU, for neither maps nor windows to take much room; all on a GPU."""
    if flat.device.type != "cpu":
        return len(flat)
    near = points.label.shape[1] * (2 * window.reach + 1) ** len(window.size)
    most = max(1, min(len(flat), PART // max(flat.shape[1], near)))
    return next(size for size in range(most, 0, -1) if len(flat) % size == 0)


def _draw(loss: Summand, window: Window, points: Points, marks: Tensor) -> Tensor | None:
    """Draw the points into ``marks``, ``(B, pixels)``, zeros before; returns the pixels' weights if points have any.

    What is drawn at labelled pixels is made negative, so that one map tells both.
    """
    index, value = window.pixels(points)
    value = value.to(marks.dtype)
    marks.scatter_reduce_(1, index, value, "amax")
    weight = _weight(loss, window, points, index, value, marks)
    index, labelled = window.nearest(points, index)
    heat = marks.gather(1, index)
    marks.scatter_(1, index, torch.where(labelled, -heat.clamp(min=torch.finfo(heat.dtype).tiny), heat))
    return weight


def _weight(
    loss: Summand, window: Window, points: Points, index: Tensor, value: Tensor, heat: Tensor
) -> Tensor | None:
    """What each pixel's charge is multiplied by on account of its points, None for nothing.

    ``index`` and ``value`` are the window's pixels, ``heat`` the maps drawn of them.
    """
    if points.weight is None:
        return None
    if loss.marked:
        heat = window.labelled(points, index).to(heat.dtype)
        window = replace(window, kind="pixel", reach=0, sigma=None)
        index, value = window.pixels(points)
    return 1 + heat * (window.weights(points, index, value.to(heat.dtype), heat) - 1)


def _parted(value: Tensor, positive: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Each row's sum over the labelled pixels and, in another dtype, over the many others, ``(B, 2)``."""
    positives, background = torch.where(positive, value, 0.0).sum(1), torch.where(positive, 0.0, value)
    return torch.stack([positives.to(dtype), background.sum(1, dtype=dtype)], 1)


def _one_pass(loss: Summand, window: Window, x: Tensor, marks: Tensor, out: Tensor, shares: Tensor,
              weight: Tensor | None, mask: Tensor | None) -> Tensor:
    """Sum the loss over some images, in parts, and write its gradient to ``out``."""
    heat, positive = marks.abs(), marks < 0
    x = x.to(out.dtype)
    if mask is not None:
        x = torch.where(mask, x, 0.0)
    value, slope = loss.charge(x, heat, positive)
    own = loss.pixel_weight(_unflat(heat, window))
    factor = shares if weight is None else shares * weight
    if own is not None:
        factor = factor * _flat(own, window)
    if mask is not None:
        factor = torch.where(mask, factor, 0.0)
    out.copy_(slope * factor)
    # Summed in float64, which is almost free here: one float32 sum of millions would be off in the sixth digit.
    return _parted(value * factor, positive, torch.float64)


@functools.lru_cache(maxsize=256)
def _compiled(loss: type, threads: int, device: str) -> Callable[..., Tensor]:
    """The pass of a kind of loss. Another option that decides, or another shape, is compiled anew."""

    def one_pass(*given: Any) -> Tensor:
        return _one_pass(*given)

    # One loop over the pixels that keeps nothing on the way, however long the formula: an intermediate that is written
    # down, as the compiler would from 30 operations on, costs more than all the rest. One small kernel needs no pool of
    # compiler processes. The number of threads is part of what is compiled.
    options: dict[str, Any] = {"compile_threads": 1, "realize_opcount_threshold": 10**4,
                               "realize_reads_threshold": 10**4}
    if device == "cpu":
        # A product and a sum may be one instruction, rounded once.
        options |= {"cpp.threads": threads, "cpp.enable_floating_point_contract_flag": "fast"}
    # Compiled anew for every shape: code for any shape at once would be ten times slower.
    return torch.compile(  # type: ignore[call-overload]  # PyTorch's types lack what came last
        one_pass, fullgraph=True, dynamic=False, isolate_recompiles=True, recompile_limit=256, options=options)


def _with_tensors(loss: Summand, device: torch.device) -> Summand:
    """A loss whose ``numbers`` and ``exponents`` are tensors."""
    given = {name: getattr(loss, name) for name in loss.numbers + loss.exponents}
    given = {name: value for name, value in given.items()
             if value is not None and not (name in loss.exponents and value in USUAL)}
    new = copy.copy(loss) if given else loss
    for name, value in given.items():
        object.__setattr__(new, name, torch.full((), value, dtype=torch.float64, device=device))
    return new


def _compiled_pass_wanted(x: Tensor) -> bool:
    return (
        x.numel() >= COMPILED_FROM and x.requires_grad and torch.is_grad_enabled() and is_plain()
        and x.device.type in ("cpu", "cuda") and compiler_works()
    )


def compiler_works() -> bool:
    """Whether losses of large maps are compiled: not when the environment variable FALLOFF_COMPILE is 0, nor once a
    compiler has failed in this process, nor before PyTorch 2.13.

    Raises:
        ValueError: FALLOFF_COMPILE is neither 0 nor 1.
    """
    value = os.environ.get("FALLOFF_COMPILE") or "1"
    if value not in ("0", "1"):
        raise ValueError(f"FALLOFF_COMPILE must be 0 or 1, got {value!r}")
    return value == "1" and COMPILES and _wanted.get() and not _given_up


_wanted: ContextVar[bool] = ContextVar("compiled", default=True)


@contextmanager
def compiled(wanted: bool) -> Iterator[None]:
    """Whether losses of large maps may be compiled in this block; a compiler that fails in it is given up for it alone.

    What fails may be one loss, which a compiler cannot follow: those that come after the block are not its matter.
    """
    before, known = _wanted.set(wanted), len(_given_up)
    try:
        yield
    finally:
        _wanted.reset(before)
        del _given_up[known:]


_given_up: list[str] = []  # why the compiler is not tried again in this process


def _compiler_errors() -> tuple[type[BaseException], ...]:
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    return FailOnRecompileLimitHit, TorchDynamoException


def _give_up(error: BaseException) -> None:
    """Warn, and take the eager form from now on; after too many shapes of one loss, for this call alone."""
    if isinstance(error, _compiler_errors()[0]):
        warnings.warn("a loss met more shapes than are compiled: this one takes the slower eager form",
                      RuntimeWarning, stacklevel=5)
        return
    reason = (str(error).strip() or repr(error)).splitlines()[0]
    _given_up.append(reason)
    warnings.warn(
        f"torch.compile does not work here, so losses take their slower eager form: {type(error).__name__}: {reason} "
        "(a C++ compiler such as g++ mends it; FALLOFF_COMPILE=0 asks for the eager form without this warning)",
        RuntimeWarning, stacklevel=5,
    )


def work_dtype(x: Tensor) -> torch.dtype:
    """What a loss is computed in: half precision in float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _flat(maps: Tensor, window: Window) -> Tensor:
    return (maps.movedim(1, -1) if window.channels_last else maps).flatten(1)


def _unflat(flat: Tensor, window: Window) -> Tensor:
    if window.channels_last:
        return flat.view(len(flat), *window.size, window.classes).movedim(-1, 1)
    return flat.view(len(flat), window.classes, *window.size)
