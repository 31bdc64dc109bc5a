"""Systems by name: a net with what trains it and what reads it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from falloff import checks, models
from falloff.losses import PointLoss
from falloff.models import Net
from falloff.systems.base import Outputs, Prediction, System, Task
from falloff.systems.heatmap import Heatmap

__all__ = ["SYSTEMS", "Heatmap", "Outputs", "Prediction", "System", "Task", "find", "make", "names", "options", "takes"]

SYSTEMS = {"heatmap": Heatmap}
_SHARED = ("net", "width", "loss", "head_std", "bias")  # what a run says of every system


def names() -> list[str]:
    """All names that :func:`make` knows; ``module:Name`` finds another outside the package."""
    return list(SYSTEMS)


def find(name: str) -> Callable[..., System]:
    """The class of a system.

    Raises:
        ValueError: no system has this name; the message gives the nearest.
    """
    return checks.choose("system", name, SYSTEMS)


def takes(name: str) -> set[str]:
    """Which of ``net``, ``width``, ``loss``, ``head_std`` and ``bias`` a system is made with."""
    return checks.own_options(find(name)).keys() & {*_SHARED}


def options(name: str) -> Mapping[str, object]:
    """A system's own options with their defaults."""
    return checks.own_options(find(name), "task", *_SHARED)


def make(
    name: str, task: Task, *, model: str | None = "unet", model_options: Mapping[str, object] | None = None,
    width: int | None = None, loss: PointLoss | None = None, head_std: float | None = None, bias: float | None = None,
    **own: object,
) -> System:
    """A system by name, with fresh weights.

    Args:
        name: one of :func:`names`, or ``module:Name``.
        task: what it is made for.
        model, model_options, width: of the net: see :func:`falloff.models.make`.
        loss: of the class maps.
        head_std, bias: of the last layers' first weights; None is the system's own.
        own: the system's own options, see :func:`options`.

    Raises:
        ValueError: an unknown name or option, or something that the system needs is missing.
    """
    for option in own:
        checks.check_option(f"system {name!r}", option, options(name))
    net = partial(_net, model, task.channels, width, model_options or {})
    shared = {"net": net, "width": width, "loss": loss, "head_std": head_std, "bias": bias}
    given = {what: shared[what] for what in takes(name) if shared[what] is not None}
    defaults = checks.own_options(find(name), "task")
    needed = {what for what, default in defaults.items() if default is inspect.Parameter.empty}
    if missing := sorted(needed - given.keys() - own.keys()):
        raise ValueError(f"system {name!r} needs {', '.join(missing)}, got none")
    return find(name)(task, **given, **own)


def _net(model: Any, channels: int, width: Any, given: Mapping[str, object], outputs: Mapping[str, int]) -> Net:
    """The net that a run names; one whose system has its own names none, and does not call this."""
    return models.make(model, channels=channels, outputs=outputs, width=width, **given)
