"""Numbers: every function that takes one takes it in each of its forms, and refuses what is none."""

import inspect
import re
from functools import partial

import numpy as np
import pytest
import torch

from falloff import decode, heatmaps, losses, metrics
from falloff.points import Points

torch.manual_seed(0)
POINTS = Points.from_lists([([[1.0, 2.0], [4.0, 3.0]], [0, 1], [0.9, 0.8])])
FOUND = Points.from_lists([([[1.5, 2.0], [4.0, 3.0]], [0, 1], [0.9, 0.8])])
MAPS, HEAT = torch.randn(1, 2, 8, 8), torch.rand(1, 2, 8, 8)
BEST = HEAT > 0.9
PERSON = {"keypoints": [1, 2, 2] * 2}
PEOPLE = Points.from_coco([[PERSON | {"area": 4.0}]], 2)
CROP = {"top": 0, "left": 0, "height": 8, "width": 8}
EYE = torch.eye(2, 3)


def sloped(function, *given, **numbers):
    """The values of a function of the maps and their slopes."""
    maps = MAPS.clone().requires_grad_()
    value = function(maps, *given, **numbers)
    value.sum().backward()
    return torch.cat([value.detach().flatten(), maps.grad.flatten()])


def dense(function, *given, **numbers):
    return {f"{function.__name__}.{name}": (lambda n, name=name: sloped(function, *given, **{name: n}), value)
            for name, value in numbers.items()}


def made(name, option):
    return lambda n: sloped(losses.make(name, **{option: n}), POINTS)


def compared(function, **given):
    return partial(function, FOUND, POINTS, **given)


# What gives numbers or tensors for a number, and the number as Python has it.
OF_LOSSES = {
    **dense(losses.focal, HEAT, gamma=1.5, alpha=0.25), **dense(losses.quality_focal, HEAT, beta=1.5),
    **dense(losses.varifocal, HEAT, alpha=0.5, gamma=1.5), **dense(losses.weighted_bce, HEAT, positive_weight=3.0),
    **dense(losses.tversky, HEAT, alpha=0.25, beta=0.5, smooth=2.0), **dense(losses.dice, HEAT, smooth=2.0),
    **dense(losses.distance_aware, BEST, HEAT, alpha=1.5, beta=3.0), **dense(losses.mse, HEAT, scale=2.0),
    **dense(losses.distance_map_bce, BEST, HEAT, reach=2.0), **dense(losses.weighted_mse, HEAT, positive_weight=3.0),
    **dense(losses.adaptive_wing, HEAT, omega=7.0, theta=0.25, epsilon=2.0, alpha=2.5),
    **dense(losses.softmax_distance_aware, BEST, HEAT, alpha=1.5, beta=3.0),
    **dense(losses.dsnt, POINTS.xy, sigma=2.0, regularisation=0.5),
    **dense(losses.at_points, POINTS, "offset", beta=0.5, stride=2, normalizer=2.5),
    "weighted_mse.scale": (lambda n: sloped(losses.weighted_mse, HEAT, scale=n, positive_weight=3.0), 2.0),
    "prior_bias.probability": (losses.prior_bias, 0.25),
    "best_constant.size": (lambda n: losses.best_constant(losses.make("bce"), POINTS, (n, n), 2), 8),
    "best_constant.classes": (lambda n: losses.best_constant(losses.make("bce"), POINTS, (8, 8), n), 2),
    "best_constant.stride": (
        lambda n: losses.best_constant(losses.make("bce"), POINTS, (8, 8), 2, stride=n), 2),
    "count.parts": (lambda n: losses.count(POINTS, parts=n), 2),
    "count.stride": (lambda n: losses.count(POINTS, mask=BEST | True, stride=n), 2),
    "loss.stride": (lambda n: sloped(losses.make("bce"), POINTS, stride=n), 2),
    "loss.normalizer": (lambda n: sloped(losses.make("bce"), POINTS, normalizer=n), 2.5),
    "elementwise.stride": (lambda n: sloped(losses.make("bce").elementwise, POINTS, stride=n), 2),
} | {f"{name}, {option}": (made(name, option), value) for name in losses.names()
     for option, value in losses.options(name).items() if isinstance(value, float)}
OF_POINTS = {
    "above.threshold": (lambda n: POINTS.above(n).valid, 0.875),
    "affine.size": (lambda n: POINTS.affine(EYE, (n, n)).valid, 4),
    "at_stride.stride": (lambda n: POINTS.at_stride(n).xy, 2.0), "scale.factor": (lambda n: POINTS.scale(n).xy, 0.5),
    "scale, factor": (lambda n: POINTS.scale((n, n)).xy, 0.5), "padded.count": (lambda n: POINTS.padded(n).xy, 5),
    "check_inside.size": (lambda n: POINTS.check_inside((n, n), 2) or 0, 8),
    "check_inside.classes": (lambda n: POINTS.check_inside((8, 8), n) or 0, 2),
    "check_inside.stride": (lambda n: POINTS.check_inside((4, 4), 2, stride=n) or 0, 2),
    "inside.size": (lambda n: POINTS.inside((n, n)).valid, 4),
    "inside.classes": (lambda n: POINTS.inside((8, 8), n).valid, 1),
    "flip.width": (lambda n: POINTS.flip(n).xy, 8), "flip.swap": (lambda n: POINTS.flip(8, swap=[(0, n)]).label, 1),
    "affine.swap": (lambda n: POINTS.affine(-EYE, (8, 8), swap=[(0, n)]).label, 1),
    "pad.left": (lambda n: POINTS.pad(n, 0).xy, 2), "pad.top": (lambda n: POINTS.pad(0, n).xy, 2.5),
    **{f"crop.{name}": (lambda n, name=name: POINTS.crop(**(CROP | {name: n})).xy, 2) for name in CROP},
    "from_coco.kinds": (lambda n: Points.from_coco([[PERSON]], n).xy, 2),
    "peaks.count": (lambda n: decode.peaks(MAPS, count=n).xy, 3),
    "peaks.window": (lambda n: decode.peaks(MAPS, count=9, window=n).xy, 5),
    "peaks.soft_window": (lambda n: decode.peaks(HEAT, count=3, refine="soft-argmax", soft_window=n).xy, 7),
    "peaks.threshold": (lambda n: decode.peaks(MAPS, count=9, threshold=n).valid, 1.0),
    "peaks.stride": (lambda n: decode.peaks(MAPS, count=3, stride=n).xy, 4),
    "render.sigma": (lambda n: heatmaps.render(POINTS, (8, 8), 2, n), 2.0),
    "render.stride": (lambda n: heatmaps.render(POINTS, (8, 8), 2, 2.0, stride=n), 2),
    "render.size": (lambda n: heatmaps.render(POINTS, (n, n), 2, 1.0), 8),
    "render.classes": (lambda n: heatmaps.render(POINTS, (8, 8), n, 1.0), 3),
    "positives.stride": (lambda n: heatmaps.positives(POINTS, (8, 8), 2, stride=n), 2),
    "positives.size": (lambda n: heatmaps.positives(POINTS, (n, n), 2), 8),
    "positives.classes": (lambda n: heatmaps.positives(POINTS, (8, 8), n), 3),
    "object_radius.height": (lambda n: heatmaps.object_radius(n, 8.0), 4.0),
    "object_radius.width": (lambda n: heatmaps.object_radius(8.0, n), 4.0),
    "object_radius.min_iou": (lambda n: heatmaps.object_radius(8.0, 8.0, n), 0.5),
}
OF_METRICS = {
    **{f"{metric.__name__}.radius": (lambda n, metric=metric: compared(metric)(radius=n), 0.25) for metric in (
        metrics.average_precision, metrics.best_threshold, metrics.brier, metrics.duplicates, metrics.f1,
        metrics.localisation_error)},
    **{f"{metric.__name__}.stride": (lambda n, metric=metric: metric(MAPS, POINTS, stride=n), 2) for metric in (
        metrics.class_accuracy, metrics.mean_scores, metrics.presence_auroc)},
    "match.radius": (lambda n: compared(metrics.match)(radius=n).truth, 0.25),
    "per_class_average_precision.radius": (
        lambda n: list(compared(metrics.per_class_average_precision)(radius=n).values()), 0.25),
    "precision_recall.radius": (lambda n: compared(metrics.precision_recall)(radius=n).precision, 0.25),
    "precision_recall.label": (lambda n: compared(metrics.precision_recall)(radius=0.25, label=n).recall, 1),
    "reliability.radius": (lambda n: compared(metrics.reliability)(radius=n).error, 0.25),
    "reliability.bins": (lambda n: compared(metrics.reliability)(radius=0.25, bins=n).count, 3),
    "confusion.radius": (lambda n: compared(metrics.confusion, classes=2)(radius=n), 0.25),
    "confusion.classes": (lambda n: compared(metrics.confusion, radius=0.25)(classes=n), 3),
    "against_radius.radii": (lambda n: metrics.against_radius(metrics.f1, FOUND, POINTS, radii=[n, n]), 0.25),
    "pck.threshold": (lambda n: compared(metrics.pck)(threshold=n), 0.25),
    "pckh.head_size": (lambda n: compared(metrics.pckh)(head_size=n), 0.25),
    "pckh.fraction": (lambda n: compared(metrics.pckh, head_size=1.0)(fraction=n), 0.25),
    "nme.scale": (lambda n: compared(metrics.nme)(scale=n), 0.25),
    "oks.scale": (lambda n: compared(metrics.oks, kappa=0.5)(scale=n), 2.0),
    "instances.classes": (lambda n: metrics.instances(PEOPLE, classes=n).xy, 3),
    "oks_distance.kappa": (lambda n: metrics.oks_distance(n)(*[metrics.instances(PEOPLE, classes=2)] * 2), 2.0),
    "oks.kappa": (lambda n: compared(metrics.oks, scale=0.5)(kappa=n), 2.0),
}

CASES = OF_LOSSES | OF_POINTS | OF_METRICS
FORMS = [np.float32, np.float64, np.int64, np.uint8, np.array, torch.tensor, lambda n: torch.tensor(float(n)).double()]
LEARNED = ("at_points.normalizer", "loss.normalizer", "render.sigma", "object_radius.height", "object_radius.width")
NONE = [True, np.True_, torch.tensor(True), "2", 1j, torch.tensor(2.0, requires_grad=True)]


def fits(form, value):
    return value == form(value) and (isinstance(value, float) or "float" not in str(getattr(form(value), "dtype", "")))


@pytest.mark.bad_input
@pytest.mark.parametrize("case", CASES)
def test_a_number_of_numpy_or_in_a_tensor_does_what_pythons_does(case):
    call, value = CASES[case]
    expected = torch.as_tensor(call(value))
    for form in FORMS:
        if fits(form, value):
            found = torch.as_tensor(call(form(value)))
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7, equal_nan=True)


@pytest.mark.bad_input
@pytest.mark.parametrize("case", CASES)
def test_what_is_no_number_is_refused_by_name(case):
    call, _ = CASES[case]
    name = case.split(".")[-1].split(", ")[-1]
    for wrong in NONE:
        if case in LEARNED and isinstance(wrong, torch.Tensor) and wrong.requires_grad:
            continue
        with pytest.raises((TypeError, ValueError), match=rf"{name}.* must"):
            call(wrong)


def test_every_number_of_the_library_is_among_these():
    functions = {name: getattr(one, name) for one in (losses, metrics) for name in one.__all__} | vars(Points)
    functions |= {one.__name__: one for one in (decode.peaks, heatmaps.render, heatmaps.positives,
                                                heatmaps.object_radius)}
    taken = {f"{name}.{parameter.name}" for name, one in functions.items()
             if inspect.isfunction(function := getattr(one, "__func__", one)) and not name.startswith("_")
             for parameter in inspect.signature(function).parameters.values()
             if re.search(r"\b(int|float|Normalizer)\b", str(parameter.annotation))
             or parameter.name in ("size", "radii", "swap")}
    assert taken - set(CASES) == {"to.device", "cuda.device", "against_radius.metric"}
