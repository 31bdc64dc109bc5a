import math

import pytest
import torch

from falloff.metrics.recalibration import recalibration


def drawn(probability, seed=0):
    """What came of some forecasts."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(probability.shape, generator=generator, dtype=torch.float64) < probability).double()


TRUE = torch.rand(20_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.6 + 0.01


def rms(found):
    return float((found - TRUE).square().mean().sqrt())


def test_a_weight_on_points_shifts_logits_and_is_undone_by_platt_and_isotonic_but_not_by_a_temperature():
    score = torch.sigmoid(TRUE.logit() + math.log(20))  # as cross entropy with a weight of 20 learns it
    happened = drawn(TRUE)
    assert rms(recalibration("platt", score, happened)(score)) < 0.01
    assert rms(recalibration("isotonic", score, happened)(score)) < 0.04
    assert rms(recalibration("temperature", score, happened)(score)) > 0.15


def test_a_temperature_undoes_logits_that_are_too_large():
    score = torch.sigmoid(TRUE.logit() * 3)
    assert rms(recalibration("temperature", score, drawn(TRUE))(score)) < 0.01


def test_isotonic_worked_by_hand():
    score, happened = torch.tensor([0.1, 0.2, 0.3, 0.9]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    found = recalibration("isotonic", score, happened)(torch.tensor([-5.0, 0.1, 0.2, 0.3, 0.6, 0.9, 7.0]))
    assert found.tolist() == pytest.approx([0, 0, 0.5, 0.5, 0.75, 1, 1])


@pytest.mark.parametrize("how", ["platt", "temperature", "isotonic"])
def test_what_always_or_never_happened_is_certain_and_of_nothing_nothing_follows(how):
    score = torch.tensor([0.2, 0.7])
    for happened in (0.0, 1.0):
        assert recalibration(how, score, torch.full((2,), happened))(torch.tensor([0.5])).tolist() == [happened]
    assert recalibration(how, score[:0], score[:0])(score).isnan().all()
    assert recalibration(how, score, torch.tensor([0.0, 1.0]))(score[:0]).shape == (0,)


@pytest.mark.parametrize("how", ["platt", "temperature", "isotonic"])
def test_scores_beyond_0_and_1_are_taken_for_the_last_before_them(how):
    score, happened = torch.tensor([-3.0, 0.2, 0.8, 0.3, 2.0]), torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0])
    found = recalibration(how, score, happened)(torch.tensor([-9.0, -0.1, 1.1, 9.0]))
    assert ((found >= 0) & (found <= 1)).all()
    if how != "isotonic":
        assert found[0] == found[1] and found[2] == found[3]


@pytest.mark.bad_input
def test_another_form_is_named():
    with pytest.raises(ValueError, match="how must be one of"):
        recalibration("plat", torch.zeros(1), torch.zeros(1))
