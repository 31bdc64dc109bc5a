import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.io import imsave

from falloff import data, sets
from falloff.points import Points

RNG = np.random.default_rng(0)
SPLIT = ["train", "train", "val", "test"]


def pictures(*sizes, channels=()):
    return [RNG.integers(0, 256, (*size, *channels), dtype=np.uint8) for size in sizes]


def some(**changed):
    """What a set of four pictures is made of: cells of two kinds, from none to two a picture."""
    return {
        "images": pictures((9, 12), (9, 12), (9, 12), (9, 12)),
        "points": [[[3.0, 4.5], [11.5, 8.5]], [[0, 0.25]], [[5, 6], [2, 1]], [[1, 1]]],
        "labels": [[1, 1], [0], [0, 1], [1]],
        "classes": ["round", "long"],
        "split": SPLIT,
        **changed,
    }


def test_what_is_saved_is_read_again(tmp_path):
    given = some(source_file=list("abcd"), swap=[(0, 1)])
    path = data.save(tmp_path / "cells.npz", **given)
    train = data.load(str(path), "train")
    assert train.classes == ("round", "long") and train.swap == ((0, 1),) and train.mask is None
    assert torch.equal(train.images[:, 0], torch.from_numpy(np.stack(given["images"][:2])))
    assert train.points.xy[train.points.valid].tolist() == [[3.0, 4.5], [11.5, 8.5], [0.0, 0.25]]
    assert train.points.label[train.points.valid].tolist() == [1, 1, 0]
    assert train.points.valid.tolist() == [[True, True], [True, False]]


def test_points_are_saved_as_lists_are(tmp_path):
    given = some()
    lists = list(zip(given["points"], given.pop("labels"), strict=True))
    points = Points.from_lists(lists)
    one, other = data.save(tmp_path / "a.npz", **some()), data.save(tmp_path / "b.npz", **given | {"points": points})
    for split in data.SPLITS:
        a, b = data.load(str(one), split).points, data.load(str(other), split).points
        assert torch.equal(a.xy, b.xy) and torch.equal(a.label, b.label) and torch.equal(a.valid, b.valid)
        assert torch.equal(a.extra["visibility"], b.extra["visibility"])


def test_visibility_travels_and_nan_is_not_labelled(tmp_path):
    points = [[[1, 2], [np.nan, np.nan]], [[1, 2], [3, 4]], [[1, 2], [3, 4]], [[1, 2], [3, 4]]]
    path = data.save(tmp_path / "keys.npz", **some(points=points, labels=None))
    train = data.load(str(path), "train").points
    assert train.valid.tolist() == [[True, False], [True, True]] and train.label[train.valid].tolist() == [0, 0, 1]
    seen = [[1, 0], [0, 2], [2, 2], [2, 2]]
    path = data.save(tmp_path / "seen.npz", **some(points=points, labels=None, visibility=seen))
    train = data.load(str(path), "train").points
    assert train.extra["visibility"][train.valid].tolist() == [1.0, 2.0]


def test_pictures_of_several_sizes_are_filled_up_and_the_rest_does_not_count(tmp_path):
    images = [*pictures((9, 12)), *pictures((5, 20), channels=(3,)), *pictures((9, 12), (9, 12))]
    mask = [np.ones(image.shape[:2], dtype=bool) for image in images]
    mask[1][0, 0] = False
    path = data.save(tmp_path / "sizes.npz", **some(images=images, mask=mask, points=[[[3, 4]], [[19, 4]], [[1, 1]],
                                                                                     [[1, 1]]], labels=[[0]] * 4))
    train = data.load(str(path), "train")
    assert train.images.shape == (2, 3, 9, 20) and train.sizes.tolist() == [[9, 12], [5, 20]]
    assert torch.equal(train.images[0, :, :9, :12], torch.from_numpy(images[0]).expand(3, 9, 12))
    assert torch.equal(train.images[1, :, :5], torch.from_numpy(images[1]).permute(2, 0, 1))
    expected = torch.zeros(2, 1, 9, 20, dtype=torch.bool)
    expected[0, :, :, :12] = expected[1, :, :5] = True
    expected[1, 0, 0, 0] = False
    assert torch.equal(train.mask, expected)


def test_a_point_in_what_was_filled_up_is_refused(tmp_path):
    images = pictures((9, 12), (9, 10), (9, 12), (9, 12))
    with pytest.raises(ValueError, match=r"image 1 of split 'train', point 0 at \[10.0, 3.0\] lies outside"):
        data.save(tmp_path / "sizes.npz", **some(images=images, points=[[[3, 4]], [[10, 3]], [[1, 1]], [[1, 1]]],
                                                 labels=[[0]] * 4))
    assert not list(tmp_path.iterdir())  # neither a file nor a part of one


def test_shares_keep_groups_together_leave_no_split_empty_and_follow_the_seed(tmp_path):
    count = 60
    group = np.sort(RNG.integers(0, 12, count))
    given = {"images": pictures(*[(8, 8)] * count), "points": [[[2, 1]]] * count, "classes": ["a"]}

    def split(**options):
        path = data.save(tmp_path / "some.npz", **given, **options)
        with np.load(path) as stored:
            return stored["split"]

    assert dict(zip(*np.unique(split(), return_counts=True), strict=True)) == {"train": 42, "val": 6, "test": 12}
    grouped = split(group=group)
    assert {*grouped} == {"train", "val", "test"}
    assert all(len({*grouped[group == one]}) == 1 for one in {*group})
    assert 0.55 < (grouped == "train").mean() < 0.85
    assert (split(group=group) == grouped).all() and (split(group=group, seed=1) != grouped).any()
    shares = split(split={"train": 3, "val": 1, "test": 1, "spare": 1})
    assert dict(zip(*np.unique(shares, return_counts=True), strict=True)) == {"train": 30, "val": 10, "test": 10,
                                                                              "spare": 10}
    few = split(group=[0] * 50 + [1] * 5 + [2] * 5)
    assert {*few} == {"train", "val", "test"} and (few == "train").sum() == 50


def test_the_same_set_is_written_with_the_same_bytes(tmp_path):
    given = some()
    digests = {sets.digest(str(data.save(tmp_path / name / "one.npz", **given))) for name in "ab"}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"images": []}, "points must be of as many pictures as images, and of one at least; got 4 for 0"),
        ({"points": [[[1, 1]]] * 3}, "points must be of as many pictures as images, .* got 3 for 4 images"),
        ({"split": ["train"] * 3}, "split must be of as many pictures"),
        ({"points": [[[3, 4], [1, 1]], [[0, 0, 2], [1, 1, 2]], [[5, 6], [2, 1]], [[1, 1]]]},
         r"points of image 1 must be \(n, 2\), x then y, got \(2, 3\)"),
        ({"points": [[3, 4], [[0, 0]], [[5, 6], [2, 1]], [[1, 1]]]}, r"points of image 0 must be \(n, 2\)"),
        ({"labels": [[0], [0], [0, 1], [1]]}, "image 0: 2 points need as many labels, got 1"),
        ({"visibility": [[1], [1], [1, 1], [1]]}, "image 0: 2 points need as many visibility, got 1"),
        ({"labels": None}, "labels must say the class of each point, unless each picture has one point of each"),
        ({"labels": [[1, 2], [0], [0, 1], [1]]}, r"image 0 of split 'train', point 1 has label 2"),
        ({"labels": [[1, 0.5], [0], [0, 1], [1]]}, r"image 0 of split 'train', point 1 has label 0.5"),
        ({"images": pictures((3, 9, 12), (9, 12), (9, 12), (9, 12))},
         r"image 0 must be \(height, width\) .*do the channels come first"),
        ({"images": [np.zeros((9, 12), dtype) for dtype in ("uint8", "uint16", "uint8", "uint8")]},
         "images must all be of one dtype"),
        ({"mask": [np.ones((9, 11), bool)] * 4}, r"mask of image 0 must be bool \(9, 12\), got bool \(9, 11\)"),
        ({"classes": ["a", "a"]}, "names must be text .* each once"),
        ({"split": ["train", "train", "val", "val"]}, "no image of split 'test'"),
        ({"split": {"train": 1, "val": 0, "test": 1}}, r"split\['val'\] must be finite and above 0"),
        ({"split": {"train": 1, "val": 1, "test": 1}, "group": [0, 0, 1, 1]}, "3 splits need as many"),
        ({"source_file": [1, 2, 3, 4]}, "source_file must be text"),
    ],
)
@pytest.mark.bad_input
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, changed, named):
    with pytest.raises(ValueError, match=named):
        data.save(tmp_path / "cells.npz", **some(**changed))
    assert not list(tmp_path.iterdir())


@pytest.mark.bad_input
def test_one_name_in_place_of_a_list_is_refused(tmp_path):
    with pytest.raises(TypeError, match="classes must be a list of names, got 'cell'"):
        data.save(tmp_path / "cells.npz", **some(classes="cell"))


def test_a_name_without_its_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"path must end in \.npz"):
        data.save(tmp_path / "cells", **some())


def test_the_page_s_code_makes_a_set_of_a_folder_and_a_table(tmp_path, monkeypatch):
    page = (Path(__file__).resolve().parents[2] / "book" / "rerun.md").read_text(encoding="utf-8")
    code, = (block for block in re.findall(r"```python\n(.*?)```", page, flags=re.S) if "data.save(" in block)
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    rows = ["file,x,y,kind"]
    for patient, shot in np.ndindex(5, 2):
        name = f"p{patient}_{shot}.png"
        imsave(Path("pictures", name), RNG.integers(0, 255, (20 + patient, 30 - patient), dtype=np.uint8))
        rows += [f"{name},3.5,{patient},long", f"{name},{shot},7,round"] if shot or patient != 1 else []
    Path("cells.csv").write_text("\n".join(rows))
    exec(code, {})
    splits = [data.load("sets/cells/cells.npz", split) for split in data.SPLITS]
    assert sum(len(one.images) for one in splits) == 10 and splits[0].classes == ("long", "round")
    assert sum(int(one.points.valid.sum()) for one in splits) == 18  # one picture has none


def test_what_points_carry_besides_is_named_and_what_they_say_is_said_once(tmp_path):
    lists = [([[3.0, 4.0]], [0]), ([[5.0, 6.0]], [1]), ([[7.0, 8.0]], [0])]
    points = replace(Points.from_lists(lists), weight=torch.ones(3, 1), extra={"instance": torch.zeros(3, 1)})
    given = {"images": [np.zeros((20, 20), np.uint8)] * 3, "classes": ["a", "b"], "split": ["train", "val", "test"]}
    with pytest.warns(UserWarning, match="a set has no room for the points' weight, instance"):
        data.save(tmp_path / "kept.npz", points=points, **given)
    for name in ("labels", "visibility"):
        with pytest.raises(ValueError, match=f"{name} must be None beside Points, which carry their own"):
            data.save(tmp_path / "twice.npz", points=points, **{name: [[1]] * 3}, **given)
    assert not (tmp_path / "twice.npz").exists()
