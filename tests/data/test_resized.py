"""Stored sets at another size, against plain formulas, pixel by pixel."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scenes import set_arrays, write_set

from falloff import data, sets
from falloff.data import resized
from falloff.run import Run
from falloff.study import store

COUNTS = (4, 2, 2)


def arrays(height=10, width=14, slots=5, **changed):
    """Pictures of noise with points anywhere in them, the borders of pixels included."""
    rng = np.random.default_rng(3)
    count = sum(COUNTS)
    points = rng.uniform((-0.5, -0.5), (width - 0.5, height - 0.5), size=(count, slots, 2)).astype(np.float32)
    points[:, 0] = [3.5, 4.5]
    points[:, 1] = [width - 0.5, height - 0.5]
    points[:, 2] = [-0.5, -0.5]
    return {
        "images": rng.integers(0, 256, size=(count, height, width, 3), dtype=np.uint8), "points": points,
        "names": np.array(["a", "b", "c"]), "label": rng.integers(0, 3, size=(count, slots)),
        "visibility": rng.integers(1, 3, size=(count, slots)), "split": np.repeat(["train", "val", "test"], COUNTS),
    } | changed


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Write a set called "some" and give its plain split."""
    monkeypatch.setenv("FALLOFF_DATA", str(tmp_path))

    def make(**changed):
        write_set(tmp_path, "some", **{"visibility": None} | arrays(**changed))
        return data.load("some", "train")

    return make


def mean_of_area(picture, scale, row, column):
    """The mean of what a pixel covers of a picture (H, W), by the share of each old pixel that lies in it."""
    ends = [(Fraction(place) / scale, min(Fraction(place + 1) / scale, length))
            for place, length in zip((row, column), picture.shape, strict=True)]
    total = area = Fraction(0)
    for y in range(picture.shape[0]):
        for x in range(picture.shape[1]):
            share = Fraction(1)
            for place, (low, high) in zip((y, x), ends, strict=True):
                share *= max(Fraction(0), min(high, Fraction(place + 1)) - max(low, Fraction(place)))
            total, area = total + share * int(picture[y, x]), area + share
    return total / area


# Fewer pixels.


@pytest.mark.parametrize("scale", ["0.5", "0.25", "0.3", "1"])
def test_a_pixel_is_the_mean_of_the_area_that_it_covers(stored, scale):
    plain, small = stored(), data.load(f"some(scale={scale})", "train")
    factor = Fraction(scale)
    assert small.size == tuple(math.ceil(length * factor) for length in plain.size)
    for channel in range(3):
        wanted = [[math.floor(mean_of_area(plain.images[1, channel].numpy(), factor, y, x) + Fraction(1, 2))
                   for x in range(small.size[1])] for y in range(small.size[0])]
        assert small.images[1, channel].tolist() == wanted


@pytest.mark.parametrize("scale", [0.5, 0.25, 0.3])
def test_points_go_with_the_picture_there_and_back(stored, scale):
    plain, small = stored(), data.load(f"some(scale={scale})", "train")
    wanted = (plain.points.xy.double() + 0.5) * scale - 0.5
    assert torch.allclose(small.points.xy.double(), wanted, atol=1e-6)
    assert torch.allclose(small.points.scale(1 / scale).xy, plain.points.xy, atol=1e-5)
    assert torch.equal(small.points.label, plain.points.label) and torch.equal(small.points.valid, plain.points.valid)
    assert torch.equal(small.points.extra["visibility"], plain.points.extra["visibility"])
    assert small.classes == plain.classes and small.name == f"some(scale={scale:g})"


def test_a_bright_pixel_lies_where_its_point_does(tmp_path, monkeypatch):
    monkeypatch.setenv("FALLOFF_DATA", str(tmp_path))
    write_set(tmp_path, "some", **set_arrays())
    small = data.load("some(scale=0.5)", "train")
    for image, points in zip(small.images[:, 0], small.points.xy, strict=True):
        x, y = (points[0] + 0.5).floor().long().tolist()
        assert image[y, x] >= 255 / 4  # a quarter of the brightest, and what lies around it


def test_a_pixel_counts_where_all_that_it_covers_does(stored):
    rng = np.random.default_rng(5)
    mask = rng.random((sum(COUNTS), 10, 14)) > 0.1
    mask[:, :2, :2] = True  # the point at the upper left counts
    stored(mask=mask)
    small, factor = data.load("some(scale=0.3)", "train"), Fraction("0.3")
    for y in range(small.size[0]):
        for x in range(small.size[1]):
            wanted = [mean_of_area(~one, factor, y, x) == 0 for one in mask[: COUNTS[0]]]
            assert small.mask[:, 0, y, x].tolist() == wanted
    at = (small.points.xy + 0.5).floor().long().clamp(min=0)
    image, _ = torch.nonzero(small.points.valid, as_tuple=True)
    column, row = at[small.points.valid].T
    assert small.mask[image, 0, row.clamp(max=2), column.clamp(max=4)].all() and len(image) > 0


def test_pictures_of_several_sizes_are_each_averaged_alone(stored):
    size = np.array([[10, 14], [7, 14], [10, 5], [7, 5]] * 2)
    points = np.broadcast_to(size[:, None, ::-1] - 0.5, (8, 5, 2)).astype(np.float32)  # the far corner of each
    plain = stored(size=size, points=points)
    small = data.load("some(scale=0.5)", "train")
    assert small.sizes.tolist() == [[5, 7], [4, 7], [5, 3], [4, 3]]
    for index, (high, wide) in enumerate(size[:4].tolist()):
        picture, own = plain.images[index, 0, :high, :wide].numpy(), small.sizes[index].tolist()
        wanted = math.floor(mean_of_area(picture, Fraction("0.5"), own[0] - 1, own[1] - 1) + Fraction(1, 2))
        assert small.images[index, 0, own[0] - 1, own[1] - 1] == wanted
        assert small.mask[index].sum() == own[0] * own[1] and small.points.valid[index].all()


# Tiles.


@pytest.mark.parametrize("side", [5, 4, 3, 10, 64])
def test_tiles_cover_every_pixel_once_and_hold_every_point_once(stored, side):
    plain, tiles = stored(), data.load(f"some(crop={side})", "train")
    high, wide = min(side, 10), min(side, 14)
    assert tiles.size == (high, wide)
    number, found = 0, []
    for index in range(len(plain.images)):
        for top in range(0, 10, high):
            for left in range(0, 14, wide):
                own = (min(high, 10 - top), min(wide, 14 - left))
                assert torch.equal(tiles.images[number, :, : own[0], : own[1]],
                                   plain.images[index, :, top : top + own[0], left : left + own[1]])
                assert (tiles.sizes[number].tolist() if tiles.sizes is not None else [high, wide]) == list(own)
                some = tiles.points[number]
                found += [(index, round(x + left, 3), round(y + top, 3), label, seen) for (x, y), label, seen in zip(
                    some.xy[some.valid].tolist(), some.label[some.valid].tolist(),
                    some.extra["visibility"][some.valid].tolist(), strict=True)]
                number += 1
    assert number == len(tiles.images) == len(tiles.points)
    wanted = [(index, round(x, 3), round(y, 3), label, seen) for index in range(len(plain.points))
              for (x, y), label, seen in zip(plain.points.xy[index].tolist(), plain.points.label[index].tolist(),
                                             plain.points.extra["visibility"][index].tolist(), strict=True)]
    near = [sorted(some) for some in (found, wanted)]
    assert len(found) == len(wanted)  # one on the far edge of a picture is a hair inside a smaller tile
    for one, other in zip(*near, strict=True):
        assert one == pytest.approx(other, abs=2e-3)


def test_a_point_between_two_tiles_is_in_the_one_of_its_nearest_pixel(stored):
    points = np.array([[[4.5, 2.0], [np.nextafter(np.float32(4.5), np.float32(0)), 2.0], [4.0, 4.5], [0.0, 9.5],
                        [0.5, 0.5]]] * 8, dtype=np.float32)
    stored(points=points, label=np.tile(np.arange(5) % 3, (8, 1)), images=np.zeros((8, 10, 14, 3), np.uint8))
    tiles = data.load("some(crop=5)", "train").points
    held = [one[0] for one in tiles[slice(0, 6)].to_lists()]
    assert [len(some) for some in held] == [2, 1, 0, 2, 0, 0]  # 2 rows of 3 tiles, some empty
    assert held[1] == [[-0.5, 2.0]] and sorted(held[3]) == [[0.0, pytest.approx(4.5)], [4.0, -0.5]]
    assert tiles.xy.shape[1] == 2  # as many slots as the fullest tile has points


def test_a_point_that_float32_rounds_to_the_border_is_in_one_tile(stored):
    points = np.full((8, 5, 2), np.nextafter(np.float32(0.5), np.float32(0)), np.float32)
    stored(points=points)
    tiles = data.load("some(crop=1)", "train").points
    assert tiles.valid.sum() == 4 * 5 and float(tiles.xy.min()) >= -0.5


def test_masks_are_cut_and_what_lies_beside_a_picture_is_no_tile(stored):
    mask = np.random.default_rng(7).random((8, 10, 14)) > 0.2
    mask[:, :3, :3] = True
    size = np.array([[10, 14], [4, 14], [10, 3], [4, 3]] * 2)
    plain = stored(mask=mask, size=size, points=np.ones((8, 5, 2), np.float32))
    tiles = data.load("some(crop=5)", "train")
    assert len(tiles.images) == 6 + 3 + 2 + 1
    assert tiles.mask.sum() == plain.mask.sum() and tiles.points.valid.sum() == plain.points.valid.sum() == 20
    assert torch.equal(tiles.mask[6:9, 0, :4, :4], torch.stack(
        [plain.mask[1, 0, :4, left : left + 4] for left in (0, 5, 10)]))


def test_pictures_are_scaled_before_they_are_cut(stored):
    stored()
    both = data.load("some(crop=4, scale=0.5)", "val")
    small = data.load("some(scale=0.5)", "val")
    assert torch.equal(both.images[0], small.images[0, :, :4, :4]) and both.size == (4, 4)
    assert both.points.valid.sum() == small.points.valid.sum()


# Names and keys.


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("scal=0.5", r"data set 'some\(scal=0.5\)' has no option 'scal' .did you mean 'scale'"),
        ("scale=half", r"scale must be a number in \(0, 1\], got 'half'"),
        ("scale=0", r"scale must be a number in \(0, 1\], got 0"),
        ("scale=1.5", r"scale must be a number in \(0, 1\], got 1.5"),
        ("scale=nan", r"scale must be a number in \(0, 1\], got nan"),
        ("crop=2.5", "crop must be an integer above 0, got '2.5'"),
        ("crop=-64", "crop must be an integer above 0, got -64"),
        ("crop=64, crop=32", "crop must be given once, got 32 and 64"),
    ],
)
@pytest.mark.bad_input
def test_options_that_cannot_be_are_named(stored, options, named):
    stored()
    for ask in (data.check, lambda name: data.load(name, "train")):
        with pytest.raises(ValueError, match=named):
            ask(f"some({options})")


@pytest.mark.bad_input
def test_a_set_that_is_not_there_or_a_size_of_a_run_are_named(stored):
    stored()
    with pytest.raises(FileNotFoundError, match=r"no data set 'sme'.*did you mean 'some'"):
        data.check("sme(scale=0.5)")
    with pytest.raises(ValueError, match="keeps its own size"):
        data.load("some(scale=0.5)", "train", 64)
    with pytest.raises(ValueError, match="size must be None, as the set has its own"):
        Run(dataset="some(scale=0.5)", size=64)


def test_a_scale_that_leaves_no_label_is_named(stored):
    mask = np.zeros((8, 10, 14), bool)
    mask[:, ::2] = True
    stored(mask=mask, points=np.zeros((8, 5, 2), np.float32))
    with pytest.raises(ValueError, match=r"some.npz: at scale 0.5 no labelled point of split 'val' lies where mask is"):
        data.load("some(scale=0.5)", "val")


def test_a_run_is_known_by_the_files_content_and_the_options_wherever_it_lies(stored, tmp_path):
    stored()
    path = tmp_path / "elsewhere.npz"
    path.write_bytes(sets.find("some").read_bytes())
    names = ("some", "some(scale=0.5)", "some(crop=4)", "some(scale=0.5, crop=4)")
    keys = {name: store.key(Run(dataset=name)) for name in names}
    assert len(set(keys.values())) == len(names)
    for name in names:
        assert store.key(Run(dataset=name.replace("some", str(path)))) == keys[name]
        assert sets.digest(name) == sets.digest("some") and sets.find(name) == sets.find("some")
        assert str(tmp_path) not in store.identity(Run(dataset=name.replace("some", str(path))))["run"]
    assert store.key(Run(dataset="some(crop=4,  scale=0.5)")) == keys["some(scale=0.5, crop=4)"]
    assert "falloff.data.resized" in store.ingredients(Run(dataset=names[1]))
    assert "falloff.data.resized" not in store.ingredients(Run(dataset="some"))


def test_names_of_files_and_folders_with_brackets_are_no_options(tmp_path, monkeypatch):
    monkeypatch.setenv("FALLOFF_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    path = write_set(tmp_path, "some (1)")
    for name in ("some (1)", str(path), "some (1)/some (1).npz"):
        assert sets.find(name) == path and sets.module(name) == "falloff.data.npz"
    assert sets.anywhere("some (1)/some (1).npz(scale=0.5)") == f"{path}(scale=0.5)"
    assert sets.short(f"{path}(scale=0.5)") == "some (1)(scale=0.5)"
    assert data.load("some (1)/some (1).npz(scale=0.5)", "val").size == (8, 8)


def test_a_resized_set_is_trained_on(stored):
    from falloff.training import train

    stored()
    for options in ("scale=0.5", "crop=5"):
        run = Run(dataset=f"some({options})", width=2, steps=2, batch=2, evaluations=1, form="eager",
                  precision="float32")
        assert 0 <= train(run).curve[0]["ap"] <= 1
    assert resized.of("some(crop=5)") == resized.Resize(crop=5)
