import pytest
import torch

from falloff import data, sets
from falloff.data import doublets

pytestmark = pytest.mark.usefixtures("few_scenes")


@pytest.mark.parametrize("split", ["train", "fresh"])
@pytest.mark.parametrize("far", [2.0, 3.0, 12.0])
def test_each_digit_has_two_points_level_with_its_centre_and_as_far_apart_as_asked(far, split):
    made, plain = data.load(f"doublets(apart={far:g})", split), data.load("digits", split)
    assert torch.equal(made.images, plain.images) and made.classes == plain.classes
    assert made.points.inside(made.size).valid.sum() == made.points.valid.sum() == 2 * plain.points.valid.sum()
    left, right = made.points.xy[:, ::2], made.points.xy[:, 1::2]
    there = plain.points.valid
    torch.testing.assert_close((right - left)[there], torch.tensor([far, 0.0]).expand(int(there.sum()), 2))
    torch.testing.assert_close(((left + right) / 2)[there], plain.points.xy[there])
    assert torch.equal(made.points.label[:, ::2], plain.points.label)
    assert torch.equal(made.points.label[:, 1::2], plain.points.label)


def test_it_is_made_here_and_read_by_its_own_module():
    assert sets.is_made("doublets(apart=3)") and sets.module("doublets(apart=3)") == "falloff.data.doublets"
    assert sets.digest("doublets(apart=3)") == "made" and doublets.apart("doublets(apart=2.5)") == 2.5


@pytest.mark.parametrize(("name", "said"), [
    ("doublets(apart=0)", "apart must be a number above 0 and at most 12, got 0"),
    ("doublets(apart=12.5)", "at most 12, got 12.5"), ("doublets(apart=nan)", "got nan"),
    ("doublets(apart=far)", "got far"), ("doublets()", "got nothing"), ("doublets(aprat=3)", "did you mean 'apart'"),
])
def test_a_name_that_says_no_distance_is_refused(name, said):
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        data.load(name, "train")


def test_an_unknown_split_and_a_size_too_small_are_refused():
    with pytest.raises(ValueError, match="split"):
        doublets.read("doublets(apart=3)", "tset")
    with pytest.raises(ValueError, match="at least 64"):
        data.load("doublets(apart=3)", "train", 32)
