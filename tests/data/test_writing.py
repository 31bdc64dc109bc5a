import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.io import imsave

from falloff import data, sets
from falloff.points import Points

RNG = np.random.default_rng(0)
SPLIT = ["train", "train", "val", "test"]


def pictures(*sizes, channels=()):
    return [RNG.integers(0, 256, (*size, *channels), dtype=np.uint8) for size in sizes]


def some(**more):
    """What a set of four pictures is made of: cells of two kinds, from none to two a picture."""
    return {
        "images": pictures((9, 12), (9, 12), (9, 12), (9, 12)),
        "points": [[[3.0, 4.5], [11.5, 8.5]], [[0, 0.25]], [[5, 6], [2, 1]], [[1, 1]]],
        "labels": [[1, 1], [0], [0, 1], [1]],
        "classes": ["round", "long"],
        "split": SPLIT,
        **more,
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
        ({"images": []}, "images must hold at least one picture, got none"),
        ({"points": [[[1, 1]]] * 3}, "points must have an entry for each picture, got 3 for 4 images"),
        ({"split": ["train"] * 3}, "split must have an entry for each picture, got 3 for 4"),
        ({"points": [[[3, 4], [1, 1]], [[0, 0, 2], [1, 1, 2]], [[5, 6], [2, 1]], [[1, 1]]]},
         r"image 1 of split 'train': points must be \(n, 2\), x then y, .* got \(2, 3\); COCO's third number"),
        ({"points": [[3, 4], [[0, 0]], [[5, 6], [2, 1]], [[1, 1]]]}, r"image 0 .*: points must be \(n, 2\)"),
        ({"labels": [[0], [0], [0, 1], [1]]}, "image 0 of split 'train': 2 points need as many labels, got 1"),
        ({"visibility": [[1], [1], [1, 1], [1]]}, "image 0 of split 'train': 2 points need as many visibility, got 1"),
        ({"labels": None}, "labels must say the class of each point, unless .*; image 1 of split 'train' has 1"),
        ({"labels": [[1, 2], [0], [0, 1], [1]]}, r"image 0 of split 'train', point 1 has label 2"),
        ({"labels": [[1, 0.5], [0], [0, 1], [1]]}, r"image 0 of split 'train', point 1 has label 0.5"),
        ({"images": pictures((3, 9, 12), (9, 12), (9, 12), (9, 12))},
         r"image 0 of split 'train' must be \(height, width\) .*do the channels come first"),
        ({"images": [np.zeros((9, 12), dtype) for dtype in ("uint8", "uint16", "uint8", "uint8")]},
         "image 1 of split 'train' is of uint16: images must be .* all of one dtype; image 0 is of uint8"),
        ({"mask": [np.ones((9, 11), bool)] * 4}, r"image 0 .*: mask must be bool \(9, 12\), .* got bool \(9, 11\)"),
        ({"classes": ["a", "a"]}, "classes must be each once, got 'a' for classes 0 and 1"),
        ({"split": ["train", "train", "val", "val"]}, "no image of split 'test'"),
        ({"split": {"train": 1, "val": 0, "test": 1}}, r"the share split\['val'\] must be finite and above 0"),
        ({"split": {"train": 1, "val": 1, "test": 1}, "group": [0, 0, 1, 1]},
         "split .* at most as many as there are groups, 2; got train, val, test"),
        ({"source_file": [1, 2, 3, 4]}, r"source_file\[0\] must be text, got 1"),
    ],
)
@pytest.mark.bad_input
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, changed, named):
    with pytest.raises(ValueError, match=named):
        data.save(tmp_path / "cells.npz", **some(**changed))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argument", "value", "named"),
    [
        ("classes", "cell", "classes must be a list of names, got str 'cell'"),
        ("classes", {0: "round"}, "classes must be a list of names, got dict {0: 'round'}"),
        ("classes", {"round", "long"}, "classes must be a list of names, got set"),  # in another order each time
        ("images", "pictures", "images must be a list with an entry for each picture, got str 'pictures'"),
        ("images", Path("pictures"), r"images must be a list .*, got PosixPath PosixPath\('pictures'\)"),
        ("images", {name: np.zeros((99, 99)) for name in "abcdefgh"}, "images must be a list .*, got dict [^$]{,80}$"),
        ("points", None, "points must be a list .*, got NoneType None"),
        ("split", "train", "split must be a list with an entry for each picture, or shares by name, got str 'train'"),
        ("swap", None, "swap must be a list of pairs of classes, got NoneType"),
        ("group", "patient", "group must be a list .*, got str 'patient'"),
        ("path", None, "path to its .npz file, got NoneType"),
    ],
)
@pytest.mark.bad_input
def test_what_is_no_list_is_refused(tmp_path, argument, value, named):
    with pytest.raises(TypeError, match=named):
        data.save(**{"path": tmp_path / "cells.npz", **some(), argument: value})


def changed(of_each, index, value):
    return [value if k == index else one for k, one in enumerate(of_each)]


SHARES_OF_WHITE = [picture / 255 for picture in some()["images"]]
PALETTE = Image.fromarray(np.zeros((9, 12), np.uint8)).convert("P")


@pytest.mark.parametrize(
    ("argument", "value", "named"),
    [
        ("images", changed(SHARES_OF_WHITE, 2, np.full((9, 12), np.nan)), r"has a value NaN: .*must be in \[0, 1\]"),
        ("images", changed(SHARES_OF_WHITE, 2, np.full((9, 12), np.inf)), "has values from inf to inf: .*infinite"),
        ("images", changed(SHARES_OF_WHITE, 2, np.full((9, 12), -0.5)), r"has values from -0.5 to -0.5: .*Was a mean"),
        ("images", changed(SHARES_OF_WHITE, 2, np.full((9, 12), 1.5)), r"has values from 1.5 .*\[0, 1\].*Clip"),
        ("images", changed(SHARES_OF_WHITE, 2, np.full((9, 12), 255.0)), r"has values from 255 .*\[0, 1\].*by 255"),
        ("images", changed(SHARES_OF_WHITE, 2, np.full((9, 12), 4e3)), r"has values from 4000 .*by the largest of all"),
        ("images", [*np.int64([[[1]], [[0]], [[-2]], [[300]]])], "has values from -2 to -2: .* must be at least 0"),
        ("images", changed(SHARES_OF_WHITE, 2, np.zeros((9, 12), np.uint8)), "is of uint8: .* image 0 is of float64"),
        ("images", changed(pictures(*[(9, 12)] * 4), 2, "c.png"), "must be .*, got .*'c.png': was it read"),
        ("images", changed(pictures(*[(9, 12)] * 4), 2, None), "must be .*, got .*None: was it read"),
        ("images", changed(pictures(*[(9, 12)] * 4), 2, PALETTE), "has the mode 'P' of PIL, .*convert"),
        ("images", changed(pictures(*[(9, 12)] * 4), 2, [[1], [2, 3]]), ": a picture must be numbers"),
        ("images", changed(pictures(*[(9, 12)] * 4), 2, torch.zeros(9, 12, requires_grad=True)), ": .*detach"),
        ("images", changed(pictures(*[(9, 12)] * 4), 2, np.zeros((9, 12, 4), np.uint8)), "has four channels and is"),
        ("points", changed(some()["points"], 2, [[1, 1], ["a", 2]]), ": points must be numbers"),
        ("images", changed(pictures(*[(9, 12)] * 4), 2, np.zeros((9, 12, 2))), ".*leave out the second channel"),
        ("points", changed(some()["points"], 2, [5, 6, 2, 1, 2, 0]), r": points .* got \(6,\); COCO's third number"),
        ("points", changed(some()["points"], 2, [[1, 1, 3, 4]]), r": points .* got \(1, 4\); Points.from_boxes"),
        ("points", changed(some()["points"], 2, None), r": points must be \(n, 2\), .* got None"),
        ("points", changed(some()["points"], 2, [[1, 1], [8.0, 11.0]]), r", point 1 at \[8.0, 11.0\].* y come before"),
        ("labels", changed(some()["labels"], 2, ["round", "lung"]), r", point 1 has label 'lung', .* you mean 'long'"),
        ("labels", changed(some()["labels"], 2, 1), ": 2 points need as many labels, got 1"),
        ("labels", changed(some()["labels"], 2, None), ": 2 points need as many labels, got None"),
        ("labels", changed(some()["labels"], 2, [[0], [1]]), ": 2 points need as many labels"),
        ("visibility", [[1, 1], [1], ["yes", "no"], [1]], ": visibility must be numbers"),
        ("mask", changed([np.ones((9, 12), bool)] * 4, 2, np.full((9, 12), 255)), ": mask must be bool .* got int64"),
    ],
)
@pytest.mark.bad_input
def test_a_fault_of_a_picture_names_file_picture_and_split_in_one_form(tmp_path, argument, value, named):
    given = some(**{"source_file": [Path(f"{name}.png") for name in "abcd"], argument: value})
    with pytest.raises(ValueError, match=r"/cells\.npz: image 2 \(c\.png\) of split 'val' ?" + named):
        data.save(tmp_path / "cells.npz", **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"classes": ["a", np.nan]}, r"classes\[1\] must be text, got nan"),
        ({"classes": [b"a", b"\xff"]}, r"classes\[1\] must be text, in UTF-8"),
        ({"classes": [b"a", "a"]}, "classes must be each once, got 'a' for classes 0 and 1"),
        ({"classes": ["a", ""]}, "classes must not be empty, got '' for class 1"),
        ({"classes": []}, "classes must be text"),
        ({"split": ["train", "val", "test", np.nan]}, r"split\[3\] must be text, got nan"),
        ({"split": {0: 1, 1: 1, 2: 1}}, r"split\[0\] must be text, got [012]"),
        ({"swap": [(0, 1), (1,)]}, "swap: pairs of classes must be numbers"),
        ({"split": {}}, "split must name at least one split .* 4; got none"),
        ({"seed": None}, "seed must be an integer"),
        ({"swap": [(0, 2)]}, r"cells.npz: swap must be pairs of classes, integers in \[0, 2\)"),
    ],
)
@pytest.mark.bad_input
def test_what_is_missing_in_a_table_is_no_name(tmp_path, given, named):
    with pytest.raises(ValueError, match=named):
        data.save(tmp_path / "cells.npz", **some(**given))


def test_labels_may_be_names_and_names_may_be_bytes(tmp_path):
    named = [["long", "long"], ["round"], np.array(["round", "long"]), ["long"]]
    paths = [data.save(tmp_path / f"{k}.npz", **some(**more)) for k, more in enumerate(
        [{}, {"labels": named}, {"classes": [b"round", b"long"]}, {"images": iter(pictures(*[(9, 12)] * 4))}])]
    plain, *others = (data.load(path, "train") for path in paths)
    for other in others:
        assert other.classes == plain.classes and torch.equal(other.points.label, plain.points.label)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_what_is_saved_is_checked_and_read_with_all_that_goes_with_it(tmp_path, dtype, recwarn):
    sizes = [(9, 12), (5, 20), (9, 12), (7, 7)]
    values = [RNG.integers(0, 256, size) for size in sizes]
    values[3][0, 0] = 255  # the largest
    scale = {np.uint8: 1, np.uint16: 16, np.float32: 1 / 255}[dtype]
    mask = [np.ones(size, bool) for size in sizes]
    mask[1][2, 1] = False
    points = [[[3, 4], [11.5, 8.5]], [[19, 4.25], [1, 2]], [[5, 6]], [[1, 1]]]
    path = data.save(
        tmp_path / "all.npz", images=[(one * scale).astype(dtype) for one in values], points=points, mask=mask,
        labels=[[2, 0], [1, 1], [0], [2]], visibility=[[1, 2], [2, 1], [1], [0.5]], classes=["a", "b", "c"],
        split=SPLIT, group=["p", "p", "q", "r"], swap=[(0, 2)], source_file=list("abcd"))
    data.check(path)
    said = [str(one.message) for one in recwarn]
    assert len(said) == (dtype != np.uint8) and all("turned into 256 levels: a value is multiplied by 255" in one
                                                    for one in said)
    train, val, test = (data.load(path, split) for split in data.SPLITS)
    assert [one.sizes.tolist() for one in (train, val, test)] == [[[9, 12], [5, 20]], [[9, 12]], [[7, 7]]]
    for image, (height, width), value in zip([*train.images, *val.images, *test.images], sizes, values, strict=True):
        assert image.shape == (1, 9, 20) and image[0, :height, :width].tolist() == value.tolist()
    assert train.points.xy.flatten().tolist() == pytest.approx([3, 4, 11.5, 8.5, 19, 4.25, 0, 0])
    assert train.points.valid.tolist() == [[True, True], [True, False]]  # the last lies where the mask is False
    assert train.points.label.tolist() == [[2, 0], [1, 0]] and test.points.label.tolist() == [[2]]
    assert train.points.extra["visibility"].tolist() == [[1, 2], [2, 0]]
    assert train.mask.sum((1, 2, 3)).tolist() == [9 * 12, 5 * 20 - 1] and test.mask.sum() == 7 * 7
    assert train.swap == ((0, 2),) and train.classes == ("a", "b", "c")
    with np.load(path) as stored:
        assert stored["group"].tolist() == ["p", "p", "q", "r"] and stored["source_file"].tolist() == list("abcd")


def test_annotations_of_coco_become_a_set(tmp_path):
    kinds = ["nose", "tail"]
    annotations = [[{"keypoints": [3, 4, 2, 11, 8, 1], "bbox": [0, 0, 12, 9], "area": 108}],
                   [{"keypoints": [0, 0, 0, 6, 5, 2], "bbox": [1, 1, 8, 8], "area": 64},
                    {"keypoints": [2, 2, 2, 0, 0, 0], "bbox": [1, 1, 3, 3], "area": 9}],
                   [{"keypoints": [5, 5, 2, 6, 6, 2], "bbox": [1, 1, 8, 8], "area": 64}],
                   [{"keypoints": [5, 5, 2, 6, 6, 2], "bbox": [1, 1, 8, 8], "area": 64}]]
    points = Points.from_coco(annotations, len(kinds))
    with pytest.warns(UserWarning, match="no room for the points' "):
        path = data.save(tmp_path / "mice.npz", images=some()["images"], points=points, classes=kinds, split=SPLIT)
    data.check(path)
    train = data.load(path, "train").points
    assert train.label[train.valid].tolist() == [0, 1, 1, 0]
    assert train.extra["visibility"][train.valid].tolist() == [2, 1, 2, 2]
    assert train.xy[train.valid].tolist() == points.xy[:2][points.valid[:2]].tolist()


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
