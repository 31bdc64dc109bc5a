import math
from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import batches, none, one
from torch.autograd import gradcheck, gradgradcheck

from falloff import heatmaps, losses
from falloff.points import Points

NAMES = losses.names()
PIXEL = [name for name in NAMES if isinstance(losses.make(name), losses.PixelLoss)]
PROBABLE = [name for name in PIXEL if losses.make(name).is_probability]
SIZE, CLASSES = (6, 8), 2
LOGITS = (-60.0, -30.0, -12.5, -3.0, -0.7, 0.0, 1e-3, 0.7, 3.0, 12.5, 30.0, 60.0)


# The papers' equations in decimal arithmetic, where 1 - p does not round.


def probability(x):
    return 1 / (1 + (-x).exp())


def power(base, exponent):
    return Decimal(1) if exponent == 0 else base**exponent


def lin_2017(x, label, gamma=2, alpha=None):
    """Equation 5 (equation 4 without alpha): -a_t (1 - p_t)^gamma log(p_t)."""
    p = probability(x)
    p_t = p if label else 1 - p
    a_t = 1 if alpha is None else alpha if label else 1 - alpha
    return -a_t * power(1 - p_t, gamma) * p_t.ln()


def law_2018(x, positive, y, alpha=2, beta=4):
    """Equation 1, one pixel."""
    p = probability(x)
    if positive:
        return -power(1 - p, alpha) * p.ln()
    return -power(1 - y, beta) * power(p, alpha) * (1 - p).ln()


def wang_2019(z, y, omega=14, theta=Decimal("0.5"), epsilon=1, alpha=Decimal("2.1")):
    """Equations 3 and 4, with the paper's A and C."""
    gap, exponent = abs(z - y), alpha - y
    if gap < theta:
        return omega * (1 + power(gap / epsilon, exponent)).ln()
    slope = omega / (1 + power(theta / epsilon, exponent)) * exponent * power(theta / epsilon, exponent - 1) / epsilon
    return slope * gap - (theta * slope - omega * (1 + power(theta / epsilon, exponent)).ln())


def cross_entropy(x, y, weight=1):
    p = probability(x)
    return -weight * y * p.ln() - (1 - y) * (1 - p).ln()


FORMULAS = {
    "bce": (lambda x, y: losses.bce(x, y), lambda x, y: cross_entropy(x, y), (0.0, 0.3, 1.0)),
    "weighted bce": (
        lambda x, y: losses.weighted_bce(x, y, positive_weight=7.0),
        lambda x, y: cross_entropy(x, y, 7),
        (0.0, 0.3, 1.0),
    ),
    "focal": (lambda x, y: losses.focal(x, y), lin_2017, (0.0, 1.0)),
    "focal as in RetinaNet": (
        lambda x, y: losses.focal(x, y, gamma=2.0, alpha=0.25),
        lambda x, y: lin_2017(x, y, 2, Decimal("0.25")),
        (0.0, 1.0),
    ),
    "focal 0.5": (
        lambda x, y: losses.focal(x, y, gamma=0.5),
        lambda x, y: lin_2017(x, y, Decimal("0.5")),
        (0.0, 1.0),
    ),
    "distance-aware elsewhere": (
        lambda x, y: losses.distance_aware(x, torch.zeros_like(x).bool(), y),
        lambda x, y: law_2018(x, False, y),
        (0.0, 0.3, 0.9, 1.0),
    ),
    "distance-aware positive": (
        lambda x, y: losses.distance_aware(x, torch.ones_like(x).bool(), y),
        lambda x, y: law_2018(x, True, y),
        (0.9, 1.0),
    ),
    "distance-aware 1, 2": (
        lambda x, y: losses.distance_aware(x, torch.zeros_like(x).bool(), y, alpha=1.0, beta=2.0),
        lambda x, y: law_2018(x, False, y, 1, 2),
        (0.0, 0.3, 1.0),
    ),
    "quality focal": (
        lambda x, y: losses.quality_focal(x, y),
        lambda x, y: abs(y - probability(x)) ** 2 * cross_entropy(x, y),
        (0.0, 0.3, 1.0),
    ),
    "quality focal 1.5": (
        lambda x, y: losses.quality_focal(x, y, beta=1.5),
        lambda x, y: power(abs(y - probability(x)), Decimal("1.5")) * cross_entropy(x, y),
        (0.0, 0.3, 1.0),
    ),
    "varifocal": (
        lambda x, y: losses.varifocal(x, y),
        lambda x, y: y * cross_entropy(x, y) if y > 0 else Decimal("0.75") * lin_2017(x, 0),
        (0.0, 0.3, 1.0),
    ),
    "distance map": (
        lambda x, d: losses.distance_map_bce(x, torch.zeros_like(x).bool(), d, reach=8.0),
        lambda x, d: min(d / 8, 1) * cross_entropy(x, 0),
        (0.0, 3.0, 8.0, 50.0),
    ),
    "adaptive wing": (lambda x, y: losses.adaptive_wing(x, y), wang_2019, (0.0, 0.3, 1.0)),
    "adaptive wing, other options": (
        lambda x, y: losses.adaptive_wing(x, y, omega=3.0, theta=0.25, epsilon=0.5, alpha=1.5),
        lambda x, y: wang_2019(x, y, 3, Decimal("0.25"), Decimal("0.5"), Decimal("1.5")),
        (0.0, 0.3, 1.0),
    ),
    "weighted mse": (
        lambda x, y: losses.weighted_mse(x, y, scale=3.0, positive_weight=2.0),
        lambda x, y: (1 + 2 * y) * (x - 3 * y) ** 2,
        (0.0, 0.3, 1.0),
    ),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("name", FORMULAS)
def test_values_are_those_of_the_papers_equations(name, dtype, tolerance):
    ours, formula, targets = FORMULAS[name]
    for y in targets:
        x, target = torch.tensor(LOGITS, dtype=dtype), torch.full((len(LOGITS),), y, dtype=dtype)
        with localcontext(prec=80):
            # The same numbers as the dtype holds, so that only the arithmetic differs.
            exact = [float(formula(Decimal(a), Decimal(float(target[0])))) for a in x.tolist()]
        assert ours(x, target).tolist() == pytest.approx(exact, rel=tolerance, abs=1e-35)


@pytest.mark.parametrize("name", FORMULAS)
def test_gradients_are_those_of_the_papers_equations(name):
    ours, formula, targets = FORMULAS[name]
    for y in targets:
        x = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
        ours(x, torch.full((len(LOGITS),), y, dtype=torch.float64)).sum().backward()
        with localcontext(prec=120):
            step, at = Decimal("1e-30"), [Decimal(a) for a in LOGITS]
            exact = [
                float((formula(a + step, Decimal(y)) - formula(a - step, Decimal(y))) / (2 * step))
                for a in at
            ]
        assert x.grad.tolist() == pytest.approx(exact, rel=1e-9, abs=1e-15)


def test_the_whole_of_law_2018_on_a_small_map():
    logits = torch.linspace(-3, 3, 30).view(1, 1, 5, 6)
    places = [(1.0, 1.0), (4.0, 3.0)]
    total = Decimal(0)
    for row in range(5):
        for column in range(6):
            squares = min((column - x) ** 2 + (row - y) ** 2 for x, y in places)
            y = (-Decimal(squares) / (2 * Decimal("1.5") ** 2)).exp()
            total += law_2018(Decimal(float(logits[0, 0, row, column])), squares == 0, y)
    points = Points.from_lists([(places, [0, 0])])
    assert float(losses.make("distance-aware", sigma=1.5)(logits, points)) == pytest.approx(
        float(total / 2), rel=1e-6
    )


def test_published_numbers_of_focal_loss():
    # Lin et al. 2017, section 3.2: at gamma 2, p_t = 0.9 pays 100 times less than under CE, 0.968 1000.
    for p, ratio in ((0.9, 100), (0.968, 1000)):
        x, label = torch.tensor([math.log(p / (1 - p))]), torch.ones(1)
        assert float(losses.bce(x, label) / losses.focal(x, label, gamma=2.0)) == pytest.approx(
            ratio, rel=0.03
        )


def test_the_prior_of_retinanet():
    assert losses.prior_bias(0.01) == pytest.approx(-math.log(99), rel=1e-12)
    assert 1 / (1 + math.exp(-losses.prior_bias(0.2))) == pytest.approx(0.2, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_confident_logits_have_finite_values_and_the_right_gradients(dtype):
    # Clamping p to [1e-4, 1 - 1e-4], as CenterNet does, leaves confident mistakes without a gradient.
    x = torch.tensor([1e4, -1e4, 1e4, -1e4], dtype=dtype, requires_grad=True)
    label = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=dtype)
    forms = {
        "bce": losses.bce(x, label),
        "focal": losses.focal(x, label),
        "focal 0.5": losses.focal(x, label, gamma=0.5),
        "quality focal": losses.quality_focal(x, label),
        "distance map": losses.distance_map_bce(x, label.bool(), torch.full_like(x, torch.inf)),
        "distance-aware": losses.distance_aware(x, label.bool(), label),
    }
    for name, value in forms.items():
        assert value.tolist() == [1e4, 1e4, 0.0, 0.0], name
        (grad,) = torch.autograd.grad(value.sum(), x)
        assert grad.tolist() == [1.0, -1.0, 0.0, 0.0], name


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


@pytest.mark.parametrize("name", FORMULAS)
def test_gradcheck_of_the_elementwise_forms(name):
    ours, _, targets = FORMULAS[name]
    x = torch.linspace(-4, 4, 5, dtype=torch.float64, requires_grad=True)
    for y in targets:
        target = torch.full_like(x, y).detach()
        assert gradcheck(lambda x, target=target: ours(x, target), [x])
        if "adaptive" not in name or y not in x.tolist():  # its second derivative is infinite at z = y
            assert gradgradcheck(lambda x, target=target: ours(x, target), [x])


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


def divisor(normalizer, points, logits):
    labelled = points.valid.sum(1).double()
    if normalizer == "image":
        return len(labelled) * labelled.clamp(min=1).view(-1, 1, 1, 1)
    sizes = {"points": labelled.sum().clamp(min=1), "running": labelled.sum().clamp(min=1), "pixels": logits.numel()}
    return sizes.get(normalizer, normalizer)


@pytest.mark.parametrize("normalizer", ["points", "image", "pixels", "running", 7.0])
@pytest.mark.parametrize("name", PIXEL)
@settings(max_examples=12)
@given(data=st.data())
def test_from_the_points_is_the_sum_of_the_dense_form(name, normalizer, data):
    points = data.draw(batches(SIZE, CLASSES, torch.float64))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    logits = (3 * torch.randn(2, CLASSES, *SIZE, dtype=torch.float64)).requires_grad_()
    loss = losses.make(name, normalizer=normalizer)
    value = loss(logits, points)
    dense = (loss.elementwise(logits, points) / divisor(normalizer, points, logits)).sum()
    assert value.item() == pytest.approx(dense.item(), rel=1e-12)
    (grad,) = torch.autograd.grad(value, logits)
    (dense_grad,) = torch.autograd.grad(dense, logits)
    assert torch.allclose(grad, dense_grad, rtol=1e-12, atol=1e-14)
    coarse, single = Points(points.xy.float(), points.label, points.valid), logits.detach().float()
    dense = loss.elementwise(single, coarse).double() / divisor(normalizer, points, logits)
    value = losses.make(name, normalizer=normalizer)(single, coarse)
    assert float(value) == pytest.approx(float(dense.sum()), rel=1e-6)


@pytest.mark.parametrize("name", PIXEL)
def test_a_well_trained_map_does_not_lose_its_loss_to_cancellation(name):
    # Background at -8 and the one point at 8: the loss is the dense form's, however small.
    logits = torch.full((1, 1, 32, 32), -8.0)
    logits[0, 0, 5, 7] = 8.0
    logits.requires_grad_()
    loss, points = losses.make(name), one(7.0, 5.0)
    value, dense = loss(logits, points), loss.elementwise(logits, points).sum()
    assert value.item() == pytest.approx(dense.item(), rel=1e-5)
    (grad,) = torch.autograd.grad(value, logits)
    (dense_grad,) = torch.autograd.grad(dense, logits)
    assert torch.allclose(grad, dense_grad, rtol=1e-4, atol=0)


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


@pytest.mark.parametrize("slots", [0, 3])
@pytest.mark.parametrize("name", PIXEL)
def test_without_points_the_negative_term_is_left_with_a_finite_gradient(name, slots):
    torch.manual_seed(0)
    logits = torch.randn(2, CLASSES, *SIZE, requires_grad=True)
    value = losses.make(name)(logits, none(2, slots))
    zeros = torch.zeros_like(logits)
    alone = {
        "mse": losses.mse(logits, zeros),
        "weighted-mse": losses.mse(logits, zeros),
        "adaptive-wing": losses.adaptive_wing(logits, zeros),
        "focal": losses.focal(logits, zeros),
        "quality-focal": losses.focal(logits, zeros),
        "varifocal": 0.75 * losses.focal(logits, zeros),
        "distance-aware": losses.focal(logits, zeros),
    }.get(name, losses.bce(logits, zeros))
    assert float(value) == pytest.approx(float(alone.sum()), rel=1e-6)
    value.backward()
    assert torch.isfinite(logits.grad).all() and (logits.grad != 0).any()


@pytest.mark.parametrize("name", ["bce", "weighted-bce", "focal", "distance-aware", "distance-map-bce"])
@given(points=batches(SIZE, CLASSES))
def test_every_point_pulls_its_pixel_up_between_pixels_too(name, points):
    logits = torch.zeros(2, CLASSES, *SIZE, requires_grad=True)
    losses.make(name)(logits, points).backward()
    assert torch.equal(logits.grad < 0, heatmaps.positives(points, SIZE, CLASSES))


@given(st.floats(-30, 30), st.floats(0, 1))
def test_focal_at_gamma_0_is_cross_entropy(x, y):
    logits, labels = torch.tensor([x], dtype=torch.float64), torch.tensor([y], dtype=torch.float64)
    exact = losses.bce(logits, labels)
    assert torch.allclose(losses.focal(logits, labels, gamma=0.0), exact, rtol=1e-12)
    assert torch.allclose(2 * losses.focal(logits, labels, gamma=0.0, alpha=0.5), exact, rtol=1e-12)
    assert torch.allclose(losses.weighted_bce(logits, labels, positive_weight=1.0), exact, rtol=1e-12)


@given(st.floats(-30, 30), st.floats(0, 1), st.booleans(), st.sampled_from([0.0, 0.5, 2.0, 3.0]))
def test_distance_aware_at_beta_0_is_focal_with_hard_labels(x, y, positive, exponent):
    logits, heat = torch.tensor([x], dtype=torch.float64), torch.tensor([y], dtype=torch.float64)
    hard = torch.tensor([positive])
    value = losses.distance_aware(logits, hard, heat, alpha=exponent, beta=0.0)
    assert torch.allclose(value, losses.focal(logits, hard, gamma=exponent), rtol=1e-12)


@pytest.mark.parametrize(("soft", "hard"), [
    ("distance-aware", "focal"), ("soft-bce", "bce"), ("quality-focal", "focal"),
])
def test_as_sigma_goes_to_zero_the_gaussian_losses_become_those_of_hard_labels(soft, hard):
    torch.manual_seed(0)
    logits, points = torch.randn(1, 2, *SIZE), Points.from_lists([([[1.0, 2.0], [7.0, 5.0]], [0, 1])])
    sharp = losses.make(soft, sigma=1e-3)(logits, points)
    assert float(sharp) == pytest.approx(float(losses.make(hard)(logits, points)), rel=1e-6)


@given(st.floats(-30, 30), st.floats(0, 1))
def test_quality_focal_at_beta_0_is_cross_entropy(x, y):
    logits, labels = torch.tensor([x], dtype=torch.float64), torch.tensor([y], dtype=torch.float64)
    assert torch.allclose(losses.quality_focal(logits, labels, beta=0.0), losses.bce(logits, labels), rtol=1e-12)


@given(st.floats(-30, 30), st.booleans(), st.sampled_from([0.5, 1.0, 2.0]))
def test_quality_focal_with_hard_labels_is_focal(x, label, beta):
    logits, hard = torch.tensor([x], dtype=torch.float64), torch.tensor([label])
    ours = losses.quality_focal(logits, hard, beta=beta)
    assert torch.allclose(ours, losses.focal(logits, hard, gamma=beta), rtol=1e-9)


@given(st.floats(-30, 30), st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 2.0]))
def test_varifocal_with_hard_labels_is_focal_on_background_and_cross_entropy_on_points(x, y, gamma):
    logits, labels = torch.tensor([x], dtype=torch.float64), torch.tensor([y], dtype=torch.float64)
    other = losses.bce(logits, labels) if y else losses.focal(logits, labels, gamma=gamma)
    assert torch.allclose(losses.varifocal(logits, labels, alpha=1.0, gamma=gamma), other, rtol=1e-12)


@given(st.floats(-5, 5), st.floats(0, 1))
def test_weights_of_one_and_none_change_nothing(z, y):
    x, target = torch.tensor([z], dtype=torch.float64), torch.tensor([y], dtype=torch.float64)
    assert torch.equal(losses.weighted_bce(x, target, positive_weight=1.0), losses.bce(x, target))
    assert torch.equal(losses.weighted_mse(x, target, positive_weight=0.0), losses.mse(x, target))


def test_a_distance_map_of_little_reach_is_cross_entropy():
    torch.manual_seed(0)
    logits, points = torch.randn(1, 2, *SIZE), Points.from_lists([([[1.0, 2.0], [7.0, 5.0]], [0, 1])])
    near = losses.make("distance-map-bce", reach=1e-3)(logits, points)
    assert float(near) == pytest.approx(float(losses.make("bce")(logits, points)), rel=1e-6)


def test_the_distance_map_weighs_by_the_distance_to_the_nearest_point_of_the_class():
    logits, places = torch.zeros(1, 1, 9, 12), [(2.3, 3.0), (9.0, 7.4)]
    points = Points.from_lists([(places, [0, 0])])
    found = losses.make("distance-map-bce", reach=4.0).elementwise(logits, points)[0, 0] / math.log(2)
    for row in range(9):
        for column in range(12):
            near = min(math.hypot(column - x, row - y) for x, y in places)
            wanted = 1.0 if (column, row) in ((2, 3), (9, 7)) else min(near / 4, 1.0)
            assert float(found[row, column]) == pytest.approx(wanted, abs=1e-6)


def test_the_weighted_map_of_adaptive_wing_is_the_widened_heatmap():
    points = Points.from_lists([([[3.0, 2.0], [0.0, 5.4]], [0, 0])])
    heat = heatmaps.render(points, SIZE, 1, 1.5)[0, 0]
    loss, output = losses.make("adaptive-wing"), torch.ones(1, 1, *SIZE)
    plain = losses.make("adaptive-wing", positive_weight=0.0)
    ratio = (loss.elementwise(output, points) / plain.elementwise(output, points))[0, 0]
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            around = heat[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].max()
            if heat[row, column] < 1:
                assert float(ratio[row, column]) == pytest.approx(11.0 if around >= 0.2 else 1.0, rel=1e-5)


def test_distance_aware_leaves_positives_and_far_background_as_focal_has_them_and_spares_the_neighbours():
    torch.manual_seed(0)
    logits, points = torch.randn(1, 1, 24, 24), one(5.0, 5.0)
    ours = losses.make("distance-aware", sigma=1.0).elementwise(logits, points)[0, 0]
    focal = losses.make("focal").elementwise(logits, points)[0, 0]
    assert float(ours[5, 5]) == pytest.approx(float(focal[5, 5]))
    assert torch.allclose(ours[12:, 12:], focal[12:, 12:])
    # exp(-1/2) at one pixel's distance leaves (1 - 0.6065)^4 = 2.4 %.
    assert float(ours[5, 6] / focal[5, 6]) == pytest.approx((1 - math.exp(-0.5)) ** 4, rel=1e-5)


def root(slope, low=-40.0, high=40.0):
    """Where a rising function crosses 0."""
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return middle


def best(loss, y):
    """The logit at which a loss of one pixel with target y is smallest."""

    def slope(x):
        logit = torch.tensor([x], dtype=torch.float64, requires_grad=True)
        loss(logit, torch.tensor([y], dtype=torch.float64)).sum().backward()
        return float(logit.grad)

    return root(slope)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("y", [0.1, 0.3, 0.5, 0.9])
def test_where_each_loss_is_smallest_for_a_soft_target(y):
    assert sigmoid(best(losses.bce, y)) == pytest.approx(y, abs=1e-9)
    weighted = sigmoid(best(lambda x, t: losses.weighted_bce(x, t, positive_weight=5.0), y))
    assert weighted == pytest.approx(5 * y / (5 * y + 1 - y), abs=1e-9)
    assert sigmoid(best(losses.quality_focal, y)) == pytest.approx(y, abs=1e-6)
    assert sigmoid(best(losses.varifocal, y)) == pytest.approx(y, abs=1e-9)
    assert best(losses.adaptive_wing, y) == pytest.approx(y, abs=1e-6)
    assert best(lambda x, t: losses.weighted_mse(x, t, scale=2.0, positive_weight=3.0), y) == pytest.approx(
        2 * y, abs=1e-9
    )


@pytest.mark.parametrize(("y", "p"), [(0.3, 0.422), (0.9, 0.694), (0.5, 0.5)])
def test_focal_loss_draws_probabilities_to_the_middle(y, p):
    # 0.422 and 0.694 were measured of kornia's binary focal loss, which has the same form.
    assert sigmoid(best(losses.focal, y)) == pytest.approx(p, abs=1e-3)


@given(st.floats(-20, 20), st.floats(0.0, 0.99))
def test_distance_aware_takes_the_heatmap_for_a_weight_and_never_for_a_target(x, y):
    logit = torch.tensor([x], dtype=torch.float64, requires_grad=True)
    heat = torch.tensor([y], dtype=torch.float64)
    (up,) = torch.autograd.grad(losses.distance_aware(logit, torch.tensor([True]), heat).sum(), logit)
    (down,) = torch.autograd.grad(losses.distance_aware(logit, torch.tensor([False]), heat).sum(), logit)
    assert float(up) < 0 < float(down)


@pytest.mark.parametrize("name", [*PIXEL, "softmax-distance-aware"])
@settings(max_examples=8)
@given(points=batches(SIZE, CLASSES, torch.float64).filter(lambda p: bool(p.valid.any())))
def test_the_best_constant_is_a_minimum(name, points):
    loss = losses.make(name)
    at = losses.best_constant(loss, points, SIZE, CLASSES)

    def total(x):
        return float(loss(torch.full((2, CLASSES, *SIZE), x, dtype=torch.float64), points))

    for step in (0.01, 0.3, 3.0):
        assert total(at) < min(total(at - step), total(at + step))


def test_the_best_constant_of_cross_entropy_is_the_prior():
    points = Points.from_lists([([[1.0, 2.0], [3.0, 3.0]], [0, 1]), ([[5.0, 2.0]], [1])])
    share = 3 / (2 * 2 * 6 * 8)
    found = losses.best_constant(losses.make("bce"), points, SIZE, CLASSES)
    assert found == pytest.approx(losses.prior_bias(share), abs=1e-4)


def test_the_best_constant_of_a_large_scale_is_found():
    loss, points = losses.make("mse", scale=1e6), one(3.0, 2.0)
    at = losses.best_constant(loss, points, SIZE, 1)
    assert at == pytest.approx(1e6 * float(heatmaps.render(points, SIZE, 1, 1.5).mean()), rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_scores_grow_with_the_output_and_read_as_the_target(name):
    loss = losses.make(name, **({"scale": 4.0} if "mse" in name else {}))
    scores = loss.scores(torch.tensor([-3.0, 0.0, 4.0]).view(1, 1, 1, 3)).flatten()
    assert (scores.diff() > 0).all()
    regressed = {"mse": 1.0, "weighted-mse": 1.0, "adaptive-wing": 4.0}
    in_the_map = {name: torch.tensor([-3.0, 0.0, 4.0]).softmax(0)[2] for name in ("spatial-kl", "spatial-js", "dsnt")}
    assert float(scores[2]) == pytest.approx(float((regressed | in_the_map).get(name, sigmoid(4.0))))


def test_options_fill_in_defaults_and_names_are_known():
    assert NAMES == [
        "bce", "weighted-bce", "focal", "soft-bce", "mse", "distance-aware", "quality-focal", "varifocal",
        "weighted-mse", "adaptive-wing", "distance-map-bce", "softmax-distance-aware", "dice", "tversky",
        "spatial-kl", "spatial-js", "dsnt",
    ]
    assert losses.options("distance-aware") == {
        "normalizer": "points",
        "alpha": 2.0,
        "beta": 4.0,
        "sigma": 1.5,
    }


@pytest.mark.parametrize(
    ("name", "given_options", "error", "named"),
    [
        ("distance-awear", {}, ValueError, "did you mean 'distance-aware'"),
        ("", {}, ValueError, "no loss is named ''; known: bce"),
        ("focal", {"gama": 2.0}, ValueError, "focal has no option 'gama'.*did you mean 'gamma'"),
        ("bce", {"sigma": 1.0}, ValueError, "bce has no option 'sigma'"),
        ("focal", {"gamma": -1.0}, ValueError, "gamma must be finite and at least 0, got -1.0"),
        ("focal", {"gamma": math.nan}, ValueError, "gamma"),
        ("focal", {"gamma": "2"}, TypeError, "gamma must be a number.*'2'"),
        ("focal", {"gamma": None}, TypeError, "gamma must be a number"),
        ("focal", {"alpha": 1.5}, ValueError, r"alpha must be in \[0, 1\]"),
        ("focal", {"alpha": True}, TypeError, "alpha"),
        ("distance-aware", {"beta": -0.1}, ValueError, "beta"),
        ("distance-aware", {"alpha": math.inf}, ValueError, "alpha"),
        ("distance-aware", {"sigma": 0.0}, ValueError, "sigma"),
        ("soft-bce", {"sigma": -1.0}, ValueError, "sigma"),
        ("mse", {"scale": 0.0}, ValueError, "scale"),
        ("mse", {"positive_weight": 1.0}, ValueError, "mse has no option 'positive_weight'"),
        ("weighted-mse", {"positive_weight": -1.0}, ValueError, "positive_weight"),
        ("weighted-bce", {"positive_weight": math.inf}, ValueError, "positive_weight"),
        (
            "bce",
            {"normalizer": "images"},
            ValueError,
            "normalizer must be one of points, image, pixels, running, or a number above 0, got 'images'",
        ),
        ("bce", {"normalizer": 0}, ValueError, "normalizer"),
        ("bce", {"normalizer": True}, ValueError, "normalizer"),
        ("dice", {"alpha": 0.5}, ValueError, "dice has no option 'alpha'"),
        ("tversky", {"smooth": 0.0}, ValueError, "smooth"),
        ("tversky", {"beta": -1.0}, ValueError, "beta"),
        ("dsnt", {"regularisation": -1.0}, ValueError, "regularisation"),
        ("spatial-kl", {"sigma": 0}, ValueError, "sigma"),
        ("adaptive-wing", {"alpha": 1.0}, ValueError, "alpha must be above 1, got 1.0"),
        ("adaptive-wing", {"theta": 0.0}, ValueError, "theta"),
        ("quality-focal", {"beta": -1.0}, ValueError, "beta"),
        ("varifocal", {"gamma": math.nan}, ValueError, "gamma"),
        ("distance-map-bce", {"reach": 0}, ValueError, "reach"),
        ("softmax-distance-aware", {"normalizer": "batch"}, ValueError, "normalizer"),
    ],
)
@pytest.mark.bad_input
def test_bad_names_and_options_are_named(name, given_options, error, named):
    with pytest.raises(error, match=named):
        losses.make(name, **given_options)


X = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        (lambda: losses.focal(X.long(), X), TypeError, "logits must be floating point"),
        (
            lambda: losses.focal(X, X.long()),
            TypeError,
            "labels must be bool or floating point, got torch.int64",
        ),
        (
            lambda: losses.focal(X, X[:1]),
            ValueError,
            r"labels must have the logits' shape \(2, 3\), got \(1, 3\)",
        ),
        (lambda: losses.focal(X, X - 0.1), ValueError, r"labels must be in \[0, 1\]"),
        (lambda: losses.focal(X, X + torch.nan), ValueError, r"labels must be in \[0, 1\] and not NaN"),
        (lambda: losses.focal(X, X, gamma=-1.0), ValueError, "gamma"),
        (lambda: losses.focal(X, X, alpha=-0.1), ValueError, "alpha"),
        (lambda: losses.weighted_bce(X, X, positive_weight=-1.0), ValueError, "positive_weight"),
        (lambda: losses.weighted_bce(X, X + 1.5), ValueError, "labels"),
        (lambda: losses.distance_aware(X, X, X), TypeError, "positives must be bool"),
        (
            lambda: losses.distance_aware(X, X[0].bool(), X),
            ValueError,
            "positives must have the logits' shape",
        ),
        (lambda: losses.distance_aware(X, X.bool(), X + 1.1), ValueError, r"heatmap must be in \[0, 1\]"),
        (
            lambda: losses.distance_aware(X, X.bool(), X[:, :2]),
            ValueError,
            "heatmap must have the logits' shape",
        ),
        (lambda: losses.mse(X, X - 1), ValueError, "heatmap"),
        (lambda: losses.mse(X, X, scale=-1.0), ValueError, "scale"),
        (lambda: losses.prior_bias(0.0), ValueError, "probability must be in .* got 0.0"),
        (lambda: losses.prior_bias(1.0), ValueError, "probability"),
        (lambda: losses.prior_bias(math.nan), ValueError, "probability"),
    ],
)
@pytest.mark.bad_input
def test_bad_arguments_of_the_elementwise_forms_are_named(call, error, named):
    with pytest.raises(error, match=named):
        call()


def test_bce_takes_bool_labels():
    labels = torch.tensor([True, False])
    assert torch.equal(
        losses.bce(torch.tensor([1.0, 2.0]), labels), losses.bce(torch.tensor([1.0, 2.0]), labels.float())
    )


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        (X - 0.1, ValueError),
        (X + 1.1, ValueError),
        (X + torch.nan, ValueError),
        (X[:1], ValueError),
        (X.long(), TypeError),
    ],
)
@pytest.mark.bad_input
def test_bad_labels_of_bce_are_named(labels, error):
    with pytest.raises(error, match="labels"):
        losses.bce(X, labels)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: losses.focal(X, X, alpha="a"), "alpha"),
        (lambda: losses.prior_bias("a"), "probability"),
    ],
)
@pytest.mark.bad_input
def test_arguments_that_are_no_numbers_are_named(call, named):
    with pytest.raises(TypeError, match=named):
        call()


MAPS = torch.zeros(1, 2, 6, 8)


@pytest.mark.parametrize(
    ("logits", "points", "error", "named"),
    [
        (MAPS.long(), one(1.0, 1.0), TypeError, "logits must be a floating point tensor, got torch.int64"),
        ([0.0], one(1.0, 1.0), TypeError, "logits must be a floating point tensor, got list"),
        (MAPS[0], one(1.0, 1.0), ValueError, "logits must have shape"),
        (MAPS.expand(3, -1, -1, -1), one(1.0, 1.0), ValueError, "logits hold 3 images, points 1"),
        (MAPS, [[1.0, 1.0]], TypeError, "points must be falloff.points.Points, got list"),
        (MAPS, one(8.0, 1.0), ValueError, "outside the picture: x"),
        (MAPS, one(1.0, 1.0, label=2), ValueError, r"label 2 is not in \[0, 2\)"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.bad_input
def test_bad_maps_and_points_are_named(name, logits, points, error, named):
    with pytest.raises(error, match=named):
        losses.make(name)(logits, points)


@pytest.mark.parametrize("name", NAMES)
def test_a_logit_that_is_nan_is_named_with_its_place(name):
    logits = MAPS.clone()
    logits[0, 1, 4, 3] = torch.nan
    with pytest.raises(ValueError, match=r"logits must be finite.*\(0, 1, 4, 3\) is nan"):
        losses.make(name)(logits, one(1.0, 1.0))
