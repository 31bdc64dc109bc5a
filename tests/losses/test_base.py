"""What holds of every loss: masks, layouts, precisions, compilers and transformations."""

import copy
import pickle
from dataclasses import FrozenInstanceError

import pytest
import torch
from equations import sigmoid
from family import CLASSES, LARGE, NAMES, NORMALIZED, PIXEL, PROBABLE, SIZE, gradient, scene, with_
from scenes import none, one
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import interpolate, pad

from falloff import heatmaps, losses
from falloff.points import Points

HARD = ["bce", "weighted-bce", "focal", "distance-map-bce"]  # no Gaussian around a point
MASK = torch.ones(2, 1, *SIZE, dtype=torch.bool)
MASK[0, :, 2:4, 3:] = False
MASK[1, :, :2] = False


def own_slopes(loss, logit):
    """What a loss says its slopes are at a pixel of label 0, and at a point's own."""
    x, kind = torch.tensor([logit, logit]), torch.tensor([0.0, 1.0])
    return loss.charge(x, kind, kind > 0)[1].tolist()


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
        far, own = own_slopes(losses.make(name), logit)
        assert float(logits.grad[0, 1, 0, 0]) == pytest.approx(far, rel=1e-2)
        assert (float(logits.grad[0, 0, 4, 2]) < 0) == (own < 0)


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


def points_at_stride(stride):
    """Points of an image whose maps are those of a scene, on its borders too."""
    width, height = SIZE[1] * stride, SIZE[0] * stride
    xy = [[[stride * 1.3, stride * 2.1], [width - 0.5, height - 1.0]], [[-0.5, 3.0]]]
    points = Points.from_lists([(xy[0], [0, 1]), (xy[1], [1])])
    by_hand = Points((points.xy + 0.5) / stride - 0.5, points.label, points.valid)
    return points, by_hand


@pytest.mark.parametrize("stride", [2, 4, 2.5])
@pytest.mark.parametrize("name", NAMES)
def test_at_a_stride_points_lie_where_their_pixel_of_the_image_lies(name, stride):
    logits, _ = scene()
    points, by_hand = points_at_stride(stride)
    found = gradient(losses.make(name), logits, points, stride=stride)
    wanted = gradient(losses.make(name), logits, by_hand)
    assert float(found[0]) == pytest.approx(float(wanted[0]), rel=1e-5)
    assert torch.allclose(found[1], wanted[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("name", NAMES)
def test_images_and_parts_sum_to_the_loss_and_to_its_gradient(name, mask):
    logits, points = scene(torch.float64)
    points = with_(points, weight=torch.tensor([[2.0, 0.5], [3.0, 1.0]]))
    loss = losses.make(name)
    value, slope = gradient(loss, logits, points, mask=mask)
    each = loss(logits, points, mask=mask, reduction="none")
    parts = loss(logits, points, mask=mask, parts=True)
    both = loss(logits, points, mask=mask, reduction="none", parts=True)
    assert each.shape == both["positives"].shape == both["background"].shape == (2,)
    assert parts.keys() == both.keys() == {"positives", "background"}
    for split in (each, torch.stack([*parts.values()]), torch.stack([*both.values()])):
        assert float(split.sum()) == pytest.approx(float(value), rel=1e-12)
        assert torch.allclose(torch.autograd.grad(split.sum(), logits)[0], slope, rtol=1e-9, atol=1e-12)
    assert torch.allclose(both["positives"] + both["background"], each, rtol=1e-12)
    assert min(float(part) for part in parts.values()) >= 0


@pytest.mark.parametrize("name", NAMES)
def test_what_an_image_adds_depends_on_that_image_alone_but_for_the_normaliser(name):
    logits, points = scene(torch.float64)
    mean_over_images = name in ("dice", "tversky")
    fixed = {} if mean_over_images else {"normalizer": 1}
    each = losses.make(name)(logits, points, reduction="none", **fixed)
    for i in range(2):
        alone = float(losses.make(name)(logits[i : i + 1], points[i : i + 1], **fixed))
        assert float(each[i]) == pytest.approx(alone / (2 if mean_over_images else 1), rel=1e-9)


@pytest.mark.parametrize("name", PIXEL)
def test_the_positives_are_what_is_charged_at_the_pixels_nearest_to_points(name):
    logits, points = scene(torch.float64)
    dense = losses.make(name).elementwise(logits, points)
    labelled = heatmaps.positives(points, SIZE, CLASSES)
    parts = losses.make(name)(logits, points, parts=True)
    assert float(parts["positives"]) == pytest.approx(float(dense[labelled].sum()), rel=1e-9)
    assert float(parts["background"]) == pytest.approx(float(dense[~labelled].sum()), rel=1e-9)


def test_a_part_can_be_weighed_by_itself():
    logits, points = scene(torch.float64)
    loss = losses.make("distance-aware")
    parts = loss(logits, points, parts=True)
    (slope,) = torch.autograd.grad(3 * parts["positives"] + parts["background"], logits)
    labelled = heatmaps.positives(points, SIZE, CLASSES)
    _, plain = gradient(loss, logits, points)
    assert torch.allclose(slope, torch.where(labelled, 3 * plain, plain))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("dice", "tversky")])
def test_a_calls_normaliser_takes_the_place_of_the_losss_own(name):
    logits, points = scene(torch.float64)
    default = losses.make(name)(logits, points)  # divided by the three points, or maps
    for number in (2, 2.0, torch.tensor(2), torch.tensor([2.0])):
        assert float(losses.make(name)(logits, points, normalizer=number)) == pytest.approx(float(default) * 3 / 2)
    if name in NORMALIZED:
        made = losses.make(name, normalizer="pixels")(logits, points)
        assert float(losses.make(name)(logits, points, normalizer="pixels")) == float(made)
        assert losses.make(name, normalizer=losses.count(points)) == losses.make(name, normalizer=3.0)


@pytest.mark.bad_input
@pytest.mark.parametrize(("name", "given", "named"), [
    ("bce", {"reduction": "mean"}, "reduction must be one of sum, none, got 'mean'"),
    ("bce", {"stride": 0}, "stride must be finite and above 0, got 0"),
    ("bce", {"normalizer": "image"}, None),
    ("bce", {"normalizer": "images"}, "normalizer must be one of points, image, pixels, or a number above 0, got 'im"),
    ("bce", {"normalizer": "running"}, "normalizer must be one of points, image, pixels, or a number above 0, got 'ru"),
    ("bce", {"normalizer": torch.zeros(())}, "normalizer must be one of .* got 0.0"),
    ("bce", {"normalizer": torch.tensor(torch.nan)}, "normalizer must be .* got nan"),
    ("bce", {"normalizer": torch.ones(2)}, "normalizer must be"),
    ("bce", {"normalizer": True}, "normalizer must be .* got True"),
    ("spatial-kl", {"normalizer": "points"}, "normalizer must be a number above 0, got 'points'"),
    ("dice", {"normalizer": 3}, "dice takes no normalizer, got 3"),
])
def test_bad_arguments_of_a_call_are_named(name, given, named):
    logits, points = scene()
    if named is None:
        losses.make(name)(logits, points, **given)
        return
    with pytest.raises(ValueError, match=named):
        losses.make(name)(logits, points, **given)


WIDTHS = {
    "one": torch.tensor([[0.8, 1.7], [1.2, 1.0]]),
    "along axes": torch.tensor([[[0.8, 1.1], [1.7, 0.9]], [[1.2, 2.0], [1.0, 1.0]]]),
    "covariance": torch.tensor([[[1.0, 0.3], [0.3, 2.0]], [[1.5, -0.2], [-0.2, 1.0]]]).expand(2, 2, 2, 2),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_a_learned_width_gets_the_gradient_of_finite_differences_or_is_refused(name, width):
    logits, points = scene(torch.float64)
    points = Points(points.xy.double(), points.label, points.valid)

    def value(sigma, mask=None):
        sigma = (sigma + sigma.mT) / 2 if sigma.ndim == 4 else sigma
        return losses.make(name)(logits.detach(), with_(points, sigma=sigma), mask=mask)

    sigma = WIDTHS[width].double().requires_grad_()
    if name in HARD:
        with pytest.raises(ValueError, match=f"{name} draws no Gaussian .* points.sigma, which requires a gradient"):
            value(sigma)
        with torch.no_grad():
            assert torch.isfinite(value(sigma))
        return
    assert gradcheck(value, [sigma], atol=1e-5)
    assert gradcheck(lambda s: value(s, MASK), [sigma], atol=1e-5)


@pytest.mark.parametrize("name", [name for name in PIXEL if name not in HARD])
def test_a_learned_width_gets_the_same_gradient_from_large_maps(name):
    logits, points = scene(shape=LARGE)
    sigma = WIDTHS["one"].clone().requires_grad_()
    value = losses.make(name)(logits, with_(points, sigma=sigma))
    slopes = torch.autograd.grad(value, [logits, sigma])
    value = losses.make(name)(logits.double(), with_(points, sigma=sigma.double()))
    exact = torch.autograd.grad(value, [logits, sigma])
    assert all(torch.allclose(*pair, rtol=1e-3, atol=1e-5) for pair in zip(slopes, exact, strict=True))


@pytest.mark.parametrize("shape", [(2, 2, 6, 8), LARGE])
@pytest.mark.parametrize("name", ["distance-aware", "mse", "softmax-distance-aware", "dice", "spatial-kl", "dsnt"])
def test_learned_positions_get_a_gradient_from_maps_of_any_size(name, shape):
    logits, points = scene(torch.float64, shape=shape)
    xy = points.xy.double().requires_grad_()

    def value(xy):
        return losses.make(name, sigma=1.2)(logits, Points(xy, points.label, points.valid))

    (slope,) = torch.autograd.grad(value(xy), xy)
    step = torch.zeros_like(xy)
    step[0, 0, 1] = 1e-4
    with torch.no_grad():
        wanted = (value(xy + step) - value(xy - step)) / 2e-4
    assert float(slope[0, 0, 1]) == pytest.approx(float(wanted), rel=2e-3, abs=1e-9)


@pytest.mark.graphs
@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_call_leaves_out_what_an_eager_one_refuses(name):
    logits, _ = scene()
    xy = torch.tensor([[[1.3, 2.0], [30.0, 4.0], [3.0, 1.0], [4.0, -0.6]],
                       [[4.0, 0.0], [2.0, 2.0], [-3.0, 1.0], [0.0, 0.0]]])
    label = torch.tensor([[0, 1, CLASSES, 1], [1, 0, 0, 0]])
    valid = torch.tensor([[True, True, True, True], [True, False, True, False]])
    points, kept = Points(xy, label, valid), torch.zeros(2, 4, dtype=torch.bool)
    kept[:, 0] = True
    loss = losses.make(name)
    with pytest.raises(ValueError, match=r"outside the picture|is not in"):
        loss(logits, points)
    wanted = gradient(loss, logits, Points(xy, label, kept))
    torch.compiler.reset()
    step = torch.compile(lambda x, points: loss(x, points), fullgraph=True, backend="aot_eager")
    value = step(logits, points)
    assert float(value) == pytest.approx(float(wanted[0]), rel=1e-6)
    assert torch.allclose(torch.autograd.grad(value, logits)[0], wanted[1], rtol=1e-5, atol=1e-6)


@pytest.mark.graphs
@pytest.mark.parametrize("name", ["distance-aware", "softmax-distance-aware", "dice", "dsnt"])
def test_all_arguments_of_a_call_can_be_compiled(name):
    logits, _ = scene()
    points, _ = points_at_stride(4)
    loss = losses.make(name)
    torch.compiler.reset()
    graphs = CompileCounterWithBackend("aot_eager")

    def called(x, points):
        return loss(x, points, stride=4, mask=MASK, parts=True, reduction="none")

    step = torch.compile(called, fullgraph=True, backend=graphs)
    for batch in (points, Points(points.xy * 0.5, points.label, points.valid)):
        eager, compiled = called(logits, batch), step(logits, batch)
        assert all(torch.allclose(eager[part], compiled[part], rtol=1e-5) for part in ("positives", "background"))
    assert graphs.frame_count == 1


@pytest.mark.graphs
def test_another_normaliser_in_each_step_is_no_other_graph():
    logits, points = scene()
    loss = losses.make("distance-aware")
    for kind, most in ((torch.tensor, 1), (float, 2)):  # a number that changes becomes an input of the second graph
        torch.compiler.reset()
        graphs = CompileCounterWithBackend("aot_eager")
        step = torch.compile(lambda x, points, n: loss(x, points, normalizer=n), fullgraph=True, backend=graphs)
        for number in (30.0, 31.0, 7.5, 2.0):
            wanted = float(loss(logits, points, normalizer=number))
            assert float(step(logits, points, kind(number))) == pytest.approx(wanted, rel=1e-6)
        assert graphs.frame_count <= most


@pytest.mark.graphs
@pytest.mark.parametrize("name", ["distance-aware", "dice"])
def test_another_width_or_weight_in_each_step_is_no_other_graph(name):
    logits, points = scene()
    loss = losses.make(name)
    torch.compiler.reset()
    graphs = CompileCounterWithBackend("aot_eager")
    step = torch.compile(lambda x, points: loss(x, points), fullgraph=True, backend=graphs)
    for width in (1.9, 1.8, 1.75, 1.6, 1.5):
        batch = with_(points, sigma=torch.full(points.label.shape, width), weight=points.xy[..., 0] * width)
        wanted, slope = gradient(loss, logits, batch)
        value = step(logits, batch)
        assert float(value) == pytest.approx(float(wanted), rel=1e-5)
        assert torch.allclose(torch.autograd.grad(value, logits)[0], slope, rtol=1e-4, atol=1e-6)
    assert graphs.frame_count == 1


@pytest.mark.graphs
@pytest.mark.parametrize("name", ["distance-aware", "softmax-distance-aware", "dice", "spatial-js"])
def test_another_number_of_points_in_each_step_is_at_most_four_graphs(name):
    # The first number, any number, and 1 and 0, which a compiler never takes for any.
    logits, loss = scene()[0], losses.make(name)
    torch.compiler.reset()
    graphs = CompileCounterWithBackend("aot_eager")
    step = torch.compile(lambda x, points: loss(x, points), fullgraph=True, backend=graphs)
    for count in (5, 6, 7, 9, 1, 0, 4, 1, 0, 12):
        xy = torch.arange(4.0 * count).view(2, count, 2) % 5
        points = Points(xy, torch.arange(2 * count).view(2, count) % CLASSES, torch.ones(2, count, dtype=torch.bool))
        wanted, slope = gradient(loss, logits, points)
        value = step(logits, points)
        assert float(value.detach()) == pytest.approx(float(wanted), rel=1e-5, abs=1e-6)
        assert torch.allclose(torch.autograd.grad(value, logits)[0], slope, rtol=1e-4, atol=1e-6)
    assert graphs.frame_count <= 4


@pytest.mark.graphs
@pytest.mark.parametrize("normalizer", ["points", "image", "pixels", "running"])
@pytest.mark.parametrize("name", ["distance-aware", "bce", "softmax-distance-aware"])
def test_a_compiled_step_divides_by_the_points_that_lie_inside_as_a_call_that_drops_the_others(name, normalizer):
    logits, loss = scene()[0], losses.make(name, normalizer=normalizer)
    torch.compiler.reset()
    step = torch.compile(lambda x, points: loss(x, points, mask=MASK), fullgraph=True, backend="aot_eager")
    images = [([[1.0, 1.0], [99.0, 2.0], [3.0, 3.0]], [0, 0, 1]), ([[2.0, -5.0], [4.0, 5.0]], [1, 1])]
    outside = Points.from_lists(images, weight=[[1.0, 1.0, 0.0], [2.0, 0.5]])
    dropped = losses.make(name, normalizer=normalizer)(logits, outside.inside(SIZE), mask=MASK)
    assert torch.allclose(step(logits, outside), dropped, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_is_a_module_without_parameters_and_equal_by_its_options(name):
    loss = losses.make(name)
    net = nn.ModuleDict({"loss": loss})
    assert loss == losses.make(name) and hash(loss) == hash(losses.make(name))
    assert not list(net.parameters()) and not net.state_dict()
    assert net.train(False).double()["loss"] is loss and not loss.training


def test_the_outputs_of_a_sigmoid_are_no_logits():
    logits, points = scene()
    p = torch.sigmoid(logits)
    for made in (p, p.clamp(1e-4, 1 - 1e-4), torch.softmax(logits, 1), torch.log_softmax(logits, 1)):
        with pytest.raises(ValueError, match=r"logits must be what comes before the sigmoid, got the output of a"):
            losses.make("distance-aware")(made, points)
        assert torch.isfinite(losses.make("mse")(made, points))  # a raw output may come from one
    assert torch.isfinite(losses.make("distance-aware")(2 * p - 1, points))


@pytest.mark.bad_input
@pytest.mark.parametrize("moved", [
    lambda p: p[:, :2], lambda p: p.split(2, dim=1)[0], lambda p: p.chunk(2, dim=1)[1], lambda p: p.double(),
    lambda p: p.unflatten(1, (2, 2))[:, 0], lambda p: p.half().float()[:, 1:3], lambda p: p.mT.contiguous().mT[:, :2],
    lambda p: p.permute(0, 2, 3, 1).reshape(2, -1, 4).mT.reshape(p.shape)[:, :2], lambda p: p[:, [0, 2]],
    lambda p: p.contiguous(memory_format=torch.channels_last).clone().narrow(1, 0, 2),
    lambda p: torch.stack(p[:, :2].unbind(1), 1), lambda p: torch.cat([p[:, :1], p[:, 3:]], 1),
    lambda p: p.flip(3)[:, :2], lambda p: torch.cat([torch.zeros_like(p[:, :1]).detach(), p[:, 1:]], 1),
    lambda p: p[:, :1].expand(-1, 2, -1, -1), lambda p: p.clamp(min=1e-4).clamp(max=torch.tensor(0.9))[:, :2],
    lambda p: pad(p[:, :2, 1:, 1:], (1, 0, 1, 0)), lambda p: pad(p[:, :2, 1:-1], (0, 0, 1, 1), mode="replicate"),
    lambda p: interpolate(p[:, :2], scale_factor=2, mode="bilinear")[..., ::2, ::2],
    lambda p: torch.where(p > 0.5, p, 0.0)[:, :2], lambda p: p.masked_fill(p < 0.1, 0.0)[:, 2:],
])
@pytest.mark.parametrize("squash", [torch.sigmoid, torch.nn.functional.hardsigmoid, lambda x: x.softmax(1)])
def test_a_sigmoid_is_seen_through_what_only_moves_its_output(moved, squash):
    x = torch.randn(2, 4, *SIZE, requires_grad=True)
    points = Points.from_lists([([[2.0, 3.0]], [0]), ([[1.0, 1.0]], [1])])
    with pytest.raises(ValueError, match=r"logits must be what comes before the sigmoid, got the output of a"):
        losses.make("bce")(moved(squash(x)), points)
    assert torch.isfinite(losses.make("bce")(moved(x), points))
    assert torch.isfinite(losses.make("mse")(moved(squash(x)), points))


def test_logits_that_lie_beside_a_sigmoid_or_come_after_it_are_taken():
    x, points = torch.randn(2, 2, *SIZE, requires_grad=True), Points.from_lists([([[2.0, 3.0]], [0]), ([], [])])
    both = torch.cat([x, x.sigmoid()], 1)  # raw maps and offsets of one net
    for logits in (both[:, :2], x * x.sigmoid(), torch.logit(x.sigmoid()), x.sigmoid().detach()):
        assert torch.isfinite(losses.make("bce")(logits, points))


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
