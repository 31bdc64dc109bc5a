import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from matching_cases import SEEDS, labelled, random_case, scored

from falloff import metrics


def sized(points, *sizes):
    """Boxes of one image around its points."""
    return replace(points, extra={"size": torch.tensor([sizes]).float()})


def test_the_overlap_of_boxes_worked_by_hand():
    predicted = sized(scored([(0.0, 0.0, 0, 0.9), (1.0, 0.0, 0, 0.8), (9.0, 0.0, 0, 0.7)]), (2, 2), (2, 2), (2, 2))
    truth = sized(labelled([(0.0, 0.0, 0), (0.0, 1.0, 0)]), (2, 2), (4, 4))
    # The same box; 1 px along, so 2 of 6 square pixels; both of 4 lie inside the second, of 16.
    assert metrics.iou(predicted, truth)[0].tolist() == [
        pytest.approx([0, 1 - 4 / 16]), pytest.approx([1 - 2 / 6, 1 - 4 / 16]), [1, 1]]


@given(SEEDS)
def test_the_overlap_of_whole_boxes_is_that_of_the_pixels_they_cover(seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 5, (2, 3, 2), generator=generator)
    size = torch.randint(1, 5, (2, 3, 2), generator=generator)

    def cells(which, n):
        (x, y), (w, h) = corner[which, n].tolist(), size[which, n].tolist()
        return set(itertools.product(range(x, x + w), range(y, y + h)))

    middle = (corner + size / 2).tolist()
    predicted = sized(scored([(*xy, 0, 0.5) for xy in middle[0]]), *size[0].tolist())
    truth = sized(labelled([(*xy, 0) for xy in middle[1]]), *size[1].tolist())
    found = metrics.iou(predicted, truth)[0]
    for m, n in itertools.product(range(3), range(3)):
        one, other = cells(0, m), cells(1, n)
        assert float(found[m, n]) == pytest.approx(1 - len(one & other) / len(one | other))


def test_average_precision_of_boxes_is_that_of_points_with_another_distance():
    # At IoU 0.5 the first is right and the second, of 1/3, false; a box of another class is no answer.
    predicted = sized(scored([(0.0, 0.0, 0, 0.9), (6.0, 0.0, 0, 0.8), (9.0, 9.0, 1, 0.7)]), (2, 2), (2, 2), (2, 2))
    truth = sized(labelled([(0.0, 0.0, 0), (5.0, 0.0, 0), (9.0, 9.0, 0)]), (2, 4), (2, 2), (2, 2))
    assert metrics.match(predicted, truth, radius=0.5, distance=metrics.iou).truth.tolist() == [[0, -1, -1]]
    assert metrics.average_precision(predicted, truth, radius=0.5, distance=metrics.iou) == pytest.approx(1 / 3)
    assert metrics.average_precision(predicted, truth, radius=0.67, distance=metrics.iou) == pytest.approx(2 / 3)


def test_boxes_without_area_match_nothing():
    predicted, truth = sized(scored([(0.0, 0.0, 0, 0.9)]), (0, 2)), sized(labelled([(0.0, 0.0, 0)]), (0, 2))
    assert metrics.iou(predicted, truth).isnan().all()
    assert metrics.match(predicted, truth, radius=0.9, distance=metrics.iou).truth.tolist() == [[-1]]


@pytest.mark.bad_input
def test_points_without_sizes_are_no_boxes():
    predicted, truth = random_case(0)
    with pytest.raises(ValueError, match="predicted must carry 'size' in extra, which holds nothing"):
        metrics.match(predicted, truth, radius=0.5, distance=metrics.iou)
    sizes = {"size": torch.ones(2, 6, 2), "scale": torch.ones(2, 6)}
    with pytest.raises(ValueError, match="truth must carry 'size' in extra, which holds scale"):
        metrics.iou(replace(predicted, extra=sizes), replace(truth, extra={"scale": torch.ones(2, 5)}))
