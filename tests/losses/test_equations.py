"""The dense forms against the equations of the papers."""

from decimal import Decimal, localcontext

import pytest
import torch
from equations import best, cross_entropy, law_2018, lin_2017, power, probability, sigmoid, wang_2019
from torch.autograd import gradcheck, gradgradcheck

from falloff import losses

LOGITS = (-60.0, -30.0, -12.5, -3.0, -0.7, 0.0, 1e-3, 0.7, 3.0, 12.5, 30.0, 60.0)
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


@pytest.mark.parametrize("name", FORMULAS)
def test_gradcheck_of_the_elementwise_forms(name):
    ours, _, targets = FORMULAS[name]
    x = torch.linspace(-4, 4, 5, dtype=torch.float64, requires_grad=True)
    for y in targets:
        target = torch.full_like(x, y).detach()
        assert gradcheck(lambda x, target=target: ours(x, target), [x])
        if "adaptive" not in name or y not in x.tolist():  # its second derivative is infinite at z = y
            assert gradgradcheck(lambda x, target=target: ours(x, target), [x])


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
