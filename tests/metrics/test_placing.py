import pytest

from falloff import metrics
from falloff.points import Points


def found(*predictions):
    """Predictions of class 0 at (x, y), with these scores."""
    xy, score = [list(place) for place, _ in predictions], [value for _, value in predictions]
    return Points.from_lists([(xy, [0] * len(xy), score)])


TRUTH = Points.from_lists([([[10.0, 10.0], [30.0, 10.0]], [0, 0])])


def test_each_point_counts_by_how_far_its_prediction_is_off():
    near = found(((11, 10), 0.9), ((30, 12), 0.8))
    assert metrics.mean_pck(near, TRUTH, radius=4.0) == pytest.approx(((1 - 1 / 4) + (1 - 2 / 4)) / 2)
    assert metrics.mean_pck(found(((10, 10), 1.0), ((30, 10), 1.0)), TRUTH, radius=4.0) == 1.0


def test_it_is_the_mean_of_pck_over_all_radii():
    near = found(((11, 10), 0.9), ((30, 12.5), 0.8))
    steps = [(k + 0.5) * 4 / 4000 for k in range(4000)]
    shares = [sum(metrics.match(near, TRUTH, radius=r).found[0].tolist()) / 2 for r in steps]
    assert metrics.mean_pck(near, TRUTH, radius=4.0) == pytest.approx(sum(shares) / len(shares), abs=1e-3)


def test_a_missed_point_counts_as_infinitely_far():
    assert metrics.mean_pck(found(((10, 10), 0.9)), TRUTH, radius=4.0) == 0.5
    assert metrics.mean_pck(found(((10, 10), 0.9), ((40, 40), 0.8)), TRUTH, radius=4.0) == 0.5
    assert metrics.mean_pck(found(), TRUTH, radius=4.0) == 0.0


def test_only_as_many_predictions_count_as_there_are_points():
    late = found(((10, 10), 0.9), ((50, 50), 0.8), ((30, 10), 0.7))
    assert metrics.mean_pck(late, TRUTH, radius=4.0) == 0.5  # the third guess is one too many
    assert metrics.mean_pck(found(((50, 50), 0.1), ((10, 10), 0.9), ((30, 10), 0.7)), TRUTH, radius=4.0) == 1.0


def test_a_picture_without_points_takes_no_guess():
    truth = Points.from_lists([([[10.0, 10.0]], [0]), ([], [])])
    guesses = Points.from_lists([([[10.0, 10.0]], [0], [0.5]), ([[3.0, 3.0]], [0], [0.9])])
    assert metrics.mean_pck(guesses, truth, radius=4.0) == 1.0
    with pytest.raises(ValueError, match="truth holds no valid point: mean PCK is undefined"):
        metrics.mean_pck(guesses[1:], truth[1:], radius=4.0)
    with pytest.raises(ValueError, match="radius"):
        metrics.mean_pck(guesses, truth, radius=0.0)
