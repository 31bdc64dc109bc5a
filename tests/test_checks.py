"""Checks of arguments."""

import fractions
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from falloff import checks

NUMBERS = [0.5, 1, np.float32(0.5), np.float64(0.5), np.int64(1), np.uint8(1), fractions.Fraction(1, 2)]
NO_NUMBERS = [True, False, np.True_, "1", None, 1j, [1], np.ones(1), torch.ones(1)]


@pytest.mark.parametrize("value", NUMBERS)
def test_pythons_and_numpys_numbers_are_numbers(value):
    assert checks.is_number(value)
    for check in (checks.check_number, checks.check_positive, checks.check_at_least_zero, checks.check_share):
        assert check("share", value) is None


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize(
    "check",
    [checks.check_number, checks.check_positive, checks.check_at_least_zero, checks.check_share,
     lambda name, value: checks.check_above(name, value, 0.0)],
)
def test_what_is_no_number_is_named_with_its_type_at_fault(check, value):
    assert not checks.is_number(value) and not checks.is_whole(value)
    with pytest.raises(TypeError, match="width must be a number, got"):
        check("width", value)


@given(st.one_of(st.floats(), st.integers()))
def test_each_check_of_a_range_raises_outside_of_it_alone(value):
    ranges = {
        checks.check_positive: math.isfinite(value) and value > 0,
        checks.check_at_least_zero: math.isfinite(value) and value >= 0,
        checks.check_share: 0 <= value <= 1,
        (lambda name, value: checks.check_above(name, value, 2.5)): math.isfinite(value) and value > 2.5,
        checks.check_count: isinstance(value, int) and value > 0,
        (lambda name, value: checks.check_whole(name, value, 7)): isinstance(value, int) and value >= 7,
    }
    for check, allowed in ranges.items():
        if allowed:
            check("n", value)
        else:
            with pytest.raises(ValueError, match=r"^n must be "):
                check("n", value)


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (lambda: checks.check_positive("sigma", -1), "sigma must be finite and above 0, got -1"),
        (lambda: checks.check_at_least_zero("beta", math.inf), "beta must be finite and at least 0, got inf"),
        (lambda: checks.check_above("alpha", 1.0, 1.0), "alpha must be above 1, got 1.0"),
        (lambda: checks.check_share("share", 1.5), "share must be in [0, 1], got 1.5"),
        (lambda: checks.check_count("count", 2.0), "count must be an integer above 0, got 2.0"),
        (lambda: checks.check_count("count", True), "count must be an integer above 0, got True"),
        (lambda: checks.check_whole("seed", -1, 0), "seed must be an integer, at least 0, got -1"),
        (lambda: checks.check_one_of("split", "dev", ("train", "val")), "split must be one of train, val, got 'dev'"),
        (lambda: checks.check_option("focal", "gama", {"gamma": 2.0}),
         "focal has no option 'gama' (did you mean 'gamma'?); it has: gamma"),
        (lambda: checks.choose("net", "unt", {"unet": 1, "tree": 2}),
         "no net is named 'unt' (did you mean 'unet'?); known: unet, tree"),
        (lambda: checks.choose("net", 7, {"unet": 1}), "no net is named 7; known: unet"),
    ],
)
@pytest.mark.bad_input
def test_an_error_says_what_was_given_and_what_is_allowed(check, said):
    with pytest.raises(ValueError) as raised:
        check()
    assert str(raised.value) == said


@pytest.mark.parametrize("size", [(3, 4), [3, 4, 5], torch.Size([3, 4]), (np.int64(3), 4)])
def test_two_or_three_integers_are_a_size(size):
    checks.check_size("size", size)


@pytest.mark.parametrize("size", [(3,), (3, 4, 5, 6), (0, 4), (3.0, 4), (True, 4), "34", 3, None])
def test_anything_else_is_no_size(size):
    with pytest.raises(ValueError, match=r"size must be \(height, width\) or .* integers above 0, got "):
        checks.check_size("size", size)


def test_a_table_gives_what_it_has_and_a_module_what_it_holds():
    assert checks.choose("net", "unet", {"unet": 1}) == 1
    assert checks.choose("function", "math:hypot", {}) is math.hypot


@pytest.mark.parametrize("value", [np.float32(0.5), np.int64(3), np.array(2.0), np.bool_(True), torch.tensor(2)])
def test_a_single_number_of_an_array_library_becomes_pythons(value):
    assert type(checks.plain(value)) in (int, float, bool) and checks.plain(value) == value


@pytest.mark.parametrize(
    "value", [2, 0.5, None, "a", (1,), np.ones(1), torch.ones(1), torch.tensor(1.0).requires_grad_()])
def test_what_is_no_single_number_or_is_learned_stays_as_it_is(value):
    assert checks.plain(value) is value
