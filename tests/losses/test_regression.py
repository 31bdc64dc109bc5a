"""Numbers at the points, beside the class maps."""

import math
from dataclasses import replace

import pytest
import torch
from family import SIZE, with_
from hypothesis import given, settings
from scenes import batches, one
from torch.autograd import gradcheck

from falloff import decode, losses
from falloff.points import Points


def by_hand(maps, points, target, beta, counts=None):
    """Each image's sum over its points, in Python floats."""
    sums = []
    for image in range(len(points)):
        total = 0.0
        for n in range(points.label.shape[1]):
            if not points.valid[image, n] or (counts is not None and not counts[image][n]):
                continue
            x, y = points.xy[image, n].tolist()
            column = min(math.floor(x + 0.5), maps.shape[3] - 1)
            row = min(math.floor(y + 0.5), maps.shape[2] - 1)
            wanted = [x - column, y - row] if target is None else target[image, n].tolist()
            weight = 1.0 if points.weight is None else float(points.weight[image, n])
            for k, value in enumerate(wanted):
                gap = abs(float(maps[image, k, row, column]) - value)
                total += weight * (gap**2 / (2 * beta) if gap < beta else gap - beta / 2)
        sums.append(total)
    return sums


@settings(max_examples=15)
@given(points=batches(SIZE, 3, torch.float64))
@pytest.mark.parametrize("beta", [0.0, 1.0, 0.3])
def test_offsets_and_other_numbers_are_those_worked_by_hand(beta, points):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 2, *SIZE, dtype=torch.float64, generator=generator)
    numbers = torch.randn(*points.xy.shape[:2], 2, dtype=torch.float64, generator=generator)
    points = replace(points, weight=torch.rand(points.label.shape, generator=generator))
    count = max(1, int(points.valid.sum()))
    for target, own in (("offset", None), (numbers, numbers)):
        wanted = by_hand(maps, points, own, beta)
        value = losses.at_points(maps, points, target, beta=beta)
        assert float(value) == pytest.approx(sum(wanted) / count, rel=1e-9, abs=1e-12)
        each = losses.at_points(maps, points, target, beta=beta, reduction="none", normalizer=2)
        assert each.tolist() == pytest.approx([one / 2 for one in wanted], rel=1e-9, abs=1e-12)


def test_maps_that_hold_the_offsets_cost_nothing_and_decode_to_the_points():
    points = Points.from_lists([([[9.3, 14.6], [22.0, 5.2]], [0, 1])])
    maps = torch.zeros(1, 2, 8, 8, requires_grad=True)
    optimizer = torch.optim.SGD([maps], lr=0.1)
    for step in range(80):
        optimizer.param_groups[0]["lr"] = 0.1 * 0.9**step
        optimizer.zero_grad()
        losses.at_points(maps, points, "offset", stride=4).backward()
        optimizer.step()
    scores = torch.zeros(1, 2, 8, 8)
    scores[0, 0, 3, 2], scores[0, 1, 1, 5] = 1.0, 0.9  # (9.3 + 0.5) / 4 - 0.5 = 1.95, (14.6 + 0.5) / 4 - 0.5 = 3.275
    found = decode.peaks(scores, count=2, refine="offsets", offsets=maps.detach()).at_stride(1 / 4)
    assert found.xy[0].flatten().tolist() == pytest.approx([9.3, 14.6, 22.0, 5.2], abs=0.02)


def test_lengths_are_asked_for_in_pixels_of_the_maps():
    points = Points(torch.tensor([[[9.5, 5.5]]]), torch.tensor([[0]]), torch.tensor([[True]]),
                    extra={"size": torch.tensor([[[12.0, 20.0]]]), "angle": torch.tensor([[0.5]])})
    maps = torch.zeros(1, 2, 8, 8)
    maps[0, :, 1, 2] = torch.tensor([3.0, 5.0])  # a quarter of 12 and of 20
    assert float(losses.at_points(maps, points, "size", stride=4)) == 0
    assert float(losses.at_points(maps[:, :1], points, "angle", stride=4)) == 2.5
    assert float(losses.at_points(maps, points.at_stride(4), "size")) == 0


def test_what_does_not_count_changes_nothing_whatever_it_is():
    points = Points.from_lists([([[1.0, 1.0], [5.0, 3.0]], [0, 1]), ([[2.0, 2.0]], [1])])
    maps = torch.zeros(2, 2, *SIZE)
    maps[0, :, 3, 5] = torch.nan
    maps.requires_grad_()
    target = torch.ones(2, 2, 2)
    target[0, 1] = torch.inf
    over_class = torch.tensor([[True, False], [True, True]]).view(2, 2, 1, 1)
    over_place = torch.ones(1, 1, *SIZE, dtype=torch.bool)
    over_place[..., 3, 5] = False
    for mask in (over_class, over_place):
        value = losses.at_points(maps, points, target, mask=mask)
        assert float(value) == 2  # two points of two numbers each, one off
        (slope,) = torch.autograd.grad(value, maps)
        assert slope[0, :, 1, 1].tolist() == slope[1, :, 2, 2].tolist() == [-0.5, -0.5] and slope.abs().sum() == 2


def test_gradients_layouts_precisions_volumes_and_transformations():
    points = Points.from_lists([([[1.3, 2.0], [7.0, 5.4]], [0, 1]), ([[4.0, 0.0]], [1])])
    points = Points(points.xy.double(), points.label, points.valid)
    maps = torch.randn(2, 2, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert gradcheck(lambda x: losses.at_points(x, points, "offset", beta=1.0), [maps])
    value = losses.at_points(maps, points, "offset")
    assert float(losses.at_points(maps.contiguous(memory_format=torch.channels_last), points, "offset")) == float(value)
    half = losses.at_points(maps.half(), points, "offset")
    assert half.dtype == torch.float32 and float(half) == pytest.approx(float(value), rel=1e-2)
    with torch.autocast("cpu", torch.bfloat16):
        assert float(losses.at_points(maps.float(), points, "offset")) == pytest.approx(float(value), rel=1e-5)
    deep = Points(torch.nn.functional.pad(points.xy, (0, 1)), points.label, points.valid)
    flat = torch.cat([maps, torch.zeros_like(maps[:, :1])], 1)[:, :, None]
    assert float(losses.at_points(flat, deep, "offset")) == pytest.approx(float(value), rel=1e-12)
    many = torch.func.vmap(torch.func.grad(lambda x: losses.at_points(x, points, "offset")))(maps.detach()[None])
    assert torch.allclose(many[0], torch.autograd.grad(value, maps)[0])


def test_nothing_reads_a_value_on_a_device():
    points = with_(one(1.0, 2.0), weight=torch.ones(1, 1)).to("meta")
    maps = torch.zeros(1, 2, *SIZE, device="meta", requires_grad=True)
    losses.at_points(maps, points, "offset").backward()
    assert maps.grad.shape == maps.shape


MAPS = torch.zeros(1, 2, *SIZE)
HERE = one(1.0, 1.0)


@pytest.mark.bad_input
@pytest.mark.parametrize(("maps", "points", "target", "given", "error", "named"), [
    (MAPS.long(), HERE, "offset", {}, TypeError, "maps must be a floating point tensor"),
    (MAPS[0], HERE, "offset", {}, ValueError, "maps must have shape"),
    (MAPS, one(9.0, 1.0), "offset", {}, ValueError, "outside the picture"),
    (MAPS, one(1.0, 1.0, label=2), "offset", {"mask": torch.ones(1, 2, 1, 1).bool()}, ValueError, "label 2 is not in"),
    (MAPS, HERE, "sise", {}, ValueError, "target must be one of offset, got 'sise'"),
    (MAPS[:, :1], HERE, "offset", {}, ValueError, r"target must have shape .* \(1, 1, 1\) .* \(1, 1, 2\)"),
    (MAPS, HERE, "offset", {"beta": -1.0}, ValueError, "beta must be finite and at least 0"),
    (MAPS, HERE, "offset", {"normalizer": "pixels"}, ValueError, "normalizer must be one of points, image, or a"),
    (MAPS, HERE, "offset", {"reduction": "mean"}, ValueError, "reduction must be one of sum, none"),
    (MAPS, HERE, "offset", {"mask": torch.ones(1, 1, 5, 8).bool()}, ValueError, "mask must have"),
    (MAPS, HERE, torch.full((1, 1, 2), torch.nan), {}, ValueError, "target must be finite .* image 0, point 0 has"),
    (MAPS + torch.inf, HERE, "offset", {}, ValueError, "maps must be finite where a point counts: image 0, point 0"),
])
def test_bad_arguments_are_named(maps, points, target, given, error, named):
    with pytest.raises(error, match=named):
        losses.at_points(maps, points, target, **given)
