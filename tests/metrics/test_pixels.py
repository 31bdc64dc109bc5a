import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matching_cases import SEEDS, labelled
from scenes import none
from sklearn.metrics import average_precision_score

from falloff import heatmaps
from falloff.metrics import pixels
from falloff.metrics.pixels import average_precision, average_precision_influence_of, average_precision_of, ranked
from falloff.points import Points


@pytest.fixture(params=[2**20, 30])
def in_parts(request, monkeypatch):
    """All images at once, or one at a time."""
    monkeypatch.setattr(pixels, "PART", request.param)


def case(seed, batch=5, classes=2, size=(4, 6), ties=True):
    """Maps whose scores are higher at labelled pixels, some of them equal, and points, several on some pixels."""
    generator = torch.Generator().manual_seed(seed)
    xy = torch.rand(batch, 9, 2, generator=generator) * torch.tensor(size[::-1]) - 0.5
    label = torch.randint(classes, (batch, 9), generator=generator)
    truth = Points(xy, label, torch.rand(batch, 9, generator=generator) < 0.7)
    scores = torch.randn(batch, classes, *size, generator=generator)
    scores += heatmaps.positives(truth, size, classes)
    mask = torch.rand(batch, 1, *size, generator=generator) < 0.7
    mask[0, 0, 0, 0] = True
    truth.xy[0, 0], truth.valid[0, 0] = 0.0, True  # one labelled pixel that counts
    return (scores * 4).round() / 4 if ties else scores, truth, mask


def by_the_formula(scores, truth, mask, weight):
    """Its definition, score by score, where an image counts ``weight`` times."""
    images, classes, height, width = scores.shape
    at = {(b, int(truth.label[b, n]), *(min(max(math.floor(float(truth.xy[b, n, axis]) + 0.5), 0), length - 1)
                                        for axis, length in ((1, height), (0, width))))
          for b, n in truth.valid.nonzero().tolist()}
    each = [(float(scores[b, c, y, x]), weight[b], (b, c, y, x) in at) for b in range(images) for c in range(classes)
            for y in range(height) for x in range(width) if mask[b, 0, y, x]]
    total = sum(w for _, w, wanted in each if wanted)
    area = before = 0.0
    for least in sorted({score for score, _, _ in each}, reverse=True):
        claimed = sum(w for score, w, _ in each if score >= least)
        hits = sum(w for score, w, wanted in each if wanted and score >= least)
        area += (hits - before) / total * hits / claimed
        before = hits
    return area


def test_worked_by_hand():
    # Falling scores: a labelled pixel, then one of two equal ones, then nothing, then the third labelled one.
    scores = torch.tensor([[0.9, 0.5, 0.5], [0.4, 0.3, 0.1]]).view(1, 1, 2, 3)
    truth = labelled([(0.2, 0.3, 0), (-0.4, 0.1, 0), (1.0, 0.0, 0), (1.0, 1.0, 0)])  # two on the first pixel
    assert average_precision(scores, truth) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    mask = torch.tensor([[True, True, False], [True, True, True]]).view(1, 1, 2, 3)
    assert average_precision(scores, truth, mask=mask) == pytest.approx((1 + 2 / 2 + 3 / 4) / 3)
    without = torch.tensor([[False, True, True], [True, True, True]]).view(1, 1, 2, 3)
    assert average_precision(scores, truth, mask=without) == pytest.approx((1 / 2 + 2 / 4) / 2)


def test_maps_of_several_classes_are_one_ranking():
    scores = torch.zeros(1, 2, 1, 2)
    scores[0, 0, 0], scores[0, 1, 0] = torch.tensor([0.9, 0.1]), torch.tensor([0.8, 0.7])
    assert average_precision(scores, labelled([(0.0, 0.0, 0), (1.0, 0.0, 1)])) == pytest.approx((1 + 2 / 3) / 2)


@given(SEEDS, st.booleans(), st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
def test_it_is_that_of_scikit_learn(seed, ties, dtype):
    scores, truth, mask = case(seed, ties=ties)
    scores = scores.to(dtype)
    wanted = heatmaps.positives(truth, (4, 6), 2)
    for hide in (None, mask):
        kept = torch.ones_like(wanted) if hide is None else hide.expand_as(wanted)
        expected = average_precision_score(wanted[kept].numpy(), scores[kept].double().numpy())
        assert average_precision(scores, truth, mask=hide) == pytest.approx(expected, abs=1e-12)


def test_all_scores_equal_give_the_share_of_labelled_pixels():
    truth = labelled([(x, y, 0) for x in (0.0, 1.0, 2.0) for y in (0.0, 1.0)])
    assert average_precision(torch.full((1, 1, 4, 5), 0.3), truth) == pytest.approx(6 / 20)
    scores = torch.zeros(1, 1, 4, 5)
    scores[0, 0, :2, :3] = torch.rand(2, 3) + math.inf
    scores[0, 0, 3] = -math.inf
    assert average_precision(scores, truth) == 1


def test_at_a_stride_points_count_pixels_of_the_image():
    scores = torch.zeros(1, 1, 2, 2)
    scores[0, 0, 1, 0] = 1.0
    assert average_precision(scores, labelled([(2.5, 7.4, 0)]), stride=4) == 1
    assert average_precision(scores, labelled([(7.4, 2.5, 0)]), stride=4) == pytest.approx(1 / 4)


@given(SEEDS)
def test_the_influence_of_an_image_is_the_derivative_by_its_weight(seed):
    scores, truth, mask = case(seed)
    for hide in (None, mask):
        kept = torch.ones_like(mask) if hide is None else hide
        found = ranked(scores, truth, mask=hide)
        assert by_the_formula(scores, truth, kept, [1.0] * 5) == pytest.approx(average_precision_of(found))
        change = average_precision_influence_of(found)
        assert float(change.sum()) == pytest.approx(0.0, abs=1e-12)
        for image in range(5):
            up, down = (by_the_formula(scores, truth, kept, [1.0 + step * (b == image) for b in range(5)])
                        for step in (1e-5, -1e-5))
            assert float(change[image]) == pytest.approx((up - down) / 2e-5, abs=1e-8)


def test_pseudo_values_are_those_of_leaving_one_image_out():
    count = 150
    generator = torch.Generator().manual_seed(0)
    truth = Points(torch.rand(count, 40, 2, generator=generator) * 12 - 0.5, torch.zeros(count, 40, dtype=torch.int64),
                   torch.rand(count, 40, generator=generator) < torch.rand(count, 1, generator=generator))
    good = torch.rand(count, 1, 1, 1, generator=generator) * 3
    scores = torch.randn(count, 1, 12, 12, generator=generator) + good * heatmaps.positives(truth, (12, 12), 1)
    found = ranked(scores, truth)
    whole = average_precision_of(found)
    pseudo = whole + count * average_precision_influence_of(found)
    others = torch.arange(count)
    without = [average_precision(scores[others != p], truth[others != p]) for p in range(count)]
    jackknife = count * whole - (count - 1) * torch.tensor(without, dtype=torch.float64)
    assert float(pseudo.mean()) == pytest.approx(whole, abs=1e-12)
    assert float(jackknife.mean()) == pytest.approx(whole, abs=0.01)
    assert float(pseudo.std()) == pytest.approx(float(jackknife.std()), rel=0.02)
    assert float(torch.corrcoef(torch.stack([pseudo, jackknife]))[0, 1]) > 0.999


def test_images_some_at_a_time_give_the_same(in_parts):
    scores, truth, mask = case(3)
    for hide in (None, mask):
        kept = torch.ones_like(mask) if hide is None else hide
        found = ranked(scores, truth, mask=hide)
        assert average_precision_of(found) == pytest.approx(by_the_formula(scores, truth, kept, [1.0] * 5))
        weight = [1.0, 1.0, 1.0, 1.0 + 1e-5, 1.0]
        more = by_the_formula(scores, truth, kept, weight) - average_precision_of(found)
        assert float(average_precision_influence_of(found)[3]) == pytest.approx(more / 1e-5, abs=1e-4)


def test_what_does_not_count_changes_nothing():
    scores, truth, mask = case(1)
    expected = average_precision_influence_of(ranked(scores, truth, mask=mask))
    for value in (math.nan, 9.0, -9.0):
        changed = scores.masked_fill(~mask, value)
        found = ranked(changed, truth, mask=mask)
        assert average_precision_of(found) == average_precision(scores, truth, mask=mask)
        assert torch.equal(average_precision_influence_of(found), expected)


@pytest.mark.bad_input
def test_maps_without_a_labelled_pixel_that_counts_are_refused():
    scores, hidden = torch.rand(1, 1, 3, 3), torch.ones(1, 1, 3, 3, dtype=torch.bool)
    hidden[0, 0, 1, 1] = False
    for truth, mask in ((none(1, 2), None), (labelled([(1.0, 1.0, 0)]), hidden)):
        with pytest.raises(ValueError, match="truth labels no pixel that counts"):
            average_precision(scores, truth, mask=mask)


@pytest.mark.bad_input
def test_what_is_no_map_of_these_images_is_named(in_parts):
    truth = labelled([(1.0, 1.0, 0)], [(1.0, 1.0, 1)])
    with pytest.raises(ValueError, match="scores holds 3 images, truth 2"):
        average_precision(torch.rand(3, 2, 4, 4), truth)
    with pytest.raises(TypeError, match="scores must be a floating point tensor"):
        average_precision(torch.from_numpy(np.ones((2, 2, 4, 4), dtype=np.int64)), truth)
    with pytest.raises(ValueError, match=r"mask must be bool \(2, 1, 4, 4\), got"):
        average_precision(torch.rand(2, 2, 4, 4), truth, mask=torch.ones(2, 2, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="truth has label 1"):
        average_precision(torch.rand(2, 1, 4, 4), truth)
    for image, place in ((1, (1, 1)), (0, (1, 1)), (1, (0, 3))):
        scores = torch.rand(2, 2, 4, 4)
        scores[(image, image, *place)] = math.nan
        with pytest.raises(ValueError, match=f"scores hold NaN in image {image}"):
            average_precision(scores, truth)
