
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matching_cases import GOOD, SEEDS, by_the_rule, labelled, random_case, scored, there
from scenes import none

from falloff import metrics


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
