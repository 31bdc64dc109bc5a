"""Distributed and accumulated steps equal one process on the whole batch."""

import socket

import pytest
import torch
from family import NORMALIZED
from torch import distributed, nn
from torch.multiprocessing import spawn

from falloff import losses
from falloff.points import Points

COUNTS = (1, 0, 4, 2)  # points of each image: 1 on one process, 6 on the other
SINGLE = ("spatial-kl", "spatial-js", "dsnt")  # means over maps, which have one point at most


def batch(at_most=6):
    """Four pictures with their points, of two classes where there are two."""
    generator = torch.Generator().manual_seed(0)
    images = [(torch.rand(min(n, at_most), 2, generator=generator) * 19, torch.arange(min(n, at_most)) % 2)
              for n in COUNTS]
    return torch.rand(4, 1, 20, 20, generator=generator), Points.from_lists(images)


def net():
    torch.manual_seed(0)
    return nn.Conv2d(1, 2, 5, padding=2)


def gradient(module):
    return torch.cat([weight.grad.flatten() for weight in module.parameters()])


def whole(name, mask=None):
    """The gradient of one process on the whole batch."""
    images, points = batch(2 if name in SINGLE else 6)
    module = net()
    losses.make(name)(module(images), points, mask=mask).backward()
    return gradient(module)


def gap(one, other):
    return float((one - other).norm() / other.norm())


def hidden():
    mask = torch.ones(4, 1, 20, 20, dtype=torch.bool)
    mask[2, :, :10] = False
    return mask


def of_one_process(rank, port, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    part, found = slice(2 * rank, 2 * rank + 2), {}
    for name in (*NORMALIZED, *SINGLE):
        images, points = batch(2 if name in SINGLE else 6)
        module = nn.parallel.DistributedDataParallel(net())
        number = losses.count(points[part])
        losses.make(name)(module(images[part]), points[part], normalizer=number).backward()
        found[name] = gradient(module)
    images, points = batch()
    module = nn.parallel.DistributedDataParallel(net())
    number = losses.count(points[part], mask=hidden()[part])
    losses.make("bce")(module(images[part]), points[part], mask=hidden()[part], normalizer=number).backward()
    found["masked"] = gradient(module)
    module = nn.parallel.DistributedDataParallel(net())
    halves = [slice(2 * rank + i, 2 * rank + i + 1) for i in (0, 1)]
    number = losses.count([points[half] for half in halves], parts=2)
    for half in halves:
        (losses.make("bce")(module(images[half]), points[half], normalizer=number) / 2).backward()
    found["accumulated"] = gradient(module)
    for name in ("image", "pixels", "points"):
        module = nn.parallel.DistributedDataParallel(net())
        losses.make("bce", normalizer=name)(module(images[part]), points[part]).backward()
        found[name] = gradient(module)
    if rank == 0:
        torch.save(found, f"{folder}/found.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Gradients of two processes, by what they computed."""
    if not (distributed.is_available() and distributed.is_gloo_available()):
        pytest.skip("PyTorch has no gloo here")
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(of_one_process, args=(port, folder), nprocs=2)
    return torch.load(folder / "found.pt")


@pytest.mark.parametrize("name", [*NORMALIZED, *SINGLE])
def test_two_processes_with_one_and_six_points_equal_one_with_all(name, found):
    assert gap(found[name], whole(name)) < 1e-6


def test_a_point_under_a_mask_counts_on_no_process(found):
    assert gap(found["masked"], whole("bce", hidden())) < 1e-6


def test_processes_that_accumulate_parts_equal_one_with_all(found):
    assert gap(found["accumulated"], whole("bce")) < 1e-6


@pytest.mark.parametrize(("normalizer", "same"), [("image", True), ("pixels", True), ("points", False)])
def test_of_the_other_normalisers_those_equal_one_process_that_say_so(normalizer, same, found):
    images, points = batch()
    module = net()
    losses.make("bce", normalizer=normalizer)(module(images), points).backward()
    assert (gap(found[normalizer], gradient(module)) < 1e-6) == same


@pytest.mark.parametrize("divided", [1, 4])
def test_parts_that_are_accumulated_equal_the_whole(divided):
    images, points = batch()
    module = net()
    parts = [points[i] for i in (slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 4))]
    number = losses.count(parts, parts=divided)
    for image, part in zip(images.split(1), parts, strict=True):
        (losses.make("distance-aware")(module(image), part, normalizer=number) / divided).backward()
    assert gap(gradient(module), whole("distance-aware")) < 1e-6


def test_a_mask_for_each_part_and_a_stride_are_those_of_the_loss():
    points = Points.from_lists([([[1.0, 1.0], [30.0, 2.0]], [0, 1])])
    mask = torch.ones(1, 2, 8, 8, dtype=torch.bool)
    mask[0, 1, 0, 7] = False  # the second class where its point is, at a quarter of the resolution
    assert float(losses.count(points, mask=mask, stride=4)) == 1
    assert float(losses.count([points, points], mask=[mask, None], stride=4)) == 3
    assert float(losses.count([points, points], mask=[mask[:, :1], mask[:, :, :1, :1]], stride=4)) == 4


def test_without_a_point_the_number_is_that_of_the_default():
    assert float(losses.count(Points.from_lists([([], [])]))) == 1


MASK = torch.ones(1, 3, 8, 8, dtype=torch.bool)
FOUR = Points.from_lists([([[1.0, 1.0], [30.0, 2.0]], [0, 2])])  # in pixels of a picture of 32 x 32


@pytest.mark.bad_input
@pytest.mark.parametrize(("points", "given", "error", "named"), [
    (FOUR, {"parts": 0}, ValueError, "parts must be an integer above 0, got 0"),
    ([FOUR], {"mask": [None, None]}, ValueError, "mask must be one for each of the 1 batches of points, got 2"),
    ([FOUR, FOUR], {"mask": MASK}, TypeError, "mask must be a list, one for each batch"),
    (FOUR, {"mask": [MASK]}, TypeError, "mask must be one tensor"),
    (FOUR, {"mask": MASK}, ValueError, r"point 1 at \(30, 2\) lies outside .* \(8, 8\).* stride="),
    (FOUR, {"mask": MASK, "stride": 2}, ValueError, r"point 1 at \(30, 2\) lies outside .* \(16, 16\)"),
    (FOUR, {"mask": MASK[:, :2], "stride": 4}, ValueError, r"point 1: label 2 is not in \[0, 2\)"),
    (FOUR, {"mask": MASK[:, 0], "stride": 4}, ValueError, r"mask must have as many axes .* got \(1, 8, 8\)"),
    (FOUR, {"mask": MASK.expand(2, -1, -1, -1), "stride": 4}, ValueError, r"mask must .* got \(2, 3, 8, 8\)"),
    (FOUR, {"mask": MASK.float()}, TypeError, "mask must be a bool tensor, got torch.float32"),
    ([], {}, TypeError, "points must be falloff.points.Points or a list of some"),
    (3, {}, TypeError, "points must be falloff.points.Points or a list of some, got 3"),
])
def test_bad_arguments_are_named(points, given, error, named):
    with pytest.raises(error, match=named):
        losses.count(points, **given)
