
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matching_cases import GOOD, SEEDS, by_the_rule, labelled, random_case, scored, there
from scenes import none

from falloff import metrics
from falloff.metrics.confusion import (
    balanced_accuracy,
    balanced_accuracy_influence,
    called,
    class_counts,
)


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


def test_what_each_point_was_called_worked_by_hand():
    predicted = scored([(0.0, 0.0, 0, 0.9), (10.0, 0.0, 1, 0.8), (10.5, 0.0, 0, 0.7)], [(5.0, 5.0, 2, 0.5)])
    truth = labelled([(0.0, 0.0, 0), (10.0, 0.0, 0), (20.0, 0.0, 1)], [(50.0, 50.0, 2)])
    names = called(predicted, truth, radius=2.0)
    assert names.tolist() == [[0, 1, -1], [-1, -1, -1]]  # missed, and padding
    right, there = class_counts(names, truth)
    assert right.tolist() == [[1, 0, 0], [0, 0, 0]] and there.tolist() == [[2, 1, 0], [0, 0, 1]]
    assert balanced_accuracy(right, there) == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert balanced_accuracy_influence(right, there).tolist() == [0.0, 0.0]  # each class is in one picture
    assert called(scored([], []), truth, radius=2.0).unique().tolist() == [-1]


@given(SEEDS)
def test_what_each_point_was_called_is_what_confusion_counts(seed):
    predicted, truth = random_case(seed, batch=4, classes=3)
    matrix = metrics.confusion(predicted, truth, radius=2.0, classes=3)
    right, there = class_counts(called(predicted, truth, radius=2.0), truth)
    labels = truth.label[truth.valid].unique()
    assert right.sum(0).tolist() == matrix.diagonal()[labels].tolist()
    assert there.sum(0).tolist() == matrix.sum(1)[labels].tolist()
    if len(labels):
        influence = balanced_accuracy_influence(right, there)
        for picture in range(4):
            step = torch.zeros(4, 1, dtype=torch.float64)
            step[picture] = 1e-6
            up, down = (balanced_accuracy(right * w, there * w) for w in (1 + step, 1 - step))
            assert float(influence[picture]) == pytest.approx((up - down) / 2e-6, abs=1e-6)
