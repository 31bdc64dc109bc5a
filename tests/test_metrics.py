import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scenes import none
from scipy.optimize import linear_sum_assignment

from falloff import metrics
from falloff.points import Points


def scored(*images):
    """Predictions: for each image a list of (x, y, label, score)."""
    return Points.from_lists([([p[:2] for p in i], [p[2] for p in i], [p[3] for p in i]) for i in images])


def labelled(*images):
    return Points.from_lists([([p[:2] for p in i], [p[2] for p in i]) for i in images])


def random_case(seed, batch=2, most=6, classes=2):
    """Predictions of distinct scores and truth, crowded enough that they compete."""
    generator = torch.Generator().manual_seed(seed)

    def draw(slots):
        xy = torch.rand(batch, slots, 2, generator=generator) * 8
        label = torch.randint(classes, (batch, slots), generator=generator)
        return xy, label, torch.rand(batch, slots, generator=generator) < 0.8

    score = torch.randperm(batch * most, generator=generator).view(batch, most) / (batch * most)
    return Points(*draw(most), score), Points(*draw(5))


SEEDS = st.integers(0, 10**6)


def test_a_prediction_takes_the_nearest_free_point_of_its_class_and_the_best_score_goes_first():
    predicted = scored([(1.0, 0.0, 0, 0.5), (0.4, 0.0, 0, 0.9), (5.0, 5.0, 1, 0.8), (9.0, 9.0, 0, 0.7)])
    truth = labelled([(0.0, 0.0, 0), (2.0, 0.0, 0), (5.0, 5.0, 0)])
    found = metrics.match(predicted, truth, radius=2.0)
    assert found.truth.tolist() == [[1, 0, -1, -1]]
    assert found.distance[0, :2].tolist() == pytest.approx([1.0, 0.4], abs=1e-6)
    assert found.distance[0, 2:].isnan().all()
    assert found.found.tolist() == [[True, True, False]]


def test_a_second_prediction_on_one_point_is_false():
    found = metrics.match(
        scored([(0.0, 0.0, 0, 0.6), (0.1, 0.0, 0, 0.7)]), labelled([(0.0, 0.0, 0)]), radius=1.0
    )
    assert found.truth.tolist() == [[-1, 0]]


def test_a_distance_equal_to_the_radius_still_matches():
    for x, hit in ((2.0, 0), (2.001, -1)):
        found = metrics.match(scored([(x, 0.0, 0, 0.5)]), labelled([(0.0, 0.0, 0)]), radius=2.0)
        assert found.truth.tolist() == [[hit]]


def test_padding_on_either_side_matches_nothing():
    predicted = Points(
        torch.zeros(1, 2, 2),
        torch.zeros(1, 2, dtype=torch.int64),
        torch.tensor([[True, False]]),
        torch.tensor([[0.1, 0.9]]),
    )
    truth = labelled([(0.0, 0.0, 0)])
    assert metrics.match(predicted, truth, radius=1.0).truth.tolist() == [[0, -1]]
    assert metrics.match(predicted, none(1, 2), radius=1.0).truth.tolist() == [[-1, -1]]
    assert metrics.match(predicted, none(1, 0), radius=1.0).truth.tolist() == [[-1, -1]]


@given(SEEDS, st.sampled_from([0.5, 1.5, 4.0]))
def test_matching_follows_its_rule_on_random_cases(seed, radius):
    predicted, truth = random_case(seed)
    found = metrics.match(predicted, truth, radius=radius)
    for b in range(2):
        taken = set()
        for m in sorted(range(6), key=lambda m: -float(predicted.score[b, m])):
            near = [
                (math.dist(predicted.xy[b, m].tolist(), truth.xy[b, n].tolist()), n)
                for n in range(5)
                if predicted.valid[b, m]
                and truth.valid[b, n]
                and predicted.label[b, m] == truth.label[b, n]
                and n not in taken
            ]
            distance, n = min(near, default=(math.inf, -1))
            if distance > radius:
                assert found.truth[b, m] == -1 and found.distance[b, m].isnan()
            else:
                assert found.truth[b, m] == n and float(found.distance[b, m]) == pytest.approx(
                    distance, abs=1e-6
                )
                taken.add(n)
        assert set(found.found[b].nonzero()[:, 0].tolist()) == taken


@given(SEEDS)
def test_matching_finds_at_least_half_of_what_the_best_matching_finds(seed):
    predicted, truth = random_case(seed)
    found = metrics.match(predicted, truth, radius=2.0).found.sum(1)
    for b in range(2):
        allowed = torch.cdist(predicted.xy[b : b + 1].double(), truth.xy[b : b + 1].double())[0] <= 2.0
        allowed &= (
            (predicted.label[b][:, None] == truth.label[b]) & predicted.valid[b][:, None] & truth.valid[b]
        )
        best = allowed.numpy()[linear_sum_assignment(allowed.numpy(), maximize=True)].sum()
        assert best / 2 <= found[b] <= best


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


def test_localisation_error_is_the_mean_distance_of_what_matched():
    predicted = scored([(3.0, 4.0, 0, 0.9), (10.0, 11.0, 0, 0.5)], [(7.0, 7.0, 0, 0.4)])
    truth = labelled([(0.0, 0.0, 0), (10.0, 10.0, 0)], [(30.0, 7.0, 0)])
    assert metrics.localisation_error(predicted, truth, radius=6.0) == pytest.approx((5 + 1) / 2)


def test_reliability_worked_by_hand():
    predicted = scored([(0.0, 0.0, 0, 0.1), (5.0, 5.0, 0, 0.9), (9.0, 9.0, 0, 0.7), (0.2, 0.0, 0, 0.3)])
    truth = labelled([(0.0, 0.0, 0), (5.0, 5.0, 0)])
    found = metrics.reliability(predicted, truth, radius=1.0, bins=2)
    # Low bin: 0.1 (second on its point: false) and 0.3 (true). High bin: 0.9 (true) and 0.7 (false).
    assert found.count.tolist() == [2, 2]
    assert found.score.tolist() == pytest.approx([0.2, 0.8])
    assert found.share.tolist() == pytest.approx([0.5, 0.5])
    assert found.error == pytest.approx(0.3)


def test_scores_outside_0_and_1_and_empty_bins_are_defined():
    predicted = scored([(0.0, 0.0, 0, 1.5), (5.0, 5.0, 0, -0.5)])
    found = metrics.reliability(predicted, labelled([(0.0, 0.0, 0)]), radius=1.0, bins=4)
    assert found.count.tolist() == [1, 0, 0, 1]
    assert found.share[1:3].isnan().all()
    assert found.error == pytest.approx(0.5)
    assert metrics.reliability(scored([]), labelled([(0.0, 0.0, 0)]), radius=1.0).error == 0.0


def test_presence_is_told_by_the_highest_score_of_a_map():
    # Present: (0, 0) at 0.9 and (1, 1) at 0.4. Absent: (0, 1) at 0.6, (1, 0) at 0.1: 3 of 4 in order.
    scores = torch.zeros(2, 2, 3, 3)
    for place, score in {(0, 0): 0.9, (1, 1): 0.4, (0, 1): 0.6, (1, 0): 0.1}.items():
        scores[(*place, 1, 1)] = score
    truth = labelled([(1.0, 1.0, 0)], [(0.0, 0.0, 1), (2.0, 2.0, 1)])
    assert metrics.presence_auroc(scores, truth) == pytest.approx(0.75)
    assert math.isnan(metrics.presence_auroc(scores[:1, :1], labelled([(1.0, 1.0, 0)])))
    assert math.isnan(metrics.presence_auroc(scores, none(2, 0)))


GOOD = {"predicted": scored([(0.0, 0.0, 0, 0.5)]), "truth": labelled([(0.0, 0.0, 0)]), "radius": 1.0}


@pytest.mark.parametrize(
    ("changed", "error", "named"),
    [
        ({"radius": 0.0}, ValueError, "radius must be finite and above 0, got 0.0"),
        ({"radius": -1.0}, ValueError, "radius"),
        ({"radius": math.nan}, ValueError, "radius"),
        ({"radius": "2"}, TypeError, "radius must be a number, got '2'"),
        ({"predicted": labelled([(0.0, 0.0, 0)])}, ValueError, "predicted carries no score"),
        ({"predicted": [[0.0]]}, TypeError, "predicted must be falloff.points.Points, got list"),
        ({"truth": None}, TypeError, "truth must be"),
        ({"truth": labelled([], [])}, ValueError, "predicted holds 1 images, truth 2"),
    ],
)
@pytest.mark.parametrize(
    "metric",
    [
        metrics.match,
        metrics.average_precision,
        metrics.f1,
        metrics.reliability,
        metrics.localisation_error,
        metrics.best_threshold,
    ],
)
@pytest.mark.bad_input
def test_bad_arguments_are_named(metric, changed, error, named):
    with pytest.raises(error, match=named):
        metric(**{**GOOD, **changed})


@pytest.mark.parametrize("bins", [0, -1, 2.0, True])
@pytest.mark.bad_input
def test_bad_bins_are_named(bins):
    with pytest.raises(ValueError, match="bins must be an integer above 0"):
        metrics.reliability(**GOOD, bins=bins)
