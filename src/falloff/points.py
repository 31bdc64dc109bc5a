"""Labelled points of a batch of images, the one type that flows through the library."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal, SupportsIndex

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from torch.utils import _pytree as pytree
from torch.utils.data._utils.collate import collate as collate_by
from torch.utils.data._utils.collate import default_collate_fn_map

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
            ``(B, N, 2)``, width and height of an upright box, and ``scale`` ``(B, N)`` are lengths in pixels, which
            change with the picture's; all others are carried as they are.
        sigma: how wide each point's Gaussian is, in place of the one width that a loss or a map is given: standard
            deviations in pixels ``(B, N)``, one for each axis ``(B, N, 2)``, or covariances in square pixels
            ``(B, N, 2, 2)`` for rotated Gaussians (3 in place of 2 in a volume).
        weight: how much each point counts in a loss, ``(B, N)``, finite and at least 0; None is 1 for all. One of
            weight 0 is still among the points that a loss is divided by: ``where(weight > 0)`` leaves it out there.

    Raises:
        TypeError: an argument is not a tensor or its dtype is not the one above.
        ValueError: a shape is wrong, or a valid point has a NaN or infinite position, a negative label, a NaN score, a
            width that is not above 0, a covariance that is not positive definite, or a weight out of range.

    No gradient reaches ``weight``: one that requires it is refused. ``dataclasses.replace(points, weight=...)`` gives
    another array to the same points.

    kornia, with ``align_corners=True``, counts pixels in the same way: ``points.xy`` may go through it as it is, or
    all that points carry through :meth:`affine` with its matrix. torchvision's ``resize``, ``rotate`` and ``affine``
    take the corner of a pixel for its centre, so that they move key points by up to half a pixel against their picture.

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
    _widest: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check_types()
        if self.weight is not None and self.weight.requires_grad and torch.is_grad_enabled():
            raise ValueError("weight must not require a gradient, since none reaches it: give weight.detach()")
        arrays = _blanked(self._arrays())
        if self.weight is not None:
            arrays["weight"] = arrays["weight"].detach()
        self._set(arrays, _UNKNOWN[int(self.xy.shape[-1])], False, math.inf)
        if is_plain():
            self._read()

    def _set(self, arrays: dict[str, Tensor], bound: Extent, exact: bool, widest: float) -> None:
        for name in _OWN:
            object.__setattr__(self, name, arrays.get(name))
        extra = {name: part for name, part in arrays.items() if name not in _OWN}
        for name, value in (("extra", extra), ("_bound", bound), ("_exact", exact), ("_widest", widest)):
            object.__setattr__(self, name, value)

    def _read(self) -> Extent:
        """Look at the values: check what was not checked yet, and make the bound exact."""
        if not self._bound.is_known:
            hint = "; leave out what is missing"
            _refuse_where(~torch.isfinite(self.xy).all(-1), self.xy, "xy must be finite where valid", hint)
            _refuse_where(self.label < 0, self.label, "label must not be negative", hint)
            if self.score is not None:
                _refuse_where(torch.isnan(self.score) & self.valid, self.score, "score must not be NaN where valid")
            if self.sigma is not None:
                _check_sigma(self.sigma)
            if self.weight is not None:
                bad = ~(torch.isfinite(self.weight) & (self.weight >= 0))
                _refuse_where(bad, self.weight, "weight must be finite and at least 0")
        extent = Extent.of(self.xy, self.label, self.valid, self.sigma)
        self._set(self._arrays(), extent, True, _rounded_up(extent.sigma))
        return extent

    @property
    def extent(self) -> Extent:
        """What these very points reach to; waits for the device where that is not known yet."""
        return self._bound if self._exact else self._read()

    def _check_types(self) -> None:
        if not isinstance(self.extra, Mapping):
            raise TypeError(f"extra must be a dict of tensors, got {type(self.extra).__name__}")
        if taken := set(self.extra) & set(_OWN):
            raise ValueError(f"extra must not use the names of fields, got {', '.join(sorted(taken))}")
        tensors = {name: getattr(self, name) for name in ("xy", "label", "valid")} | self._arrays()
        for name, value in tensors.items():
            if not isinstance(value, Tensor):
                raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}; Points.from_lists takes "
                                "lists and arrays")
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
    def from_lists(cls, images: Sequence[Sequence], *, sigma: Sequence | None = None, weight: Sequence | None = None,
                   device: torch.device | str | None = None) -> Points:
        """Points of a batch from one ``(xy, label)`` pair per image, of any lengths, padded to the longest.

        Args:
            images: for each image ``(xy, label)`` or ``(xy, label, score)``: ``(n, 2)`` positions in pixels (or
                ``(n, 3)`` in volumes), ``n`` classes and, when given, ``n`` scores; lists, arrays, tensors, or what
                NumPy takes for an array, as columns of pandas. ``n`` may be 0.
            sigma, weight: for each image the widths or weights of its points.
            device: where the tensors go; the CPU by default.

        Raises:
            TypeError, ValueError: there is no image, or an image's entries are no numbers or do not fit together.

        Example:
            >>> one, other = ([[3.2, 4], [1, 1]], [0, 1]), ([[5, 2.5]], [1])
            >>> points = Points.from_lists([one, other])
            >>> points.label, points.valid
            (tensor([[0, 1],
                    [1, 0]]), tensor([[ True,  True],
                    [ True, False]]))
        """
        _check_listed("images", images)
        if len(images) == 0:
            raise ValueError("images must hold at least one (xy, label) pair, got none")
        for index, image in enumerate(images):
            if not isinstance(image, (tuple, list)):
                raise TypeError(f"image {index} must be a tuple (xy, label) or (xy, label, score), got "
                                f"{type(image).__name__}")
        lengths = {len(image) for image in images}
        if not lengths <= {2, 3} or len(lengths) > 1:
            raise ValueError(
                f"every image must be (xy, label), or every one (xy, label, score); got {sorted(lengths)} entries"
            )
        for name, given in (("sigma", sigma), ("weight", weight)):
            if given is not None:
                _check_listed(name, given)
                if len(given) != len(images):
                    raise ValueError(f"{name} must hold the values of each of {len(images)} images, got {given!r}")
        rows, triples = [], [torch.zeros(0, 3, dtype=torch.int64)]
        for index, image in enumerate(images):
            row = {"xy": _tensor(f"image {index}: xy", image[0], None), "label": _labels(index, image[1])}
            triples += [row["xy"]] if row["xy"].shape[1:] == (3,) else []
            row["xy"] = row["xy"].float()
            others = {"score": image[2:], "sigma": () if sigma is None else [sigma[index]],
                      "weight": () if weight is None else [weight[index]]}
            row |= {name: _tensor(f"image {index}: {name}", part, torch.float32)
                    for name, parts in others.items() for part in parts}
            rows.append(row)
        _refuse_coco(torch.cat(triples))
        return cls._of_rows(rows, device)

    @classmethod
    def from_coco(cls, images: Sequence[Sequence[Mapping[str, Any]]],
                  kinds: int | Sequence[str] | Mapping[int, Sequence[str]], *,
                  device: torch.device | str | None = None) -> Points:
        """The labelled key points of COCO annotations; the label of a point is the place of its kind in the list.

        COCO counts key points in pixels as they are counted here, so positions stay as they are.

        Args:
            images: for each image its annotations, as in COCO's file: ``keypoints`` ``[x, y, v, ...]`` with ``v`` 0 not
                labelled, 1 labelled but hidden, 2 visible. One without ``keypoints`` adds no point.
            kinds: the names of the key points in their order, ``categories[0]["keypoints"]``, or how many there are.
                Where several categories have key points of their own, the names by ``category_id``: labels then count
                through all of them in this order.
            device: where the tensors go; the CPU by default.

        Returns:
            Points with ``extra``: "visibility" (1 or 2), "instance", which counts an image's annotations from 0, and,
            where each has an ``area`` or a ``bbox``, "scale", the root of the area, in pixels.

        It warns where annotations of several categories get the same labels.

        Raises:
            TypeError, ValueError: there is no image, or an annotation has another number of key points or a ``v`` that
                is none of 0, 1 and 2.

        Example:
            >>> someone = {"keypoints": [10, 20, 2, 0, 0, 0, 30, 24, 1], "area": 400.0}
            >>> points = Points.from_coco([[someone], []], ["nose", "left eye", "right eye"])
            >>> points.label[0], points.extra["scale"][0]
            (tensor([0, 2]), tensor([20., 20.]))
        """
        if not isinstance(images, (list, tuple)) or not all(isinstance(image, (list, tuple)) for image in images):
            raise TypeError(f"images must hold a list of annotations for each image, got {images!r:.60}")
        if isinstance(kinds, str):
            raise TypeError(f"kinds must be the names of all kinds, or how many there are, got {kinds!r:.60}")
        for index, number, one in ((i, n, one) for i, image in enumerate(images) for n, one in enumerate(image)):
            if not isinstance(one, Mapping):
                raise TypeError(f"image {index}, annotation {number} must be a dict as in COCO's file, got {one!r:.60}")
        starts, count = _kinds_by_category(kinds)
        named = {one.get("category_id") for image in images for one in image if one.get("keypoints")} - {None}
        if len(named) > 1 and not isinstance(kinds, Mapping):
            warnings.warn(f"annotations are of categories {sorted(named)}, whose key points get the same labels: kinds "
                          "as {category_id: names} tells them apart", stacklevel=2)
        areas = [[_area(f"image {index}, annotation {number}", one) for number, one in enumerate(image)]
                 for index, image in enumerate(images)]
        scaled = all(area is not None for image in areas for area in image)
        rows = []
        for index, image in enumerate(images):
            people = [(number, one) for number, one in enumerate(image) if one.get("keypoints")]
            flat = [torch.zeros(0)]
            for number, one in people:
                where = f"image {index}, annotation {number}: keypoints"
                category = one.get("category_id") if isinstance(kinds, Mapping) else None
                if category not in starts:
                    raise ValueError(f"image {index}, annotation {number}: category_id must be one of {[*starts]}, "
                                     f"as kinds has them, got {category!r}")
                start, own = starts[category]
                said = _tensor(where, one["keypoints"], torch.float32).reshape(-1)
                if len(said) != 3 * own:
                    raise ValueError(f"{where} must be {3 * own} numbers, x, y and v of {own} kinds, got {len(said)}")
                flat += [said.new_zeros(3 * start), said, said.new_zeros(3 * (count - start - own))]
            triples = torch.cat(flat).view(len(people), count, 3)
            shown = triples[..., 2]
            for place, kind in (~torch.isin(shown, torch.arange(3.0))).nonzero().tolist():
                number, one = people[place]
                start = starts[one["category_id"] if isinstance(kinds, Mapping) else None][0]
                raise ValueError(f"image {index}, annotation {number}, key point {kind - start}: v must be 0, 1 or "
                                 f"2, got {float(shown[place, kind]):g}")
            owner, label = (shown > 0).nonzero(as_tuple=True)
            row = {"xy": triples[owner, label, :2], "label": label, "visibility": shown[owner, label].long(),
                   "instance": torch.tensor([number for number, _ in people], dtype=torch.int64)[owner]}
            if scaled:
                row["scale"] = torch.tensor([areas[index][n] for n, _ in people], dtype=torch.float32).sqrt()[owner]
            rows.append(row)
        return cls._of_rows(rows, device)

    @classmethod
    def from_boxes(cls, boxes: Sequence, labels: Sequence, *, at: Literal["centre", "corners"] = "centre",
                   device: torch.device | str | None = None) -> Points:
        """A point at the centre of each box, or two at its corners.

        Boxes are measured from the edges of pixels, as in COCO: one that covers the first pixel is (0, 0, 1, 1). Points
        count from the centres, so the upper left corner of that box is at (-0.5, -0.5), its centre at (0, 0).

        Args:
            boxes: for each image ``(n, 4)``: x and y of the upper left corner, width, height, in pixels.
            labels: for each image ``n`` classes.
            at: "centre"; or "corners": two points for each box, the upper left of label ``2 c`` and the lower right of
                label ``2 c + 1`` (Law and Deng 2018). Mirror and turn centres, and take their :meth:`corners` after.
            device: where the tensors go; the CPU by default.

        Returns:
            Points with ``extra``: "size" ``(B, N, 2)``, width and height, and "instance", which counts an image's boxes
            from 0.

        Raises:
            TypeError, ValueError: there is no image, a box that is not four numbers or has a width or height of 0 or
                less, not as many labels as boxes.

        A width for each box, as CornerNet's code has it, a third of the distance by which corners may be off:

            >>> from falloff import heatmaps
            >>> points = Points.from_boxes([[[10, 20, 40, 60]]], [[0]], at="corners")
            >>> width, height = points.extra["size"].unbind(-1)
            >>> replace(points, sigma=heatmaps.object_radius(height, width, 0.3) / 3).sigma
            tensor([[3.5607, 3.5607]])
        """
        checks.check_one_of("at", at, ("centre", "corners"))
        for name, listed in (("boxes", boxes), ("labels", labels)):
            _check_listed(name, listed)
        if len(boxes) != len(labels):
            raise ValueError(f"boxes hold {len(boxes)} images, labels {len(labels)}: the two must be equal")
        rows = []
        for index, (given, label) in enumerate(zip(boxes, labels, strict=True)):
            box = _tensor(f"image {index}: boxes", given, torch.float32)
            box = box.reshape(0, 4) if box.numel() == 0 else box
            if box.ndim != 2 or box.shape[1] != 4:
                raise ValueError(f"image {index}: boxes must have shape (n, 4), got {tuple(box.shape)}")
            corner, size = box.split(2, dim=1)
            for number in (~(torch.isfinite(box).all(1) & (size > 0).all(1))).nonzero().flatten().tolist():
                raise ValueError(f"image {index}, box {number} must be finite and of a width and height above 0, got "
                                 f"(x, y, width, height) {tuple(box[number].tolist())}")
            rows.append({"xy": corner + size / 2 - 0.5, "label": _labels(index, label), "size": size,
                         "instance": torch.arange(len(box))})
        points = cls._of_rows(rows, device)
        return points if at == "centre" else points.corners()

    @classmethod
    def _of_rows(cls, images: Sequence[dict[str, Tensor]], device: torch.device | str | None) -> Points:
        """Points of the arrays of each image, padded to the longest."""
        if not images:
            raise ValueError("images must hold at least one, got none")
        # What an array is of each point; images without a point may not say it.
        tails = {}
        for name in images[0]:
            shapes = [tuple(image[name].shape[1:]) for image in images if image[name].numel()]
            shapes += [tuple(image[name].shape[1:]) for image in images if image[name].ndim > 1]
            tails[name] = shapes[0] if shapes else ()
        axes = 3 if tails["xy"] == (3,) else 2
        tails["xy"] = (axes,)
        rows = [{name: part if part.numel() else part.new_zeros(0, *tails[name]) for name, part in image.items()}
                for image in images]
        for index, row in enumerate(rows):
            if row["xy"].shape[1:] != (axes,):
                raise ValueError(f"image {index}: xy must have shape (n, {axes}), got {tuple(row['xy'].shape)}")
            for name, part in row.items():
                if part.shape != (len(row["xy"]), *tails[name]):
                    raise ValueError(f"image {index}: {len(row['xy'])} positions need as many labels (and scores), "
                                     f"got {name} {tuple(part.shape)}")
        joined = {name: pad_sequence([row[name] for row in rows], batch_first=True) for name in tails}
        counts = torch.tensor([len(row["xy"]) for row in rows])
        joined["valid"] = torch.arange(joined["xy"].shape[1]) < counts[:, None]
        own = {name: joined.pop(name) for name in _OWN if name in joined}
        return cls(**own, extra=joined).to(device or "cpu")

    def to_lists(self) -> list[tuple[list, ...]]:
        """For each image ``(xy, label)`` of its valid points, or ``(xy, label, score)``: what :meth:`from_lists` takes.

        Widths, weights and ``extra`` are not in the lists.
        """
        names = ("xy", "label") if self.score is None else ("xy", "label", "score")
        host = self.to("cpu")
        return [tuple(getattr(host, name)[image][kept].tolist() for name in names)
                for image, kept in enumerate(host.valid)]

    def __len__(self) -> int:
        """Number of images."""
        return self.xy.shape[0]

    # No __iter__: Points are iterated through this, and are no Iterable, into which Lightning descends without end.
    def __getitem__(self, images: SupportsIndex | slice | Sequence | np.ndarray | Tensor) -> Points:
        """The points of one image or of some, always a batch: an integer, a slice, a mask ``(B,)``, or indices.

        Raises:
            IndexError: there is no such image.
            TypeError: not an index of images.
        """
        if not isinstance(images, Tensor) and checks.is_whole(images):
            if not -len(self) <= images < len(self):  # type: ignore[operator]
                raise IndexError(f"there is no image {images}: points hold {len(self)}")
            first = int(images) % len(self)  # type: ignore[arg-type]
            chosen: slice | Tensor = slice(first, first + 1)
        elif isinstance(images, slice) and (images.step is None or images.step > 0):
            chosen = images
        else:
            chosen = _index(range(len(self))[images] if isinstance(images, slice) else images, len(self))
        try:
            return self._each(lambda part: part[chosen], exact=False)
        except IndexError as error:
            none = [image for image in _index(images, len(self)).tolist() if not -len(self) <= image < len(self)]
            raise IndexError(f"there is no image {none[0]}: points hold {len(self)}") from error

    def to(self, device: torch.device | str | int | torch.dtype | None = None, dtype: torch.dtype | None = None, *,
           non_blocking: bool | None = None) -> Points:
        """The same points on another device, or in another floating point dtype.

        Half precision leaves them in float32: a loss works in it, and bfloat16 has no half pixels beyond 128.

        Args:
            non_blocking: whether to go on before the copy has ended; None is True towards an accelerator.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"dtype must be floating point, got {dtype}")
        target = self.xy.device if device is None else torch.device(device)
        if non_blocking is None:  # a copy to the CPU that does not block could be read before it has ended
            non_blocking = target.type != "cpu"
        wide = None if dtype is None else torch.promote_types(dtype, torch.float32)

        def moved(part: Tensor) -> Tensor:
            return part.to(target, wide if part.is_floating_point() else None, non_blocking=non_blocking)

        return self._each(moved, exact=dtype is None)

    def cpu(self) -> Points:
        """The same points on the CPU."""
        return self.to("cpu")

    def cuda(self, device: torch.device | str | int = "cuda") -> Points:
        """The same points on a CUDA device."""
        return self.to(device)

    def pin_memory(self) -> Points:
        """The same points in page-locked memory, which a DataLoader asks for: copies to a GPU then need no wait."""
        return self._each(Tensor.pin_memory)

    def above(self, threshold: float) -> Points:
        """The points whose score is at least ``threshold``; the others become padding."""
        if self.score is None:
            raise ValueError("these points carry no score to compare with a threshold")
        checks.check_number("threshold", threshold)
        threshold = checks.plain(threshold)
        return self.where(self.score >= threshold)

    def where(self, kept: Bool[Tensor, "batch points"]) -> Points:
        """The points where ``kept`` is True; the others become padding. Costs no look at the values."""
        if not isinstance(kept, Tensor) or kept.dtype != torch.bool or kept.shape != self.valid.shape:
            what = f"{kept.dtype} {tuple(kept.shape)}" if isinstance(kept, Tensor) else repr(kept)
            raise ValueError(f"kept must be a bool tensor {tuple(self.valid.shape)}, got {what}")
        return self._derived(_blanked(self._arrays() | {"valid": self.valid & kept}))

    def inside(self, size: Sequence[int], classes: int | None = None) -> Points:
        """The points that lie in a picture of ``size`` with a label in ``[0, classes)``; the others become padding.

        Looks at no value, so it costs no wait for a device and works in compiled and exported graphs.

        Args:
            size: (height, width) in pixels, or (depth, height, width) of a volume.
            classes: how many there are; None keeps every label.

        Raises:
            ValueError: as many lengths are needed as points have coordinates; a length or ``classes`` is not above 0.
        """
        size, classes = self._lengths("size", size), None if classes is None else _classes(classes)
        last, kept = [length - 0.5 for length in reversed(size)], self.valid
        for x, most in zip(self.xy.unbind(-1), last, strict=True):
            kept = kept & (x >= -0.5) & (x <= most)
        if classes is not None:
            kept = kept & (self.label >= 0) & (self.label < classes)

        def bound(of: Extent) -> Extent:
            low, high = tuple(map(max, of.low, (-0.5,) * len(last))), tuple(map(min, of.high, last))
            return replace(of, low=low, high=high, label=of.label if classes is None else min(of.label, classes - 1))

        return self._derived(_blanked(self._arrays() | {"valid": kept}), bound)

    @classmethod
    def cat(cls, batches: Sequence[Points]) -> Points:
        """The points of several batches as one batch, padded to the longest.

        Raises:
            TypeError: what is no Points is among them.
            ValueError: there is no batch, or not all carry the same arrays.
        """
        return cls._joined("batches", batches)

    @classmethod
    def _joined(cls, named: str, batches: Iterable[Points], single: bool = False) -> Points:
        """One batch of several, each of one image if ``single``; ``named`` is what errors call them."""
        batches = list(batches)
        for index, batch in enumerate(batches):
            if not isinstance(batch, Points):
                raise TypeError(f"{named}[{index}] must be falloff.points.Points, got {type(batch).__name__}")
            if single and len(batch) != 1:
                raise ValueError(f"{named}[{index}] must be points of one image, got {len(batch)}")
        if not batches:
            raise ValueError(f"{named} must be some that all carry the same arrays, got none")
        first, *others = [{name: f"shape (batch, points{''.join(f', {n}' for n in part.shape[2:])}) on {part.device}"
                           for name, part in batch._arrays().items()} for batch in batches]
        for index, carried in enumerate(others, 1):
            for name in (*first, *carried):
                if first.get(name) != carried.get(name):
                    here, there = carried.get(name, "nothing"), first.get(name, "nothing")
                    raise ValueError(f"{named} must be some that all carry the same arrays: as {name!r}, "
                                     f"{named}[{index}] has {here}, {named}[0] {there}")
        longest = max(batch.label.shape[1] for batch in batches)
        arrays = [batch.padded(longest)._arrays() for batch in batches]
        joined = {name: torch.cat([part[name] for part in arrays]) for name in arrays[0]}
        exact = all(batch._exact for batch in batches)
        return batches[0]._derived(joined, lambda _: Extent.union([one._bound for one in batches]), exact,
                                   max([one._widest for one in batches]))

    @classmethod
    def stack(cls, images: Sequence[Points]) -> Points:
        """The points of several images, each Points of one, as a batch; see :func:`collate`.

        Raises:
            ValueError: Points of another number of images than 1, or :meth:`cat` cannot join them.
        """
        return cls._joined("images", images, single=True)

    def padded(self, count: int) -> Points:
        """The same points with room for ``count`` in each image, at least as many as now."""
        checks.check_whole("count", count, self.label.shape[1])
        more = int(count) - self.label.shape[1]
        if more == 0:
            return self

        def longer(part: Tensor) -> Tensor:
            return pad(part, (0, 0) * (part.ndim - 2) + (0, more))

        return self._derived(_blanked({name: longer(part) for name, part in self._arrays().items()}), exact=self._exact)

    def at_stride(self, stride: int | float) -> Points:
        """The points in pixels of a map of which one pixel covers ``stride`` pixels here: ``(x + 0.5) / stride - 0.5``.

        Lengths go along: ``sigma`` and the ``size`` and ``scale`` of ``extra``. ``at_stride(1 / 4)`` is the way back of
        ``at_stride(4)``.

        Raises:
            ValueError: ``stride`` is not from 1e-6 to 1e6.

        Example:
            >>> Points.from_lists([([[7.5, 3.5]], [0])]).at_stride(4).xy
            tensor([[[1.5000, 0.5000]]])
        """
        return self._stretched([1 / _ratio("stride", stride)] * self.xy.shape[-1])

    def scale(self, factor: float | Sequence[float]) -> Points:
        """The points in a picture that was resized: ``(x + 0.5) * factor - 0.5``, as pixels are areas.

        One width alone becomes one for each axis where the factors differ; ``scale`` grows by their geometric mean.

        Args:
            factor: new length by old, from 1e-6 to 1e6: one number, or ``(fx, fy)``.
        """
        factors = checks.numbers(factor) or (factor,) * self.xy.shape[-1]
        self._check_axes("factor", factors)
        return self._stretched([_ratio("factor", one) for one in factors])

    def flip(self, width: int, *, swap: Sequence[tuple[int, int]] = ()) -> Points:
        """The points in the picture's left/right mirror image: ``x`` becomes ``width - 1 - x``.

        Args:
            width: of the picture in pixels.
            swap: pairs of classes that change places, such as a left and a right eye.
        """
        width = checks.plain(width)
        checks.check_count("width", width)
        mirror = [Fraction(-1), *[Fraction(1)] * (self.xy.shape[-1] - 1)]
        return self._along_axes(lambda axis, x: width - 1 - x if axis == 0 else x, mirror, swap)

    def pad(self, left: float, top: float) -> Points:
        """The points in a picture to which so many pixels were added at the left and at the top."""
        checks.check_finite_number("left", left)
        checks.check_finite_number("top", top)
        shift = checks.plain(left), checks.plain(top)
        self._check_axes("pad", shift)
        return self._along_axes(lambda axis, x: x + shift[axis], [Fraction(1)] * 2)

    def crop(self, top: float, left: float, height: int, width: int) -> Points:
        """The points in a part of the picture whose first pixel is ``(top, left)``; those outside become padding."""
        checks.check_size("height and width", (height, width))
        checks.check_finite_number("left", left)
        checks.check_finite_number("top", top)
        return self.pad(-checks.plain(left), -checks.plain(top)).inside((height, width))

    def affine(self, matrix: Float[Tensor, "*batch rows _"] | np.ndarray | Sequence, size: Sequence[int], *,
               swap: Sequence[tuple[int, int]] = ()) -> Points:
        """The points moved to ``A x + t`` in a picture of ``size``; those that leave it become padding.

        Args:
            matrix: ``(A | t)`` in pixels of each image, ``(B, 2, 3)``, or of all, ``(2, 3)``; 3 and 4 in a volume. Or
                with a last row of 0, 0, 1, as kornia's ``transform_matrix`` ``(B, 3, 3)``: that of a perspective, which
                is no affine map, is refused (a graph that is compiled drops the points of such an image).
            size: (height, width) of the picture, or (depth, height, width).
            swap: pairs of classes that change places in the images that ``A`` mirrors.

        Covariances become ``A S A'``, and one width for each axis a covariance, since the axes turn. One width alone
        and ``scale`` are multiplied by the root of ``|det A|``, as is right where nothing is stretched. ``size``
        becomes that of the upright box around the turned one, ``|A| (w, h)``.

        Raises:
            TypeError, ValueError: ``matrix`` is no numbers, in half precision (as kornia's is under autocast), of
                another shape or that of a perspective; ``size`` is not as many lengths as points have coordinates.
        """
        axes, size = self.xy.shape[-1], self._lengths("size", size)
        matrix = _tensor("matrix", matrix, None, device=None)
        shapes = [(*batch, rows, axes + 1) for batch in ((), (len(self),)) for rows in (axes, axes + 1)]
        if tuple(matrix.shape) not in shapes:
            raise ValueError(f"matrix must be {', '.join(map(str, shapes[:-1]))} or {shapes[-1]}, got "
                             f"{tuple(matrix.shape)}")
        if matrix.is_floating_point() and matrix.dtype.itemsize < 4:
            raise TypeError(f"matrix must be float32 or float64, got {matrix.dtype}, which rounds positions to whole "
                            "pixels: under autocast, augment within torch.autocast(..., enabled=False), or before it, "
                            "as in Lightning's on_after_batch_transfer")
        if matrix.shape[-2] > axes:
            matrix = _without_last_row(matrix, size)
        linear, shift = matrix.to(self.xy).expand(len(self), -1, -1).split([axes, 1], dim=2)
        determinant = torch.linalg.det(linear)
        grown = determinant.abs() ** (1 / axes)
        turning = self
        if self.sigma is not None and self.sigma.ndim == 3:
            turning = self._derived({"sigma": torch.diag_embed(self.sigma**2)})

        def bound(of: Extent) -> Extent:
            return replace(_UNKNOWN[axes], label=of.label, max_per_class=of.max_per_class)

        moved = turning._moved(
            lambda xy: _product(linear, xy) + shift.mT, turn=lambda part: _product(linear, part),
            box=lambda part: _product(linear.abs(), part), length=lambda part: part * _wide(grown, part),
            swap=swap, mirrored=determinant[:, None] < 0, bound=bound, widest=0.0 if self.sigma is None else math.inf)
        return moved.inside(size)

    def corners(self) -> Points:
        """Two points for each box around a point, of which ``extra["size"]`` holds width and height.

        The upper left has the label ``2 c``, the lower right ``2 c + 1``; see :meth:`from_boxes`. Both carry what the
        point did.
        """
        if "size" not in self.extra:
            raise ValueError(f"points must carry 'size' in extra, which holds {', '.join(self.extra) or 'nothing'}")
        twice = {name: part.repeat_interleave(2, dim=1) for name, part in self._arrays().items()}
        corner = torch.arange(2, device=self.xy.device).repeat(self.label.shape[1])
        twice["xy"] = twice["xy"] + (corner[:, None] - 0.5) * twice["size"]
        twice["label"] = 2 * twice["label"] + corner
        return self._derived(_blanked(twice), lambda of: _UNKNOWN[int(self.xy.shape[-1])])

    def _stretched(self, factors: Sequence[Fraction]) -> Points:
        """Every axis multiplied by a factor, as pixels are areas."""
        if all(factor == 1 for factor in factors):
            return self
        return self._along_axes(lambda axis, x: _times(x + 0.5, factors[axis]) - 0.5, factors)

    def _along_axes(self, place: Callable[[int, Any], Any], factors: Sequence[Fraction],
                    swap: Sequence[tuple[int, int]] = ()) -> Points:
        """The points moved along each axis by itself, by a function of numbers or tensors; lengths by its slope."""
        axes = len(factors)
        slopes = [abs(factor.numerator / factor.denominator) for factor in factors]  # numbers, which compilers compare
        alike, moving = min(*slopes) == max(*slopes), self
        if self.sigma is not None and self.sigma.ndim == 2 and not alike:
            moving = self._derived({"sigma": self.sigma[..., None].expand(-1, -1, axes)})

        def each(change: Callable[[int, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
            return lambda part: torch.stack([change(axis, x) for axis, x in enumerate(part.unbind(-1))], dim=-1)

        def bound(of: Extent) -> Extent:
            ends = [sorted((place(axis, low), place(axis, high)))
                    for axis, (low, high) in enumerate(zip(of.low, of.high, strict=True))]
            low, high = zip(*ends, strict=True)
            return replace(of, low=low, high=high)

        mean = abs(factors[0]) if alike else Fraction(math.prod(slopes) ** (1 / axes)).limit_denominator()
        return moving._moved(
            each(place), turn=each(lambda axis, x: _times(x, factors[axis])),
            box=each(lambda axis, x: _times(x, abs(factors[axis]))), length=lambda part: _times(part, mean),
            swap=swap, mirrored=None, bound=bound, widest=self._widest * max(*slopes))

    def _moved(self, place: Callable[[Tensor], Tensor], *, turn: Callable[[Tensor], Tensor],
               box: Callable[[Tensor], Tensor], length: Callable[[Tensor], Tensor], swap: Sequence[tuple[int, int]],
               mirrored: Tensor | None, bound: Callable[[Extent], Extent], widest: float) -> Points:
        """All that the points carry after a change of the picture: what it makes of positions, of vectors
        ``(..., axes)``, of upright boxes and of lengths; classes are swapped in images that it mirrors, None for all.
        """
        moves = {"size": box, "scale": length}
        changed = {name: moves[name](part) for name, part in self.extra.items() if name in moves}
        changed["xy"] = place(self.xy)
        if self.sigma is not None and self.sigma.ndim == 4:
            spread = turn(turn(self.sigma).mT)
            changed["sigma"] = (spread + spread.mT) / 2  # symmetric to the last bit
        elif self.sigma is not None:
            changed["sigma"] = (length if self.sigma.ndim == 2 else box)(self.sigma)
        pairs = [checks.numbers(pair) or () for pair in (swap if isinstance(swap, Iterable) else [()])]
        swapped = [label for pair in pairs for label in pair]
        whole = all(checks.is_whole(label) and label >= 0 for label in swapped)
        if not whole or any(len(pair) != 2 for pair in pairs) or len(set(swapped)) < len(swapped):
            raise ValueError(f"swap must be pairs that name each class at most once, got {swap}")
        label = self.label
        for left, right in pairs:
            label = torch.where(self.label == left, right, torch.where(self.label == right, left, label))
        changed["label"] = label if mirrored is None else torch.where(mirrored, label, self.label)
        return self._derived(_blanked(self._arrays() | changed),
                             lambda of: replace(bound(of), label=max([of.label, *swapped])), widest=widest)

    def crowded(self) -> bool:
        """Whether a class has several points in one image. Looks at values only where a part of a batch may have."""
        if not self._bound.is_known and not is_plain():
            return False  # a graph that looked would be compiled for these points alone
        return self._bound.max_per_class > 1 and self.extent.max_per_class > 1

    def widest_sigma(self) -> float:
        """At least the largest standard deviation that a point has, in pixels; 0 where they carry none."""
        if is_plain() and self._exact:
            return self.extent.sigma
        return self._widest if self._widest < math.inf else self.extent.sigma

    def _arrays(self) -> dict[str, Tensor]:
        """Every array that goes with the points, by name."""
        own = {name: getattr(self, name) for name in _OWN}
        return {name: part for name, part in own.items() if part is not None} | dict(self.extra)

    def _each(self, change: Callable[[Tensor], Tensor], exact: bool = True) -> Points:
        """The same change made to every array, which leaves the extent as it is or, if not ``exact``, in its bound."""
        changed = {name: change(part) for name, part in self._arrays().items()}
        return self._derived(changed, exact=exact and self._exact)

    def _derived(self, changed: Mapping[str, Tensor], bound: Callable[[Extent], Extent] | None = None,
                 exact: bool = False, widest: float | None = None) -> Points:
        """A copy of which all that construction checked is still true; ``bound`` says what its bound is, ``widest`` how
        wide sigmas are at most, None for as wide as here.
        """
        new, known = object.__new__(Points), self._bound
        if bound is not None and is_plain() and known.is_known:
            known = bound(known)
        elif bound is not None:  # a graph that read a bound would be compiled again for every batch
            known = _UNKNOWN[int(self.xy.shape[-1])]
        new._set(self._arrays() | dict(changed), known, exact, self._widest if widest is None else widest)
        return new

    def check_inside(self, size: Sequence[int], classes: int, *, stride: float = 1) -> None:
        """Raise ValueError unless every point lies in a picture of ``size`` with a label in ``[0, classes)``.

        ``size`` is (height, width), or (depth, height, width) of a volume; with ``stride`` it is that of maps, of which
        a pixel covers so many pixels of the picture. Compares the bound that construction left,
        so it costs no pass over points that are right. The error names the image, the point and what may be the cause;
        :meth:`inside` drops such points.
        """
        checks.check_ratio("stride", stride)
        maps, classes, stride = self._lengths("size", size), _classes(classes), checks.plain(stride)
        size = maps if stride == 1 else tuple(math.ceil(length * stride) for length in maps)
        if self._bound.within(size, classes) or self.extent.within(size, classes):
            return
        image, point = (self.valid & ~self.inside(size, classes).valid).nonzero()[0].tolist()
        position, label = self.xy[image, point].tolist(), int(self.label[image, point])
        which = f"image {image}, point {point}"
        at = f"({', '.join(f'{x:.7g}' for x in position)})"
        picture = f"({', '.join(('depth', 'height', 'width')[-len(size):])}) {tuple(map(int, size))}"
        ranges = zip("xyz", position, self.extent.low, self.extent.high, reversed(size), strict=False)
        for name, x, low, high, length in ranges:
            if not -0.5 <= x <= length - 0.5:
                raise ValueError(f"{which} at {at} lies outside the picture of {picture}: {name} reaches from {low:.7g}"
                                 f" to {high:.7g}, allowed is -0.5 to {length - 0.5:g}; "
                                 f"{self._cause(position, size, maps, stride)}")
        hint = ": labels count from 0" if label == classes and not (self.valid & (self.label == 0)).any() else ""
        raise ValueError(f"{which}: label {label} is not in [0, {classes}): there are {classes} classes{hint}")

    def _cause(self, position: Sequence[float], size: Sequence[int], maps: Sequence[int], stride: float) -> str:
        """What may have put a point outside a picture."""
        if stride != 1:
            return f"maps {maps} at stride {stride:g} cover a picture of {size}; {self._cause(position, size, size, 1)}"
        points, lengths = self.xy[self.valid].tolist(), list(map(int, reversed(size)))
        if -1 in position:
            return "-1 often stands for a point that is missing: leave it out"
        if len(set(size)) > 1 and all(-0.5 <= x <= length - 0.5 for xy in points
                                      for x, length in zip(xy, reversed(lengths), strict=True)):
            return "all would lie inside if the axes were swapped, and x comes before y"
        if all(-0.5 <= x <= length for xy in points for x, length in zip(xy, lengths, strict=True)):
            return "pixels count from 0 here, from 1 in MATLAB; edges of boxes as in COCO are half a pixel further on"
        if missing := sum(not any(xy) for xy in points):
            return f"{missing} of {len(points)} points lie at 0 in every axis, as missing ones often do: leave them out"
        return "maps at a stride are told by stride= or points.at_stride(); inside() drops what a crop left outside"

    def _lengths(self, name: str, value: Any) -> tuple[int, ...]:
        """The lengths of a picture."""
        lengths = checks.numbers(value)
        good = lengths is not None and all(
            isinstance(n, torch.SymInt) or (checks.is_number(n) and 0 < n < math.inf) for n in lengths)
        if lengths is None or not good:
            names = "(height, width)" if self.xy.shape[-1] == 2 else "(depth, height, width)"
            raise ValueError(f"{name} must be {names} in pixels, each above 0, got {value!r}")
        self._check_axes(name, lengths)
        return lengths

    def _check_axes(self, name: str, lengths: Sequence) -> None:
        axes = self.xy.shape[-1]
        if len(lengths) != axes:
            hint = "" if axes == 2 else "; (x, y, visibility) as in COCO goes through Points.from_coco"
            raise ValueError(f"points with {axes} coordinates need {axes} lengths, got {name} {tuple(lengths)}{hint}")


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
        image, (names, name) = valid.nonzero()[:, 0], label[valid].unique(return_inverse=True)
        most = int((image * len(names) + name).unique(return_counts=True)[1].max())
        xy, label = xy[valid], label[valid]
        widest = 0.0
        if sigma is not None:
            wide = sigma.diagonal(dim1=-2, dim2=-1).sqrt() if sigma.ndim == 4 else sigma
            widest = float(wide.detach()[valid].max())
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


def _product(matrix: Tensor, part: Tensor) -> Tensor:
    """Each image's matrix times vectors ``(B, N, ..., axes)`` in full precision, which autocast takes from ``@``."""
    return (matrix.view(len(matrix), *(1,) * (part.ndim - 2), *matrix.shape[1:]) * part[..., None, :]).sum(-1)


def _times(x: Any, factor: Fraction) -> Any:
    """A number or a tensor times a factor.

    One multiplication and one division by whole numbers: a border point stays on the border, and not an ulp off.
    """
    if not isinstance(x, Tensor):
        return float(Fraction(x) * factor)
    if factor == 1:
        return x
    over = torch.full((), factor.denominator, dtype=x.dtype if x.is_floating_point() else None, device=x.device)
    return x * factor.numerator / over


def _ratio(name: str, value: Any) -> Fraction:
    value = checks.plain(value)
    checks.check_ratio(name, value)
    return Fraction(float(value)).limit_denominator()


def _tensor(name: str, value: object, dtype: torch.dtype | None, device: str | None = "cpu") -> Tensor:
    """What a user gave as a tensor."""
    try:  # PyTorch takes no negative strides, which a flip of an array leaves
        value = np.asarray(value, order="C") if hasattr(value, "__array__") and not isinstance(value, Tensor) else value
        return torch.as_tensor(value, dtype=dtype, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} must be numbers: {error}") from error


def _classes(count: Any) -> int:
    """How many classes there are; a graph that is exported has a symbol for it."""
    if not isinstance(count, torch.SymInt):
        checks.check_count("classes", count)
    return checks.plain(count)


def _check_listed(name: str, value: object) -> None:
    """Raise TypeError unless ``value`` is a sequence with an entry for each image."""
    if not isinstance(value, (Sequence, np.ndarray, Tensor)) or isinstance(value, str):
        raise TypeError(f"{name} must be a list with an entry for each image, got {type(value).__name__}")


def _without_last_row(matrix: Tensor, size: Sequence[int]) -> Tensor:
    """``(A | t)`` of matrices ``(..., 3, 3)``; NaN, so that no point stays, of a perspective where it cannot raise."""
    last = matrix[..., -1, :]
    off = (last[..., -1] - 1).abs()
    for axis, length in enumerate(reversed(size)):
        off = off + last[..., axis].abs() * length
    fits = off < 1e-4  # a tenth of a pixel in a thousand
    if is_plain() and not bool(fits.all()):
        index = int((~fits).reshape(-1).nonzero()[0])
        row = last.reshape(-1, last.shape[-1])[index].tolist()
        raise ValueError(f"matrix must be affine, with a last row of 0s and a 1, got {row} for image {index}: the "
                         "points of a perspective go through it one by one, and have no width that stays a Gaussian")
    return torch.where(fits[..., None, None], matrix, torch.nan)[..., :-1, :]


def _refuse_coco(xy: Tensor) -> None:
    """Positions in a volume are taken from lists, but not what looks like key points with their visibility."""
    if len(xy) and not xy.is_floating_point() and bool(torch.isin(xy[:, 2], torch.arange(3)).all()):
        raise ValueError("xy must be (x, y), got what looks like COCO's (x, y, visibility), for which there is "
                         "Points.from_coco; positions (x, y, z) in a volume are taken as floats")


def _labels(index: int, value: object) -> Tensor:
    """The labels of one image."""
    label = _tensor(f"image {index}: label", value, None)
    if label.numel() and (label.is_floating_point() or label.dtype == torch.bool):
        raise TypeError(f"image {index}: label must hold integers, got {label.dtype}")
    return label.to(torch.int64)


def _kinds_by_category(
    kinds: int | Sequence[str] | Mapping[int, Sequence[str]]
) -> tuple[dict[Any, tuple[int, int]], int]:
    """Where the labels of each category start and how many it has, and how many there are; None for all alike."""
    given = kinds if isinstance(kinds, Mapping) else {None: kinds}
    starts: dict[Any, tuple[int, int]] = {}
    count = 0
    for category, names in given.items():
        own = len(names) if isinstance(names, Sequence) and not isinstance(names, str) else checks.plain(names)
        checks.check_count("kinds" if category is None else f"kinds[{category!r}]", own)
        starts[category], count = (count, own), count + own
    checks.check_count("kinds", count)
    return starts, count


def _area(where: str, annotation: Mapping[str, Any]) -> float | None:
    """Of a COCO annotation, in square pixels; that of its box where it has no other."""
    if "area" in annotation or "bbox" not in annotation:
        area = annotation.get("area")
    else:
        box = checks.numbers(annotation["bbox"]) or ()
        if len(box) != 4 or not all(map(checks.is_number, box)):
            raise ValueError(f"{where}: bbox must be (x, y, width, height), got {annotation['bbox']!r}")
        area = box[2] * box[3]
    if area is not None:
        checks.check_at_least_zero(f"{where}: area", area)
    return area


def _index(images: Any, count: int) -> Tensor:
    """A mask or indices of some of ``count`` images, as a tensor of one axis."""
    index = None
    if isinstance(images, (Tensor, np.ndarray, list, range)):
        index = _tensor("images", list(images) if isinstance(images, range) else images, None, device=None)
        if index.numel() == 0 and index.dtype != torch.bool:
            index = index.to(torch.int64)
        if index.dtype == torch.bool and index.shape != (count,):
            raise IndexError(f"a mask of images must have the shape ({count},), got {tuple(index.shape)}; where() "
                             "takes one of points")
    if index is None or index.ndim > 1 or index.is_floating_point() or index.is_complex():
        raise TypeError(f"images must be an integer, a slice, a bool mask or indices of images, got {images!r}")
    return index if index.dtype == torch.bool else index.to(torch.int64).reshape(-1)


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


def _rounded_up(width: float) -> float:
    """One of two widths from one power of 2 to the next: a graph is compiled for each that it meets."""
    return max(width, 2 ** (math.ceil(2 * math.log2(width) - 1e-9) / 2)) if width > 0 else 0.0


def _check_sigma(sigma: Tensor) -> None:
    if sigma.ndim < 4:
        bad = ~(torch.isfinite(sigma) & (sigma > 0))
        _refuse_where(bad.flatten(2).any(-1) if sigma.ndim > 2 else bad, sigma, "sigma must be finite and above 0")
        return
    finite = torch.isfinite(sigma).all(-1).all(-1)
    symmetric = (sigma - sigma.mT).abs().amax((-2, -1)) <= 1e-5 * sigma.abs().amax((-2, -1))
    definite = torch.linalg.cholesky_ex(torch.where(finite[..., None, None], sigma, 0.0).double()).info == 0
    _refuse_where(~(finite & symmetric & definite), sigma, "sigma must be a symmetric, positive definite covariance")


def _refuse_where(bad: Tensor, value: Tensor, message: str, hint: str = "") -> None:
    if bool(bad.any()):
        image, point = bad.nonzero()[0].tolist()
        raise ValueError(f"{message}: image {image}, point {point} has {value[image, point].tolist()}{hint}")


def is_plain() -> bool:
    """Whether tensors hold numbers here, and are no stand-ins of torch.func or of a compiler that traces the code."""
    graph = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return not graph and not torch._C._are_functorch_transforms_active()


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
    points._set(dict(zip(names, values, strict=True)), _UNKNOWN[axes], False, math.inf)
    return points


# Graphs that are exported, and torch.func, take and give points as the tensors that they consist of.
pytree.register_pytree_node(Points, _flattened, _unflattened, serialized_type_name="falloff.points.Points",
                            flatten_with_keys_fn=_flattened_by_name)
torch.serialization.add_safe_globals([Points, Extent])  # torch.load takes them from a file


def collate(samples: Sequence[Any]) -> Any:
    """A batch of samples, for ``DataLoader(collate_fn=collate)``: tensors stacked, points of one image joined.

    Samples are tensors, numbers, Points of one image, None, or tuples, lists and dictionaries of them. A DataLoader
    joins Points without it, too; this one also takes None, such as a mask that a set does not have.

    Raises:
        ValueError: Points of several images, or samples whose points carry different arrays.

    Example:
        >>> samples = [(torch.rand(1, 8, 8), Points.from_lists([([[1.0, 2.0]], [0])])),
        ...            (torch.rand(1, 8, 8), Points.from_lists([([], [])]))]
        >>> images, points = collate(samples)
        >>> images.shape, points.valid
        (torch.Size([2, 1, 8, 8]), tensor([[ True],
                [False]]))
    """
    return collate_by(samples, collate_fn_map={**default_collate_fn_map, type(None): lambda batch, **_: None})


default_collate_fn_map[Points] = lambda batch, **_: Points._joined("samples", batch, single=True)
