"""What a sum over pixels is divided by."""

import copy
import io
import pickle

import pytest
import torch
from family import CLASSES, NORMALIZED, SIZE, gradient, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import batches, none, one
from torch import nn

from falloff import losses
from falloff.points import Points


@pytest.mark.parametrize("name", NORMALIZED)
@settings(max_examples=10)
@given(points=batches(SIZE, CLASSES, torch.float64, images=4), seed=st.integers(0, 99))
def test_normalised_by_image_the_loss_of_a_batch_is_the_mean_of_its_parts_however_it_is_split(name, points, seed):
    logits = torch.randn(4, CLASSES, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    loss = losses.make(name, normalizer="image")
    whole = float(loss(logits, points))
    for cuts in ([2, 2], [1, 3], [1, 1, 2]):
        parts, first = 0.0, 0
        for length in cuts:
            part = slice(first, first + length)
            parts, first = parts + length * float(loss(logits[part], points[part])), first + length
        assert parts / 4 == pytest.approx(whole, rel=1e-10)


@pytest.mark.parametrize("name", NORMALIZED)
@pytest.mark.parametrize("normalizer", ["points", "image", "pixels", "running", 3])
def test_every_normaliser_is_defined_without_points(name, normalizer):
    logits = torch.zeros(2, CLASSES, *SIZE, requires_grad=True)
    value, slope = gradient(losses.make(name, normalizer=normalizer), logits, none(2, 3))
    assert torch.isfinite(value) and torch.isfinite(slope).all()


def test_a_running_mean_follows_the_batches_it_was_trained_on_alone():
    loss, plain = losses.make("bce", normalizer="running"), losses.make("bce", normalizer=1.0)
    logits = torch.zeros(1, 1, *SIZE, requires_grad=True)
    two, six = (Points.from_lists([([[float(i), 1.0] for i in range(n)], [0] * n)]) for n in (2, 6))
    assert float(loss(logits, two)) == pytest.approx(float(plain(logits, two)) / 2)
    with torch.no_grad():
        assert float(loss(logits, six)) == pytest.approx(float(plain(logits, six)) / 2)
    assert float(loss(logits, six)) == pytest.approx(float(plain(logits, six)) / 2.4)  # 0.9 * 2 + 0.1 * 6
    assert losses.make("bce", normalizer="running") == loss  # the state is no option


@pytest.mark.parametrize("name", NORMALIZED)
def test_a_hidden_point_does_not_count(name):
    logits, points = scene()
    mask = torch.ones(2, 1, *SIZE, dtype=torch.bool)
    mask[1] = False  # the second image with its one point
    alone = losses.make(name)(logits[:1], points[:1])
    assert float(losses.make(name)(logits, points, mask=mask)) == pytest.approx(float(alone), rel=1e-6)


class Trained(nn.Module):
    """A module that holds a loss with a state."""

    def __init__(self):
        super().__init__()
        self.loss = losses.make("bce", normalizer="running")


def filled(copies):
    """A copy of a loss that met a batch of two points, and then one of none: 0.9 * 2."""
    held = Trained()
    logits = torch.zeros(1, 1, *SIZE, requires_grad=True)
    held.loss(logits, Points.from_lists([([[1.0, 1.0], [3.0, 3.0]], [0, 0])]))
    held.loss(logits, none(1))
    return copies(held)


def loaded(held, **given):
    other = Trained()
    other.load_state_dict(held.state_dict(), **given)
    return other


def through_a_file(held):
    file = io.BytesIO()
    torch.save(held.state_dict(), file)
    file.seek(0)
    other = Trained()
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


@pytest.mark.parametrize("copies", [
    lambda held: held, copy.deepcopy, lambda held: pickle.loads(pickle.dumps(held)), loaded, through_a_file,
    lambda held: loaded(held, assign=True), lambda held: held.eval().train().double().float(),
    lambda held: held.to("meta") and held.to_empty(device="cpu") and loaded(filled(copy.deepcopy)),
])
def test_a_running_mean_goes_with_the_module_that_holds_it(copies):
    held = filled(copies)
    assert isinstance(held.loss, nn.Module) and list(held.state_dict()) == ["loss.running.mean"]
    logits = torch.zeros(1, 1, *SIZE, requires_grad=True)
    value = held.loss(logits, one(1.0, 1.0))  # 0.9 * 1.8 + 0.1 * 1
    bare = losses.make("bce", normalizer=1)(logits, one(1.0, 1.0))
    assert float(value) == pytest.approx(float(bare) / 1.72, rel=1e-6)


def test_copies_and_new_losses_have_running_means_of_their_own():
    held = filled(lambda held: held)
    other, new = copy.deepcopy(held), losses.make("bce", normalizer="running")
    assert held.loss == other.loss == new
    logits = torch.zeros(1, 1, *SIZE, requires_grad=True)
    new(logits, one(1.0, 1.0))
    other.loss(logits, none(1))
    assert [float(loss.running.mean) for loss in (held.loss, other.loss, new)] == pytest.approx([1.8, 1.62, 1.0])
    losses.best_constant(held.loss, one(1.0, 1.0), SIZE, 1)
    assert float(held.loss.running.mean) == pytest.approx(1.8)


@pytest.mark.graphs
def test_a_running_mean_moves_in_a_compiled_step_as_in_an_eager_one():
    eager, loss = (losses.make("bce", normalizer="running") for _ in range(2))
    step = torch.compile(lambda x, points: loss(x, points), fullgraph=True, backend="aot_eager")
    logits = torch.zeros(1, 1, *SIZE, requires_grad=True)
    for points in (one(1.0, 1.0), Points.from_lists([([[1.0, 1.0], [3.0, 3.0]], [0, 0])]), none(1)):
        assert float(step(logits, points)) == pytest.approx(float(eager(logits, points)), rel=1e-6)
    assert float(loss.running.mean) == pytest.approx(float(eager.running.mean))
