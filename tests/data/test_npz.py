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
        ({"names": None, "split": None}, "arrays missing: names, split"),
        ({"images": np.zeros((40, 16, 16))}, "images must be uint8"),
        ({"images": np.zeros((40, 16, 16, 4), dtype=np.uint8)}, "images must be uint8"),
        ({"images": np.zeros((40, 16), dtype=np.uint8)}, "images must be uint8"),
        ({"points": np.zeros((39, 2, 2), dtype=np.float32)}, r"points must be floating point \(40, K, 2\)"),
        ({"points": np.zeros((40, 2, 2), dtype=np.int64)}, "points must be floating point"),
        ({"points": np.zeros((40, 2, 3), dtype=np.float32)}, "points must be floating point"),
        ({"visibility": np.ones((40, 3))}, r"visibility must be \(40, 2\), got \(40, 3\)"),
        ({"split": np.array(["train"] * 39)}, r"split must be \(40,\)"),
        ({"names": np.array(["a", "b", "c"])}, r"names must be \(2,\) or \(1,\), got \(3,\)"),
        ({"mask": np.ones((40, 16, 16))}, r"mask must be bool \(40, 16, 16\)"),
        ({"size": np.ones((40, 2))}, r"size must be integers \(40, 2\)"),
        ({"swap": np.array([0, 1])}, r"swap must be integers \(P, 2\)"),
        ({"split": np.array(["test"] * 40)}, r"no image of split 'train'; there are \['test'\]"),
    ],
)
def test_wrong_arrays_are_named_with_the_file(tmp_path, changed, named):
    path = write_set(tmp_path, "some", **changed)
    with pytest.raises(ValueError, match=r"some\.npz: " + named):
        npz.from_file(path, "train")


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
