import math

import numpy as np
import pytest
import torch
from hypothesis import given
from matching_cases import GOOD, SEEDS, by_the_rule, labelled, random_case, scored, there
from scenes import none

from falloff import metrics
from falloff.metrics.calibration import squared_calibration_error
from falloff.points import Points


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
    endless = scored([(0.0, 0.0, 0, math.inf), (5.0, 5.0, 0, -math.inf)])
    assert metrics.reliability(endless, labelled([(0.0, 0.0, 0)]), radius=1.0, bins=4).share[[0, 3]].tolist() == [0, 1]
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


def test_the_squared_calibration_error_worked_by_hand():
    probability = torch.tensor([0.2, 0.3, 0.2, 0.3, 0.9, 0.9, 0.9, 0.9])
    happened = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    # Shares 1/2 and 3/4 in bins of four: squared gaps less y (1 - y) / 3.
    low, high = (0.25 - 0.5) ** 2 - 0.25 / 3, (0.9 - 0.75) ** 2 - 3 / 16 / 3
    found = squared_calibration_error(probability, happened, bins=2)
    assert found == pytest.approx((low + high) / 2)
    assert math.isnan(squared_calibration_error(probability[:0], happened[:0]))
    assert math.isnan(squared_calibration_error(probability[:2], happened[:2], bins=2))  # each alone in its bin


@pytest.mark.parametrize("count", [200, 2000])
def test_the_squared_calibration_error_of_perfect_forecasts_is_0_on_average_however_few(count):
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(400, count, generator=generator, dtype=torch.float64)
    happened = (torch.rand(400, count, generator=generator, dtype=torch.float64) < probability).double()
    found = [squared_calibration_error(*pair) for pair in zip(probability, happened, strict=True)]
    error = np.std(found) / 20
    assert abs(np.mean(found)) < 3 * error and error < 0.1 / count
    tilted = [squared_calibration_error(p.sqrt(), y) for p, y in zip(probability, happened, strict=True)]
    assert np.mean(tilted) == pytest.approx(1 / 30, abs=0.002)  # the mean of (sqrt p - p)^2


@pytest.mark.parametrize("bins", [0, -1, 2.0, True])
@pytest.mark.bad_input
def test_bad_bins_are_named(bins):
    with pytest.raises(ValueError, match="bins must be an integer above 0"):
        metrics.reliability(**GOOD, bins=bins)
    with pytest.raises(ValueError, match="bins must be an integer above 0"):
        squared_calibration_error(torch.zeros(2), torch.zeros(2), bins=bins)


@pytest.mark.parametrize("score", [-0.1, 1.5, math.inf])
@pytest.mark.bad_input
def test_scores_that_are_no_probability_are_named(score):
    with pytest.raises(ValueError, match=rf"predicted must have scores in \[0, 1\].*, got {score}"):
        metrics.brier(scored([(0.0, 0.0, 0, score)]), GOOD["truth"], radius=1.0)
