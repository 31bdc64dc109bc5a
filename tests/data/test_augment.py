from dataclasses import replace

import pytest
import torch
from kornia.augmentation import AugmentationSequential, RandomAffine, RandomHorizontalFlip

from falloff import heatmaps
from falloff.data import augment
from falloff.points import Points

HEIGHT, WIDTH, COUNT = 40, 56, 12
ALL = {"flip": 0.5, "degrees": 20.0, "scale": 0.2, "shift": 0.1, "brightness": 0.2}


def blobs(reach=8.0):
    """A Gaussian blob in each picture, somewhere between pixels, and the points at their centres."""
    generator = torch.Generator().manual_seed(0)
    middle = torch.tensor([WIDTH / 2, HEIGHT / 2])
    xy = middle + (torch.rand(COUNT, 1, 2, generator=generator) - 0.5) * reach * 2
    gap_x, gap_y = torch.arange(WIDTH) - xy[..., 0], torch.arange(HEIGHT) - xy[..., 1]
    images = torch.exp(-(gap_x[:, None] ** 2 + gap_y[..., None] ** 2) / 8)[:, None]
    label = torch.arange(COUNT)[:, None] % 3
    extra = {"size": torch.full((COUNT, 1, 2), 4.0), "instance": torch.ones(COUNT, 1, dtype=torch.int64)}
    return images, Points(xy, label, torch.ones(COUNT, 1, dtype=torch.bool), extra=extra)


@pytest.mark.parametrize("options", [{"flip": 1.0}, {"degrees": 40.0}, {"scale": 0.3}, {"shift": 0.1},
                                     {**ALL, "brightness": 0.0}])
def test_a_blob_and_its_point_go_to_the_same_place(options):
    images, points = blobs()
    torch.manual_seed(1)
    changed, moved, _ = augment.make(**options)(images, points)
    share = changed[:, 0] / changed[:, 0].sum((1, 2), keepdim=True)
    found = torch.stack([(share.sum(1) * torch.arange(WIDTH)).sum(1), (share.sum(2) * torch.arange(HEIGHT)).sum(1)], 1)
    assert moved.valid.all() and float((found - moved.xy[:, 0]).abs().max()) < 0.1
    assert float((moved.xy - points.xy).abs().max()) > 1
    assert torch.equal(moved.extra["instance"], points.extra["instance"])


@pytest.mark.parametrize("options", [{"shift": 0.3}, {"degrees": 30.0}, {"scale": 0.3}, {"flip": 1.0, "shift": 0.2}])
def test_pictures_are_drawn_at_the_centres_that_points_count_from(options):
    # Whose pixels hold their own x and y: what is drawn where a point went to is where it came from.
    row, column = torch.meshgrid(torch.arange(40.0), torch.arange(56.0), indexing="ij")
    images = torch.stack([column, row]).expand(COUNT, 2, -1, -1)
    _, points = blobs()
    torch.manual_seed(1)
    changed, moved, _ = augment.make(**options)(images, points)
    at = 2 * moved.xy / torch.tensor([WIDTH - 1, HEIGHT - 1]) - 1
    found = torch.nn.functional.grid_sample(changed, at[:, None], align_corners=True)[:, :, 0, 0]
    assert moved.valid.all() and torch.allclose(found, points.xy[:, 0], atol=1e-3)


def test_what_is_drawn_follows_torchs_seed_and_differs_by_image():
    images, points = blobs()
    change = augment.make(**ALL)
    seeds = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        seeds.append(change(images, points)[:2])
    assert torch.equal(seeds[0][0], seeds[1][0]) and torch.equal(seeds[0][1].xy, seeds[1][1].xy)
    assert not torch.equal(seeds[0][0], seeds[2][0])
    assert len((seeds[0][1].xy - points.xy)[:, 0, 0].unique()) == COUNT


def test_a_mirror_swaps_the_classes_that_the_set_declares_and_no_others():
    images, points = blobs()
    mirrored = augment.make(flip=1.0, swap=((0, 1),))(images, points)[1]
    assert mirrored.label[:, 0].tolist() == [1, 0, 2] * (COUNT // 3)
    assert torch.equal(mirrored.xy[..., 0], WIDTH - 1 - points.xy[..., 0])
    turned = augment.make(degrees=10.0, swap=((0, 1),))(images, points)[1]
    assert torch.equal(turned.label, points.label)


def test_points_that_leave_become_padding_and_no_loss_is_stopped_by_them():
    images, points = blobs(reach=18.0)
    torch.manual_seed(0)
    moved = augment.make(shift=0.5)(images, points)[1]
    assert 0 < int(moved.valid.sum()) < COUNT
    moved.check_inside((HEIGHT, WIDTH), 3)
    assert not moved.xy[~moved.valid].any()


def test_lengths_grow_with_the_picture():
    images, points = blobs()
    moved = augment.make(scale=0.3)(images, points)[1]
    middle = torch.tensor([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    factor = (moved.xy - middle) / (points.xy - middle)
    assert torch.allclose(moved.extra["size"], 4 * factor, rtol=1e-3)


def test_a_mask_goes_along_and_is_false_beyond_the_picture():
    images, points = blobs()
    mask = torch.ones(COUNT, 1, HEIGHT, WIDTH, dtype=torch.bool)
    mask[..., :10] = False
    mirrored = augment.make(flip=1.0)(images, points, mask)[2]
    assert torch.equal(mirrored, mask.flip(-1))
    torch.manual_seed(0)
    shifted, _, left = augment.make(shift=0.2)(images + 1, points, mask)
    assert left.dtype == torch.bool and 0.5 < left.float().mean() < mask.float().mean()
    assert shifted.min() > 0.999  # the border is repeated


def test_brightness_moves_all_pixels_of_an_image_alike():
    images, points = blobs()
    brighter, same, _ = augment.make(brightness=0.3)(images, points)
    change = (brighter - images).flatten(1)
    assert torch.allclose(change, change[:, :1].expand_as(change), atol=1e-6)
    assert float(change.abs().max()) <= 0.3 and torch.equal(same.xy, points.xy)


@pytest.mark.parametrize(("options", "named"), [
    ({}, "one of degrees, flip, scale, shift, brightness must be above 0"),
    ({"flip": 1.5}, r"flip must be in \[0, 1\], got 1.5"),
    ({"degrees": -1}, "degrees must be finite and at least 0, got -1"),
    ({"scale": -0.1}, "scale must be in"),
])
@pytest.mark.bad_input
def test_options_out_of_range_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        augment.make(**options)


@pytest.mark.parametrize("through", ["key points", "matrix"])
def test_kornia_alone_moves_points_as_it_moves_their_picture(through):
    points = Points.from_lists([([[10.25, 20.5], [30.0, 12.0], [38.0, 30.0]], [0, 1, 2])])
    heat = heatmaps.render(points, (HEIGHT, WIDTH), 3, 1.2)
    change = AugmentationSequential(RandomAffine(20, scale=(1.2, 1.2), p=1.0, align_corners=True),
                                    RandomHorizontalFlip(p=1.0), data_keys=["input", "keypoints"])
    torch.manual_seed(2)
    picture, xy = change(heat, points.xy)
    if through == "key points":
        moved = replace(points, xy=xy).inside((HEIGHT, WIDTH))
    else:
        moved = points.affine(change.transform_matrix, (HEIGHT, WIDTH))
    assert moved.valid.any()
    for point in moved.valid[0].nonzero().flatten().tolist():
        share = picture[0, point] / picture[0, point].sum()
        found = [float((share.sum(0) * torch.arange(WIDTH)).sum()), float((share.sum(1) * torch.arange(HEIGHT)).sum())]
        assert moved.xy[0, point].tolist() == pytest.approx(found, abs=0.1)
