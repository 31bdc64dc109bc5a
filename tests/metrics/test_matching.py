import itertools
import math
import subprocess
import sys
import textwrap
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matching_cases import GOOD, SEEDS, apart, by_the_rule, labelled, near, none_in_a_volume, random_case, scored, there
from scenes import none
from scipy.optimize import linear_sum_assignment

from falloff import metrics
from falloff.metrics import matching
from falloff.metrics.ranking import duplicates_of
from falloff.points import Points


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


@given(SEEDS, st.floats(0, 1))
def test_predictions_below_a_threshold_change_nothing_for_those_above(seed, threshold):
    predicted, truth = random_case(seed)
    alone = metrics.match(predicted.above(threshold), truth, radius=2.0)
    found = metrics.match(predicted, truth, radius=2.0).above(threshold)
    assert torch.equal(found.truth, alone.truth) and torch.equal(found.found, alone.found)
    assert torch.equal(found.distance.nan_to_num(-1), alone.distance.nan_to_num(-1))
    assert torch.equal(found.predicted.valid, alone.predicted.valid)


@given(SEEDS, st.integers(0, 4))
def test_predictions_after_the_best_change_nothing_for_those(seed, count):
    predicted, truth = random_case(seed)
    predicted.score.mul_(4).round_()  # so that some are equal
    found = metrics.match(predicted, truth, radius=2.0).best(torch.tensor([count, 1]))
    kept = torch.zeros_like(predicted.valid)
    for b, few in enumerate((count, 1)):
        best = sorted(there(predicted, b), key=lambda m, b=b: (-float(predicted.score[b, m]), m))
        kept[b, best[:few]] = True
    alone = metrics.match(predicted.where(kept), truth, radius=2.0)
    assert torch.equal(found.predicted.valid, kept) and torch.equal(found.truth, alone.truth)
    assert torch.equal(found.near, alone.near)
    assert torch.equal(found.distance.nan_to_num(-1), alone.distance.nan_to_num(-1))


def test_any_distance_can_match_and_nan_matches_nothing():
    def along_x(predicted, truth):
        """Distance along x alone; unknown left of 0."""
        away = (predicted.xy[:, :, None, 0] - truth.xy[:, None, :, 0]).abs()
        return torch.where(predicted.xy[:, :, None, 0] < 0, torch.nan, away)

    predicted = scored([(1.0, 50.0, 0, 0.9), (-0.1, 0.0, 0, 0.8), (3.0, 0.0, 1, 0.7)])
    truth = labelled([(0.0, 0.0, 0), (3.0, 9.0, 1)])
    found = metrics.match(predicted, truth, radius=1.0, distance=along_x)
    assert found.truth.tolist() == [[0, -1, 1]] and found.distance[0, [0, 2]].tolist() == [1.0, 0.0]
    assert metrics.average_precision(predicted, truth, radius=1.0, distance=along_x) == 1.0
    assert metrics.per_class_average_precision(predicted, truth, radius=0.5, distance=along_x) == {0: 0.0, 1: 1.0}
    assert metrics.f1(predicted, truth, radius=1.0, distance=along_x) == 2 * 2 / 5
    assert metrics.best_threshold(predicted, truth, radius=1.0, distance=along_x) == pytest.approx(0.7)
    assert metrics.localisation_error(predicted, truth, radius=1.0, distance=along_x) == 0.5
    assert metrics.precision_recall(predicted, truth, radius=1.0, distance=along_x).recall.tolist() == [0.5, 0.5, 1.0]
    assert metrics.reliability(predicted, truth, radius=1.0, bins=1, distance=along_x).share.tolist() == [2 / 3]
    assert metrics.brier(predicted, truth, radius=1.0, distance=along_x) == pytest.approx((0.01 + 0.64 + 0.09) / 3)
    assert metrics.confusion(predicted, truth, radius=1.0, classes=2, distance=along_x).trace() == 2
    assert metrics.duplicates(predicted, truth, radius=4.0, distance=along_x) == 0


def crowd(seed, batch=3, most=9):
    """Points on a coarse grid with few scores, so that distances and scores tie, and padding between valid points."""
    rng = np.random.default_rng(seed)
    sides = []
    for count in rng.integers(0, most + 1, size=2):
        xy, label = rng.integers(0, 5, size=(batch, count, 2)) / 2, rng.integers(0, 2, size=(batch, count))
        sides.append((xy, label, rng.random(label.shape) < 0.7))
    score = rng.integers(0, 4, size=sides[0][2].shape) / 4
    score[score == 0] = -np.inf
    return sides, score


def as_points(sides, score):
    predicted, truth = ([torch.from_numpy(part) for part in side] for side in sides)
    return Points(*predicted, torch.from_numpy(score)), Points(*truth)


def greedy_one_by_one(sides, score, radius):
    """(labelled point, distance, whether one was near) of each prediction, in NumPy, one image and turn at a time."""
    (xy, label, valid), (true_xy, true_label, true_valid) = sides
    which, apart, near = np.full(valid.shape, -1), np.full(valid.shape, np.nan), np.zeros(valid.shape, bool)
    for b in range(len(xy)):
        free = true_valid[b].copy()
        for m in sorted(np.flatnonzero(valid[b]), key=lambda m, b=b: (-score[b, m], m)):
            distance = np.sqrt(((true_xy[b] - xy[b, m]) ** 2).sum(-1))
            reached = (true_label[b] == label[b, m]) & (distance <= radius)
            near[b, m] = (reached & true_valid[b]).any()
            if (reached & free).any():
                n = np.where(reached & free, distance, np.inf).argmin()  # of equals the first
                which[b, m], apart[b, m], free[n] = n, distance[n], False
    return which, apart, near


@pytest.mark.parametrize("block", [1, 5, matching.BLOCK])
@pytest.mark.parametrize("distance", [metrics.euclidean, lambda predicted, truth: metrics.euclidean(predicted, truth)])
@given(seed=SEEDS, radius=st.sampled_from([0.4, 0.5, 1.0, 2.0, 1e300]))
def test_ties_go_to_the_earlier_whatever_is_looked_at_together(distance, block, seed, radius):
    case = crowd(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "BLOCK", block)
        found = metrics.match(*as_points(*case), radius=radius, distance=distance)
    which, apart, near = greedy_one_by_one(*case, radius)
    assert found.truth.tolist() == which.tolist() and found.near.tolist() == near.tolist()
    np.testing.assert_allclose(found.distance.numpy(), apart, rtol=1e-15)
    assert duplicates_of(found) == (near & (which < 0)).sum()


@pytest.mark.parametrize("distance", [metrics.euclidean, lambda predicted, truth: metrics.euclidean(predicted, truth)])
@given(seed=SEEDS)
def test_hungarian_matches_each_image_as_if_it_were_alone(distance, seed):
    predicted, truth = random_case(seed, batch=4, most=7)
    together = metrics.match(predicted, truth, radius=2.0, method="hungarian", distance=distance)
    for b in range(4):
        alone = metrics.match(predicted[b:b + 1], truth[b:b + 1], radius=2.0, method="hungarian")
        assert torch.equal(alone.truth[0], together.truth[b])


def test_a_distance_gets_what_is_there_and_never_more_than_a_block(monkeypatch):
    monkeypatch.setattr(matching, "BLOCK", 12)
    shapes = []

    def recorded(predicted, truth):
        assert predicted.score is not None and predicted.extra["size"].shape[:2] == predicted.label.shape
        shapes.append((*predicted.label.shape, truth.label.shape[1]))
        return metrics.euclidean(predicted, truth)

    counts = [(1, 2), (7, 5), (0, 3), (2, 2), (2, 0)]  # predictions and labelled points of each image
    predicted = scored(*([(float(i), 0.0, 0, 0.5)] * m for i, (m, _) in enumerate(counts)))
    predicted = Points(predicted.xy, predicted.label, predicted.valid, predicted.score,
                       extra={"size": torch.ones(5, 7, 2)})
    truth = labelled(*([(float(i), 0.0, 0)] * n for i, (_, n) in enumerate(counts)))
    found = metrics.match(predicted, truth, radius=1.0, distance=recorded)
    assert found.found.sum(1).tolist() == [min(pair) for pair in counts]
    assert shapes == [(1, 1, 2), (1, 2, 5), (1, 2, 5), (1, 2, 5), (1, 1, 5), (2, 2, 3), (1, 2, 0)]


def test_an_error_of_a_distance_says_from_where_images_are_counted(monkeypatch):
    monkeypatch.setattr(matching, "BLOCK", 1)

    def refusing(predicted, truth):
        if predicted.xy[0, 0, 0] == 2:
            raise ValueError("image 0 is bad")
        return metrics.euclidean(predicted, truth)

    predicted = scored([(0.0, 0.0, 0, 0.5)], [(1.0, 0.0, 0, 0.5)], [(2.0, 0.0, 0, 0.5)])
    truth = labelled(*([(0.0, 0.0, 0)] for _ in range(3)))
    with pytest.raises(ValueError, match=r"image 0 is bad \(images are counted from image 2 on\)"):
        metrics.match(predicted, truth, radius=1.0, distance=refusing)


@pytest.mark.parametrize("measured", [
    "metrics.average_precision(found, truth, radius=3.0)",
    "metrics.average_precision(found, truth, radius=3.0, distance=lambda *two: metrics.euclidean(*two))",
    "metrics.match(found, truth, radius=3.0, method='hungarian')",
    "metrics.duplicates(found, truth, radius=300.0)",
    "metrics.keypoint_distances(found, keypoints)",
])
def test_memory_does_not_grow_with_the_longest_image(measured):
    # One image of 1,000 points and 39 of 5: the distances of the pairs that exist take 8 MB, of the padded 320.
    script = f"""
        import resource
        import torch
        from falloff import metrics
        from falloff.points import Points
        torch.set_num_threads(1)
        xy = [torch.rand(1000 if image == 0 else 5, 2) * 1000 for image in range(40)]
        one_class = [torch.zeros(len(part), dtype=torch.int64) for part in xy]
        found = Points.from_lists([(p, c, torch.rand(len(p))) for p, c in zip(xy, one_class)])
        truth = Points.from_lists(list(zip(xy, one_class)))
        keypoints = Points.from_lists([(p, torch.arange(len(p))) for p in xy])
        whole = found, truth, keypoints
        found, truth, keypoints = (points[1:2] for points in whole)
        {measured}  # what any call needs
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found, truth, keypoints = whole
        {measured}
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True,
                           env={"PYTHONPATH": ":".join(sys.path), "FALLOFF_COMPILE": "0"})
    assert float(ended.stdout) < 80


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


@pytest.mark.bad_input
def test_a_bad_method_is_named():
    with pytest.raises(ValueError, match="method must be one of greedy, hungarian, got 'best'"):
        metrics.match(**GOOD, method="best")
