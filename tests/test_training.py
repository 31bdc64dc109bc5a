import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import measured, set_arrays, write_set

from falloff import data, decode, heatmaps, losses, machine, measures, recipe, training
from falloff.data import Dataset, digits
from falloff.points import Points
from falloff.recipe import Recipe
from falloff.run import Run
from falloff.study import store
from falloff.systems import Outputs, Prediction
from falloff.training import train

TINY = Run(dataset="spots", width=2, steps=3, batch=4, evaluations=1)


@pytest.fixture(scope="module")
def records(spots):
    """The same run twice, with other work of torch in between."""
    first = measured(TINY)
    torch.rand(5)
    return first, measured(TINY)


def tensors(record):
    """The weights of a record."""
    return [value for value in record.weights.values() if isinstance(value, torch.Tensor)]


def same(one, other):
    """Equal to the last bit, NaN being equal to NaN."""
    return repr(one) == repr(other)


def test_the_same_run_gives_the_same_record_bit_for_bit(records):
    one, other = records
    assert (
        same(one.curve, other.curve)
        and same(one.final, other.final)
        and same(one.validation, other.validation)
    )
    assert one.weights.keys() == other.weights.keys()
    assert all(torch.equal(*pair) for pair in zip(tensors(one), tensors(other), strict=True))


def test_a_record_holds_what_was_measured(records):
    record = records[0]
    assert [row["step"] for row in record.curve] == [3]
    assert record.curve[0].keys() == {"step", "train_loss", "loss_maps", *TINY.watched}
    assert record.curve[0]["train_loss"] == record.curve[0]["loss_maps"]
    assert record.final.keys() == record.validation.keys()
    assert record.final["threshold"] == record.validation["threshold"]
    assert record.seconds > 0 and record.versions["torch"] == torch.__version__
    assert record.machine["device"] == "cpu"
    for name in ("ap", "ap_1", "ap_4", "ap_worst_class", "f1", "class_accuracy"):
        assert 0 <= record.final[name] <= 1
    assert record.final["ap_1"] <= record.final["ap"] <= record.final["ap_4"]


@pytest.mark.parametrize("changed", [{}, {"seed": 5, "bias": None, "loss": "bce"}, {"augment": {"flip": 0.5}}])
def test_how_a_system_was_before_the_first_step_follows_from_its_run(spots, monkeypatch, changed):
    made, seen = Recipe.system, []

    def noted(self, dataset):
        system = made(self, dataset)
        seen.append({name: value.clone() for name, value in system.named_parameters()})
        return system

    with monkeypatch.context() as patch:
        patch.setattr(Recipe, "system", noted)
        record = train(TINY.replace(**changed))
    torch.rand(3)
    before = dict(record.start().named_parameters())
    assert before.keys() == seen[0].keys() and all(torch.equal(before[name], seen[0][name]) for name in before)
    last = "net.heads.maps.weight"
    assert not torch.equal(before[last], dict(record.system().named_parameters())[last])


def test_the_stored_weights_are_those_that_were_measured(records):
    record = records[0]
    test = data.load("spots", "test")
    said = training.predict(record.system(), test, TINY)
    assert same(measures.measure(said, test, record.final, threshold=record.validation["threshold"]), record.final)


def test_what_a_system_puts_out_does_not_depend_on_what_is_computed_together(records):
    val = data.load("spots", "val")
    whole, some = (training.outputs(records[0].system(), val, TINY, batch=batch) for batch in (64, 3))
    torch.testing.assert_close(whole["maps"], some["maps"])
    assert whole["maps"].dtype == torch.float32 and len(whole["maps"]) == len(val.images)


def test_another_seed_gives_another_net(records):
    other = train(TINY.replace(seed=1))
    assert any(not torch.equal(*pair) for pair in zip(tensors(other), tensors(records[0]), strict=True))


def test_training_leaves_torch_as_it_was(spots):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(TINY.replace(steps=1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_every_optimizer_moves_the_weights_its_own_way(spots, optimizer):
    record = train(TINY.replace(optimizer=optimizer, learning_rate=1e-2, evaluations=1))
    other = train(TINY.replace(optimizer="adam" if optimizer == "sgd" else "sgd", learning_rate=1e-2, evaluations=1))
    assert not torch.equal(record.weights["net.heads.maps.weight"], other.weights["net.heads.maps.weight"])


@pytest.mark.parametrize("name", losses.names())
def test_every_loss_trains(spots, name):
    record = train(TINY.replace(loss=name, steps=5, evaluations=3))
    assert [row["step"] for row in record.curve] == [2, 3, 5]
    assert all(math.isfinite(row["train_loss"]) for row in record.curve)


def test_a_net_learns_what_is_easy(spots):
    # Bright spots on dark ground: the loss must fall well below that of the best constant answer.
    run = TINY.replace(width=8, steps=60, batch=8, evaluations=2, learning_rate=1e-2, precision="float32")
    record = measured(run)
    assert record.curve[1]["train_loss"] < 0.5 * record.curve[0]["train_loss"]
    assert record.final["ap"] > 0.5


def test_the_first_answer_is_the_best_constant_one(spots):
    run, one = TINY.replace(head_std=0.0), data.load("spots", "train")
    best = losses.best_constant(losses.make(run.loss), one.points[:256], one.size, 2)
    for bias, first in ((None, best), (-3.0, -3.0)):
        system = Recipe(run.replace(bias=bias)).system(one).eval()
        logits = system(torch.rand(1, 1, 16, 16))["maps"]
        assert torch.allclose(logits, torch.full_like(logits, first))


def test_what_lies_beside_a_picture_is_no_background_of_the_start(spots):
    one = data.load("spots", "train")
    mask = torch.ones(len(one.images), 1, *one.size, dtype=torch.bool)
    mask[:, :, 12:] = False
    part = replace(one, mask=mask)
    system = Recipe(TINY.replace(head_std=0.0, loss="bce")).system(part).eval()
    shown = part.mask[:256].expand(-1, 2, -1, -1)
    share = int(part.points[:256].valid.sum()) / int(shown.sum())
    logits = system(torch.rand(1, 1, 16, 16))["maps"]
    assert torch.allclose(logits, torch.full_like(logits, losses.prior_bias(share)), atol=1e-3)


@settings(max_examples=10)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 20), st.integers(0, 99))
def test_every_image_comes_once_per_epoch_whatever_the_loss(count, batch, steps, seed):
    run = Run(steps=steps, batch=batch, seed=seed, evaluations=1)
    chosen = torch.cat(list(Recipe(run).batches(count)))
    assert len(chosen) == steps * batch
    for start in range(0, len(chosen) - count + 1, count):
        assert sorted(chosen[start : start + count].tolist()) == list(range(count))
    other = torch.cat(list(Recipe(run.replace(loss="mse", learning_rate=0.1)).batches(count)))
    assert torch.equal(chosen, other)


def test_a_short_run_on_digits(monkeypatch):
    monkeypatch.setattr(digits, "COUNTS", {"train": 24, "val": 12, "test": 12})
    data._load.cache_clear()
    record = train(Run(width=2, steps=3, batch=4, evaluations=1))
    data._load.cache_clear()
    assert len(record.curve) == 1 and math.isfinite(record.curve[0]["train_loss"])


def test_a_run_that_diverges_says_at_which_step(spots):
    with pytest.raises(FloatingPointError, match="step"):
        train(TINY.replace(loss="mse", learning_rate=1e30, steps=20))


@pytest.mark.bad_input
def test_what_a_loss_refuses_is_no_divergence(spots):
    arrays = set_arrays()
    write_set(spots, "crowded", **{**arrays, "names": np.array(["spot"])})  # two points of one class in each picture
    with pytest.raises(ValueError, match="dsnt needs at most one point of each class in an image; one image has 2"):
        train(TINY.replace(dataset="crowded", loss="dsnt"))


def test_typical_points_are_some_that_are_labelled(spots, monkeypatch):
    arrays = set_arrays()
    visible = arrays["visibility"].copy()
    visible[:20] = 0
    write_set(spots, "late", **{**arrays, "visibility": visible})
    monkeypatch.setattr(recipe, "TYPICAL", 4)
    assert len(train(TINY.replace(dataset="late")).curve) == 1


def test_a_split_that_is_missing_is_named(spots):
    write_set(spots, "half", **set_arrays((4, 4, 0)))
    with pytest.raises(ValueError, match="no image of split 'test'"):
        measured(TINY.replace(dataset="half"))


def perfect(sigma=1.0):
    """A split and the score maps of a net that knows it."""
    points = Points.from_lists([([[5.0, 6.0], [20.0, 9.0]], [0, 1]), ([[12.0, 12.0]], [2])])
    images = torch.zeros(2, 1, 24, 24, dtype=torch.uint8)
    one = Dataset("perfect", "test", images, points, ("a", "b", "c"))
    return heatmaps.render(points, (24, 24), 3, sigma), one


def measure(scores, one):
    """What the study measures of score maps."""
    said = Prediction(decode.peaks(scores, count=20), scores)
    return measures.measure(said, one, store.FINAL.metrics)


def test_perfect_maps_measure_as_perfect():
    found = measure(*perfect(sigma=0.3))
    for name in (
        "ap",
        "ap_1",
        "ap_4",
        "ap_worst_class",
        "f1",
        "class_accuracy",
        "presence_auroc",
        "score_at_points",
    ):
        assert found[name] == 1.0, name
    assert found["error"] == 0.0
    assert found["score_elsewhere"] == pytest.approx(0.0, abs=1e-3)
    assert found["threshold"] == pytest.approx(1.0)


def test_maps_of_the_wrong_classes_measure_as_wrong():
    scores, one = perfect()
    found = measure(scores.roll(1, dims=1), one)
    assert found["ap"] < 0.1 and found["class_accuracy"] == 0.0


def test_a_shift_shows_as_an_error_in_pixels_and_only_within_the_radius():
    scores, one = perfect()
    assert measure(scores.roll(2, dims=3), one)["error"] == pytest.approx(2.0)
    assert measure(scores.roll(2, dims=3), one)["ap_1"] < 0.1 < measure(scores.roll(2, dims=3), one)["ap"]
    assert measure(scores.roll(3, dims=3), one)["ap"] < 0.1 < measure(scores.roll(3, dims=3), one)["ap_4"]


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "", "mps", "meta"])
def test_unknown_devices_are_named(device):
    with pytest.raises(ValueError, match=f"device must be 'cpu', 'cuda' or 'cuda:N', got '{device}'"):
        machine.check_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_named_before_anything_is_computed(spots):
    with pytest.raises(ValueError, match="device 'cuda:0' is not available"):
        train(TINY.replace(device="cuda:0"))


# Pictures of different sizes, and pixels that do not count.


def sized(folder, **changed):
    """A set whose pictures fill the upper left 12 x 12 pixels of 16 x 16, with points there; returns its arrays."""
    arrays = set_arrays()
    arrays["points"] = arrays["points"].clip(1, 10)
    arrays["size"] = np.full((len(arrays["images"]), 2), 12)
    return write_set(folder, "sized", **{**arrays, **changed})


def test_a_label_under_a_mask_changes_no_weight(spots):
    arrays = set_arrays()
    mask = np.ones(arrays["images"].shape, dtype=bool)
    mask[:, :4] = False
    moved = arrays["points"].copy()
    moved[:, 0, 1] = 2.0  # the first point of each picture, under the mask and elsewhere under it
    elsewhere = moved.copy()
    elsewhere[:, 0, 0] = 14.0 - moved[:, 0, 0]
    found = []
    for points in (moved, elsewhere):
        write_set(spots, "masked", points=points, mask=mask)
        found.append(train(TINY.replace(dataset="masked", loss="bce", bias=-3.0)))
    assert all(torch.equal(*pair) for pair in zip(*map(tensors, found), strict=True))
    write_set(spots, "masked", points=moved)
    other = train(TINY.replace(dataset="masked", loss="bce", bias=-3.0))
    assert any(not torch.equal(*pair) for pair in zip(tensors(other), tensors(found[0]), strict=True))


def test_nothing_is_predicted_beside_a_picture_that_is_smaller_than_its_image(spots):
    sized(spots)
    record = measured(TINY.replace(dataset="sized"))
    said = training.predict(record.system(), data.load("sized", "test"), record.run)
    assert said.points.valid.any() and said.points.xy[said.points.valid].max() < 12
    assert 0 <= record.final["ap"] <= 1


def test_what_a_net_says_beside_a_picture_takes_no_place_of_what_it_says_inside(spots):
    sized(spots)
    split, run = data.load("sized", "test"), TINY.replace(dataset="sized")
    system = Recipe(run).system(split)
    maps = heatmaps.render(split.points, split.size, 2, sigma=0.5)
    loud = torch.full_like(maps, 9.0) - torch.rand(maps.shape)
    scores = torch.where(split.mask, maps, loud)
    outputs = Outputs({"maps": torch.logit(scores, eps=1e-6)}, split.size, mask=split.mask)
    said = training.read(system, split, outputs)
    assert measures.measure(said, split, ["ap", "error"]) == pytest.approx({"ap": 1.0, "error": 0.0}, abs=1e-6)


def test_a_split_of_another_name_is_measured_from_stored_weights(spots, tmp_path):
    arrays = set_arrays((24, 8, 16))
    arrays["split"] = np.where(np.arange(48) < 40, arrays["split"].astype("U8"), "holiday")
    write_set(spots, "four", **arrays)
    run, kept = TINY.replace(dataset="four"), store.Store(tmp_path)
    kept.get_or_train(run)
    kept.get_or_train(run, [store.Measuring(split="holiday", metrics=("ap",))],
                      train=lambda *_, **__: pytest.fail("it was trained again"))
    stored = kept.entry(run).read()
    assert 0 <= kept.entry(run).numbers(stored, store.Measuring(split="holiday", metrics=("ap",)))["ap"] <= 1


def test_augmented_trainings_are_the_same_twice_and_other_than_plain_ones(spots):
    run = TINY.replace(augment={"flip": 0.5, "shift": 0.1})
    one, other, plain = train(run), train(run), train(TINY)
    assert all(torch.equal(*pair) for pair in zip(tensors(one), tensors(other), strict=True))
    assert any(not torch.equal(*pair) for pair in zip(tensors(one), tensors(plain), strict=True))
