import itertools
import math
from functools import partial

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


def keypoint_case(seed, batch=3, classes=4):
    """At most one labelled point of a class in an image; predictions of any number, some of a class that none has."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.stack([torch.randperm(classes, generator=generator) for _ in range(batch)])
    xy = torch.rand(batch, classes, 2, generator=generator) * 8
    predicted, _ = random_case(seed, batch=batch, classes=classes + 1)
    return predicted, Points(xy, label, torch.rand(batch, classes, generator=generator) < 0.7)


def there(points, b):
    return points.valid[b].nonzero()[:, 0].tolist()


def apart(predicted, truth, b, m, n):
    return math.dist(predicted.xy[b, m].tolist(), truth.xy[b, n].tolist())


def near(predicted, truth, b, m, radius, any_class=False):
    """Labelled points that a prediction may be matched to."""
    return [
        n
        for n in there(truth, b)
        if (any_class or predicted.label[b, m] == truth.label[b, n]) and apart(predicted, truth, b, m, n) <= radius
    ]


def by_the_rule(predicted, truth, b, radius, any_class=False):
    """What greedy matching should give in one image: the labelled point of each prediction that finds one."""
    pairs = {}
    for m in sorted(there(predicted, b), key=lambda m: -float(predicted.score[b, m])):
        free = set(near(predicted, truth, b, m, radius, any_class)) - set(pairs.values())
        if free:
            pairs[m] = min(free, key=lambda n: apart(predicted, truth, b, m, n))
    return pairs


def best_of_all(predicted, truth, b, radius):
    """The most matches and their least total distance in one image, by trying every assignment."""
    found = []
    choices = [[None, *near(predicted, truth, b, m, radius)] for m in there(predicted, b)]
    for chosen in itertools.product(*choices):
        pairs = [(m, n) for m, n in zip(there(predicted, b), chosen, strict=True) if n is not None]
        if len({n for _, n in pairs}) == len(pairs):
            found.append((-len(pairs), sum(apart(predicted, truth, b, m, n) for m, n in pairs)))
    count, distance = min(found)
    return -count, distance


def keypoints_one_by_one(predicted, truth):
    """(image, labelled point, distance to the best prediction of its class) of each key point."""
    found = []
    for b in range(len(truth)):
        for n in there(truth, b):
            same = [m for m in there(predicted, b) if predicted.label[b, m] == truth.label[b, n]]
            best = max(same, key=lambda m: float(predicted.score[b, m]), default=None)
            found.append((b, n, math.inf if best is None else apart(predicted, truth, b, best, n)))
    return found


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
        pairs = by_the_rule(predicted, truth, b, radius)
        assert found.truth[b].tolist() == [pairs.get(m, -1) for m in range(6)]
        for m in range(6):
            distance = apart(predicted, truth, b, m, pairs[m]) if m in pairs else math.nan
            assert float(found.distance[b, m]) == pytest.approx(distance, abs=1e-6, nan_ok=True)
        assert set(found.found[b].nonzero()[:, 0].tolist()) == set(pairs.values())


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


def test_hungarian_gives_up_a_near_pair_where_that_matches_more():
    # On a line: points at 0 and 2, predictions at 0.9 (first) and -1. Greedy gives 0 to the first: -1 is then 3 from 2.
    predicted = scored([(0.9, 0.0, 0, 0.9), (-1.0, 0.0, 0, 0.5)])
    truth = labelled([(0.0, 0.0, 0), (2.0, 0.0, 0)])
    assert metrics.match(predicted, truth, radius=1.5).truth.tolist() == [[0, -1]]
    found = metrics.match(predicted, truth, radius=1.5, method="hungarian")
    assert found.truth.tolist() == [[1, 0]]
    assert found.distance[0].tolist() == pytest.approx([1.1, 1.0], abs=1e-6)
    assert found.found.tolist() == [[True, True]]


def test_hungarian_takes_the_least_distance_whatever_the_scores():
    # Both within reach of both: the better score is 2 and 3 away, the other 1 and 4. 2 + 4 > 3 + 1.
    predicted = scored([(0.0, 0.0, 0, 0.9), (1.0, 0.0, 0, 0.1)])
    truth = labelled([(2.0, 0.0, 0), (-3.0, 0.0, 0)])
    assert metrics.match(predicted, truth, radius=9.0).truth.tolist() == [[0, 1]]
    assert metrics.match(predicted, truth, radius=9.0, method="hungarian").truth.tolist() == [[1, 0]]


@given(SEEDS, st.sampled_from([0.5, 2.0, 4.0, 1e300]))
def test_hungarian_is_the_best_of_all_assignments(seed, radius):
    predicted, truth = random_case(seed, most=5)
    found = metrics.match(predicted, truth, radius=radius, method="hungarian")
    for b in range(2):
        pairs = {m: n for m, n in enumerate(found.truth[b].tolist()) if n >= 0}
        distances = [apart(predicted, truth, b, m, n) for m, n in pairs.items()]
        assert all(m in there(predicted, b) and n in near(predicted, truth, b, m, radius) for m, n in pairs.items())
        assert sorted(pairs.values()) == found.found[b].nonzero()[:, 0].tolist()
        assert found.distance[b][list(pairs)].tolist() == pytest.approx(distances, abs=1e-6)
        assert found.distance[b].isnan().sum() == 5 - len(pairs)
        count, total = best_of_all(predicted, truth, b, radius)
        assert len(pairs) == count and sum(distances) == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("method", ["greedy", "hungarian"])
def test_either_method_bears_empty_images_ties_and_the_edge_of_the_radius(method):
    nothing, one = scored([]), scored([(2.0, 0.0, 0, 0.5)])
    assert metrics.match(nothing, none(1, 0), radius=1.0, method=method).truth.shape == (1, 0)
    assert metrics.match(nothing, labelled([(0.0, 0.0, 0)]), radius=1.0, method=method).found.tolist() == [[False]]
    assert metrics.match(one, none(1, 0), radius=1.0, method=method).truth.tolist() == [[-1]]
    assert metrics.match(one, none(1, 3), radius=1.0, method=method).truth.tolist() == [[-1]]
    assert metrics.match(one, labelled([(0.0, 0.0, 0)]), radius=2.0, method=method).truth.tolist() == [[0]]
    assert metrics.match(one, labelled([(0.0, 0.0, 0)]), radius=1.999, method=method).truth.tolist() == [[-1]]
    assert metrics.match(one, labelled([(2.0, 0.0, 1)]), radius=2.0, method=method).truth.tolist() == [[-1]]
    twins = scored([(3.0, 3.0, 0, 0.5), (3.0, 3.0, 0, 0.5), (3.0, 3.0, 0, 0.5)])
    found = metrics.match(twins, labelled([(3.0, 3.0, 0), (3.0, 3.0, 0)]), radius=1.0, method=method)
    assert sorted(found.truth[0].tolist()) == [-1, 0, 1]
    assert found.distance.nansum() == 0


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


def test_brier_worked_by_hand():
    # Hit at 0.9, a second on the same point at 0.6, a miss at 0.5: (0.01 + 0.36 + 0.25) / 3.
    predicted = scored([(0.0, 0.0, 0, 0.9), (0.5, 0.0, 0, 0.6), (9.0, 9.0, 0, 0.5)])
    truth = labelled([(0.0, 0.0, 0), (4.0, 4.0, 0)])
    assert metrics.brier(predicted, truth, radius=1.0) == pytest.approx((0.1**2 + 0.6**2 + 0.5**2) / 3)
    sure = scored([(0.0, 0.0, 0, 1.0), (9.0, 9.0, 0, 0.0)])
    assert metrics.brier(sure, truth, radius=1.0) == 0.0
    assert math.isnan(metrics.brier(scored([]), truth, radius=1.0))
    padded = Points(sure.xy, sure.label, torch.tensor([[True, False]]), torch.tensor([[0.5, 7.0]]))
    assert metrics.brier(padded, none(1, 0), radius=1.0) == 0.25


@given(SEEDS)
def test_brier_on_random_cases(seed):
    predicted, truth = random_case(seed)
    squares = []
    for b in range(2):
        pairs = by_the_rule(predicted, truth, b, 2.0)
        squares += [(float(predicted.score[b, m]) - (m in pairs)) ** 2 for m in there(predicted, b)]
    expected = sum(squares) / len(squares) if squares else math.nan
    assert metrics.brier(predicted, truth, radius=2.0) == pytest.approx(expected, nan_ok=True)


def test_confusion_worked_by_hand():
    predicted = scored(
        [
            (0.0, 0.0, 0, 0.9),  # right
            (10.0, 0.0, 1, 0.8),  # takes a point of class 0
            (10.5, 0.0, 0, 0.7),  # of the right class, but too late
            (20.0, 0.0, 1, 0.6),  # right
        ],
        [(5.0, 5.0, 2, 0.5)],  # finds nothing
    )
    truth = labelled([(0.0, 0.0, 0), (10.0, 0.0, 0), (20.0, 0.0, 1)], [(50.0, 50.0, 2)])
    assert metrics.confusion(predicted, truth, radius=2.0, classes=3).tolist() == [
        [1, 1, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 0, 1],
        [1, 0, 1, 0],
    ]
    # What a threshold took away may be of any class.
    unsure = scored([(0.0, 0.0, 0, 0.9), (1.0, 1.0, 7, 0.1)]).above(0.5)
    assert metrics.confusion(unsure, labelled([(0.0, 0.0, 0)]), radius=1.0, classes=1).tolist() == [[1, 0], [0, 0]]
    # Neither side anything; then each without the other.
    assert metrics.confusion(scored([]), none(1, 0), radius=1.0, classes=1).tolist() == [[0, 0], [0, 0]]
    assert metrics.confusion(scored([]), labelled([(1.0, 1.0, 0)]), radius=1.0, classes=1).tolist() == [[0, 1], [0, 0]]
    assert metrics.confusion(scored([(1.0, 1.0, 0, 0.5)]), none(1, 2), radius=1.0, classes=1).tolist() == [
        [0, 0],
        [1, 0],
    ]


@given(SEEDS, st.sampled_from([0.5, 2.0, 4.0]))
def test_confusion_on_random_cases(seed, radius):
    predicted, truth = random_case(seed, classes=3)
    expected = [[0] * 5 for _ in range(5)]  # one class more than any point has
    for b in range(2):
        pairs = by_the_rule(predicted, truth, b, radius, any_class=True)
        for m in there(predicted, b):
            row = int(truth.label[b, pairs[m]]) if m in pairs else 4
            expected[row][int(predicted.label[b, m])] += 1
        for n in set(there(truth, b)) - set(pairs.values()):
            expected[int(truth.label[b, n])][4] += 1
    found = metrics.confusion(predicted, truth, radius=radius, classes=4)
    assert found.dtype == torch.int64 and found.tolist() == expected
    assert found[:4].sum() == truth.valid.sum() and found[:, :4].sum() == predicted.valid.sum()


def keypoints():
    """Two images: a face whose class 0 is 5 px off and class 1 exact, and one whose class 1 has no prediction."""
    predicted = scored(
        [(3.0, 4.0, 0, 0.9), (0.0, 0.0, 0, 0.8), (10.0, 10.0, 1, 0.1)], [(8.0, 8.0, 0, 0.3), (1.0, 1.0, 2, 0.9)]
    )
    truth = labelled([(0.0, 0.0, 0), (10.0, 10.0, 1)], [(2.0, 0.0, 0), (1.0, 1.0, 1)])
    return predicted, truth


def test_key_points_worked_by_hand():
    predicted, truth = keypoints()
    # The best score counts, not the nearest prediction.
    assert metrics.keypoint_distances(predicted, truth).tolist() == [[5.0, 0.0], [10.0, math.inf]]
    assert metrics.keypoint_distances(predicted, truth).dtype == torch.float64
    for threshold, share in ((4.9, 1 / 4), (5.0, 2 / 4), (10.0, 3 / 4), (1e6, 3 / 4)):  # equal to it is correct
        assert metrics.pck(predicted, truth, threshold=threshold) == share
    each = torch.tensor([1.0, 10.0])
    assert metrics.pck(predicted, truth, threshold=each) == 2 / 4  # 0 <= 1 and 10 <= 10
    assert metrics.pckh(predicted, truth, head_size=2 * each) == 2 / 4
    assert metrics.pckh(predicted, truth, head_size=100.0, fraction=0.05) == 2 / 4  # 5 and 0 <= 5
    assert metrics.nme(predicted, truth, scale=2.0) == math.inf
    assert metrics.nme(predicted[:1], truth[:1], scale=2.0) == (5 / 2 + 0) / 2
    only_first = labelled([(0.0, 0.0, 0)], [(2.0, 0.0, 0)])
    assert metrics.nme(predicted, only_first, scale=torch.tensor([2.0, 5.0])) == (5 / 2 + 10 / 5) / 2


def test_oks_worked_by_hand():
    predicted, truth = keypoints()
    # s = 10 and kappa = 1/2: d = 5 gives exp(-25 / (2 * 100 / 4)) = exp(-1/2), d = 10 exp(-2).
    found = metrics.oks(predicted, truth, scale=10.0, kappa=0.5)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([(math.exp(-0.5) + 1) / 2, math.exp(-2) / 2])
    # The same distances in units of s * kappa, now from each image and each class; class 1 is met exactly or missing.
    each = metrics.oks(predicted, truth, scale=torch.tensor([5.0, 10.0]), kappa=torch.tensor([1.0, 7.0]))
    assert each.tolist() == pytest.approx([(math.exp(-0.5) + 1) / 2, math.exp(-0.5) / 2])
    # Two numbers whose product is 0 in float64.
    assert metrics.oks(predicted, truth, scale=1e-200, kappa=1e-200).tolist() == [0.5, 0.0]


def test_of_equal_scores_the_first_prediction_is_the_key_points():
    for low in (0.5, -math.inf):  # a score of minus infinity is still ahead of padding
        predicted = Points(
            torch.tensor([[[9.0, 9.0], [3.0, 0.0], [4.0, 0.0]]]),
            torch.zeros(1, 3, dtype=torch.int64),
            torch.tensor([[False, True, True]]),
            torch.tensor([[1.0, low, low]]),
        )
        assert metrics.keypoint_distances(predicted, labelled([(0.0, 0.0, 0)])).tolist() == [[3.0]]


def test_key_points_bear_padding_and_empty_images():
    predicted, truth = scored([(1.0, 0.0, 0, 0.5)], []), labelled([], [(0.0, 0.0, 0)])
    distance = metrics.keypoint_distances(predicted, truth)
    assert distance[0].isnan().all() and distance[1].tolist() == [math.inf]
    assert metrics.pck(predicted, truth, threshold=1.0) == 0.0
    similarity = metrics.oks(predicted, truth, scale=1.0, kappa=1.0)
    assert similarity[0].isnan() and similarity[1] == 0
    assert metrics.keypoint_distances(scored([], []), truth)[1].tolist() == [math.inf]
    for slots in (0, 2):
        nobody = none(2, slots)
        assert metrics.keypoint_distances(predicted, nobody).shape == (2, slots)
        assert metrics.oks(predicted, nobody, scale=1.0, kappa=torch.ones(1)).isnan().all()
        assert math.isnan(metrics.pck(predicted, nobody, threshold=1.0))
        assert math.isnan(metrics.nme(predicted, nobody, scale=1.0))


@given(SEEDS)
def test_key_points_on_random_cases(seed):
    predicted, truth = keypoint_case(seed)
    one_by_one = keypoints_one_by_one(predicted, truth)
    expected = torch.full(truth.label.shape, math.nan, dtype=torch.float64)
    for b, n, distance in one_by_one:
        expected[b, n] = distance
    torch.testing.assert_close(
        metrics.keypoint_distances(predicted, truth), expected, equal_nan=True, rtol=0, atol=1e-6
    )
    size, kappa = torch.tensor([2.0, 3.0, 4.0]), torch.tensor([0.5, 1.0, 1.5, 2.0])
    share, error = math.nan, math.nan
    if one_by_one:
        share = sum(distance <= 0.8 * float(size[b]) for b, _, distance in one_by_one) / len(one_by_one)
        error = sum(distance / float(size[b]) for b, _, distance in one_by_one) / len(one_by_one)
    assert metrics.pckh(predicted, truth, head_size=size, fraction=0.8) == pytest.approx(share, nan_ok=True)
    assert metrics.pck(predicted, truth, threshold=0.8 * size.double()) == pytest.approx(share, nan_ok=True)
    assert metrics.nme(predicted, truth, scale=size) == pytest.approx(error, nan_ok=True)
    similarity = metrics.oks(predicted, truth, scale=size, kappa=kappa)
    for b in range(3):
        terms = [
            math.exp(-(distance**2) / (2 * float(size[b]) ** 2 * float(kappa[truth.label[b, n]]) ** 2))
            for image, n, distance in one_by_one
            if image == b
        ]
        mean = sum(terms) / len(terms) if terms else math.nan
        assert float(similarity[b]) == pytest.approx(mean, abs=1e-6, nan_ok=True)


def test_images_with_one_point_of_a_class_are_key_points_even_beside_others():
    truth = labelled([(0.0, 0.0, 0)], [(1.0, 1.0, 0), (2.0, 2.0, 0)])
    assert metrics.keypoint_distances(scored([(3.0, 4.0, 0, 0.5)]), truth[:1])[0, 0] == 5


def test_volumes_are_measured_along_three_axes():
    predicted = Points.from_lists([([(1.0, 2.0, 2.0)], [0], [0.5])])
    truth = Points.from_lists([([(0.0, 0.0, 0.0)], [0])])
    assert metrics.localisation_error(predicted, truth, radius=3.0) == 3.0
    assert metrics.keypoint_distances(predicted, truth).tolist() == [[3.0]]


def test_presence_is_told_by_the_highest_score_of_a_map():
    # Present: (0, 0) at 0.9 and (1, 1) at 0.4. Absent: (0, 1) at 0.6, (1, 0) at 0.1: 3 of 4 in order.
    scores = torch.zeros(2, 2, 3, 3)
    for place, score in {(0, 0): 0.9, (1, 1): 0.4, (0, 1): 0.6, (1, 0): 0.1}.items():
        scores[(*place, 1, 1)] = score
    truth = labelled([(1.0, 1.0, 0)], [(0.0, 0.0, 1), (2.0, 2.0, 1)])
    assert metrics.presence_auroc(scores, truth) == pytest.approx(0.75)
    assert math.isnan(metrics.presence_auroc(scores[:1, :1], labelled([(1.0, 1.0, 0)])))
    assert math.isnan(metrics.presence_auroc(scores, none(2, 0)))


def none_in_a_volume():
    return Points(torch.zeros(1, 1, 3), torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.bool))


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
        ({"truth": none_in_a_volume()}, ValueError, "predicted has 2 coordinates per point, truth 3"),
    ],
)
@pytest.mark.parametrize(
    "metric",
    [
        metrics.match,
        partial(metrics.match, method="hungarian"),
        metrics.duplicates,
        metrics.brier,
        partial(metrics.confusion, classes=1),
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


@pytest.mark.bad_input
def test_a_bad_method_is_named():
    with pytest.raises(ValueError, match="method must be one of greedy, hungarian, got 'best'"):
        metrics.match(**GOOD, method="best")


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


@pytest.mark.parametrize("classes", [0, -1, 2.0, True])
@pytest.mark.bad_input
def test_bad_classes_are_named(classes):
    with pytest.raises(ValueError, match="classes must be an integer above 0"):
        metrics.confusion(**GOOD, classes=classes)


@pytest.mark.bad_input
def test_labels_that_are_no_class_are_named():
    with pytest.raises(ValueError, match=r"predicted has label 2, not in \[0, 2\)"):
        metrics.confusion(scored([(0.0, 0.0, 2, 0.5)]), GOOD["truth"], radius=1.0, classes=2)
    with pytest.raises(ValueError, match=r"truth has label 3, not in \[0, 2\)"):
        metrics.confusion(GOOD["predicted"], labelled([(0.0, 0.0, 3)]), radius=1.0, classes=2)
    with pytest.raises(ValueError, match=r"truth has label 3, not in \[0, 2\)"):
        metrics.oks(GOOD["predicted"], labelled([(0.0, 0.0, 3)]), scale=1.0, kappa=torch.ones(2))


@pytest.mark.parametrize("score", [-0.1, 1.5, math.inf])
@pytest.mark.bad_input
def test_scores_that_are_no_probability_are_named(score):
    with pytest.raises(ValueError, match=rf"predicted must have scores in \[0, 1\].*, got {score}"):
        metrics.brier(scored([(0.0, 0.0, 0, score)]), GOOD["truth"], radius=1.0)


KEYPOINT_METRICS = [
    metrics.keypoint_distances,
    partial(metrics.pck, threshold=1.0),
    partial(metrics.pckh, head_size=1.0),
    partial(metrics.nme, scale=1.0),
    partial(metrics.oks, scale=1.0, kappa=1.0),
]


@pytest.mark.parametrize(
    ("changed", "error", "named"),
    [
        ({"truth": labelled([(0.0, 0.0, 0), (1.0, 1.0, 0), (2.0, 2.0, 1)])}, ValueError, "truth holds 2 points of one"),
        ({"predicted": labelled([(0.0, 0.0, 0)])}, ValueError, "predicted carries no score"),
        ({"truth": None}, TypeError, "truth must be"),
        ({"truth": labelled([], [])}, ValueError, "predicted holds 1 images, truth 2"),
        ({"truth": none_in_a_volume()}, ValueError, "predicted has 2 coordinates per point, truth 3"),
    ],
)
@pytest.mark.parametrize("metric", KEYPOINT_METRICS)
@pytest.mark.bad_input
def test_bad_key_points_are_named(metric, changed, error, named):
    with pytest.raises(error, match=named):
        metric(**{"predicted": GOOD["predicted"], "truth": GOOD["truth"], **changed})


@pytest.mark.parametrize(
    ("value", "error", "named"),
    [
        (0.0, ValueError, "{} must be finite and above 0, got 0.0"),
        (math.nan, ValueError, "{} must be finite and above 0, got nan"),
        ("2", TypeError, "{} must be a number, got '2'"),
        (torch.tensor([0.0]), ValueError, "{} must be finite and above 0, got 0.0"),
        (torch.tensor([math.nan]), ValueError, "{} must be finite and above 0, got nan"),
        (torch.tensor([1]), TypeError, "{} must be floating point, got torch.int64"),
        (torch.tensor([[1.0]]), ValueError, r"{} must be a number or have the shape \(.*\), got \(1, 1\)"),
        (torch.tensor(1.0), ValueError, r"{} must be a number or have the shape \(.*\), got \(\)"),
    ],
)
@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (metrics.pck, "threshold"),
        (metrics.pckh, "head_size"),
        (metrics.nme, "scale"),
        (partial(metrics.oks, kappa=1.0), "scale"),
        (partial(metrics.oks, scale=1.0), "kappa"),
    ],
)
@pytest.mark.bad_input
def test_bad_scales_are_named(metric, name, value, error, named):
    with pytest.raises(error, match=named.format(name)):
        metric(GOOD["predicted"], GOOD["truth"], **{name: value})


@pytest.mark.bad_input
def test_as_many_scales_as_images_are_needed_and_a_fraction_above_0():
    with pytest.raises(ValueError, match=r"threshold must be a number or have the shape \(1,\), got \(2,\)"):
        metrics.pck(GOOD["predicted"], GOOD["truth"], threshold=torch.ones(2))
    with pytest.raises(ValueError, match=r"fraction must be finite and above 0, got 0.0"):
        metrics.pckh(GOOD["predicted"], GOOD["truth"], head_size=1.0, fraction=0.0)
