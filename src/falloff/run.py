"""The description of one training, checked when it is made."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from falloff import checks, data, losses, measures, models, sets, systems
from falloff.machine import Form, Precision, check_device_name, resolve_form, resolve_precision

Schedule = Literal["cosine", "constant"]
Optimizer = Literal["adam", "adamw", "sgd"]
Option = bool | int | float | str | None | tuple["Option", ...]

# What the curve of a training holds unless a run says otherwise.
WATCHED = ("ap", "threshold", "score_at_points", "score_elsewhere")
_MAPPINGS = ("system_options", "model_options", "loss_options", "augment")


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that determines one training.

    Args:
        dataset: "digits", a set under ``FALLOFF_DATA``, or a path to an ``.npz`` file, which is made absolute.
        size: side of made scenes in pixels, for digits at least 64; None for the set's own.
        system: by name: :func:`falloff.systems.names`. This and the next two may be ``module:Name`` of one's own.
        system_options: the system's own options: :func:`falloff.systems.options`.
        model: the net, by name: :func:`falloff.models.names`; None for a system that has its own.
        model_options: the net's own options.
        width: features at the net's finest scale.
        loss: of the class maps, by name: :func:`falloff.losses.names`; None for a system without class maps.
        loss_options: the loss's own options.
        head_std: standard deviation of the last layer's first weights, at least 0: how far the first maps are from
            flat.
        bias: the last layer's first bias; None is the best constant answer under the run's own loss
            (:func:`falloff.losses.best_constant`).
        augment: how training images are varied: options of :func:`falloff.data.augment.make`; empty for not at all.
        optimizer: "adam", "adamw" (weight decay 0.01) or "sgd" (Nesterov momentum 0.9).
        learning_rate: peak rate of the optimiser, above 0.
        schedule: after a warm-up over 5 % of the steps, "cosine" falls to 0, "constant" stays.
        steps: of the optimiser.
        batch: images in each step.
        seed: of the initial weights and the order of the images; two runs that differ in their loss alone see the
            same images in the same order.
        evaluations: how often along the way validation images are measured.
        watched: what is measured of them: names of :data:`falloff.measures.METRICS`.
        precision: of the net's convolutions; "auto" is bfloat16 where the processor computes it natively.
        form: of the losses of large maps: "compiled" or "eager", which differ in their last digits; "auto" is compiled
            where there is a compiler.
        device: "cpu", "cuda" or "cuda:N".

    Options are numbers, strings, bools, None, and tuples of them.

    Raises:
        TypeError, ValueError: a field of the wrong type or out of range, before anything is computed.
    """

    dataset: str = "digits"
    size: int | None = None
    system: str = "heatmap"
    system_options: Mapping[str, Option] = field(default_factory=dict)
    model: str | None = "unet"
    model_options: Mapping[str, Option] = field(default_factory=dict)
    width: int = 16
    loss: str | None = "distance-aware"
    loss_options: Mapping[str, Option] = field(default_factory=dict)
    head_std: float = 1e-3
    bias: float | None = None
    augment: Mapping[str, Option] = field(default_factory=dict)
    optimizer: Optimizer = "adam"
    learning_rate: float = 3e-3
    schedule: Schedule = "cosine"
    steps: int = 250
    batch: int = 16
    seed: int = 0
    evaluations: int = 10
    watched: tuple[str, ...] = WATCHED
    precision: Precision = "auto"
    form: Form = "auto"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for one in fields(self):
            object.__setattr__(self, one.name, checks.plain(getattr(self, one.name)))
        if isinstance(self.dataset, (str, Path)):
            object.__setattr__(self, "dataset", sets.anywhere(self.dataset))
        for name in ("dataset", "system", "device", "model", "loss"):
            value = getattr(self, name)
            if not isinstance(value, str) and not (value is None and name in ("model", "loss")):
                raise TypeError(f"{name} must be a string, got {value!r}")
        for name, least in (("width", 1), ("steps", 1), ("batch", 1), ("seed", 0), ("evaluations", 1)):
            if not checks.is_whole(getattr(self, name)):
                raise TypeError(f"{name} must be an integer, got {getattr(self, name)!r}")
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)!r}")
        if self.evaluations > self.steps:
            raise ValueError(f"evaluations must be at most steps ({self.steps}), got {self.evaluations}")
        if not self.dataset:
            raise ValueError(f"dataset must be the name of a set, got {self.dataset!r}")
        check_device_name(self.device)
        if self.size is not None:
            made = getattr(importlib.import_module(sets.module(self.dataset)), "SIZE", None)
            if made is None or not (checks.is_whole(self.size) and self.size >= made):
                allowed = "None, as the set has its own" if made is None else f"None or an integer, at least {made}"
                raise ValueError(f"size must be {allowed}, got {self.size!r}")
        checks.check_positive("learning_rate", self.learning_rate)
        if not checks.is_number(self.head_std) or not 0 <= self.head_std < 1e3:
            raise ValueError(f"head_std must be a number in [0, 1000), got {self.head_std!r}")
        if self.bias is not None and not (checks.is_number(self.bias) and math.isfinite(self.bias)):
            raise ValueError(f"bias must be None or a finite number, got {self.bias!r}")
        kinds = {"schedule": Schedule, "optimizer": Optimizer, "precision": Precision, "form": Form}
        for name, kind in kinds.items():
            checks.check_one_of(name, getattr(self, name), get_args(kind))
        for name in _MAPPINGS:
            object.__setattr__(self, name, _options(name, getattr(self, name)))  # the caller keeps theirs
        if not isinstance(self.watched, (tuple, list)):
            raise TypeError(f"watched must be a tuple of names, got {self.watched!r}")
        object.__setattr__(self, "watched", tuple(self.watched))
        for name in self.watched:
            measures.get(name)
        self._check_parts()
        for name in ("learning_rate", "head_std", "bias"):  # 1 and 1.0 describe the same run
            if getattr(self, name) is not None:
                object.__setattr__(self, name, float(getattr(self, name)))

    def _check_parts(self) -> None:
        """That system, model and loss are there, go together, and have the options that are given."""
        for option in self.system_options:
            checks.check_option(f"system {self.system!r}", option, systems.options(self.system))
        takes = systems.takes(self.system)
        for part, taken in (("model", "net" in takes), ("loss", "loss" in takes)):
            if taken == (getattr(self, part) is None):
                wanted = "a name" if taken else f"None: the system {self.system!r} has its own"
                raise ValueError(f"{part} must be {wanted}, got {getattr(self, part)!r}")
        if self.model is not None:
            known = models.options(self.model)
            for option in self.model_options:
                checks.check_option(f"model {self.model!r}", option, known)
        if self.loss is not None:
            losses.make(self.loss, **self.loss_options)
        if self.augment:
            data.augmentation(**self.augment)

    def __hash__(self) -> int:
        return hash(repr(self.describe()))

    def __repr__(self) -> str:
        """The fields that are not their defaults."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        changed = (f"{name}={value!r}" for name, value in values.items() if value != getattr(Run, name, {}))
        return f"Run({', '.join(changed)})"

    def describe(self) -> dict[str, Any]:
        """The run as plain data, every default filled in, so that naming a default changes nothing."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        known = {
            "system_options": systems.options(self.system),
            "model_options": models.options(self.model) if self.model is not None else {},
            "loss_options": losses.options(self.loss) if self.loss is not None else {},
        }
        for name in _MAPPINGS:
            plain[name] = _options(name, dict(sorted({**known.get(name, {}), **plain[name]}.items())))
        plain["precision"] = resolve_precision(self.precision, self.device)
        plain["form"] = resolve_form(self.form, self.device)
        return plain

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Run:
        """The run that :meth:`describe` described, also after a way through JSON."""
        tuples = {name: tuple(value) for name, value in described.items() if isinstance(value, list)}
        return cls(**{**described, **tuples})

    def replace(self, **changes: Any) -> Run:
        """This run with some fields changed."""
        return dataclasses.replace(self, **changes)


def _options(name: str, given: Mapping[str, object]) -> dict[str, Option]:
    if not isinstance(given, Mapping):
        raise TypeError(f"{name} must be a mapping, got {given!r}")
    return {str(option): _plain(f"{name}[{option!r}]", value) for option, value in given.items()}


def _plain(name: str, value: Any) -> Option:
    """An option's value, of which there is one form: 2.0 is 2, and a list is a tuple."""
    if isinstance(value, (tuple, list)):
        return tuple(_plain(name, item) for item in value)
    value = checks.plain(value)
    if checks.is_whole(value) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    if value is None or isinstance(value, (bool, float, str)):
        return value
    raise TypeError(f"{name} must be a number, a string, a bool, None or a tuple of them, got {value!r}")
