import numpy as np
import pytest
import torch

from falloff.data import SPLITS, digits


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


def test_sizes_as_documented():
    assert digits.COUNTS == {"train": 4096, "val": 192, "test": 512, "choosing": 512, "fresh": 1024}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"split": "training"}, "split must be one of train, val, test, choosing, fresh, got 'training'"),
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


# Scenes of the record.


@pytest.mark.parametrize(("split", "kind"), [("choosing", "val"), ("fresh", "test")])
def test_the_records_scenes_are_others_of_the_same_kind(split, kind, monkeypatch):
    images, points = digits.scenes(split, 96)
    known, _ = digits.scenes(kind, digits.COUNTS[kind])
    assert not {image.tobytes() for image in images.numpy()} & {image.tobytes() for image in known.numpy()}
    asked = []
    for name in ("_handwriting", "_textures"):
        made = getattr(digits, name)
        monkeypatch.setattr(digits, name, lambda of, made=made: asked.append(of) or made(of))
    again, _ = digits.scenes(split, 96)
    assert asked == [kind, kind] and torch.equal(again, images) and int(points.valid.sum(1).max()) == 6


def test_scenes_hold_as_many_digits_as_asked_as_far_apart_within_the_middle():
    images, points = digits.scenes("val", 32, size=128, digits=(3, 4), distance=20.0, within=64)
    assert images.shape[-2:] == (128, 128) and set(points.valid.sum(1).tolist()) == {3, 4}
    xy = points.xy[points.valid]
    assert float(xy.min()) >= 38 and float(xy.max()) <= 128 - 1 - 38
    apart = torch.cdist(points.xy, points.xy)[points.valid.all(1)]
    assert float(apart[:, ~torch.eye(4, dtype=torch.bool)].min()) >= 20.0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"digits": (0, 3)}, r"digits must be the fewest and the most of a scene, at least 1, got \(0, 3\)"),
        ({"digits": (4, 3)}, "digits"),
        ({"digits": (40, 40)}, "40 digits 14 px apart do not fit in 64 x 64 pixels"),
        ({"distance": 0.0}, "distance"),
        ({"within": 65}, r"within must be above 12 and at most size \(64\), got 65"),
        ({"within": 12}, "within"),
    ],
)
@pytest.mark.bad_input
def test_scenes_that_cannot_be_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        digits.scenes("val", 2, **arguments)
