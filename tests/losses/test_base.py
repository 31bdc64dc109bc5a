"""What holds of every loss: masks, layouts, precisions, compilers and transformations."""

import copy
import pickle
from dataclasses import FrozenInstanceError

import pytest
import torch
from equations import sigmoid
from family import CLASSES, LARGE, NAMES, PROBABLE, SIZE, gradient, scene, with_
from scenes import none, one
from torch.autograd import gradcheck, gradgradcheck

from falloff import losses
from falloff.points import Points


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("logit", [-1e4, -100.0, 100.0, 1e4])
@pytest.mark.parametrize("name", NAMES)
def test_confident_maps_have_finite_losses_from_the_points(name, logit, dtype):
    logits = torch.full((1, CLASSES, *SIZE), logit, dtype=dtype, requires_grad=True)
    value = losses.make(name)(logits, one(2.3, 4.0))
    value.backward()
    assert torch.isfinite(value)
    assert value.dtype == torch.float32 and logits.grad.dtype == dtype
    if (name, dtype) != ("weighted-mse", torch.float16) or abs(logit) < 1e4:  # there it is 220,000, past float16
        assert torch.isfinite(logits.grad).all()
    if name in PROBABLE:  # pixels far away are labelled 0, the point's own 1
        full = 0.75 if name == "varifocal" else 1.0
        assert float(logits.grad[0, 1, 0, 0]) == (full if logit > 0 else 0.0)
        assert (float(logits.grad[0, 0, 4, 2]) < 0) == (logit < 0)


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck_from_the_points(name):
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    # Two on one pixel, one on the border, one between pixels; the second image has none.
    crowded = [([[1.0, 1.0], [1.2, 0.9], [3.5, 2.5], [1.5, 1.5]], [0, 0, 1, 1]), ([], [])]
    points = Points.from_lists(crowded if name != "dsnt" else [([[1.2, 0.9], [3.5, 2.5]], [0, 1]), ([], [])])
    loss = losses.make(name)
    assert gradcheck(lambda x: loss(x, points), [logits])
    assert gradgradcheck(lambda x: loss(x, points), [logits])


@pytest.mark.parametrize("name", NAMES)
def test_positions_in_double_precision_go_with_logits_in_single(name):
    logits = torch.zeros(1, 1, 8, 8, requires_grad=True)
    value = losses.make(name)(logits, one(3.25, 2.5, dtype=torch.float64))
    value.backward()
    assert value.item() == pytest.approx(losses.make(name)(logits, one(3.25, 2.5)).item(), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_memory_layout_and_padding_do_not_change_the_loss(name):
    torch.manual_seed(0)
    loss, logits = losses.make(name), torch.randn(2, 3, *SIZE)
    points = Points.from_lists([([[1.0, 2.0], [5.5, 3.3]], [0, 2]), ([[0.0, 0.0]], [1])])
    value = loss(logits, points)
    assert float(loss(logits.contiguous(memory_format=torch.channels_last), points)) == pytest.approx(
        float(value)
    )
    padded = Points(
        torch.cat([torch.full((2, 3, 2), torch.nan), points.xy], 1),
        torch.cat([torch.full((2, 3), 7), points.label], 1),
        torch.cat([torch.zeros(2, 3, dtype=torch.bool), points.valid], 1),
    )
    assert float(loss(logits, padded)) == pytest.approx(float(value), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_pixels_gradient_does_not_depend_on_other_images(name):
    torch.manual_seed(0)
    fixed = {"normalizer": 1.0} if "normalizer" in losses.options(name) else {}
    loss, logits = losses.make(name, **fixed), torch.randn(2, CLASSES, *SIZE, requires_grad=True)
    here = ([[3.0, 2.0]], [1])
    others = (([[4.0, 4.0]], [0]), ([[5.0, 5.0]], [1]))  # as many labelled maps, elsewhere
    grads = [
        torch.autograd.grad(loss(logits, Points.from_lists([here, other])), logits)[0][0] for other in others
    ]
    assert torch.equal(*grads)


@pytest.mark.parametrize("name", NAMES)
def test_scores_grow_with_the_output_and_read_as_the_target(name):
    loss = losses.make(name, **({"scale": 4.0} if "mse" in name else {}))
    scores = loss.scores(torch.tensor([-3.0, 0.0, 4.0]).view(1, 1, 1, 3)).flatten()
    assert (scores.diff() > 0).all()
    scaled = {"mse": 1.0, "weighted-mse": 1.0}
    in_the_map = {name: torch.tensor([-3.0, 0.0, 4.0]).softmax(0)[2] for name in ("spatial-kl", "spatial-js", "dsnt")}
    read = sigmoid(4.0) if loss.is_probability else 4.0
    assert float(scores[2]) == pytest.approx(float((scaled | in_the_map).get(name, read)))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_mask_hides_changes_nothing_even_if_it_is_not_a_number(name):
    logits, points = scene()
    mask = torch.ones(2, 1, *SIZE, dtype=torch.bool)
    mask[0, 0, 1:4, 0:3] = False  # over a point
    mask[1, 0, 4:] = False
    before, slope = gradient(losses.make(name), logits, points, mask=mask)
    assert (slope[~mask.expand_as(slope)] == 0).all() and (slope != 0).any()
    for other in (torch.nan, torch.inf, -7.0):
        changed = torch.where(mask, logits.detach(), other).requires_grad_()
        after, other_slope = gradient(losses.make(name), changed, points, mask=mask)
        assert torch.equal(before, after) and torch.equal(slope, other_slope)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "softmax-distance-aware"])
def test_a_class_that_is_not_labelled_in_an_image_is_left_out(name):
    logits, points = scene()
    mask = torch.ones(2, CLASSES, 1, 1, dtype=torch.bool)
    mask[1, 0] = False
    before, slope = gradient(losses.make(name), logits, points, mask=mask)
    assert (slope[1, 0] == 0).all() and (slope[1, 1] != 0).any() and (slope[0] != 0).any()
    changed = logits.detach().clone()
    changed[1, 0] += 5.0
    assert torch.equal(before, losses.make(name)(changed, points, mask=mask))


@pytest.mark.parametrize("name", NAMES)
def test_a_mask_that_hides_nothing_changes_nothing(name):
    logits, points = scene()
    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    both = gradient(losses.make(name), logits, points), gradient(losses.make(name), logits, points, mask=mask)
    assert torch.allclose(both[0][0], both[1][0]) and torch.allclose(both[0][1], both[1][1], atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_with_everything_hidden_the_loss_is_finite_and_pulls_nowhere(name):
    logits, points = scene()
    value, slope = gradient(losses.make(name), logits, points, mask=torch.zeros(1, 1, 1, 1, dtype=torch.bool))
    assert torch.isfinite(value) and (slope == 0).all()


@pytest.mark.parametrize("name", [n for n in NAMES if "sigma" in losses.options(n)])
def test_points_that_carry_the_width_of_the_loss_change_nothing(name):
    logits, points = scene(torch.float64)
    width = losses.options(name)["sigma"]
    own = with_(points, sigma=torch.full(points.label.shape, width))
    both = gradient(losses.make(name), logits, points), gradient(losses.make(name, sigma=9.0), logits, own)
    assert float(both[0][0]) == pytest.approx(float(both[1][0]), rel=1e-6)
    assert torch.allclose(both[0][1], both[1][1], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_volume_of_one_slice_is_a_picture(name):
    logits, points = scene(torch.float64)
    deep = Points(torch.nn.functional.pad(points.xy, (0, 1)), points.label, points.valid)
    if name == "dsnt":
        pytest.skip("its coordinates count the slice's half-width too: compared in test_spatial")
    flat, volume = losses.make(name)(logits, points), losses.make(name)(logits[:, :, None], deep)
    assert float(volume) == pytest.approx(float(flat), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_room_for_no_point_and_weights_for_none_are_fine(name):
    logits = torch.zeros(2, CLASSES, *SIZE, requires_grad=True)
    empty = Points(torch.zeros(2, 0, 2), torch.zeros(2, 0).long(), torch.zeros(2, 0).bool(), weight=torch.zeros(2, 0))
    value, slope = gradient(losses.make(name), logits, empty)
    assert float(value) == pytest.approx(float(losses.make(name)(logits, none(2))))
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_computed_in_single(name, dtype):
    logits, points = scene(dtype)
    exact = gradient(losses.make(name), logits.detach().float().requires_grad_(), points)
    value, slope = gradient(losses.make(name), logits, points)
    assert float(value) == pytest.approx(float(exact[0]), rel=1e-6)
    assert slope.dtype == dtype and torch.allclose(slope.float(), exact[1], rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_under_autocast_nothing_changes(name):
    logits, points = scene(torch.bfloat16)
    plain = gradient(losses.make(name), logits, points)
    with torch.autocast("cpu", torch.bfloat16):
        cast = gradient(losses.make(name), logits, points)
    assert cast[0].dtype == torch.float32
    assert float(cast[0]) == pytest.approx(float(plain[0]), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_func_grad_and_vmap(name):
    _, points = scene()
    many = torch.randn(3, 2, CLASSES, *SIZE, generator=torch.Generator().manual_seed(0))
    loss = losses.make(name)
    together = torch.func.vmap(torch.func.grad(lambda x: loss(x, points)))(many)
    for logits, slope in zip(many, together, strict=True):
        alone = gradient(losses.make(name), logits.clone().requires_grad_(), points)[1]
        assert torch.allclose(slope, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_in_a_step_reads_a_tensor_on_a_device(name):
    # On the meta device there are no values: whatever asks for one raises.
    logits, points = scene()
    logits = torch.empty(logits.shape, device="meta", requires_grad=True)
    losses.make(name)(logits, points.to("meta")).backward()
    assert logits.grad.shape == logits.shape


@pytest.mark.parametrize("name", NAMES)
def test_the_same_call_twice_gives_the_same_numbers(name):
    logits, points = scene(shape=LARGE)
    first, second = (gradient(losses.make(name), logits, points) for _ in range(2))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


@pytest.mark.parametrize("name", NAMES)
def test_trainers_set_on_a_loss_what_they_set_on_any_module_but_no_option(name):
    loss = losses.make(name)
    holder = torch.nn.ModuleDict({"loss": loss})
    assert not holder.eval()["loss"].training and holder.train()["loss"].training
    for module in holder.modules():
        module.training = False  # Lightning, after a validation
    loss.forward = loss.forward  # a hook of accelerate
    assert loss == losses.make(name) == copy.deepcopy(loss) == pickle.loads(pickle.dumps(losses.make(name)))
    for option, value in losses.options(name).items():
        with pytest.raises(FrozenInstanceError, match=option):
            setattr(loss, option, value)
