"""Metrics of what still hangs on a net's graph are those of the numbers alone, without a word from PyTorch."""

import warnings
from dataclasses import replace
from functools import partial

import pytest
import torch
from matching_cases import labelled, scored

from falloff import metrics
from falloff.points import Points


def leaves():
    """Two predictions and two labelled points of other classes, whose every number a gradient could reach."""
    predicted = scored([(3.0, 4.0, 0, 0.75), (8.0, 8.0, 1, 0.5)])
    truth = labelled([(0.0, 0.0, 0), (8.0, 8.0, 1)])
    size = {"size": torch.ones(1, 2, 2)}
    predicted, truth = replace(predicted, extra=size), replace(truth, extra=size, sigma=torch.ones(1, 2))

    def hanging(points):
        own = {name: getattr(points, name) for name in ("xy", "score", "sigma")}
        own = {name: part.clone().requires_grad_() for name, part in own.items() if part is not None}
        return replace(points, **own, extra={"size": points.extra["size"].clone().requires_grad_()})

    return (predicted, truth), (hanging(predicted), hanging(truth))


RADIUS = {"radius": 6.0}
OF_POINTS = [partial(metric, **RADIUS) for metric in (
    metrics.match, partial(metrics.match, method="hungarian"), metrics.average_precision, metrics.best_threshold,
    metrics.brier, metrics.duplicates, metrics.f1, metrics.localisation_error, metrics.per_class_average_precision,
    metrics.precision_recall, metrics.reliability, partial(metrics.confusion, classes=2),
)] + [partial(metrics.average_precision, radius=0.5, distance=metrics.iou), metrics.keypoint_distances]
OF_KEYPOINTS = [(metrics.pck, "threshold"), (metrics.pckh, "head_size"), (metrics.nme, "scale"),
                (partial(metrics.oks, kappa=torch.ones(2).requires_grad_()), "scale")]


def plain(value):
    """A result as text, none of whose tensors requires a gradient."""
    if isinstance(value, torch.Tensor):
        assert not value.requires_grad
    if isinstance(value, (metrics.Match, metrics.Curve, metrics.Reliability)):
        return [plain(part) for part in vars(value).values() if not isinstance(part, Points)]
    return repr(value)


@pytest.mark.parametrize("metric", OF_POINTS)
def test_metrics_of_points_that_require_a_gradient(metric):
    numbers, hanging = leaves()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plain(metric(*hanging)) == plain(metric(*numbers))


@pytest.mark.parametrize(("metric", "name"), OF_KEYPOINTS)
def test_metrics_of_key_points_and_scales_that_require_a_gradient(metric, name):
    numbers, hanging = leaves()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = metric(*hanging, **{name: torch.full((1,), 4.0, requires_grad=True)})
        assert plain(found) == plain(metric(*numbers, **{name: 4.0}))


@pytest.mark.parametrize("metric", [metrics.presence_auroc, metrics.class_accuracy, metrics.mean_scores])
def test_metrics_of_maps_that_require_a_gradient(metric):
    scores = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    numbers, hanging = leaves()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metric(scores.clone().requires_grad_(), hanging[1]) == metric(scores, numbers[1])


def test_metrics_of_instances_that_require_a_gradient():
    numbers, hanging = leaves()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = []
        for pair in (numbers, hanging):
            owned = (replace(points, extra={"instance": torch.zeros(1, 2, dtype=torch.int64),
                                            "scale": points.extra["size"][..., 0] * 10}) for points in pair)
            people = [metrics.instances(points, classes=2) for points in owned]
            kappa = torch.ones(2, requires_grad=pair is hanging)
            found.append(metrics.match(*people, radius=0.9, distance=metrics.oks_distance(kappa)))
        assert plain(found[0]) == plain(found[1])
