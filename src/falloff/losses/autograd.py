"""Charges as functions that autograd knows: on dense maps, and summed from the points."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from falloff.heatmaps import Near
from falloff.losses.charges import Charge


def elementwise(charge: Callable[..., Charge], x: Tensor, *constants: object) -> Tensor:
    """The charge of each element of ``x``; constants get no gradient."""
    return _Elementwise.apply(x, charge, *constants)[0]


def summed(charge: Callable[..., Charge], x: Tensor, near: Near) -> Tensor:
    """The sum of a charge over maps of which only the pixels in ``near`` differ from empty background.

    ``charge(x, heat, positive)`` is first taken everywhere with heat 0.0 and positive False, one plain pass; then what
    that got wrong near the points is put right. No target map is kept, and of the size of ``x`` only its gradient.
    """
    return _Summed.apply(x, charge, near)[0]


class _Elementwise(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, charge: Callable[..., Charge], *constants: object) -> Charge:
        return charge(x, *constants)

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


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, charge: Callable[..., Charge], near: Near) -> Charge:
        return _sum_and_slope(x, charge, near)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        x, ctx.charge, ctx.near = inputs
        ctx.save_for_backward(x, output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, slope = ctx.saved_tensors
        if torch.is_grad_enabled():
            slope = _sum_and_slope(x, ctx.charge, ctx.near)[1]
        return grad * slope, None, None


def _sum_and_slope(x: Tensor, charge: Callable[..., Charge], near: Near) -> Charge:
    flat = x.reshape(-1)
    value, slope = charge(flat, 0.0, False)
    right, right_slope = charge(flat[near.index], near.heat.to(x.dtype), near.positive)
    # The wrong charges are taken out, not subtracted: beside a large one a small right one would lose its digits.
    total = value.index_fill(0, near.index, 0.0).sum() + torch.where(near.counts, right, 0.0).sum()
    mend = torch.where(near.counts, right_slope, 0.0)
    return total, slope.index_fill(0, near.index, 0.0).index_add(0, near.index, mend).view(x.shape)
