"""Labelled points of a batch of images, the one type that flows through the library."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import pad
from torch.utils import _pytree as pytree

from falloff import checks

_OWN = ("xy", "label", "valid", "score", "sigma", "weight")  # arrays that have a field; all others are in extra
_LENGTHS = ("size", "scale")  # of extra, in pixels


@dataclass(frozen=True, eq=False)
class Points:
    """Labelled points of a batch of images, padded to the same number ``N`` per image.

    A coordinate that is an integer is the centre of a pixel, so a picture of width ``W`` reaches from -0.5 to
    ``W - 0.5``, both ends included.

    Args:
        xy: positions in pixels, x to the right, then y down; floating point, ``(B, N, 2)``. In a volume ``(B, N, 3)``,
            with z, the slice, last.
        label: class of each point, ``int64``, ``(B, N)``, not negative.
        valid: ``bool``, ``(B, N)``; False on padding, whose ``xy`` and ``label`` are then set to 0.
        score: how sure a decoder is of each point, floating point, ``(B, N)``; None for labels made by people.
        extra: any other arrays that go with the points, by name, ``(B, N, ...)``, 0 on padding. ``size``
            ``(B, N, 2)``, width and height, and ``scale`` are lengths in pixels.
        sigma: how wide each point's Gaussian is, in place of the one width that a loss or a map is given: standard
            deviations in pixels ``(B, N)``, one for each axis ``(B, N, 2)``, or covariances in square pixels
            ``(B, N, 2, 2)`` for rotated Gaussians (3 in place of 2 in a volume).
        weight: how much each point counts in a loss, ``(B, N)``, finite and at least 0; None is 1 for all.

    Raises:
        TypeError: an argument is not a tensor or its dtype is not the one above.
        ValueError: a shape is wrong, or a valid point has a NaN or infinite position, a negative label, a NaN score, a
            width that is not above 0, a covariance that is not positive definite, or a weight out of range.

    No gradient reaches ``weight``. To give widths or weights to points from lists:
    ``dataclasses.replace(points, weight=...)``.

    Checks that must read values run once, here, and what they found bounds the points from then on: a loss compares
    Python numbers and never waits for the device. A part of a batch keeps the bound of the whole; only where that
    would be refused are the values read again. In a compiled graph, an exported one and under torch.func nothing is
    read: the checks of values then wait until something outside asks for the ``extent``.
    """

    xy: Float[Tensor, "batch points axes"]
    label: Int64[Tensor, "batch points"]
    valid: Bool[Tensor, "batch points"]
    score: Float[Tensor, "batch points"] | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    sigma: Float[Tensor, "batch points *axes"] | None = field(default=None, kw_only=True)
    weight: Float[Tensor, "batch points"] | None = field(default=None, kw_only=True)
    _bound: Extent = field(init=False, repr=False)
    _exact: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check_types()
        arrays = _blanked(self._arrays())
        if self.weight is not None:
            arrays["weight"] = arrays["weight"].detach()
        self._set(arrays, _UNKNOWN[self.xy.shape[-1]])
        if is_plain():
            self._read()

    def _set(self, arrays: dict[str, Tensor], bound: Extent, exact: bool = False) -> None:
        for name in _OWN:
            object.__setattr__(self, name, arrays.get(name))
        extra = {name: part for name, part in arrays.items() if name not in _OWN}
        for name, value in (("extra", extra), ("_bound", bound), ("_exact", exact)):
            object.__setattr__(self, name, value)

    def _read(self) -> Extent:
        """Look at the values: check what was not checked yet, and make the bound exact."""
        if not self._bound.is_known:
            _refuse_where(~torch.isfinite(self.xy).all(-1), self.xy, "xy must be finite where valid")
            _refuse_where(self.label < 0, self.label, "label must not be negative")
            if self.score is not None:
                _refuse_where(torch.isnan(self.score) & self.valid, self.score, "score must not be NaN where valid")
            if self.sigma is not None:
                _check_sigma(self.sigma)
            if self.weight is not None:
                bad = ~(torch.isfinite(self.weight) & (self.weight >= 0))
                _refuse_where(bad, self.weight, "weight must be finite and at least 0")
        object.__setattr__(self, "_bound", Extent.of(self.xy, self.label, self.valid, self.sigma))
        object.__setattr__(self, "_exact", True)
        return self._bound

    @property
    def extent(self) -> Extent:
        """What these very points reach to; waits for the device where that is not known yet."""
        return self._bound if self._exact else self._read()

    def _check_types(self) -> None:
        if taken := set(self.extra) & set(_OWN):
            raise ValueError(f"extra must not use the names of fields, got {', '.join(sorted(taken))}")
        tensors = self._arrays()
        for name, value in tensors.items():
            if not isinstance(value, Tensor):
                raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
            if name in ("xy", "score", "sigma", "weight") and not value.is_floating_point():
                raise TypeError(f"{name} must be floating point, got {value.dtype}")
        if self.xy.ndim != 3 or self.xy.shape[-1] not in (2, 3):
            raise ValueError(f"xy must have shape (batch, points, 2) or (..., 3), got {tuple(self.xy.shape)}")
        if self.label.dtype != torch.int64:
            raise TypeError(f"label must be int64, got {self.label.dtype}")
        if self.valid.dtype != torch.bool:
            raise TypeError(f"valid must be bool, got {self.valid.dtype}")
        batch, count, axes = self.xy.shape
        allowed: dict[str, list[tuple[int, ...]]] = {name: [(batch, count)] for name in _OWN}
        allowed["xy"] = [(batch, count, axes)]
        allowed["sigma"] = [(batch, count), (batch, count, axes), (batch, count, axes, axes)]
        for name, value in tensors.items():
            if name in self.extra and value.shape[:2] != (batch, count):
                raise ValueError(f"{name} must have the shape ({batch}, {count}, ...) to go with xy's, got "
                                 f"{tuple(value.shape)}")
            if name in _OWN and tuple(value.shape) not in allowed[name]:
                shapes = " or ".join(map(str, allowed[name]))
                raise ValueError(f"{name} must have the shape {shapes} to go with xy's, got {tuple(value.shape)}")
            if value.device != self.xy.device:
                raise ValueError(f"{name} is on {value.device}, xy on {self.xy.device}: one device is needed")

    @classmethod
    def from_lists(cls, images: Sequence[Sequence], *, device: torch.device | str | None = None) -> Points:
        """Points of a batch from one ``(xy, label)`` pair per image, of any lengths, padded to the longest.

        Args:
            images: for each image ``(xy, label)`` or ``(xy, label, score)``: ``(n, 2)`` positions in pixels (or
                ``(n, 3)`` in volumes), ``n`` classes and, when given, ``n`` scores; lists, arrays or tensors. ``n``
                may be 0.
            device: where the tensors go; the CPU by default.

        Raises:
            ValueError: there is no image, or an image's entries do not fit together.

        Example:
            >>> one, other = ([[3.2, 4], [1, 1]], [0, 1]), ([[5, 2.5]], [1])
            >>> points = Points.from_lists([one, other])
            >>> points.label, points.valid
            (tensor([[0, 1],
                    [1, 0]]), tensor([[ True,  True],
                    [ True, False]]))
        """
        if len(images) == 0:
            raise ValueError("images must hold at least one (xy, label) pair, got none")
        lengths = {len(image) for image in images}
        if not lengths <= {2, 3} or len(lengths) > 1:
            raise ValueError(
                f"every image must be (xy, label), or every one (xy, label, score); got {sorted(lengths)} entries"
            )
        parts = []
        widths = (torch.as_tensor(image[0]).shape[-1] for image in images if len(image[0]))
        axes = 3 if next(widths, 2) == 3 else 2
        for index, image in enumerate(images):
            xy = torch.as_tensor(image[0], dtype=torch.float32)
            xy = xy.reshape(0, axes) if xy.numel() == 0 else xy
            label = torch.as_tensor(image[1])
            if label.numel() and (label.is_floating_point() or label.dtype == torch.bool):
                raise TypeError(f"image {index}: label must hold integers, got {label.dtype}")
            label = label.to(torch.int64)
            score = torch.as_tensor(image[2], dtype=torch.float32) if len(image) == 3 else None
            if xy.ndim != 2 or xy.shape[1] != axes:
                raise ValueError(f"image {index}: xy must have shape (n, {axes}), got {tuple(xy.shape)}")
            if label.shape != xy.shape[:1] or (score is not None and score.shape != xy.shape[:1]):
                raise ValueError(f"image {index}: {len(xy)} positions need as many labels (and scores)")
            parts.append((xy, label, score))
        count = max(len(xy) for xy, _, _ in parts)
        xy = torch.zeros(len(parts), count, axes)
        label = torch.zeros(len(parts), count, dtype=torch.int64)
        valid = torch.zeros(len(parts), count, dtype=torch.bool)
        scores = torch.zeros(len(parts), count) if lengths == {3} else None
        for row, (part_xy, part_label, part_score) in enumerate(parts):
            n = len(part_xy)
            xy[row, :n], label[row, :n], valid[row, :n] = part_xy, part_label, True
            if scores is not None and part_score is not None:
                scores[row, :n] = part_score
        return cls(xy, label, valid, scores).to(device or "cpu")

    def __len__(self) -> int:
        """Number of images."""
        return self.xy.shape[0]

    def __getitem__(self, images: slice | Tensor) -> Points:
        """The points of some images: a slice, or a tensor of indices."""
        if isinstance(images, int):
            raise TypeError("images must be a slice or a tensor of indices; one image i is points[i:i + 1]")
        return self._each(lambda part: part[images], exact=False)

    def to(self, device: torch.device | str) -> Points:
        """The same points on another device."""
        # A copy to the CPU that does not block could be read before it has ended.
        on_gpu = torch.device(device).type != "cpu"
        return self._each(lambda part: part.to(device, non_blocking=on_gpu))

    def above(self, threshold: float) -> Points:
        """The points whose score is at least ``threshold``; the others become padding."""
        if self.score is None:
            raise ValueError("these points carry no score to compare with a threshold")
        return replace(self, valid=self.valid & (self.score >= threshold))

    def where(self, kept: Bool[Tensor, "batch points"]) -> Points:
        """The points where ``kept`` is True; the others become padding. Costs no look at the values."""
        valid = self.valid & kept
        return self._derived(_blanked(self._arrays() | {"valid": valid}))

    def inside(self, size: Sequence[int], classes: int | None = None) -> Points:
        """The points that lie in a picture of ``size`` with a label in ``[0, classes)``; the others become padding.

        Looks at no value, so it costs no wait for a device and works in compiled and exported graphs.

        Args:
            size: (height, width) in pixels, or (depth, height, width) of a volume.
            classes: how many there are; None keeps every label.

        Raises:
            ValueError: as many lengths are needed as points have coordinates.
        """
        self._check_axes(size)
        last, kept = [length - 0.5 for length in reversed(size)], self.valid
        for x, most in zip(self.xy.unbind(-1), last, strict=True):
            kept = kept & (x >= -0.5) & (x <= most)
        if classes is not None:
            kept = kept & (self.label >= 0) & (self.label < classes)

        def bound(of: Extent) -> Extent:
            low, high = (tuple(map(max, of.low, (-0.5,) * len(last)))), tuple(map(min, of.high, last))
            return replace(of, low=low, high=high, label=of.label if classes is None else min(of.label, classes - 1))

        return self._derived(_blanked(self._arrays() | {"valid": kept}), bound)

    @classmethod
    def cat(cls, batches: Sequence[Points]) -> Points:
        """The points of several batches as one batch, padded to the longest.

        Raises:
            ValueError: there is no batch, or not all carry the same arrays.
        """
        carried = {tuple((name, *part.shape[2:]) for name, part in batch._arrays().items()) for batch in batches}
        if len(carried) != 1:
            raise ValueError(f"batches must be some that all carry the same arrays, got {sorted(carried)}")
        longest = max(batch.label.shape[1] for batch in batches)
        arrays = [batch.padded(longest)._arrays() for batch in batches]
        joined = {name: torch.cat([part[name] for part in arrays]) for name in arrays[0]}
        exact = all(batch._exact for batch in batches)
        return batches[0]._derived(joined, lambda _: Extent.union([one._bound for one in batches]), exact)

    def padded(self, count: int) -> Points:
        """The same points with room for ``count`` in each image, at least as many as now."""
        more = count - self.label.shape[1]
        if more == 0:
            return self

        def longer(part: Tensor) -> Tensor:
            if part is self.sigma and part.ndim == 4:  # a covariance on padding, too, must be one
                unit = torch.eye(part.shape[-1], dtype=part.dtype, device=part.device)
                return torch.cat([part, unit.expand(len(part), more, -1, -1)], dim=1)
            return pad(part, (0, 0) * (part.ndim - 2) + (0, more), value=1 if part is self.sigma else 0)

        return self._each(longer)

    def at_stride(self, stride: int | float) -> Points:
        """The points in pixels of a map of which one pixel covers ``stride`` pixels here: ``(x + 0.5) / stride - 0.5``.

        Lengths go along: ``sigma`` and the ``size`` and ``scale`` of ``extra``. ``at_stride(1 / 4)`` is the way back of
        ``at_stride(4)``.

        Raises:
            ValueError: ``stride`` is not above 0.

        Example:
            >>> Points.from_lists([([[7.5, 3.5]], [0])]).at_stride(4).xy
            tensor([[[1.5000, 0.5000]]])
        """
        checks.check_positive("stride", stride)
        ratio = Fraction(float(stride)).limit_denominator()
        if ratio == 1:
            return self
        # One multiplication and one division by whole numbers: a border point stays on the border, and not an ulp off.
        times, over = ratio.denominator, torch.full((), ratio.numerator, dtype=self.xy.dtype, device=self.xy.device)

        def shrunk(length: Tensor) -> Tensor:
            return length * times / over

        half = Fraction(1, 2)

        def bound(of: Extent) -> Extent:
            low, high = (tuple(float((Fraction(x) + half) / ratio - half) for x in side) for side in (of.low, of.high))
            return replace(of, low=low, high=high, sigma=of.sigma / float(ratio))

        return self._derived({"xy": shrunk(self.xy + 0.5) - 0.5, **self._lengths(shrunk)}, bound)

    def affine(self, matrix: Float[Tensor, "batch axes _"], size: Sequence[int], *,
               swap: Sequence[tuple[int, int]] = ()) -> Points:
        """The points moved to ``A x + t`` in a picture of ``size``; those that leave it become padding.

        Args:
            matrix: ``(A | t)`` of each image, ``(B, 2, 3)``, in pixels; ``(B, 3, 4)`` in a volume.
            size: (height, width) of the picture, or (depth, height, width).
            swap: pairs of classes that change places in the images that ``A`` mirrors.

        Covariances become ``A S A'``, and one width for each axis a covariance, since the axes turn. One width alone,
        ``size`` and ``scale`` are multiplied by the root of ``|det A|``, as is right where nothing is stretched. Waits
        for the device only where points carry ``sigma``.
        """
        axes = self.xy.shape[-1]
        if matrix.shape != (len(self), axes, axes + 1) or len(size) != axes:
            raise ValueError(f"matrix must be ({len(self)}, {axes}, {axes + 1}) and size {axes} lengths, got "
                             f"{tuple(matrix.shape)} and {tuple(size)}")
        linear, shift = matrix.to(self.xy).split([axes, 1], dim=2)
        xy = _product(linear[:, None], self.xy[..., None])[..., 0] + shift.mT
        last = xy.new_tensor(size[::-1]) - 0.5
        valid = self.valid & ((xy >= -0.5) & (xy <= last)).all(-1)
        determinant = torch.linalg.det(linear)
        grown = determinant.abs() ** (1 / axes)
        changed = self._lengths(lambda length: length * _wide(grown, length))
        if self.sigma is not None and self.sigma.ndim > 2:
            spread = self.sigma if self.sigma.ndim == 4 else torch.diag_embed(self.sigma**2)
            spread = _product(_product(linear[:, None], spread), linear[:, None].mT)
            changed["sigma"] = (spread + spread.mT) / 2  # symmetric to the last bit
        if swap:
            mirrored = self.label
            for left, right in swap:
                swapped = torch.where(self.label == right, left, mirrored)
                mirrored = torch.where(self.label == left, right, swapped)
            changed["label"] = torch.where(determinant[:, None] < 0, mirrored, self.label)

        def bound(of: Extent) -> Extent:
            most = max([of.label, *(label for pair in swap for label in pair)])
            return replace(of, low=(-0.5,) * axes, high=tuple(length - 0.5 for length in size[::-1]), label=most,
                           sigma=math.inf if self.sigma is not None else 0.0)

        return self._derived(_blanked(self._arrays() | changed | {"xy": xy, "valid": valid}), bound)

    def crowded(self) -> bool:
        """Whether a class has several points in one image. Looks at values only where a part of a batch may have."""
        return self._bound.max_per_class > 1 and self.extent.max_per_class > 1

    def widest_sigma(self) -> float:
        """At least the largest standard deviation that a point has, in pixels; 0 where they carry none."""
        return self._bound.sigma if self._bound.sigma < math.inf else self.extent.sigma

    def _check_axes(self, size: Sequence[int]) -> None:
        axes = self.xy.shape[-1]
        if len(size) != axes:
            raise ValueError(f"points with {axes} coordinates need {axes} lengths, got size {tuple(size)}")

    def _lengths(self, change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """All lengths after a change of unit, by name."""
        changed = {name: change(part) for name, part in self.extra.items() if name in _LENGTHS}
        if self.sigma is not None:
            changed["sigma"] = change(change(self.sigma)) if self.sigma.ndim == 4 else change(self.sigma)
        return changed

    def _arrays(self) -> dict[str, Tensor]:
        """Every array that goes with the points, by name."""
        own = {name: getattr(self, name) for name in _OWN}
        return {name: part for name, part in own.items() if part is not None} | dict(self.extra)

    def _each(self, change: Callable[[Tensor], Tensor], exact: bool = True) -> Points:
        """The same change made to every array, which leaves the extent as it is or, if not ``exact``, in its bound."""
        changed = {name: change(part) for name, part in self._arrays().items()}
        return self._derived(changed, exact=exact and self._exact)

    def _derived(self, changed: Mapping[str, Tensor], bound: Callable[[Extent], Extent] | None = None,
                 exact: bool = False) -> Points:
        """A copy of which all that construction checked is still true; ``bound`` says what its bound is."""
        new, known = object.__new__(Points), self._bound
        if bound is not None:  # a graph that read a bound would be compiled again for every batch
            known = bound(known) if is_plain() and known.is_known else _UNKNOWN[self.xy.shape[-1]]
        new._set(self._arrays() | dict(changed), known, exact)
        return new

    def check_inside(self, size: Sequence[int], classes: int) -> None:
        """Raise ValueError unless every point lies in a picture of ``size`` with a label in ``[0, classes)``.

        ``size`` is (height, width), or (depth, height, width) of a volume. Compares the extent that construction
        recorded, so it costs no pass over points that are right.
        """
        self._check_axes(size)
        if self._bound.within(size, classes) or self.extent.within(size, classes):
            return
        for name, low, high, length in zip("xyz", self.extent.low, self.extent.high, reversed(size), strict=False):
            if low < -0.5 or high > length - 0.5:
                raise ValueError(
                    f"a point lies outside the picture: {name} reaches from {low:g} to {high:g}, "
                    f"allowed is -0.5 to {length - 0.5:g}"
                )
        raise ValueError(f"label {self.extent.label} is not in [0, {classes}): there are {classes} classes")


@dataclass(frozen=True)
class Extent:
    """What the valid points of a batch reach to at most, as plain numbers that cost nothing to read.

    ``low`` and ``high``: smallest and largest coordinate along each axis, in pixels. ``label``: the largest, -1 for no
    point. ``sigma``: the largest standard deviation along any axis, in pixels, 0 where points carry none.
    ``max_per_class``: the most points that one class has in one image.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    label: int
    sigma: float
    max_per_class: int

    @classmethod
    def of(cls, xy: Tensor, label: Tensor, valid: Tensor, sigma: Tensor | None = None) -> Extent:
        """The extent of some points; reads values, so it waits for a device that holds them."""
        if not bool(valid.any()):
            return cls((0.0,) * xy.shape[-1], (0.0,) * xy.shape[-1], -1, 0.0, 0)
        image = torch.arange(len(xy), device=xy.device)[:, None].expand_as(label)
        pairs = torch.stack([image[valid], label[valid]], dim=1)
        most = int(torch.unique(pairs, dim=0, return_counts=True)[1].max())
        widest = 0.0
        if sigma is not None:
            wide = sigma.diagonal(dim1=-2, dim2=-1).sqrt() if sigma.ndim == 4 else sigma
            widest = float(wide.detach()[valid].max())
        xy, label = xy[valid], label[valid]
        return cls(tuple(xy.amin(0).tolist()), tuple(xy.amax(0).tolist()), int(label.max()), widest, most)

    @classmethod
    def union(cls, extents: Sequence[Extent]) -> Extent:
        """The extent of several batches together."""
        some = [extent for extent in extents if extent.label >= 0] or extents
        return cls(tuple(map(min, *(one.low for one in some), some[0].low)),
                   tuple(map(max, *(one.high for one in some), some[0].high)),
                   max(one.label for one in some), max(one.sigma for one in some),
                   max(one.max_per_class for one in some))

    @property
    def is_known(self) -> bool:
        """Whether the values have been read at all."""
        return self.max_per_class < sys.maxsize

    def within(self, size: Sequence[int], classes: int) -> bool:
        """Whether all lies in a picture of ``size`` with labels in ``[0, classes)``."""
        inside = all(low >= -0.5 and high <= length - 0.5
                     for low, high, length in zip(self.low, self.high, reversed(size), strict=True))
        return inside and self.label < classes


def _wide(part: Tensor, value: Tensor) -> Tensor:
    """An array ``(B,)`` or ``(B, N)`` in as many dimensions as another has, ``(B, N, ...)``."""
    return part.view(part.shape + (1,) * (value.ndim - part.ndim))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Matrices multiplied in full precision, which autocast and TF32 take from ``a @ b``."""
    return (a[..., None] * b[..., None, :, :]).sum(-2)


def _blanked(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The arrays with what padding must hold, so that its values are of no account."""
    valid, blank = arrays["valid"], {}
    for name, part in arrays.items():
        if name == "sigma":
            unit = torch.eye(part.shape[-1], dtype=part.dtype, device=part.device) if part.ndim == 4 else 1.0
            blank[name] = torch.where(_wide(valid, part), part, unit)
        else:
            blank[name] = part if name in ("valid", "score") else part.masked_fill(~_wide(valid, part), 0)
    return blank


def _check_sigma(sigma: Tensor) -> None:
    if sigma.ndim < 4:
        bad = ~(torch.isfinite(sigma) & (sigma > 0))
        _refuse_where(bad.flatten(2).any(-1) if sigma.ndim > 2 else bad, sigma, "sigma must be finite and above 0")
        return
    finite = torch.isfinite(sigma).all(-1).all(-1)
    symmetric = (sigma - sigma.mT).abs().amax((-2, -1)) <= 1e-5 * sigma.abs().amax((-2, -1))
    definite = torch.linalg.cholesky_ex(torch.where(finite[..., None, None], sigma, 0.0).double()).info == 0
    _refuse_where(~(finite & symmetric & definite), sigma, "sigma must be a symmetric, positive definite covariance")


def _refuse_where(bad: Tensor, value: Tensor, message: str) -> None:
    if bool(bad.any()):
        image, point = bad.nonzero()[0].tolist()
        raise ValueError(f"{message}: image {image}, point {point} has {value[image, point].tolist()}")


def is_plain() -> bool:
    """Whether tensors hold numbers here, and are no stand-ins of torch.func or of a compiler that traces the code."""
    return not torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active()


_UNKNOWN = {axes: Extent((-math.inf,) * axes, (math.inf,) * axes, sys.maxsize, math.inf, sys.maxsize)
            for axes in (2, 3)}


def _flattened(points: Points) -> tuple[list[Tensor], list[Any]]:
    arrays = points._arrays()
    return list(arrays.values()), [len(points._bound.low), *arrays]


def _flattened_by_name(points: Points) -> tuple[list[tuple[Any, Tensor]], list[Any]]:
    values, context = _flattened(points)
    return list(zip(map(pytree.MappingKey, context[1:]), values, strict=True)), context


def _unflattened(values: Iterable[Any], context: list[Any]) -> Points:
    axes, *names = context
    points = object.__new__(Points)
    points._set(dict(zip(names, values, strict=True)), _UNKNOWN[axes])
    return points


# Graphs that are exported, and torch.func, take and give points as the tensors that they consist of.
pytree.register_pytree_node(Points, _flattened, _unflattened, serialized_type_name="falloff.points.Points",
                            flatten_with_keys_fn=_flattened_by_name)
