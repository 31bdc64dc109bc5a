import dataclasses
import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from matching_cases import SEEDS, labelled, random_case, scored

from falloff import measures, metrics
from falloff.data import Dataset
from falloff.measures import METRICS, Measured, Metric, along, get, measure
from falloff.points import Points


@dataclass
class Said:
    """What a system says of some images."""

    points: Points
    maps: torch.Tensor | None = None
    stride: int = 1


@dataclass
class Split:
    """Labels of some images."""

    points: Points


def worked():
    """Class 0: a hit at 0.9, 1.5 px off, and a miss at 0.2. Class 1: found 3 px off, at 0.6."""
    predicted = scored([(1.5, 0.0, 0, 0.9), (9.0, 9.0, 0, 0.2), (5.0, 3.0, 1, 0.6)])
    return Said(predicted), Split(labelled([(0.0, 0.0, 0), (5.0, 0.0, 1)]))


def test_the_numbers_of_points_worked_by_hand():
    found = measure(*worked(), ["ap", "ap_worst_class", "ap_1", "ap_4", "f1", "threshold", "error"])
    # At 2 px one of two points is found, at 1 px none, at 4 px both; F1 is best at 0.9, where it is 2 / (1 + 2).
    assert found == pytest.approx({"ap": 0.5, "ap_worst_class": 0.0, "ap_1": 0.0, "ap_4": 1.0, "f1": 2 / 3,
                                   "threshold": 0.9, "error": 1.5})


def test_a_threshold_that_is_given_is_the_one_that_counts():
    found = measure(*worked(), ["f1", "threshold", "error", "ap"], threshold=0.1)
    assert found["threshold"] == 0.1 and found["f1"] == 2 / 5 and found["ap"] == 0.5
    nothing = measure(*worked(), ["f1", "error"], threshold=1.0)
    assert nothing["f1"] == 0 and math.isnan(nothing["error"])


@given(SEEDS)
def test_all_numbers_at_a_radius_come_from_one_matching(seed):
    predicted, truth = random_case(seed)
    if not truth.valid.any():
        return
    found = measure(Said(predicted), Split(truth), ["ap", "ap_worst_class", "f1", "error", "calibration_error"])
    threshold = metrics.best_threshold(predicted, truth, radius=2.0)
    kept = predicted.above(threshold)
    by_class = metrics.per_class_average_precision(predicted, truth, radius=2.0)
    expected = [metrics.average_precision(predicted, truth, radius=2.0), min(by_class.values()),
                metrics.f1(kept, truth, radius=2.0), metrics.localisation_error(kept, truth, radius=2.0),
                metrics.reliability(predicted, truth, radius=2.0).error]
    assert repr(list(found.values())) == repr(expected)


def test_predictions_are_matched_once_for_each_radius(monkeypatch):
    radii = []

    def counted(*args, radius):
        radii.append(radius)
        return metrics.match(*args, radius=radius)

    monkeypatch.setattr(measures.base, "match", counted)
    measure(*worked(), [name for name, metric in METRICS.items() if metric.reads is None])
    assert sorted(radii) == [1.0, 2.0, 4.0]


def test_metrics_of_maps_are_left_out_where_there_are_none():
    prediction, split = worked()
    asked = ["presence_auroc", "ap", "class_accuracy", "score_elsewhere", "score_at_points"]
    assert list(measure(prediction, split, asked)) == ["ap"]
    maps = torch.zeros(1, 2, 10, 10)
    maps[0, 0, 0, 0], maps[0, 0, 0, 5] = 0.5, 0.25
    found = measure(Said(prediction.points, maps), split, asked)
    assert list(found) == asked
    assert found["class_accuracy"] == 0.5 and found["score_at_points"] == 0.25
    assert found["score_elsewhere"] == pytest.approx(0.25 / 198)


def test_points_are_compared_with_maps_in_pixels_of_the_maps():
    maps = torch.zeros(1, 2, 4, 4)
    maps[0, 0, 2, 1] = 1.0
    split = Split(labelled([(7.0, 8.0, 0)]))  # the last column of the second four, the first row of the third
    found = measure(Said(scored([]), maps, stride=4), split, ["class_accuracy", "score_at_points"])
    assert found == {"class_accuracy": 1.0, "score_at_points": 1.0}


def test_key_points_are_measured_by_the_share_that_is_near():
    assert measure(*worked(), ["pck"]) == {"pck": 0.5}
    several = Split(labelled([(0.0, 0.0, 0), (9.0, 0.0, 0)]))
    assert math.isnan(measure(worked()[0], several, ["pck"])["pck"])  # which are no key points


def test_the_first_step_that_reaches_an_ap_is_read_from_the_curve():
    curve = [{"step": step, "ap": ap} for step, ap in ((10, 0.5), (20, 0.8), (30, 0.7), (40, 0.9))]
    assert along(curve, ["ap", "steps_to_ap"]) == {"steps_to_ap": 20}
    assert math.isnan(along(curve[:1], ["steps_to_ap"])["steps_to_ap"])
    assert get("steps_to_ap").censored_at == "steps"
    assert "steps_to_ap" not in measure(*worked(), METRICS)
    assert along([{"step": 10, "pck": 0.9}], ["steps_to_ap"]) == {}  # AP was not watched


def test_the_first_of_two_steps_in_a_row_is_read_from_the_curve():
    aps = (0.5, 0.8, 0.7, 0.8, 0.9, 0.1)
    curve = [{"step": 10 * number, "ap": ap} for number, ap in enumerate(aps, start=1)]
    assert along(curve, ["steps_to_ap", "steps_to_ap_held"]) == {"steps_to_ap": 20, "steps_to_ap_held": 40}
    assert math.isnan(along(curve[:4], ["steps_to_ap_held"])["steps_to_ap_held"])  # the last has none after it
    assert get("steps_to_ap_held").censored_at == "steps"


def test_every_metric_is_listed_under_its_name_and_says_what_it_is():
    assert all(name == metric.name and metric.title for name, metric in METRICS.items())
    assert get("error").heading == "localisation error, px" and get("ap").heading == "AP at 2 px"


def test_what_computes_a_metric_names_its_file():
    files = {metric.of.__module__ for metric in METRICS.values()}  # not base, which all share
    assert files >= {f"falloff.measures.{name}" for name in ("points", "maps", "calibration", "keypoints", "curves")}
    assert not files & {"falloff.measures.base", "falloff.measures"}


def test_a_metric_that_is_not_there_is_named():
    for ask in (get, lambda name: measure(*worked(), [name]), lambda name: along([], [name])):
        with pytest.raises(ValueError, match="'app'"):
            ask("app")


def test_a_metric_outside_the_package_is_named_by_its_module():
    name = "falloff.measures.points:ERROR"
    assert get(name) is METRICS["error"]
    assert measure(*worked(), [name]) == {name: 1.5}


def test_a_new_metric_is_one_row():
    count = Metric(name="count", title="predictions", better="neither",
                   of=lambda m: float(m.match(2.0).predicted.valid.sum()))
    assert Measured(*worked()).numbers({"count": count}) == {"count": 3}
    assert dataclasses.replace(count, unit="points").heading == "predictions, points"


def test_what_lies_beside_pictures_changes_no_number():
    truth = labelled([(1.0, 1.0, 0)], [(0.0, 0.0, 1), (2.0, 2.0, 1)])
    maps, mask = torch.rand(2, 2, 3, 3), torch.zeros(2, 1, 6, 8, dtype=torch.bool)
    mask[..., :3, :3] = True
    points = scored([(1.5, 0.0, 0, 0.9)], [(2.0, 2.0, 1, 0.6)])
    padded = torch.full((2, 2, 6, 8), 5.0)
    padded[..., :3, :3] = maps
    images = torch.zeros(2, 1, 6, 8, dtype=torch.uint8)
    sized = Dataset("sized", "test", images, truth, ("a", "b"), mask=mask)
    names = [name for name, metric in METRICS.items() if metric.reads is None]
    alone = measure(Said(points, maps), Split(truth), names)
    assert measure(Said(points, padded), sized, names) == pytest.approx(alone, nan_ok=True)
