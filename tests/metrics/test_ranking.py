import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matching_cases import GOOD, SEEDS, by_the_rule, labelled, near, random_case, scored, there
from scenes import none

from falloff import metrics
from falloff.metrics.ranking import (
    average_precision_influence_of,
    average_precision_of,
    precision_of,
    recall_of,
)
from falloff.points import Points


def test_duplicates_are_near_a_point_that_another_took():
    predicted = scored(
        # The point, a second prediction 1 px from it, one of another class there, and one far from everything.
        [(0.0, 0.0, 0, 0.9), (1.0, 0.0, 0, 0.8), (0.0, 0.0, 1, 0.7), (50.0, 0.0, 0, 0.6)],
        # Two points and three predictions near both: one is too many.
        [(0.0, 0.0, 0, 0.9), (0.5, 0.0, 0, 0.8), (1.0, 0.0, 0, 0.7), (0.0, 0.0, 0, 0.6)],
    )
    predicted.valid[1, 3] = False
    truth = labelled([(0.0, 0.0, 0)], [(0.0, 0.0, 0), (1.0, 0.0, 0)])
    assert metrics.duplicates(predicted, truth, radius=1.0) == 2
    assert metrics.duplicates(predicted[:1], truth[:1], radius=0.5) == 0
    assert metrics.duplicates(scored([], []), truth, radius=1.0) == 0
    assert metrics.duplicates(predicted, none(2, 0), radius=1.0) == 0


@given(SEEDS, st.sampled_from([0.5, 2.0, 4.0]))
def test_duplicates_on_random_cases(seed, radius):
    predicted, truth = random_case(seed)
    expected = sum(
        1
        for b in range(2)
        for m in there(predicted, b)
        if near(predicted, truth, b, m, radius) and m not in by_the_rule(predicted, truth, b, radius)
    )
    assert metrics.duplicates(predicted, truth, radius=radius) == expected


def test_average_precision_worked_by_hand():
    # Scores fall as hit, miss, hit, with 4 to find: precision 1 at recall 1/4, 2/3 at 1/2, never more.
    predicted = scored([(0.0, 0.0, 0, 0.9), (50.0, 0.0, 0, 0.8), (10.0, 0.0, 0, 0.7)])
    truth = labelled([(0.0, 0.0, 0), (10.0, 0.0, 0), (20.0, 0.0, 0), (30.0, 0.0, 0)])
    curve = metrics.precision_recall(predicted, truth, radius=1.0)
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert curve.recall.tolist() == [0.25, 0.25, 0.5]
    assert metrics.average_precision(predicted, truth, radius=1.0) == pytest.approx(1 / 4 + 1 / 4 * 2 / 3)
    assert metrics.f1(predicted, truth, radius=1.0) == pytest.approx(2 * 2 / (3 + 4))
    assert metrics.best_threshold(predicted, truth, radius=1.0) == pytest.approx(0.7)


def test_precision_is_made_monotone_before_the_area():
    # Miss, hit, hit with 2 to find: precision 0, 1/2, 2/3; the best from recall 1/2 on is 2/3.
    predicted = scored([(50.0, 0.0, 0, 0.9), (0.0, 0.0, 0, 0.8), (10.0, 0.0, 0, 0.7)])
    truth = labelled([(0.0, 0.0, 0), (10.0, 0.0, 0)])
    assert metrics.average_precision(predicted, truth, radius=1.0) == pytest.approx(2 / 3)


def test_predictions_of_equal_score_enter_together():
    predicted = scored([(0.0, 0.0, 0, 0.5), (50.0, 0.0, 0, 0.5)])
    truth = labelled([(0.0, 0.0, 0)])
    curve = metrics.precision_recall(predicted, truth, radius=1.0)
    assert (curve.threshold.tolist(), curve.precision.tolist(), curve.recall.tolist()) == (
        [0.5],
        [0.5],
        [1.0],
    )
    assert metrics.average_precision(predicted, truth, radius=1.0) == 0.5


def test_average_precision_is_the_mean_over_the_classes_that_are_there():
    predicted = scored([(0.0, 0.0, 0, 0.9), (5.0, 5.0, 7, 0.9)], [(1.0, 1.0, 2, 0.3)])
    truth = labelled([(0.0, 0.0, 0)], [(8.0, 8.0, 2)])
    assert metrics.per_class_average_precision(predicted, truth, radius=1.0) == {0: 1.0, 2: 0.0}
    assert metrics.average_precision(predicted, truth, radius=1.0) == 0.5


@given(SEEDS)
def test_average_precision_is_the_area_that_thresholds_one_by_one_give(seed):
    predicted, truth = random_case(seed, classes=1)
    total = int(truth.valid.sum())
    if total == 0:
        return
    corners = []
    for threshold in predicted.score[predicted.valid].tolist():
        kept = predicted.above(threshold)
        hits = int(metrics.match(kept, truth, radius=2.0).found.sum())
        corners.append((hits / total, hits / int(kept.valid.sum())))
    recalls = sorted({0.0, *(recall for recall, _ in corners)})
    area = sum(
        (high - low) * max(precision for recall, precision in corners if recall >= high)
        for low, high in itertools.pairwise(recalls)
    )
    assert metrics.average_precision(predicted, truth, radius=2.0) == pytest.approx(area, abs=1e-9)


@given(SEEDS)
def test_only_the_order_of_scores_counts_and_images_have_none(seed):
    predicted, truth = random_case(seed, batch=3)
    if not truth.valid.any():
        return
    value = metrics.average_precision(predicted, truth, radius=2.0)
    bent = Points(predicted.xy, predicted.label, predicted.valid, predicted.score**3 * 100 - 7)
    assert 0 <= value <= 1
    assert metrics.average_precision(bent, truth, radius=2.0) == pytest.approx(value)
    order = torch.tensor([2, 0, 1])
    assert metrics.average_precision(predicted[order], truth[order], radius=2.0) == pytest.approx(value)


@given(SEEDS)
def test_truth_as_a_prediction_is_perfect(seed):
    _, truth = random_case(seed)
    if not truth.valid.any():
        return
    told = Points(truth.xy, truth.label, truth.valid, torch.ones_like(truth.label).float())
    assert metrics.average_precision(told, truth, radius=1e-3) == 1.0
    assert metrics.f1(told, truth, radius=1e-3) == 1.0
    assert metrics.localisation_error(told, truth, radius=1e-3) == 0.0


@given(SEEDS)
def test_the_best_threshold_gives_the_best_f1(seed):
    predicted, truth = random_case(seed)
    if not truth.valid.any() or not predicted.valid.any():
        return
    at = metrics.best_threshold(predicted, truth, radius=2.0)
    best = metrics.f1(predicted.above(at), truth, radius=2.0)
    for threshold in predicted.score.flatten().tolist():
        assert metrics.f1(predicted.above(threshold), truth, radius=2.0) <= best + 1e-12


def test_without_predictions_nothing_is_found_and_nothing_is_wrong():
    nothing, truth = scored([]), labelled([(1.0, 1.0, 0)])
    assert metrics.average_precision(nothing, truth, radius=1.0) == 0.0
    assert metrics.f1(nothing, truth, radius=1.0) == 0.0
    assert math.isnan(metrics.localisation_error(nothing, truth, radius=1.0))
    assert metrics.best_threshold(nothing, truth, radius=1.0) == 0.0
    assert metrics.f1(nothing, labelled([]), radius=1.0) == 1.0


def test_without_truth_recall_is_refused_as_undefined():
    predicted = scored([(1.0, 1.0, 0, 0.5)])
    for metric in (metrics.average_precision, metrics.precision_recall, metrics.best_threshold):
        with pytest.raises(ValueError, match="truth holds no valid point"):
            metric(predicted, none(), radius=1.0)
    with pytest.raises(ValueError, match="of label 3"):
        metrics.precision_recall(predicted, labelled([(1.0, 1.0, 0)]), radius=1.0, label=3)


def test_a_metric_against_radius():
    # Predictions 1 and 3 px off: F1 is 0, 2 * 1 / 4 and 1; the better score is the nearer, so AP is 0, 1/2 and 1.
    predicted = scored([(1.0, 0.0, 0, 0.9), (13.0, 0.0, 0, 0.5)])
    truth = labelled([(0.0, 0.0, 0), (10.0, 0.0, 0)])
    radii = [0.5, 1.0, 3.0]
    assert metrics.against_radius(metrics.f1, predicted, truth, radii=radii) == [0.0, 0.5, 1.0]
    assert metrics.against_radius(metrics.average_precision, predicted, truth, radii=radii) == [0.0, 0.5, 1.0]
    assert metrics.against_radius(metrics.duplicates, predicted, truth, radii=[30.0, 9.0]) == [0, 0]
    assert metrics.against_radius(metrics.f1, predicted, truth, radii=[]) == []


def test_hits_are_counted_and_not_summed_as_floats(monkeypatch):
    # A GPU refuses the running sum of floats where algorithms must be deterministic.
    cumsum = torch.Tensor.cumsum

    def exact(tensor, *args, **kwargs):
        assert not tensor.is_floating_point()
        return cumsum(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "cumsum", exact)
    curve = metrics.precision_recall(*random_case(0), radius=2.0)
    assert curve.precision.dtype == curve.recall.dtype == torch.float64


@given(SEEDS)
def test_more_points_are_found_at_a_larger_radius_by_hungarian_matching(seed):
    predicted, truth = random_case(seed)

    def found(predicted, truth, *, radius):
        return int(metrics.match(predicted, truth, radius=radius, method="hungarian").found.sum())

    counts = metrics.against_radius(found, predicted, truth, radii=[0.5, 1.0, 2.0, 4.0, 8.0])
    assert counts == sorted(counts)


def test_localisation_error_is_the_mean_distance_of_what_matched():
    predicted = scored([(3.0, 4.0, 0, 0.9), (10.0, 11.0, 0, 0.5)], [(7.0, 7.0, 0, 0.4)])
    truth = labelled([(0.0, 0.0, 0), (10.0, 10.0, 0)], [(30.0, 7.0, 0)])
    assert metrics.localisation_error(predicted, truth, radius=6.0) == pytest.approx((5 + 1) / 2)


@pytest.mark.parametrize(
    ("radii", "error", "named"),
    [
        ([1.0, 0.0], ValueError, "each of radii must be finite and above 0, got 0.0"),
        (["2"], TypeError, "each of radii must be a number, got '2'"),
        (2.0, TypeError, "radii must be a sequence of numbers, got 2.0"),
    ],
)
@pytest.mark.bad_input
def test_bad_radii_are_named_before_anything_is_computed(radii, error, named):
    def metric(*_, **__):
        raise AssertionError("called")

    with pytest.raises(error, match=named):
        metrics.against_radius(metric, GOOD["predicted"], GOOD["truth"], radii=radii)


# What a picture's weight changes.


def test_the_influence_of_a_picture_worked_by_hand():
    # Hit, miss, hit with 4 to find, the first in one picture of weight a, the others in one of weight b:
    # AP = a / 2 (a + b) + b / 2 (a + 2 b), whose derivatives at 1 are 1/8 - 1/18 and its negative.
    predicted = scored([(0.0, 0.0, 0, 0.9)], [(50.0, 0.0, 0, 0.8), (10.0, 0.0, 0, 0.7)])
    truth = labelled([(0.0, 0.0, 0), (20.0, 0.0, 0)], [(10.0, 0.0, 0), (30.0, 0.0, 0)])
    found = average_precision_influence_of(metrics.match(predicted, truth, radius=1.0))
    assert found.tolist() == pytest.approx([5 / 72, -5 / 72])
    nothing = average_precision_influence_of(metrics.match(scored([], []), truth, radius=1.0))
    assert nothing.tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="no valid point"):
        average_precision_influence_of(metrics.match(predicted, none(2, 1), radius=1.0))


def weighted_average_precision(matched, weight):
    """Its definition, prediction by prediction, where an image counts ``weight`` times."""
    predicted, truth, areas = matched.predicted, matched.labelled, []
    for label in truth.label[truth.valid].unique().tolist():
        total = sum(weight[b] for b in range(len(truth)) for n in there(truth, b) if truth.label[b, n] == label)
        said = [(float(predicted.score[b, m]), weight[b], weight[b] * bool(matched.truth[b, m] >= 0))
                for b in range(len(truth)) for m in there(predicted, b) if predicted.label[b, m] == label]
        points = []
        for least in sorted({score for score, _, _ in said}, reverse=True):
            claimed, hits = (sum(part) for part in zip(*((w, h) for score, w, h in said if score >= least),
                                                       strict=True))
            points.append((hits / claimed, hits / total))
        recalls = [0.0, *(recall for _, recall in points)]
        areas.append(sum((recall - before) * max(precision for precision, _ in points[k:])
                         for k, ((_, recall), before) in enumerate(zip(points, recalls, strict=False))))
    return sum(areas) / len(areas)


@given(SEEDS, st.booleans())
def test_the_influence_of_a_picture_is_the_derivative_by_its_weight(seed, with_ties):
    predicted, truth = random_case(seed, batch=5)
    if not truth.valid.any():
        return
    if with_ties:
        predicted.score.mul_(8).round_().div_(8)
    matched = metrics.match(predicted, truth, radius=2.0)
    assert weighted_average_precision(matched, [1.0] * 5) == pytest.approx(average_precision_of(matched))
    found = average_precision_influence_of(matched)
    assert float(found.sum()) == pytest.approx(0.0, abs=1e-12)
    for picture in range(5):
        up, down, level = ([1.0 + step * (b == picture) for b in range(5)] for step in (1e-6, -1e-6, 0.0))
        up, down, level = (weighted_average_precision(matched, weight) for weight in (up, down, level))
        if (up - level) == pytest.approx(level - down, abs=1e-10):  # else two steps are best, and which one changes
            assert float(found[picture]) == pytest.approx((up - down) / 2e-6, abs=1e-6)


def test_pseudo_values_are_those_of_leaving_one_picture_out():
    generator = torch.Generator().manual_seed(0)
    count, slots = 300, 6
    label = torch.randint(2, (count, slots), generator=generator)
    truth = Points(10.0 * torch.arange(slots)[None, :, None].expand(count, slots, 2), label,
                   torch.rand(count, slots, generator=generator) < 0.7)
    quality = torch.rand(count, slots, generator=generator)
    away = torch.where(torch.rand(count, slots, generator=generator) < quality, 0.5, 3.0)
    score = (quality + 0.3 * torch.randn(count, slots, generator=generator)).sigmoid()
    predicted = Points(truth.xy + away[..., None], label, truth.valid | (quality < 0.2), score)
    matched = metrics.match(predicted, truth, radius=2.0)
    whole = average_precision_of(matched)
    pseudo = whole + count * average_precision_influence_of(matched)
    others = torch.arange(count)
    without = [metrics.average_precision(predicted[others != p], truth[others != p], radius=2.0) for p in range(count)]
    jackknife = count * whole - (count - 1) * torch.tensor(without, dtype=torch.float64)
    assert float(pseudo.mean()) == pytest.approx(whole, abs=1e-12)
    assert float(jackknife.mean()) == pytest.approx(whole, abs=0.01)
    assert float(pseudo.std()) == pytest.approx(float(jackknife.std()), rel=0.05)
    assert float(torch.corrcoef(torch.stack([pseudo, jackknife]))[0, 1]) > 0.995


def test_recall_and_precision_are_shares_of_points_and_of_predictions():
    predicted = scored([(0.0, 0.0, 0, 0.9), (50.0, 0.0, 0, 0.8), (10.0, 0.0, 0, 0.7)])
    truth = labelled([(0.0, 0.0, 0), (10.0, 0.0, 0), (20.0, 0.0, 0), (30.0, 0.0, 0)])
    matched = metrics.match(predicted, truth, radius=1.0)
    assert (recall_of(matched), precision_of(matched)) == (0.5, pytest.approx(2 / 3))
    assert (recall_of(matched.above(0.75)), precision_of(matched.above(0.75))) == (0.25, 0.5)
    assert (recall_of(matched.above(1.0)), precision_of(matched.above(1.0))) == (0.0, 0.0)
    assert math.isnan(recall_of(metrics.match(predicted, none(1, 1), radius=1.0)))
