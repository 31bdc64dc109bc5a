import dataclasses
import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from matching_cases import SEEDS, labelled, random_case, scored

from falloff import measures, metrics
from falloff.data import Dataset
from falloff.measures import DENSE, METRICS, PICTURES, STANDARD, STUDY, Measured, Metric, along, get, measure
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
    assert sorted(radii) == [0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0]


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
    assert files >= {f"falloff.measures.{name}" for name in (
        "points", "maps", "calibration", "keypoints", "curves", "classes", "forecasts", "layers", "localisation",
        "pictures", "pixels")}
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
    one, other = measure(Said(points, maps), Split(truth), names), measure(Said(points, padded), sized, names)
    assert one.keys() == other.keys() >= {"count_error", "highest_score", "error_of_points"}
    for name in one:
        assert other[name] == pytest.approx(one[name], nan_ok=True), name


def test_what_is_measured_of_every_run_and_of_the_record_is_named():
    assert STANDARD == ("ap", "ap_worst_class", "ap_1", "ap_4", "f1", "threshold", "error", "score_at_points",
                        "score_elsewhere", "class_accuracy", "presence_auroc", "calibration_error", "pck")
    beside = {"steps_to_ap", "steps_to_ap_held", "nme", *DENSE}
    assert set(STANDARD) < set(STUDY) and {*STUDY, *PICTURES, *beside} == METRICS.keys()
    assert all(get(name).per is None for name in STUDY) and all(get(name).per for name in PICTURES)
    assert DENSE == ("pixel_ap", "pixel_ap_by_picture") and not {*DENSE} & {*STUDY, *PICTURES}
    assert [(get(name).per, get(name).needs_maps) for name in DENSE] == [(None, True), ("picture", True)]


def test_the_numbers_of_the_record_worked_by_hand():
    names = ["ap_05", "ap_3", "ap_6", "ap_tuned", "recall", "precision", "duplicates", "pck_mean"]
    found = measure(*worked(), names)
    # Within 3 and 6 px both are found, within 1 px neither, within 2 px one. From 0.9 on, one prediction is right. The
    # two best of three predictions lie 1.5 and 3 px from their points: PCK up to 4 px is 1 - (1.5 + 3) / 2 / 4.
    assert found == pytest.approx({"ap_05": 0.0, "ap_3": 1.0, "ap_6": 1.0, "ap_tuned": 0.25, "recall": 0.5,
                                   "precision": 1.0, "duplicates": 0.0, "pck_mean": 0.4375})
    all_count = measure(*worked(), ["recall", "precision"], threshold=0.1)
    assert all_count == pytest.approx({"recall": 0.5, "precision": 1 / 3})


def test_duplicates_and_wrong_names_are_shares_of_what_is_sure():
    # On one point: right at 0.9, right again at 0.8, of class 1 at 0.7. On another, of class 1: called class 0 at 0.6.
    predicted = scored([(0.0, 0.0, 0, 0.9), (1.0, 0.0, 0, 0.8), (0.0, 0.0, 1, 0.7), (20.0, 0.0, 0, 0.6),
                        (40.0, 0.0, 1, 0.1)])
    split = Split(labelled([(0.0, 0.0, 0), (20.0, 0.0, 1), (40.0, 0.0, 1)]))
    found = measure(Said(predicted), split, ["duplicates", "wrong_class", "balanced_class_accuracy"], threshold=0.5)
    # Class 0: its point is right. Class 1: one has another name, one was missed.
    assert found == {"duplicates": 0.25, "wrong_class": 0.25, "balanced_class_accuracy": 0.5}
    less = measure(Said(predicted), split, ["balanced_class_accuracy"], threshold=0.05)
    assert less == {"balanced_class_accuracy": 0.75}


def test_the_errors_of_points_are_in_the_order_of_the_data_set():
    predicted = scored([(0.0, 3.0, 0, 0.9), (9.0, 9.0, 1, 0.3)], [(1.0, 0.0, 0, 0.5)])
    split = Split(labelled([(9.0, 5.0, 1), (0.0, 0.0, 0), (50.0, 0.0, 0)], [(1.0, 1.0, 0)]))
    found = measure(Said(predicted), split, ["error_of_points"])["error_of_points"]
    assert found == pytest.approx([4.0, 3.0, math.nan, 1.0], nan_ok=True)


@given(SEEDS)
def test_the_mean_over_pictures_is_the_metric(seed):
    predicted, truth = random_case(seed, batch=5, classes=3)
    if not truth.valid.any():
        return
    names = [name for name in PICTURES if get(name).per == "picture"]
    found = measure(Said(predicted), Split(truth), names)
    whole = measure(Said(predicted), Split(truth), [name.removesuffix("_by_picture") for name in names])
    for name in names:
        assert len(found[name]) == 5
        assert sum(found[name]) / 5 == pytest.approx(whole[name.removesuffix("_by_picture")])


def chosen_elsewhere():
    """Peaks whose score is twice what it should be: of those at 0.8 and 0.4, a half and a quarter find their point."""
    spots = [(0.8, True), (0.8, False), (0.4, True), (0.4, False), (0.4, False), (0.4, False)] * 5
    predicted = scored([(8.0 * i, 0.0 if right else 50.0, 0, score) for i, (score, right) in enumerate(spots)])
    return Measured(Said(predicted), Split(labelled([(8.0 * i, 0.0, 0) for i in range(len(spots))])))


def test_a_reference_gives_the_threshold_and_the_recalibration():
    asked = []

    def refer():
        asked.append(1)
        return chosen_elsewhere()

    predicted = scored([(0.0, 0.0, 0, 0.8), (50.0, 0.0, 0, 0.8), (9.0, 9.0, 0, 0.4), (9.0, 0.0, 0, 0.3)])
    on_test = Measured(Said(predicted), Split(labelled([(0.0, 0.0, 0), (9.0, 0.0, 0)])), refer=refer)
    assert on_test.numbers({"ap": get("ap")}) and not asked  # nothing is computed that nothing asks for
    names = ["threshold", "recall", "peak_brier", "peak_brier_isotonic", "peak_brier_platt"]
    found = on_test.numbers({name: get(name) for name in names})
    assert len(asked) == 1
    # There F1 is best at 0.4, where it is 2 * 10 / (30 + 30). Isotonic: 0.8 is 1/2, 0.4 and what is below it 1/4.
    assert found["threshold"] == pytest.approx(0.4) and found["recall"] == 0.5
    assert found["peak_brier"] == pytest.approx((0.2**2 + 0.8**2 + 0.4**2 + 0.7**2) / 4)
    assert found["peak_brier_isotonic"] == pytest.approx((0.5**2 + 0.5**2 + 0.25**2 + 0.75**2) / 4)
    # Two scores and two parameters: Platt's line goes through both shares, at 0.3 it is a little below 1/4.
    slope = math.log(3) / (math.log(4) - math.log(2 / 3))
    low = 1 / (1 + math.exp(-slope * (math.log(3 / 7) - math.log(4))))
    assert found["peak_brier_platt"] == pytest.approx((0.5**2 + 0.5**2 + 0.25**2 + (1 - low) ** 2) / 4, abs=1e-4)
    own = Measured(Said(predicted), Split(labelled([(0.0, 0.0, 0), (9.0, 0.0, 0)])))
    assert math.isnan(own.numbers({"p": get("peak_brier_platt")})["p"])
    given_one = Measured(Said(predicted), own.dataset, 0.7, refer)
    assert given_one.numbers({"threshold": get("threshold")}) == {"threshold": 0.7}


def test_scores_that_are_no_probability_are_clamped():
    split = Split(labelled([(0.0, 0.0, 0)]))
    found = measure(Said(scored([(0.0, 0.0, 0, 1.5), (9.0, 9.0, 0, -0.5)])), split, ["peak_brier", "peak_calibration"])
    assert found == pytest.approx({"peak_brier": 0.0, "peak_calibration": math.nan}, nan_ok=True)  # one in each bin


def test_presence_and_counts_of_maps_worked_by_hand():
    maps = torch.zeros(2, 2, 4, 4)
    maps[0, 0, 1, 1], maps[0, 0, 2, 2], maps[0, 1, 0, 0], maps[1, 1, 3, 3] = 0.5, 0.25, -1.0, 2.0
    split = Split(labelled([(1.0, 1.0, 0), (3.0, 3.0, 0)], [(0.0, 0.0, 1), (0.2, 0.1, 1)]))
    names = ["highest_score", "count_error", "pixel_ratio", "presence_brier"]
    found = measure(Said(scored([], []), maps), split, names)
    # Map by map the sums are 0.75, 0, 0, 1, and there are 2, 0, 0, 1 labelled pixels.
    assert found == pytest.approx({"highest_score": 2.0, "count_error": 1.25 / 4, "pixel_ratio": 1.75 / 3,
                                   "presence_brier": 0.5**2 / 4})


class Trained:
    """A training whose last layer, of two outputs on two features, moved by known steps."""

    def __init__(self, weights, biases):
        self.weights, self.biases = torch.tensor(weights), torch.tensor(biases)

    def net(self, moved):
        last = torch.nn.Conv2d(2, 2, 1)
        with torch.no_grad():
            last.weight.copy_(0.5 + moved * self.weights[:, :, None, None])
            last.bias.copy_(-3.0 + moved * self.biases)
        net = torch.nn.Module()
        net.heads = torch.nn.ModuleDict({"maps": last})
        return net

    def system(self):
        return self.net(True)

    def start(self):
        return self.net(False)


@pytest.mark.parametrize(("weights", "mean", "spread", "shared"), [
    ([[1.0, 3.0], [1.0, 3.0]], 2.0, 1.0, 1.0),  # in step
    ([[2.0, 0.0], [-2.0, 0.0]], 0.0, 2.0**0.5, 0.0),  # apart
    ([[2.0, 0.0], [0.0, 2.0]], 1.0, 1.0, 0.5),  # nothing to do with each other
    ([[0.0, 0.0], [0.0, 0.0]], 0.0, 0.0, math.nan),
])
def test_the_last_layers_change_is_from_where_it_began(weights, mean, spread, shared):
    names = [f"last_{name}" for name in ("weight_change", "weight_change_sd", "bias_change", "bias_change_sd",
                                         "change_shared")]
    measured = Measured(*worked(), trained=Trained(weights, [1.0, 2.0]))
    found = measured.numbers({name: get(name) for name in names})
    expected = dict(zip(names, (mean, spread, 1.5, 0.5, shared), strict=True))
    assert found == pytest.approx(expected, nan_ok=True, abs=1e-6)
    assert measure(*worked(), names) == {}  # nothing is known of a training


def test_a_net_without_last_layers_of_its_own_has_no_change():
    bare = Trained([[0.0]], [0.0])
    bare.net = lambda moved: torch.nn.Linear(1, 1)
    names = ["last_weight_change", "last_bias_change_sd", "last_change_shared"]
    found = Measured(*worked(), trained=bare).numbers({name: get(name) for name in names})
    assert all(map(math.isnan, found.values())) and list(found) == names


def test_every_metric_is_defined_where_nothing_is_said():
    prediction, split = Said(scored([], []), torch.zeros(2, 3, 8, 8)), Split(labelled([(1.0, 1.0, 0)], []))
    sized = Dataset("sized", "test", torch.zeros(2, 1, 8, 8, dtype=torch.uint8), split.points, ("a", "b", "c"),
                    mask=torch.ones(2, 1, 8, 8, dtype=torch.bool))
    training = Trained([[1.0, 0.0], [0.0, 1.0]], [1.0, 2.0])
    for one in (split, sized):
        nothing = Measured(prediction, one)
        found = Measured(prediction, one, refer=lambda said=nothing: said, trained=training).numbers(
            {name: get(name) for name in STUDY + PICTURES})
        assert list(found) == [*STUDY, *PICTURES]
        assert found["pck_mean"] == found["recall"] == found["precision"] == found["balanced_class_accuracy"] == 0
        assert found["duplicates"] == found["wrong_class"] == found["ap_tuned"] == found["highest_score"] == 0
        assert found["ap_tuned_by_picture"] == found["pck_mean_by_picture"] == [0, 0]
        assert math.isnan(found["error_of_points"][0]) and len(found["error_of_points"]) == 1
        assert math.isnan(found["peak_brier"]) and math.isnan(found["peak_brier_platt"])
        assert found["presence_brier"] == pytest.approx(1 / 6)
        assert found["presence_brier_platt"] == pytest.approx(5 / 36)
        assert found["count_error"] == pytest.approx(1 / 6) and found["pixel_ratio"] == 0


def test_pixels_are_ranked_in_the_pixels_of_the_maps_that_count():
    maps = torch.zeros(2, 1, 2, 2)
    maps[0, 0], maps[1, 0] = torch.tensor([[0.9, 0.4], [0.6, 0.5]]), torch.tensor([[0.7, 0.1], [0.8, 0.2]])
    truth = labelled([(1.0, 1.0, 0), (2.9, 3.0, 0), (0.2, 0.4, 0)], [(0.0, 0.0, 0)])  # at stride 2
    assert measure(Said(scored([], []), maps, stride=2), Split(truth), DENSE)["pixel_ap"] == pytest.approx(
        (1 + 2 / 3 + 3 / 5) / 3)
    images, mask = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.ones(2, 1, 4, 4, dtype=torch.bool)
    mask[1, :, 2:, :2] = False  # where one of 0.8 has no point
    found = measure(Said(scored([], []), maps, stride=2), Dataset("d", "test", images, truth, ("a",), mask), DENSE)
    assert found["pixel_ap"] == pytest.approx((1 + 2 / 2 + 3 / 4) / 3)
    assert sum(found["pixel_ap_by_picture"]) / 2 == pytest.approx(found["pixel_ap"])
    assert measure(Said(scored([], [])), Split(truth), DENSE) == {}  # without maps
