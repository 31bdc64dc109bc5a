import os

import numpy as np
import pytest
import torch
from scenes import set_arrays, write_set

from falloff import data, losses, sets
from falloff.data import digits, npz
from falloff.points import Points

SPLITS = data.SPLITS


def test_load_gives_the_whole_of_a_split(monkeypatch):
    monkeypatch.setattr(digits, "COUNTS", {"train": 5, "val": 4, "test": 3})
    data._load.cache_clear()
    sets = {split: data.load("digits", split) for split in SPLITS}
    data._load.cache_clear()
    assert {split: len(one.images) for split, one in sets.items()} == {"train": 5, "val": 4, "test": 3}
    assert sets["val"].size == (64, 64) and sets["val"].classes == tuple("0123456789")


@pytest.mark.bad_input
def test_bad_arguments_of_load_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("FALLOFF_DATA", str(tmp_path))
    write_set(tmp_path, "some")
    with pytest.raises(ValueError, match="split must be one of train, val, test, choosing, fresh, got 'dev'"):
        data.load("digits", "dev")
    with pytest.raises(ValueError, match="size must be an integer, at least 64, got 8"):
        data.load("digits", "val", 8)
    with pytest.raises(ValueError, match=r"some .*size must be None, got 64"):
        data.load("some", "val", 64)
    for split in (["train"], None, 0):
        with pytest.raises(TypeError, match="split must be text, one of train, val, test or another"):
            data.load("digits", split)
    for name in ("absent", "", "..", "../some", "some/some"):
        with pytest.raises(
            FileNotFoundError, match=r"no data set .* Known here: digits, (.+, )?some\. FALLOFF_DATA names"
        ):
            data.load(name, "val")


@pytest.mark.bad_input
def test_a_size_of_0_is_refused_and_not_taken_for_the_default():
    with pytest.raises(ValueError, match="size"):
        data.load("digits", "val", 0)


def test_a_set_is_checked_whole_before_it_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("FALLOFF_DATA", str(tmp_path))
    arrays = set_arrays()
    arrays["points"][39, 0] = 99.0
    write_set(tmp_path, "faulty", **arrays)
    write_set(tmp_path, "sound")
    data.check("digits")
    data.check("sound")
    for use in (data.check, lambda name: data.load(name, "train")):
        with pytest.raises(ValueError, match=r"faulty\.npz: image 39 of split 'test', point 0 at .* lies outside"):
            use("faulty")
    with pytest.raises(FileNotFoundError, match="no data set 'absent'"):
        data.check("absent")


@pytest.mark.bad_input
def test_what_is_no_set_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("FALLOFF_DATA", str(tmp_path / "sets"))
    monkeypatch.chdir(tmp_path)
    arrays = dict(np.load(write_set(tmp_path, "cells")))
    (tmp_path / "cells" / "cells.csv").touch()
    folder = "cells is a folder.* an .npz file is taken, too, which falloff.data.save writes"
    for name in ("cells", tmp_path / "cells", str(tmp_path / "cells") + "/"):
        with pytest.raises(FileNotFoundError, match=folder):
            data.check(name)
    for name, named in (
        ("cells/cells.csv", "cells/cells.csv does not end in .npz"),
        (tmp_path / "cells" / "Cells.npz", r"Cells.npz does not exist \(did you mean 'cells.npz'\?\)"),
        ("digit", r"digit.npz does not exist \(did you mean 'digits'\?\)"),
    ):
        with pytest.raises(FileNotFoundError, match=named):
            data.check(name)
    for given in (arrays, arrays["images"], None, 3, ["cells.npz"]):
        for use in (data.check, lambda name: data.load(name, "train")):
            with pytest.raises(TypeError, match=f"path to its .npz file, got {type(given).__name__}; falloff"):
                use(given)


def test_a_set_that_was_mended_is_checked_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("FALLOFF_DATA", str(tmp_path))
    write_set(tmp_path, "mended", visibility=np.zeros((40, 2)))
    with pytest.raises(ValueError, match="no point is labelled"):
        data.check("mended")
    write_set(tmp_path, "mended")
    data.check("mended")


def test_a_path_to_a_file_is_a_set(tmp_path, monkeypatch):
    path = write_set(tmp_path, "some")
    plain = data.load(str(path), "val")
    monkeypatch.chdir(tmp_path / "some")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("some.npz", "./some.npz", "../some/some.npz", "~/some/some.npz", path):
        one = data.load(name, "val")
        assert one.name == "some" and torch.equal(one.images, plain.images)
        data.check(name)
    with pytest.raises(FileNotFoundError, match=r"no data set 'absent': .*/some/absent.npz does not exist"):
        data.load("absent.npz", "val")


def test_load_follows_a_files_content_as_its_digest_does(tmp_path, monkeypatch):
    # Else a long-lived process stores a run on the old data under the new data's digest.
    monkeypatch.setenv("FALLOFF_DATA", str(tmp_path))
    write_set(tmp_path, "renewed")
    before = sets.digest("renewed"), data.load("renewed", "val").classes
    write_set(tmp_path, "renewed", names=np.array(["light", "dark"]))
    assert sets.digest("renewed") != before[0]
    assert data.load("renewed", "val").classes == ("light", "dark")


def test_real_sets_where_they_are():
    if not os.environ.get("FALLOFF_DATA"):
        pytest.skip("FALLOFF_DATA is not set: no real data set to read")
    names = sets.available()
    if not names:
        pytest.skip(f"no data set under {sets.root()}")
    for name in names:
        if "points" in np.load(sets.find(name)).files:
            data.check(name)
        else:
            with pytest.raises(ValueError, match="boxes in place of points"):
                data.check(name)


def test_the_reader_of_a_set_is_the_module_that_makes_it_or_that_of_files():
    assert data.reader("digits") is digits.read and data.reader("some") is npz.read


def dataset(**changed):
    images, points = digits.scenes("val", 3)
    return data.Dataset(**{"name": "some", "split": "val", "images": images, "points": points,
                           "classes": digits.CLASSES, **changed})


def test_the_first_images_keep_all_that_goes_with_them():
    mask, sizes = torch.rand(3, 1, 64, 64) < 0.5, torch.full((3, 2), 64)
    first = dataset(mask=mask, sizes=sizes, swap=((0, 1),)).head(2)
    assert len(first.images) == len(first.points) == len(first.sizes) == 2 and first.swap == ((0, 1),)
    assert torch.equal(first.mask, mask[:2])


def test_a_point_on_the_far_edge_of_a_smaller_picture_counts():
    points = Points.from_lists([([[11.5, 8.5], [11.5, -0.5]], [0, 0]), ([[63.5, 63.5]], [0])])
    one = data.Dataset("some", "val", torch.zeros(2, 1, 64, 64, dtype=torch.uint8), points, ("corner",),
                       sizes=torch.tensor([[9, 12], [64, 64]]))
    assert torch.equal(one.points.valid, points.valid) and (one.points.xy - points.xy).abs().max() < 1e-5
    assert torch.equal(one.head(2).points.xy, one.points.xy)
    assert losses.make("bce")(torch.zeros(2, 1, 64, 64), one.points, mask=one.mask, parts=True)["positives"] > 0


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"mask": torch.ones(3, 1, 64, 64)}, r"some: mask must be bool \(3, 1, 64, 64\), got torch.float32"),
        ({"mask": torch.ones(3, 64, 64, dtype=torch.bool)}, "some: mask must be bool"),
        ({"sizes": torch.full((2, 2), 64)}, r"sizes must be \(3, 2\), got \(2, 2\)"),
        ({"sizes": torch.full((3, 2), 65)}, "image 0: sizes must be .* from 1 to the images"),
        ({"sizes": torch.full((3, 2), 6)}, "image 0, point 0 at .* lies outside its picture"),
        ({"swap": ((0, 10),)}, r"some: swap must be pairs of classes, integers in \[0, 10\), no class in two"),
        ({"swap": ((0, 1), (1, 2))}, r"swap must be pairs .* got \[1, 2\] in \[\[0, 1\], \[1, 2\]\]"),
        ({"swap": ((1, 1),)}, r"got \[1, 1\]"),
        ({"images": torch.zeros(3, 1, 64, 64)}, r"some: images must be uint8 .*, got torch.float32 \(3, 1, 64, 64\)"),
    ],
)
@pytest.mark.bad_input
def test_a_dataset_whose_parts_do_not_fit_is_refused(changed, named):
    with pytest.raises(ValueError, match=named):
        dataset(**changed)
