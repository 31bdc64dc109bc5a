import re

import numpy as np
import pytest
import torch
from scenes import set_arrays, write_set

from falloff.data import npz


def test_a_set_is_read_as_its_file_says(tmp_path):
    arrays = set_arrays((3, 2, 1))
    one = npz.from_file(write_set(tmp_path, "some", **arrays), "val")
    points = one.points
    assert one.name == "some" and one.classes == ("bright", "dim") and one.mask is None and one.swap == ()
    assert torch.equal(one.images, torch.from_numpy(arrays["images"][3:5, None]))
    assert points.xy.tolist() == arrays["points"][3:5].tolist()
    assert points.label.tolist() == [[0, 1], [0, 1]] and points.valid.all()


def test_colours_come_first_and_one_name_serves_all_points(tmp_path):
    arrays = set_arrays((3, 2, 1))
    colours = np.stack([arrays["images"]] * 3, axis=-1)
    colours[..., 1] //= 2
    path = write_set(tmp_path, "some", **{**arrays, "images": colours, "names": np.array(["spot"])})
    one = npz.from_file(path, "train")
    assert one.images.shape == (3, 3, 16, 16) and one.images.is_contiguous()
    assert torch.equal(one.images[:, 1], torch.from_numpy(colours[:3, :, :, 1]))
    assert one.classes == ("spot",) and one.points.label.sum() == 0


def test_invisible_points_are_left_out_whatever_their_position(tmp_path):
    arrays = set_arrays((3, 2, 1))
    arrays["visibility"][:2] = [0, 3]
    arrays["visibility"][2] = 0
    arrays["points"][:2, 0] = np.nan
    arrays["points"][2] = -999.0
    points = npz.from_file(write_set(tmp_path, "some", **arrays), "train").points
    assert points.valid.sum(1).tolist() == [1, 1, 0]
    assert points.label[:2][points.valid[:2]].tolist() == [1, 1]
    assert points.xy[:2][points.valid[:2]].tolist() == arrays["points"][:2, 1].tolist()
    assert (points.extra["visibility"] == points.valid * 3).all()
    points.check_inside((16, 16), 2)


@pytest.mark.parametrize("left", [0, 100, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path, left):
    path = write_set(tmp_path, "some")
    whole = path.read_bytes()
    path.write_bytes(whole[: left if isinstance(left, int) else int(len(whole) * left)])
    with pytest.raises(ValueError, match=r"some\.npz is not a whole \.npz file"):
        npz.from_file(path, "train")


def test_a_file_with_a_damaged_byte_is_named(tmp_path):
    path = write_set(tmp_path, "some")
    whole = bytearray(path.read_bytes())
    whole[2000] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"some\.npz"):
        npz.from_file(path, "train")


@pytest.mark.parametrize("content", ["one byte", "text", "one array", "objects"])
def test_a_file_of_another_kind_is_named(tmp_path, content):
    path = write_set(tmp_path, "some")
    if content == "one byte":
        path.write_bytes(path.read_bytes()[:1])
    elif content == "text":
        path.write_text("x,y\n1,2\n" * 100)
    elif content == "one array":
        with path.open("wb") as file:
            np.save(file, np.zeros((3, 4, 4), dtype=np.uint8))
    else:
        write_set(tmp_path, "some", names=np.array(["bright", "dim"], dtype=object))
    with pytest.raises(ValueError, match=r"some\.npz"):
        npz.from_file(path, "train")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"points": None}, "arrays missing: points; present:"),
        ({"points": None, "keypoints": np.zeros(1)}, r"arrays missing: points \(did you mean 'keypoints'\?\); present"),
        ({"points": None, "boxes": np.zeros((40, 3, 4))}, "it has boxes in place of points"),
        ({"names": None, "split": None}, "arrays missing: names, split"),
        ({"images": np.full((40, 16, 16), 1.5)}, r"image 0 of split 'train' has values from 1.5 to 1.5: images of "
         r"float64 must be in \[0, 1\], which becomes 0 to 255. Did a resize reach beyond white.* \(39 more"),
        ({"images": np.full((40, 16, 16), np.nan)}, "image 0 of split 'train' has a value NaN: images of float64 must"),
        ({"images": np.full((40, 16, 16), -1)}, ".* has values from -1 to -1: images of int64 must be at least 0"),
        ({"images": np.full((40, 16, 16), "a")}, ".* is of <U1: images must be integers, bool or floating point"),
        ({"images": np.zeros((40, 16, 16, 4), dtype=np.uint8)}, "image 0 .* four channels and is not opaque"),
        ({"images": np.zeros((40, 16, 16, 2), dtype=np.uint8)}, r"images must be \(N, H, W\) or \(N, H, W, 3\), got"),
        ({"images": np.zeros((40, 3, 16, 16), dtype=np.uint8)}, "images must .*: do the channels come first"),
        ({"images": np.zeros((40, 16), dtype=np.uint8)}, "images must be"),
        ({"images": np.zeros((0, 16, 16), dtype=np.uint8)}, "images must hold at least one picture"),
        ({"points": np.zeros((39, 2, 2), dtype=np.float32)}, r"points must be numbers \(40, K, 2\)"),
        ({"points": np.full((40, 2, 2), "1")}, "points must be numbers"),
        ({"points": np.zeros((40, 2, 3), dtype=np.float32)}, "points must be numbers .* third number goes into visib"),
        ({"visibility": np.ones((40, 3))}, r"visibility must be numbers or bool \(40, 2\), got float64 \(40, 3\)"),
        ({"visibility": np.full((40, 2), "1")}, "visibility must be numbers or bool"),
        ({"split": np.array(["train"] * 39)}, r"split must be \(40,\)"),
        ({"split": np.arange(40)}, r"split\[0\] must be text, got 0"),
        ({"group": np.arange(39)}, r"group must be \(40,\)"),
        ({"names": np.array(["a", "b", "c"])}, r"names must be \(2,\) or \(1,\), got \(3,\): else label \(40, 2\)"),
        ({"names": np.array(["a", "a"])}, "names must be each once, got 'a' for classes 0 and 1"),
        ({"names": np.array([b"a", b"a"])}, "names must be each once, got 'a' for classes 0 and 1"),
        ({"names": np.array(["a", " "])}, "names must not be empty, got ' ' for class 1"),
        ({"names": np.array([0, 1])}, r"names\[0\] must be text, got 0"),
        ({"names": np.array([b"\xff", b"a"])}, r"names\[0\] must be text, in UTF-8"),
        ({"label": np.zeros((40, 3), int)}, r"label must be whole numbers \(40, 2\), got int64 \(40, 3\)"),
        ({"label": np.full((40, 2), "a")}, "label must be whole numbers .*; falloff.data.save takes names, too"),
        ({"mask": np.ones((40, 16, 16))}, r"mask must be bool \(40, 16, 16\)"),
        ({"size": np.ones((40, 2))}, r"size must be integers \(40, 2\)"),
        ({"size": np.ones((39, 2), int)}, r"size must be integers \(40, 2\)"),
        ({"size": np.full((40, 2), 17)}, r"image 0 of split 'train': size must be \(height, width\) from 1 to"),
        ({"swap": np.array([0, 1])}, r"swap must be integers \(P, 2\)"),
        ({"swap": np.array([[0, 2]])}, r"swap must be pairs of classes, integers in \[0, 2\), .* got \[0, 2\] in"),
        ({name: None for name in set_arrays()}, "arrays missing: images, points, names, split; present: none"),
        ({"mask": np.zeros((40, 16, 16), bool)}, "no point is labelled where mask is True in any of the 24 pictures"),
        ({"split": np.array(["test"] * 40)}, r"no image of split 'train'; there are \['test'\]"),
        ({"split": np.array(["training"] * 40)}, r"no image of split 'train'; .* \(did you mean 'training'\?\)"),
    ],
)
def test_wrong_arrays_are_named_with_the_file(tmp_path, changed, named):
    path = write_set(tmp_path, "some", **changed)
    with pytest.raises(ValueError, match=r"some\.npz: " + named):
        npz.from_file(path, "train")


@pytest.mark.parametrize(
    ("array", "value", "named"),
    [
        ("points", np.nan, r"is labelled, but at \[nan, nan\]: visibility must be 0"),
        ("points", np.inf, r"is labelled, but at \[inf, inf\]"),
        ("points", (40, 5), r"at \[40.0, 5.0\] lies outside its picture of \(height, width\) \(12, 16\): x must be in "
                            r"\[-0.5, 15.5\], y in \[-0.5, 11.5\]. Was the picture resized or cropped"),
        ("points", (-1, -1), ".* outside .*A missing point has visibility 0"),
        ("points", (10, 14), ".* outside .*Does y come before x"),
        ("points", (16, 12), ".* outside .*count from 1, as in MATLAB"),
        ("visibility", np.nan, "has visibility NaN: 0 says that a point is not labelled"),
        ("label", 2, r"has label 2, which must be a whole number in \[0, 2\), as there are 2 names"),
        ("label", -1, "has label -1"),
    ],
)
def test_a_bad_point_is_named_as_the_file_counts_it(tmp_path, array, value, named):
    # Image 30 is the seventh of "val", and its first point is not labelled: neither count is the file's.
    arrays = set_arrays()
    arrays["images"] = arrays["images"][:, :12]
    arrays["points"] = np.minimum(arrays["points"], 11)
    arrays |= {"label": np.tile([0, 1], (40, 1)), "visibility": arrays["visibility"].astype(np.float32),
               "source_file": np.array([f"frame{k}.png" for k in range(40)])}
    arrays["visibility"][30, 0] = 0
    arrays[array][30, 1] = value
    path = write_set(tmp_path, "some", **arrays)
    words = r"some\.npz: image 30 \(frame30.png\) of split 'val', point 1 " + named
    for split in ("train", "val"):
        with pytest.raises(ValueError, match=words):
            npz.from_file(path, split)
    arrays[array][31:33, 1] = value
    with pytest.raises(ValueError, match=words + r".*\(2 more like it\)"):
        npz.check(write_set(tmp_path, "some", **arrays))


def test_a_size_whose_width_comes_first_is_told_so(tmp_path):
    arrays = set_arrays()
    arrays |= {"images": arrays["images"][:, :12], "size": np.tile([16, 12], (40, 1))}
    with pytest.raises(ValueError, match="do the widths come first"):
        npz.from_file(write_set(tmp_path, "some", **arrays), "train")


@pytest.mark.parametrize(
    ("stored", "levels"),
    [
        (np.array([0, 7, 255], np.int64), [0, 7, 255]),
        (np.array([0, 2000, 4000], np.uint16), [0, 128, 255]),  # 127.5 to the even
        (np.array([0, 200, 250], np.uint16), [0, 200, 250]),
        (np.array([0.0, 0.2, 1.0], np.float32), [0, 51, 255]),
        (np.array([0.0, 0.2, 0.5], np.float16), [0, 51, 128]),
        (np.array([False, True, True]), [0, 255, 255]),
    ],
)
def test_pictures_of_other_dtypes_become_levels_by_one_rule(tmp_path, stored, levels):
    images = np.resize(stored, (40, 16, 16))
    read = npz.from_file(write_set(tmp_path, "some", images=images), "val").images
    assert read.dtype == torch.uint8
    assert torch.equal(read[:, 0], torch.from_numpy(np.resize(levels, (40, 16, 16)).astype(np.uint8))[24:32])


def test_a_channel_that_hides_nothing_is_left_out(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (40, 16, 16, 4), dtype=np.uint8)
    colours[..., 3] = 255
    read = npz.from_file(write_set(tmp_path, "some", images=colours), "train").images
    assert torch.equal(read, torch.from_numpy(colours[:24, ..., :3]).permute(0, 3, 1, 2))


def test_whole_numbers_bools_bytes_and_other_layouts_are_read_as_what_they_say(tmp_path):
    arrays = set_arrays((3, 2, 1))
    plain = npz.from_file(write_set(tmp_path, "plain", **arrays), "val")
    said = arrays | {"points": arrays["points"].astype(np.int32), "visibility": arrays["visibility"].astype(bool),
                     "names": arrays["names"].astype("S"), "split": arrays["split"].astype("S"),
                     "images": np.asfortranarray(arrays["images"])}
    one = npz.from_file(write_set(tmp_path, "said", **said), "val")
    assert one.classes == plain.classes == ("bright", "dim") and torch.equal(one.images, plain.images)
    assert torch.equal(one.points.xy, plain.points.xy) and torch.equal(one.points.label, plain.points.label)
    assert one.points.extra["visibility"].tolist() == [[1.0, 1.0]] * 2


def test_without_visibility_the_points_that_are_not_nan_are_labelled(tmp_path):
    arrays = set_arrays((3, 2, 1)) | {"visibility": None}
    arrays["points"][0, 1] = np.nan
    points = npz.from_file(write_set(tmp_path, "some", **arrays), "train").points
    assert points.valid.tolist() == [[True, False], [True, True], [True, True]]


def test_a_class_for_each_point_lets_a_picture_have_several_of_one_and_none_of_another(tmp_path):
    label = np.array([[1, 1], [0, 2], [2, -1], [0, 0], [0, 0], [0, 0]])
    arrays = set_arrays((3, 2, 1)) | {"label": label, "names": np.array(["a", "b", "c"])}
    arrays["visibility"][2, 1] = 0
    one = npz.from_file(write_set(tmp_path, "some", **arrays), "train")
    assert one.classes == ("a", "b", "c")
    assert one.points.label[one.points.valid].tolist() == [1, 1, 0, 2, 2]
    floats = arrays | {"label": np.where(label < 0, np.nan, label)}
    assert torch.equal(npz.from_file(write_set(tmp_path, "floats", **floats), "train").points.label, one.points.label)


def test_a_label_that_counts_from_1_is_told_so(tmp_path):
    with pytest.raises(ValueError, match=r"image 0 .*point 1 has label 2.*do they count from 1"):
        npz.from_file(write_set(tmp_path, "some", label=np.tile([1, 2], (40, 1))), "train")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_without_a_label_is_refused(tmp_path, split):
    arrays = set_arrays()
    arrays["visibility"][arrays["split"] == split] = 0
    path = write_set(tmp_path, "some", **arrays)
    words = rf"no point is labelled in any of the \d+ pictures of split '{split}'"
    with pytest.raises(ValueError, match=words):
        npz.from_file(path, split)
    with pytest.raises(ValueError, match=words):
        npz.check(path)
    other = "val" if split == "train" else "train"
    assert npz.from_file(path, other).points.valid.all()  # labels of a test split may be withheld


def test_a_split_that_is_missing_is_found_by_the_check(tmp_path):
    path = write_set(tmp_path, "some", split=np.repeat(["train", "valid", "test"], [24, 8, 8]))
    with pytest.raises(ValueError, match=r"no image of split 'val'; there are .* \(did you mean 'valid'\?\)"):
        npz.check(path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"visibilty": np.ones((40, 2))}, r"the array 'visibilty' \(did you mean 'visibility'\?\); read"),
        ({"labels": np.ones((40, 2)), "origin": np.ones(40)}, r"'labels' \(did you mean 'label'\?\), 'origin';"),
        ({"group": np.repeat([1, 2, 3], [28, 4, 8])}, "1 of 3 groups lie in several splits, .* 1, in train, val"),
        ({"points": np.zeros((40, 2, 2))}, r"80 labelled points lie at \(0, 0\), the first of image 0 .*, point 0"),
        ({"mask": np.ones((40, 16, 16), bool) & (np.arange(40) % 3 == 0)[:, None, None]},
         "52 of 80 labelled points lie where mask is False"),
        ({"images": np.ones((40, 16, 16), np.uint8)}, "no value of images is above 1, of 255"),
        ({"images": np.arange(40, dtype=np.uint16)[:, None, None] * np.full((16, 16), 100, np.uint16)},
         "images of uint16 are turned into 256 levels: a value is multiplied by 255 / 3900, the largest of all"),
        ({"images": np.full((40, 16, 16), 0.5)}, "images of float64 are .*: a value is multiplied by 255$"),
        ({"points": np.full((40, 2, 2), 0.7)}, r"all points lie in \[0, 1\]: they must be in pixels"),
    ],
)
def test_what_is_likely_meant_otherwise_is_said_once(tmp_path, changed, said, recwarn):
    path = write_set(tmp_path, "some", **changed)
    for _ in range(2):
        npz.check(path)
        npz.from_file(path, "train")
    assert len([one for one in recwarn if re.search(said, str(one.message))]) == 1


def test_of_a_plain_set_nothing_is_said(tmp_path, recwarn):
    more = {"group": np.arange(40), "source_file": np.array(["a"] * 40), "scale": np.ones((40, 2))}
    npz.check(write_set(tmp_path, "some", **more))
    assert not recwarn.list


def test_pictures_of_different_sizes_count_where_they_are_and_the_mask_says_so(tmp_path):
    arrays = set_arrays((3, 2, 1))
    mask = np.ones((6, 16, 16), dtype=bool)
    mask[0, 0] = False
    size = np.array([[16, 16], [16, 15], [15, 16], [16, 16], [16, 16], [16, 16]], dtype=np.int32)
    arrays |= {"mask": mask, "size": size, "swap": np.array([[0, 1]])}
    one = npz.from_file(write_set(tmp_path, "some", **arrays), "train")
    assert one.swap == ((0, 1),) and one.sizes.tolist() == size[:3].tolist()
    expected = torch.ones(3, 1, 16, 16, dtype=torch.bool)
    expected[0, 0, 0] = expected[1, 0, :, 15] = expected[2, 0, 15] = False
    assert torch.equal(one.mask, expected)


def test_a_split_of_any_name_is_read(tmp_path):
    path = write_set(tmp_path, "some", split=np.array(["train"] * 38 + ["test_shift"] * 2))
    assert len(npz.from_file(path, "test_shift").images) == 2


def test_points_where_nothing_counts_are_left_out(tmp_path):
    arrays = set_arrays((3, 2, 1))
    arrays["points"][0] = [[2.4, 3.0], [9.0, 9.0]]
    mask = np.ones((6, 16, 16), dtype=bool)
    mask[0, 3, 2] = False
    one = npz.from_file(write_set(tmp_path, "some", mask=mask, **arrays), "train")
    assert one.points.valid[0].tolist() == [False, True] and one.points.valid[1:].all()
