import pytest
import torch

from falloff import data
from falloff.data import digits, variants
from falloff.run import Run
from falloff.study import store

pytestmark = pytest.mark.usefixtures("few_scenes")


def pair(options, split="train"):
    """A variant and the plain scenes."""
    return data.load(f"digits({options})", split), data.load("digits", split)


@pytest.mark.parametrize("options", ["disc=3", "jitter=2", "missing=0.4, ignore=6", "shuffled=1"])
def test_what_concerns_labels_leaves_pictures_and_what_is_measured_against_alone(options):
    for split in ("val", "test", "fresh"):
        made, plain = pair(options, split)
        assert torch.equal(made.images, plain.images) and torch.equal(made.points.xy, plain.points.xy)
        assert made.mask is None
    made, plain = pair(options)
    assert torch.equal(made.images, plain.images) and made.points.valid.sum() != 0
    again = variants.read(f"digits({options})", "train")
    assert torch.equal(again.points.xy, made.points.xy) and torch.equal(again.points.label, made.points.label)


def test_jittered_labels_lie_as_far_off_as_asked_in_all_directions():
    made, plain = pair("jitter=2")
    moved = (made.points.xy - plain.points.xy)[plain.points.valid]
    assert torch.allclose(moved.norm(dim=1), torch.full((len(moved),), 2.0), atol=1e-4)
    assert bool((moved.mean(0).abs() < 0.5).all()) and torch.equal(made.points.label, plain.points.label)


def test_missing_labels_are_gone_and_no_pixel_near_them_counts():
    made, plain = pair("missing=0.4, ignore=6")
    gone = plain.points.valid & ~made.points.valid
    assert float(gone.sum() / plain.points.valid.sum()) == pytest.approx(0.4, abs=0.1)
    image, point = gone.nonzero()[0].tolist()
    x, y = plain.points.xy[image, point].round().long().tolist()
    assert not made.mask[image, 0, y, x]
    without, _ = pair("missing=0.4")
    assert without.mask is None and torch.equal(without.points.valid, made.points.valid)
    kept = made.points.xy[made.points.valid].round().long()
    owner = made.points.valid.nonzero()[:, 0]
    assert made.mask[owner, 0, kept[:, 1], kept[:, 0]].all()  # also where one that is missing lies near


def test_a_disc_labels_every_pixel_within_its_radius():
    made, plain = pair("disc=2")
    scene = int((plain.points.valid.sum(1) == 1).nonzero()[0])
    x, y = plain.points.xy[scene, 0].tolist()
    wanted = {(i, j) for i in range(64) for j in range(64) if (i - x) ** 2 + (j - y) ** 2 <= 4}
    found = made.points.xy[scene][made.points.valid[scene]]
    assert {tuple(map(int, xy)) for xy in found.tolist()} == wanted and len(found) == len(wanted)
    assert set(made.points.label[scene][made.points.valid[scene]].tolist()) == {int(plain.points.label[scene, 0])}
    tiny, _ = pair("disc=0.1")
    assert torch.equal(tiny.points.valid.sum(1), plain.points.valid.sum(1))  # each its own pixel


def test_shuffled_scenes_have_the_labels_of_others():
    made, plain = pair("shuffled=1")
    assert torch.equal(made.points.xy[1:], plain.points.xy[:-1])


def test_scenes_have_as_many_digits_and_as_much_context_as_asked():
    dense = data.load("digits(points=9, size=96)", "val")
    assert set(dense.points.valid.sum(1).tolist()) == {9} and dense.size == (96, 96)
    wide = data.load("digits(size=128, within=64)", "train")
    assert wide.size == (128, 128) and float(wide.points.xy[wide.points.valid].min()) >= 38


@pytest.mark.parametrize(
    ("name", "split", "grey", "count", "middle"),
    [
        ("digits", "train", [133.67, 140.71, 141.18], 152, [31.230, 32.158]),
        ("digits", "fresh", [136.60, 141.63, 132.44], 181, [31.085, 31.806]),
        ("digits(disc=2)", "train", [133.67, 140.71, 141.18], 1915, [31.455, 32.241]),
        ("digits(jitter=2)", "train", [133.67, 140.71, 141.18], 152, [31.254, 31.946]),
        ("digits(missing=0.4, ignore=6)", "train", [133.67, 140.71, 141.18], 102, [31.261, 32.218]),
        ("digits(points=9, size=96)", "choosing", [135.52, 136.50, 138.10], 432, [47.112, 46.179]),
        ("digits(points=3, size=128, within=64)", "val", [128.02, 128.54, 128.92], 144, [62.147, 62.491]),
    ],
)
def test_scenes_that_were_recorded_are_made_as_they_were(name, split, grey, count, middle):
    # Mean grey of the first scenes, how many points there are, and where they lie on average.
    made = data.load(name, split)
    assert made.images[:3].double().mean((1, 2, 3)).tolist() == pytest.approx(grey, abs=0.01)
    assert int(made.points.valid.sum()) == count
    assert made.points.xy[made.points.valid].double().mean(0).tolist() == pytest.approx(middle, abs=0.001)


# Every pixel of ink.


def share(dataset):
    return float(dataset.points.valid.sum()) / dataset.images.numel()


@pytest.mark.parametrize("options", ["ink=0.5", "ink=0.2, points=12, apart=7, size=80, within=70"])
@pytest.mark.parametrize("split", ["train", "val", "fresh"])
def test_every_pixel_of_ink_is_a_point(options, split, monkeypatch):
    made = data.load(f"digits({options})", split)
    assert made.classes == ("ink",) and set(made.points.label[made.points.valid].tolist()) == {0}
    rest = options.partition(", ")[2]
    assert torch.equal(made.images, data.load(f"digits({rest})", split).images)  # of the same pictures
    backgrounds = digits._backgrounds
    monkeypatch.setattr(digits, "_backgrounds", lambda *args: 0 * backgrounds(*args))
    opaque = variants.read(f"digits({rest})", split).images[:, 0] / 255  # white on black
    found = torch.zeros(opaque.shape, dtype=torch.bool)
    scene, point = made.points.valid.nonzero(as_tuple=True)
    x, y = made.points.xy[scene, point].long().unbind(-1)
    found[scene, y, x] = True
    assert torch.equal(made.points.xy[scene, point], torch.stack([x, y], -1).float())  # on pixels
    assert int(found.sum()) == len(scene)  # each once
    least = variants.of(f"digits({options})").ink
    sure = (opaque - least).abs() > 0.015  # pictures of 256 greys hold ink to about that
    assert torch.equal(found[sure], (opaque >= least)[sure]) and 0.9 < float(sure.float().mean()) < 1
    assert found.any() and not found.all()


def test_more_ink_is_on_more_pixels():
    few, more, most = (data.load(f"digits(points=18, apart=7, ink={ink})", "val") for ink in (0.8, 0.5, 0.2))
    assert 0 < share(few) < share(more) < share(most) and share(more) == pytest.approx(0.3, abs=0.02)
    assert share(data.load("digits(points=6, ink=0.5)", "val")) == pytest.approx(0.1, abs=0.01)
    dense = data.load("digits(points=32, apart=5, ink=0.5)", "val")
    assert share(dense) == pytest.approx(0.5, abs=0.02) and dense.points.valid.shape[1] > 1000


@pytest.mark.parametrize("options", ["ink=0.5", "disc=3"])
def test_scenes_some_at_a_time_give_the_same_points(options, monkeypatch):
    made = data.load(f"digits({options})", "train").points
    monkeypatch.setattr(variants, "PART", 7)
    again = variants.read(f"digits({options})", "train").points
    assert torch.equal(again.xy, made.xy) and torch.equal(again.valid, made.valid)
    assert torch.equal(again.label, made.label)


def test_ink_that_is_shuffled_is_that_of_another_scene():
    made, plain = data.load("digits(ink=0.5, shuffled=1)", "train"), data.load("digits(ink=0.5)", "train")
    assert torch.equal(made.points.xy[1:], plain.points.xy[:-1]) and torch.equal(made.images, plain.images)
    measured = data.load("digits(ink=0.5, shuffled=1)", "test")
    assert torch.equal(measured.points.xy, data.load("digits(ink=0.5)", "test").points.xy)


def test_digits_are_as_far_apart_as_asked():
    made = data.load("digits(points=9, apart=10)", "val")
    apart = torch.cdist(made.points.xy, made.points.xy)[:, ~torch.eye(9, dtype=torch.bool)]
    assert 10 <= float(apart.min()) < 14
    assert torch.equal(data.load("digits(apart=14)", "val").images, data.load("digits", "val").images)


@pytest.mark.parametrize("split", ["train", "val", "fresh"])
def test_pairs_lie_around_the_centre_as_far_apart_as_asked(split):
    made, plain = pair("pair=5", split)
    kept = plain.points.valid
    ends, label = made.points.xy.view(48, -1, 2, 2)[kept], made.points.label.view(48, -1, 2)[kept]
    assert torch.allclose((ends[:, 0] - ends[:, 1]).norm(dim=-1), torch.tensor(5.0), atol=1e-4)
    assert torch.allclose(ends.mean(1), plain.points.xy[kept], atol=1e-4)  # none is so near the border
    assert torch.equal(label, plain.points.label[kept][:, None].expand(-1, 2))
    assert int(made.points.valid.sum()) == 2 * int(kept.sum()) and torch.equal(made.images, plain.images)
    along = (ends[:, 0] - ends[:, 1]) / 5
    assert bool((along.mean(0).abs() < 0.25).all())  # in all directions
    other = data.load("digits(pair=5)", "test").points.xy
    angles = [(one[0, 0] - one[0, 1]).tolist() for one in (made.points.xy, other)]
    assert angles[0] != pytest.approx(angles[1])  # each split has its own
    assert torch.equal(variants.read("digits(pair=5)", split).points.xy, made.points.xy)


def test_pairs_stay_in_the_picture_and_apart():
    made, _ = pair("pair=60", "val")
    ends = made.points.xy.view(48, -1, 2, 2)[made.points.valid.view(48, -1, 2)[..., 0]]
    assert float(ends.min()) > -1e-4 and float(ends.max()) < 63 + 1e-4
    assert torch.allclose((ends[:, 0] - ends[:, 1]).norm(dim=-1), torch.tensor(60.0), atol=1e-4)
    with pytest.raises(ValueError, match=r"pair must be at most 63 pixels, .*, got 64"):
        data.load("digits(pair=64)", "val")


def test_labels_of_pairs_can_be_moved_as_others():
    made, still = data.load("digits(pair=4, jitter=1)", "train"), data.load("digits(pair=4)", "train")
    moved = (made.points.xy - still.points.xy)[still.points.valid]
    assert torch.allclose(moved.norm(dim=1), torch.tensor(1.0), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("jiter=2", "has no option 'jiter' .did you mean 'jitter'"),
        ("jitter=x", "jitter must be float, got 'x'"),
        ("points=1.5", "points must be int, got '1.5'"),
        ("missing=1", r"missing must be in \[0, 1\), got 1"),
        ("disc=-1", "disc must be a finite number, at least 0, got -1"),
        ("jitter=nan", "jitter"),
        ("ink=1.01", r"ink must be in \[0, 1\], got 1.01"),
        ("ink=inf", "ink"),
        ("apart=-2", "apart must be a finite number, at least 0, got -2"),
        ("ink=0.5, disc=2", "ink labels pixels, disc concerns the labels of centres"),
        ("jitter=1, ink=0.5", "ink labels pixels, jitter concerns"),
        ("ink=0.5, missing=0.2", "missing"),
        ("ink=0.5, ignore=3", "ignore"),
        ("pair=4, ink=0.5", "pair"),
    ],
)
@pytest.mark.bad_input
def test_variants_that_cannot_be_are_named_before_anything_is_made(options, named):
    with pytest.raises(ValueError, match=named):
        data.check(f"digits({options})")


def test_a_run_on_a_variant_has_a_key_of_its_own_and_counts_its_module():
    run = Run(dataset="digits(jitter=1)")
    assert store.key(run) != store.key(Run()) and "falloff.data.variants" in store.ingredients(run)
    assert "falloff.data.variants" not in store.ingredients(Run())
