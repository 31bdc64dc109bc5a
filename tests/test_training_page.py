"""The blocks of "In your own training" run as they stand, from the top down, and do what the text beside them says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from falloff import decode, heatmaps, losses
from falloff.points import Points

PAGE = Path(__file__).resolve().parents[1] / "book" / "training.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.M | re.S)
SCRIPT = re.compile(r"# (\w+\.py)\b")  # a block that starts so is a file of its own


@pytest.fixture(scope="module")
def after(tmp_path_factory) -> dict[str, dict]:
    """The names that there are after each section, by its heading."""
    names: dict = {"__name__": "__main__"}
    sections: dict[str, dict] = {}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Lightning and the exporter
        patch.chdir(tmp_path_factory.mktemp("training"))
        torch.manual_seed(0)
        for part in re.finditer(r"^## (.*?)\n(.*?)(?=^## |\Z)", TEXT, flags=re.M | re.S):
            for block in BLOCK.finditer(TEXT, part.start(), part.end()):
                if not SCRIPT.match(block[1]):
                    lines = TEXT.count("\n", 0, block.start(1))  # a traceback names the page's own lines
                    exec(compile("\n" * lines + block[1], PAGE, "exec"), names)
            sections[part[1]] = dict(names)
    return sections


def test_blocks_are_short_enough_for_the_page():
    blocks = BLOCK.findall(TEXT)
    assert len(blocks) > 20
    assert max(len(line) for block in blocks for line in block.splitlines()) <= 79
    assert max(block.count("\n") for block in blocks) <= 18


def test_coco_s_key_points_and_boxes_come_in_where_they_lie(after):
    names = after["Points"]
    points, centres, corners = names["points"], names["centres"], names["corners"]
    assert points.label.tolist() == [[0, 1, 2], [0, 1, 0]]
    assert points.valid.tolist() == [[True, True, True], [True, True, False]]
    assert points.xy[0].tolist() == [[26.5, 30.0], [20.0, 18.5], [35.0, 20.0]]
    assert points.extra["visibility"].tolist() == [[2, 2, 1], [2, 2, 0]]
    assert points.extra["scale"][:, 0].tolist() == pytest.approx([30.0, 720**0.5])
    # A box from the edge 12 to the edge 42 covers the pixels 12 to 41, of which 26.5 is the middle.
    assert centres.xy.tolist() == [[[26.5, 22.5]], [[41.5, 34.5]]]
    assert corners.xy[0].tolist() == [[11.5, 7.5], [41.5, 37.5]] and corners.label[0].tolist() == [0, 1]


def test_a_loader_with_workers_gives_pictures_and_points_in_one_order(after):
    names = after["Batches"]
    (image, labelled), = names["loader"]
    assert (labelled.valid.sum(1) == 3).any() and labelled.extra.keys() == names["points"].extra.keys()
    assert torch.equal(image, heatmaps.render(labelled, (64, 64), 3, sigma=3))


def test_the_loop_learns_and_the_parts_of_a_loss_sum_to_it(after):
    names = after["A plain loop"]
    start = names["loss"](torch.full((2, 3, 64, 64), names["start"]), names["points"])
    assert names["value"] < 0.8 * start
    whole = names["loss"](names["logits"].float().detach(), names["labelled"])
    assert names["each"].shape == (2,)
    torch.testing.assert_close(names["each"].sum(), sum(names["parts"].values()))
    torch.testing.assert_close(names["each"].sum(), whole, rtol=0.02, atol=0)  # the logits are in bfloat16 by now


def test_one_peak_a_map_is_measured_as_key_points(after):
    names = after["Points back from a net"]
    assert names["found"].label.tolist() == [[0, 1, 2]] * 2
    assert 0 <= names["pck"] <= 1 and 0 < names["nme"] < float("inf")


def test_several_animals_are_matched_and_taken_apart(after):
    names = after["Points back from a net"]
    labelled, animals = names["labelled"], names["animals"]
    assert 0 <= names["ap"] <= 1
    assert torch.equal(names["first"].valid, labelled.valid)  # one animal a picture in the page's own file
    assert animals.extra["keypoints"].shape == (2, 1, 3, 2)
    assert torch.equal(animals.extra["scale"], labelled.extra["scale"].amax(1, keepdim=True))


def test_lightning_and_accelerate_train_the_net(after):
    weights = [after[section]["net"] for section in ("Lightning", "accelerate")]
    assert weights[0] is weights[1]


def test_lightning_accumulates_steps_and_keeps_the_best_net(after):
    names = after["Lightning"]
    assert names["usual"] == names["steady"].normalizer == 5
    assert names["keep"].best_model_path.endswith("best.ckpt")
    assert names["keep"].best_model_score == pytest.approx(names["keep"].best_k_models.popitem()[1])
    assert [part.shape for part in names["best"].net.parameters()] == [part.shape for part in names["net"].parameters()]


def test_accumulated_parts_and_their_number_are_the_step_of_a_whole_batch(after):
    names = after["Lightning"]
    net, points, images = names["net"].cpu(), names["points"], names["images"]
    loss = losses.make("distance-aware", sigma=1.5, normalizer=names["usual"] / 2)  # of a picture: a part has one
    parts = [loss(net(images[n:n + 1]), points[n]) for n in range(2)]
    torch.testing.assert_close(sum(parts) / 2, names["loss"](net(images), points))


def test_labels_stay_whole_where_lightning_halves_a_batch(after):
    names = after["Lightning"]
    assert {part.dtype for part in names["halved"].net.parameters()} == {torch.bfloat16}
    assert all(part.isfinite().all() for part in names["halved"].net.parameters())
    (found, labelled), = names["halved"].seen
    assert labelled.xy.dtype == found.xy.dtype == torch.float32
    assert sorted(labelled.xy[labelled.valid].tolist()) == sorted(names["points"].xy[names["points"].valid].tolist())


def test_an_accumulated_step_is_that_of_the_whole_batch(after):
    names = after["Several processes, accumulated steps"]
    net, loss, count = names["net"], names["loss"], names["count"]
    parts = [loss(net(part), here, normalizer=count) for part, here in names["halves"]]
    whole = loss(net(names["image"]), names["labelled"])
    torch.testing.assert_close(sum(parts), whole)
    halved = losses.count([here for _, here in names["halves"]], parts=2)  # for a trainer that takes the mean
    parts = [loss(net(part), here, normalizer=halved) for part, here in names["halves"]]
    torch.testing.assert_close(sum(parts) / 2, whole)


def test_two_processes_step_as_one_on_the_whole_batch(tmp_path):
    scripts = {match[1]: block for block in BLOCK.findall(TEXT) if (match := SCRIPT.match(block))}
    assert list(scripts) == ["ddp.py"]
    last = "distributed.destroy_process_group()\n"
    assert scripts["ddp.py"].endswith(last)
    script = scripts["ddp.py"].removesuffix(last) + (
        "step = net.module\n"
        "gradient = step.weight.grad.clone()\n"
        "step.zero_grad()\n"
        "loss(step(images), points).backward()\n"
        "assert (gradient - step.weight.grad).norm() < 1e-6 * step.weight.grad.norm()\n"
        "everywhere = [None, None]\n"
        "distributed.all_gather_object(everywhere, mine)\n"
        "assert Points.cat(everywhere).to_lists() == points.to_lists()\n"
    ) + last
    (tmp_path / "ddp.py").write_text(script, encoding="utf-8")
    started = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "ddp.py"]
    done = subprocess.run(started, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr


def test_what_does_not_count_changes_nothing(after):
    names = after["What does not count"]
    assert names["mask"].shape == (2, 3, 1, 1) and names["mask"].sum() == 5  # one eye of one picture has no label
    assert sorted(names["half"].weight.flatten().tolist()) == [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]


def test_a_point_of_weight_0_is_not_charged_but_counted(after):
    names = after["What does not count"]
    labelled, hidden, loss = names["labelled"], names["hidden"], names["loss"]
    free = names["replace"](labelled, weight=torch.where(hidden, 0.0, 1.0))
    assert (losses.count(free), losses.count(labelled.where(~hidden))) == (5, 4)
    logits = torch.zeros(2, 3, 64, 64)
    value, background = loss(logits, free), loss(logits, labelled.where(~hidden))
    logits[heatmaps.positives(labelled.where(hidden), (64, 64), 3)] = 5.0
    assert loss(logits, free) == value and loss(logits, labelled.where(~hidden)) > background


def test_a_mask_of_pictures_fits_the_maps_at_a_stride(after):
    names = after["What does not count"]
    mask = torch.ones(2, 1, 64, 64, dtype=torch.bool)
    mask[0, :, :, 48:] = False
    assert torch.equal(heatmaps.counted(mask, 4), mask[:, :, ::4, ::4])
    maps = torch.randn(2, 3, 16, 16)
    value = names["loss"](maps, names["labelled"], mask=heatmaps.counted(mask, 4), stride=4)
    maps[0, :, :, 12:] += 1
    assert names["loss"](maps, names["labelled"], mask=heatmaps.counted(mask, 4), stride=4) == value


def test_a_net_at_a_stride_finds_boxes_in_pixels_of_the_picture(after):
    names = after["Stride, offsets and sizes of boxes"]
    assert names["maps"].shape == (2, 1, 16, 16) and names["value"].requires_grad
    torch.testing.assert_close(names["boxes"].xy, names["placed"].xy)
    assert names["boxes"].xy.max() > 16 and 0 <= names["ap"] <= 1
    wanted = names["wanted"]
    sizes, pixel = torch.zeros(2, 2, 16, 16), wanted.at_stride(4).xy.round().long()
    for picture, (x, y) in enumerate(pixel[:, 0].tolist()):
        sizes[picture, :, y, x] = wanted.extra["size"][picture, 0] / 4
    assert losses.at_points(sizes, wanted, "size", stride=4) == 0
    assert torch.equal(4 * losses.at_pixels(sizes, pixel), wanted.extra["size"])


def test_points_follow_pictures_that_are_made_one_size(after):
    names = after["Pictures of several sizes"]
    mask, cut, labelled = names["mask"], names["cut"], names["labelled"]
    assert mask.shape == (2, 1, 64, 64) and mask[0, 0].all(1).sum() == 48 and mask[1, 0].all(0).sum() == 56
    assert torch.equal(labelled.extra["scale"][:1], cut[0].extra["scale"])  # the longer side was right
    for old in ((96, 80), (50, 40), (41, 64)):
        points = Points.from_lists([([[20.3, 15.2], [10, 30.6]], [0, 1])])
        picture = heatmaps.render(points, old, 2, sigma=4)[0]
        filled, follow, kept = names["fitted"](picture, points)
        found = decode.peaks(filled[None], per_class=True, refine="log-parabola", mask=kept[None])
        torch.testing.assert_close(follow.xy, found.xy, rtol=0, atol=0.1)


def test_points_stay_on_what_kornia_moves(after):
    names = after["Augmentation"]
    assert names["size"] == (48, 48) and names["moved"].extra.keys() == names["labelled"].extra.keys()
    points = Points.from_lists([([[25, 30], [40, 20]], [0, 0]), ([[30, 38]], [0])])
    torch.manual_seed(1)
    moved_pictures = names["augment"](heatmaps.render(points, (64, 64), 1, sigma=3))
    moved = points.affine(names["augment"].transform_matrix, (48, 48))
    found = decode.peaks(moved_pictures, count=2, threshold=0.5, refine="log-parabola")
    assert moved.valid.tolist() == found.valid.tolist() == points.valid.tolist()
    assert not torch.allclose(moved.xy, points.xy, atol=1.0)
    distance = torch.cdist(moved.xy, found.xy).amin(-1)[points.valid]
    assert distance.max() < 0.1
    bent = names["augmentation"].RandomPerspective(0.3, p=1.0)
    bent(moved_pictures)
    with pytest.raises(ValueError, match="perspective"):
        points.affine(bent.transform_matrix, (48, 48))


def test_what_is_saved_comes_back(after):
    before, names = after["Augmentation"], after["Saving and going on"]
    assert torch.equal(names["points"].xy, before["points"].xy)
    assert names["points"].extra.keys() == before["points"].extra.keys()
    assert isinstance(names["running"], torch.nn.Module)
    fresh = losses.make("focal", normalizer="running")
    fresh.load_state_dict(names["running"].state_dict())
    logits = torch.zeros(1, 3, 64, 64)
    assert fresh(logits, names["points"][0]) == names["running"](logits, names["points"][0])


def test_the_exported_decoder_gives_the_same_points(after):
    names = after["ONNX, with the decoder"]
    xy, label, score, valid = (part.detach() for part in names["Exported"]().eval()(names["images"]))
    assert valid.sum() >= 4 and names["xy"].shape == (2, 5, 2)
    assert names["valid"].tolist() == valid.tolist()
    assert names["label"][names["valid"]].tolist() == label[valid].tolist()
    torch.testing.assert_close(torch.from_numpy(names["score"])[valid], score[valid], rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(names["xy"])[valid], xy[valid], rtol=0, atol=1e-3)
    assert names["seen"].tolist() == names["xy"][0][names["valid"][0]].tolist()
    one, = names["session"].run(["xy"], {"images": names["images"][:1].numpy()})
    assert one.shape == (1, 5, 2)


@pytest.mark.parametrize("page", ["which_loss", "zero"])
def test_the_block_to_copy_runs_as_it_stands(page, capsys):
    [block] = BLOCK.findall((PAGE.parent / f"{page}.md").read_text(encoding="utf-8"))
    assert max(map(len, block.splitlines())) <= 79
    names: dict = {}
    exec(block, names)
    if page == "which_loss":
        assert names["head"].weight.grad.abs().sum() > 0 and names["found"].score.shape == (1, 20)
    else:
        now, best, _ = (float(line.split(": ")[1]) for line in capsys.readouterr().out.splitlines())
        assert best < now / 10
