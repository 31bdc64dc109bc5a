import pytest
import torch

from falloff import data
from falloff.data import digits, variants
from falloff.run import Run
from falloff.study import store


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(digits, "COUNTS", dict.fromkeys(digits.COUNTS, 48))
    data._load.cache_clear()
    yield
    data._load.cache_clear()


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
    ("options", "named"),
    [
        ("jiter=2", "has no option 'jiter' .did you mean 'jitter'"),
        ("jitter=x", "jitter must be float, got 'x'"),
        ("points=1.5", "points must be int, got '1.5'"),
        ("missing=1", r"missing must be in \[0, 1\), got 1"),
        ("disc=-1", "disc must be a finite number, at least 0, got -1"),
        ("jitter=nan", "jitter"),
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
