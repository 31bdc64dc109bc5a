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


def test_lightning_and_accelerate_train_the_net(after):
    weights = [after[section]["net"] for section in ("Lightning", "accelerate")]
    assert weights[0] is weights[1]
    assert after["Lightning"]["trainer"].global_step == 2


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
    script = scripts["ddp.py"] + (
        "step = net.module\n"
        "gradient = step.weight.grad.clone()\n"
        "step.zero_grad()\n"
        "loss(step(images), points).backward()\n"
        "assert (gradient - step.weight.grad).norm() < 1e-6 * step.weight.grad.norm()\n"
    )
    (tmp_path / "ddp.py").write_text(script, encoding="utf-8")
    started = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "ddp.py"]
    done = subprocess.run(started, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr


def test_what_does_not_count_changes_nothing(after):
    names = after["What does not count"]
    assert names["mask"].shape == (2, 3, 1, 1) and names["mask"].sum() == 5  # one eye of one picture has no label
    assert sorted(names["half"].weight.flatten().tolist()) == [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]


def test_a_head_at_a_stride_decodes_to_pixels_of_the_picture(after):
    names = after["Stride and offsets"]
    assert names["maps"].shape == (2, 3, 16, 16) and names["value"].requires_grad
    assert names["found"].xy.max() > 16


def test_points_follow_a_picture_that_is_resized_and_padded(after):
    names = after["Pictures of several sizes"]
    follow, mask = names["follow"], names["mask"]
    found = decode.peaks(names["padded"], per_class=True, refine="log-parabola")
    distance = torch.cdist(follow.xy, found.xy).amin(-1)[follow.valid]
    assert distance.max() < 0.1
    assert torch.equal(follow.extra["scale"], 0.75 * names["labelled"].extra["scale"])
    assert not mask[:, :, :, :8].any() and not mask[:, :, 52:].any() and mask[:, :, 4:52, 8:56].all()


def test_points_stay_on_what_kornia_moves(after):
    names = after["Augmentation"]
    points = Points.from_lists([([[25, 30], [40, 20]], [0, 0]), ([[30, 38]], [0])])
    torch.manual_seed(1)
    moved_pictures = names["augment"](heatmaps.render(points, (64, 64), 1, sigma=3))
    moved = points.affine(names["augment"].transform_matrix[:, :2], (64, 64))
    found = decode.peaks(moved_pictures, count=2, threshold=0.5, refine="log-parabola")
    assert moved.valid.tolist() == found.valid.tolist() == points.valid.tolist()
    assert not torch.allclose(moved.xy, points.xy, atol=1.0)
    distance = torch.cdist(moved.xy, found.xy).amin(-1)[points.valid]
    assert distance.max() < 0.1


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
    xy, score = (part.detach() for part in names["Exported"]().eval()(names["images"]))
    torch.testing.assert_close(torch.from_numpy(names["score"]), score, rtol=0, atol=1e-5)
    sure = score > 0.1  # where a kind is not in the picture, the map is flat
    assert sure.sum() >= 4
    torch.testing.assert_close(torch.from_numpy(names["xy"])[sure], xy[sure], rtol=0, atol=1e-3)
    one, = names["session"].run(["xy"], {"images": names["images"][:1].numpy()})
    assert one.shape == (1, 3, 2)
