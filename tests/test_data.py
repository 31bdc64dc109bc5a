import os

import numpy as np
import pytest
import torch
from scenes import set_arrays, write_set

from falloff import data
from falloff.data import digits, npz

SPLITS = data.SPLITS


@pytest.fixture(scope="module")
def made():
    return {split: digits.scenes(split, 96) for split in SPLITS}


@pytest.mark.parametrize("split", SPLITS)
def test_the_same_seed_makes_the_same_scenes_and_another_seed_others(split, made):
    images, points = digits.scenes(split, 96)
    assert torch.equal(images, made[split][0])
    assert torch.equal(points.xy, made[split][1].xy) and torch.equal(points.label, made[split][1].label)
    other, _ = digits.scenes(split, 96, seed=1)
    assert not torch.equal(other, images)


def test_scenes_do_not_depend_on_the_global_random_state():
    before = torch.get_rng_state()
    np.random.seed(7)  # noqa: NPY002
    first, _ = digits.scenes("val", 8)
    np.random.seed(8)  # noqa: NPY002
    second, _ = digits.scenes("val", 8)
    assert torch.equal(first, second) and torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("size", [64, 97])
@pytest.mark.parametrize("split", SPLITS)
def test_places_and_counts_are_as_stated(split, size):
    images, points = digits.scenes(split, 96, size=size)
    assert images.shape == (96, 1, size, size) and images.dtype == torch.uint8
    assert set(points.valid.sum(1).tolist()) == {1, 2, 3, 4, 5, 6}
    assert set(points.label[points.valid].tolist()) == set(range(10))
    xy = points.xy[points.valid]
    assert xy.min() >= 6.0 and xy.max() <= size - 1 - 6.0
    assert (xy != xy.round()).any(1).all()
    apart = torch.cdist(points.xy, points.xy)
    pairs = points.valid[:, :, None] & points.valid[:, None] & ~torch.eye(6, dtype=torch.bool)
    assert apart[pairs].min() >= 14.0


def test_the_smallest_size_that_is_allowed_has_room_for_six_digits():
    _, points = digits.scenes("train", 96, size=64)
    assert int(points.valid.sum(1).max()) == 6


def test_the_splits_share_no_handwriting():
    whole = [{image.tobytes() for image in digits._handwriting(split)[0]} for split in SPLITS]
    assert [len(part) > 300 for part in whole] == [True] * 3
    assert not whole[0] & whole[1] and not whole[0] & whole[2] and not whole[1] & whole[2]


def test_the_splits_share_no_row_of_a_texture():
    rows = [{row.tobytes() for texture in digits._textures(split) for row in texture} for split in SPLITS]
    assert not rows[0] & rows[1] and not rows[0] & rows[2] and not rows[1] & rows[2]


@pytest.mark.parametrize("split", SPLITS)
def test_backgrounds_come_from_the_splits_own_part_of_the_textures(split, made):
    images, points = made[split]
    scene = int((points.valid.sum(1) == 1).nonzero()[0])
    y = float(points.xy[scene, 0, 1])
    row = images[scene, 0, 0 if y > 32 else 63].numpy()  # free of ink: 31 px or more from the one digit
    whole = {
        s: np.lib.stride_tricks.sliding_window_view(digits._textures(s).round().astype(np.uint8), 64, axis=2)
        for s in SPLITS
    }
    holds = {s: bool(((w == row).all(-1) | (w == row[::-1]).all(-1)).any()) for s, w in whole.items()}
    assert holds == {s: s == split for s in SPLITS}


def test_digits_are_drawn_around_their_points():
    canvas = torch.zeros(2, 64, 64)
    xy = torch.tensor([[20.3, 41.8], [33.0, 12.5]])
    digits._draw(canvas, torch.arange(2), xy, torch.tensor([14.0, 20.0]), torch.ones(2, 8, 8), torch.ones(2))
    place = torch.arange(64.0)
    for drawn, (x, y) in zip(canvas, xy.tolist(), strict=True):
        assert float((drawn.sum(0) * place).sum() / drawn.sum()) == pytest.approx(x, abs=0.05)
        assert float((drawn.sum(1) * place).sum() / drawn.sum()) == pytest.approx(y, abs=0.05)


def test_scenes_are_brighter_at_their_points_than_at_those_of_others(made):
    images, points = made["train"]
    at = points.xy.round().long()
    scene = torch.arange(96)[:, None]
    around = torch.nn.functional.avg_pool2d(images.float(), 9, 1, 4)[:, 0]
    own = around[scene, at[..., 1], at[..., 0]][points.valid].mean()
    others = around[scene.flip(0), at[..., 1], at[..., 0]][points.valid].mean()
    swapped = around[scene, at[..., 0], at[..., 1]][points.valid].mean()
    assert own > others + 20 and own > swapped + 20


def test_load_gives_the_whole_of_a_split(monkeypatch):
    monkeypatch.setattr(digits, "COUNTS", {"train": 5, "val": 4, "test": 3})
    data.dataset._load.cache_clear()
    sets = {split: data.load("digits", split) for split in SPLITS}
    data.dataset._load.cache_clear()
    assert {split: len(one.images) for split, one in sets.items()} == {"train": 5, "val": 4, "test": 3}
    assert sets["val"].size == (64, 64) and sets["val"].classes == tuple("0123456789")


def test_sizes_as_documented():
    assert digits.COUNTS == {"train": 4096, "val": 192, "test": 512}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"split": "training"}, "split must be one of train, val, test, got 'training'"),
        ({"count": 0}, "count must be an integer, at least 1, got 0"),
        ({"count": 2.0}, "count"),
        ({"size": 47}, "size must be an integer, at least 64, got 47"),
        ({"seed": -1}, "seed must be an integer, at least 0, got -1"),
        ({"seed": True}, "seed"),
    ],
)
@pytest.mark.bad_input
def test_bad_arguments_of_scenes_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        digits.scenes(**{"split": "val", "count": 2, **arguments})


@pytest.mark.bad_input
def test_bad_arguments_of_load_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("FALLOFF_DATA", str(tmp_path))
    write_set(tmp_path, "some")
    with pytest.raises(ValueError, match="split must be one of train, val, test, got 'dev'"):
        data.load("digits", "dev")
    with pytest.raises(ValueError, match="size must be an integer, at least 64, got 8"):
        data.load("digits", "val", 8)
    with pytest.raises(ValueError, match=r"some .*size must be None, got 64"):
        data.load("some", "val", 64)
    for name in ("absent", "", "..", "../some", "some/some"):
        with pytest.raises(
            FileNotFoundError, match=r"no data set .* Known here: digits, some\. FALLOFF_DATA names"
        ):
            data.load(name, "val")


@pytest.mark.bad_input
def test_a_size_of_0_is_refused_and_not_taken_for_the_default():
    with pytest.raises(ValueError, match="size"):
        data.load("digits", "val", 0)


def test_a_set_is_read_as_its_file_says(tmp_path):
    arrays = set_arrays((3, 2, 1))
    images, points, classes = npz.read(write_set(tmp_path, "some", **arrays), "val")
    assert classes == ("bright", "dim")
    assert torch.equal(images, torch.from_numpy(arrays["images"][3:5, None]))
    assert points.xy.tolist() == arrays["points"][3:5].tolist()
    assert points.label.tolist() == [[0, 1], [0, 1]] and points.valid.all()


def test_colours_come_first_and_one_name_serves_all_points(tmp_path):
    arrays = set_arrays((3, 2, 1))
    colours = np.stack([arrays["images"]] * 3, axis=-1)
    colours[..., 1] //= 2
    path = write_set(tmp_path, "some", **{**arrays, "images": colours, "names": np.array(["spot"])})
    images, points, classes = npz.read(path, "train")
    assert images.shape == (3, 3, 16, 16) and images.is_contiguous()
    assert torch.equal(images[:, 1], torch.from_numpy(colours[:3, :, :, 1]))
    assert classes == ("spot",) and points.label.sum() == 0


def test_invisible_points_are_left_out_whatever_their_position(tmp_path):
    arrays = set_arrays((3, 2, 1))
    arrays["visibility"][:2, 0] = 0
    arrays["visibility"][2] = 0
    arrays["points"][:2, 0] = np.nan
    arrays["points"][2] = -999.0
    _, points, _ = npz.read(write_set(tmp_path, "some", **arrays), "train")
    assert points.valid.sum(1).tolist() == [1, 1, 0]
    assert points.label[:2][points.valid[:2]].tolist() == [1, 1]
    assert points.xy[:2][points.valid[:2]].tolist() == arrays["points"][:2, 1].tolist()
    points.check_inside((16, 16), 2)


@pytest.mark.parametrize("left", [0, 100, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path, left):
    path = write_set(tmp_path, "some")
    whole = path.read_bytes()
    path.write_bytes(whole[: left if isinstance(left, int) else int(len(whole) * left)])
    with pytest.raises(ValueError, match=r"some\.npz is not a whole \.npz file"):
        npz.read(path, "train")


def test_a_file_with_a_damaged_byte_is_named(tmp_path):
    path = write_set(tmp_path, "some")
    whole = bytearray(path.read_bytes())
    whole[2000] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"some\.npz"):
        npz.read(path, "train")


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
        npz.read(path, "train")


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
        ({"split": np.array(["test"] * 40)}, r"no image of split 'train'; there are \['test'\]"),
    ],
)
def test_wrong_arrays_are_named_with_the_file(tmp_path, changed, named):
    path = write_set(tmp_path, "some", **changed)
    with pytest.raises(ValueError, match=r"some\.npz: " + named):
        npz.read(path, "train")


@pytest.mark.parametrize(
    ("place", "named"), [((99.0, 3.0), "outside the picture: x"), ((np.nan, 3.0), "finite")]
)
def test_a_visible_point_outside_the_picture_or_without_position_is_refused(
    tmp_path, monkeypatch, place, named
):
    arrays = set_arrays()
    arrays["points"][0, 0] = place
    name = f"outside{place[0]:g}"
    write_set(tmp_path, name, **arrays)
    monkeypatch.setenv("FALLOFF_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=named):
        data.load(name, "train")


def test_the_digest_follows_a_files_content(tmp_path, monkeypatch):
    monkeypatch.setenv("FALLOFF_DATA", str(tmp_path))
    write_set(tmp_path, "some")
    first = data.digest("some")
    path = write_set(tmp_path, "some", names=np.array(["light", "dark"]))
    os.utime(path, ns=(1, 1))
    assert data.digest("some") != first
    assert data.digest("digits") == "made"


def test_load_follows_a_files_content_as_its_digest_does(tmp_path, monkeypatch):
    # Else a long-lived process stores a run on the old data under the new data's digest.
    monkeypatch.setenv("FALLOFF_DATA", str(tmp_path))
    write_set(tmp_path, "renewed")
    before = data.digest("renewed"), data.load("renewed", "val").classes
    write_set(tmp_path, "renewed", names=np.array(["light", "dark"]))
    assert data.digest("renewed") != before[0]
    assert data.load("renewed", "val").classes == ("light", "dark")


def test_real_sets_where_they_are():
    if not os.environ.get("FALLOFF_DATA"):
        pytest.skip("FALLOFF_DATA is not set: no real data set to read")
    names = npz.available()
    if not names:
        pytest.skip(f"no data set under {npz.root()}")
    for name in names:
        for split in SPLITS:
            one = data.Dataset(name, split, *npz.read(npz.find(name), split))
            assert one.points.valid.any() and len(one.images) > 0
