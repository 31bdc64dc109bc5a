"""Metrics of what training did to the last layers, from how they were before the first step.

They are of all last layers of a system together, those that a net lists in ``heads``, and NaN where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from falloff.measures.base import Measured, Metric


def change(measured: Measured, part: str) -> list[Tensor]:
    """How far the weights, or the biases, of each last layer are from where they began, a row for each output."""
    end, start = measured.once(lasts)
    return [(new.get_parameter(part) - old.get_parameter(part)).detach().double().flatten(1 if part == "weight" else 0)
            for new, old in zip(end, start, strict=True)]


def lasts(measured: Measured) -> tuple[list[nn.Module], list[nn.Module]]:
    """The last layers as they are and as they began."""
    assert measured.trained is not None
    return _lasts(measured.trained.system()), _lasts(measured.trained.start())


def _lasts(system: nn.Module) -> list[nn.Module]:
    heads = (getattr(module, "heads", None) for module in system.modules())
    return [last for one in heads if isinstance(one, nn.ModuleDict) for last in one.values()]


def shared(measured: Measured) -> float:
    r"""The part of the weights' change that all outputs of a last layer have in common, in [0, 1].

    .. math:: \frac{K \sum_f \bar\Delta_f^2}{\sum_{k,f} \Delta_{kf}^2}, \quad
        \bar\Delta_f = \frac{1}{K} \sum_k \Delta_{kf}

    with :math:`\Delta_{kf}` the change of output k's weight on feature f. 1 where the weights of all outputs moved in
    step, so that the maps of all classes grew alike; 1 / K for changes that have nothing to do with each other.
    """
    each = measured.once(change, "weight")
    total = sum(float(one.square().sum()) for one in each)
    common = sum(float(len(one) * one.mean(0).square().sum()) for one in each)
    return common / total if total else math.nan


def _statistic(part: str, of: Callable[[Tensor], Tensor]) -> Callable[[Measured], float]:
    def number(measured: Measured) -> float:
        each = [one.flatten() for one in measured.once(change, part)]
        return float(of(torch.cat(each))) if each else math.nan

    return number


def _spread(values: Tensor) -> Tensor:
    return values.std(correction=0)


WEIGHT_CHANGE, WEIGHT_CHANGE_SD, BIAS_CHANGE, BIAS_CHANGE_SD = (
    Metric(name=f"last_{part}_change{ending}", title=f"{words} of the change of the last layer's {plural}",
           better="neither", needs_training=True, of=_statistic(part, of))
    for part, plural in (("weight", "weights"), ("bias", "biases"))
    for ending, words, of in (("", "mean", torch.mean), ("_sd", "spread", _spread))
)
CHANGE_SHARED = Metric(name="last_change_shared", title="share of the last layer's change common to all outputs",
                       better="neither", needs_training=True, of=shared)
