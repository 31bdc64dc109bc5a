import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import set_arrays, write_set

from falloff import data, heatmaps, losses, training
from falloff.data import Dataset, digits
from falloff.points import Points
from falloff.training import Run, measure, train

TINY = Run(dataset="spots", width=2, steps=3, batch=4, evaluations=1)


@pytest.fixture(scope="module")
def records(spots):
    """The same run twice, with other work of torch in between."""
    first = train(TINY)
    torch.rand(5)
    return first, train(TINY)


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
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


def test_a_record_holds_what_was_measured(records):
    record = records[0]
    assert [row["step"] for row in record.curve] == [3]
    assert record.curve[0].keys() == record.validation.keys() | {"step", "train_loss"}
    assert record.final.keys() == record.validation.keys()
    assert record.final["threshold"] == record.validation["threshold"]
    assert record.seconds > 0 and record.versions["torch"] == torch.__version__
    assert record.machine["device"] == "cpu"
    for name in ("ap", "ap_1", "ap_4", "ap_worst_class", "f1", "class_accuracy"):
        assert 0 <= record.final[name] <= 1
    assert record.final["ap_1"] <= record.final["ap"] <= record.final["ap_4"]


def test_the_stored_weights_are_those_that_were_measured(records):
    record = records[0]
    test = data.load("spots", "test")
    scores = losses.make(TINY.loss).scores(training.predict(record.model(), test, TINY))
    assert same(measure(scores, test, threshold=record.validation["threshold"]), record.final)


def test_another_seed_gives_another_net(records):
    other = train(TINY.replace(seed=1))
    assert any(not torch.equal(other.weights[name], value) for name, value in records[0].weights.items())


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
    assert not torch.equal(record.weights["head.weight"], other.weights["head.weight"])


@pytest.mark.parametrize("name", losses.names())
def test_every_loss_trains(spots, name):
    done = []
    record = train(TINY.replace(loss=name, steps=5, evaluations=3), progress=lambda *step: done.append(step))
    assert [row["step"] for row in record.curve] == [step for step, _ in done] == [2, 3, 5]
    assert {total for _, total in done} == {5}
    assert all(math.isfinite(row["train_loss"]) for row in record.curve)


def test_a_net_learns_what_is_easy(spots):
    # Bright spots on dark ground: the loss must fall well below that of the best constant answer.
    run = TINY.replace(width=8, steps=60, batch=8, evaluations=2, learning_rate=1e-2, precision="float32")
    record = train(run)
    assert record.curve[1]["train_loss"] < 0.5 * record.curve[0]["train_loss"]
    assert record.final["ap"] > 0.5


def test_the_first_answer_is_the_best_constant_one(spots):
    run, one = TINY.replace(head_std=0.0), data.load("spots", "train")
    net = training._net(run, one)
    logits = net.eval()(torch.rand(1, 1, 16, 16))
    best = losses.best_constant(losses.make(run.loss), one.points[:256], one.size, 2)
    assert torch.allclose(logits, torch.full_like(logits, best))
    assert torch.allclose(
        training._net(run.replace(bias=-3.0), one).eval()(torch.rand(1, 1, 16, 16)), torch.tensor(-3.0)
    )


@settings(max_examples=10)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 20), st.integers(0, 99))
def test_every_image_comes_once_per_epoch_whatever_the_loss(count, batch, steps, seed):
    run = Run(steps=steps, batch=batch, seed=seed, evaluations=1)
    chosen = torch.cat(list(training._batches(count, run)))
    assert len(chosen) == steps * batch
    for start in range(0, len(chosen) - count + 1, count):
        assert sorted(chosen[start : start + count].tolist()) == list(range(count))
    other = torch.cat(list(training._batches(count, run.replace(loss="mse", learning_rate=0.1))))
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


def test_a_split_that_is_missing_is_named(spots):
    write_set(spots, "half", **set_arrays((4, 4, 0)))
    with pytest.raises(ValueError, match="no image of split 'test'"):
        train(TINY.replace(dataset="half"))


def perfect(sigma=1.0):
    """A split and the score maps of a net that knows it."""
    points = Points.from_lists([([[5.0, 6.0], [20.0, 9.0]], [0, 1]), ([[12.0, 12.0]], [2])])
    images = torch.zeros(2, 1, 24, 24, dtype=torch.uint8)
    one = Dataset("perfect", "test", images, points, ("a", "b", "c"))
    return heatmaps.render(points, (24, 24), 3, sigma), one


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


def test_naming_a_default_describes_the_same_run():
    plain = Run()
    named = Run(loss="distance-aware", loss_options={"sigma": 1.5, "beta": 4.0}, steps=250)
    assert plain.describe() == named.describe() and hash(plain) == hash(named)
    assert Run(loss_options={"sigma": 2.0}).describe() != plain.describe()


@pytest.mark.bad_input  # an int where the signature says float
def test_a_whole_number_describes_the_same_run_as_its_fraction():
    one, other = (Run(learning_rate=n, head_std=n, bias=n, loss_options={"sigma": n}) for n in (1, 1.0))
    assert one.describe() == other.describe() and repr(one.describe()) == repr(other.describe())
    assert one == other and hash(one) == hash(other)


def test_a_run_is_shown_by_what_is_not_a_default():
    run = Run(loss="mse", learning_rate=1.0, loss_options={"sigma": 2.0})
    assert repr(run) == "Run(loss='mse', loss_options={'sigma': 2.0}, learning_rate=1.0)"
    assert eval(repr(run)) == run and repr(Run()) == "Run()"


@pytest.mark.parametrize(
    "field",
    [
        "dataset",
        "size",
        "width",
        "loss",
        "head_std",
        "bias",
        "optimizer",
        "learning_rate",
        "schedule",
        "steps",
        "batch",
        "seed",
        "evaluations",
        "precision",
        "device",
    ],
)
def test_every_field_is_part_of_the_description(field):
    other = {
        "dataset": "spots",
        "size": 48,
        "width": 3,
        "loss": "focal",
        "head_std": 0.5,
        "bias": 0.5,
        "optimizer": "sgd",
        "learning_rate": 0.5,
        "schedule": "constant",
        "steps": 77,
        "batch": 3,
        "seed": 5,
        "evaluations": 3,
        "precision": "float32",
        "device": "cuda",
    }[field]
    plain = Run(precision="bfloat16")
    assert plain.replace(**{field: other}).describe() != plain.describe()


@pytest.mark.parametrize(
    ("changed", "error", "named"),
    [
        ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"steps": 2.0}, TypeError, "steps must be an integer, got 2.0"),
        ({"steps": True}, TypeError, "steps"),
        ({"width": 0}, ValueError, "width"),
        ({"batch": -1}, ValueError, "batch"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"seed": "0"}, TypeError, "seed must be an integer, got '0'"),
        ({"steps": 5, "evaluations": 6}, ValueError, r"evaluations must be at most steps \(5\), got 6"),
        ({"evaluations": 0}, ValueError, "evaluations"),
        ({"size": 0}, ValueError, "size must be None or an integer above 0, got 0"),
        ({"size": 64.0}, ValueError, "size"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be finite and above 0"),
        ({"learning_rate": math.nan}, ValueError, "learning_rate"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate must be a number, got 'fast'"),
        ({"head_std": -0.1}, ValueError, "head_std must be a number in"),
        ({"head_std": math.nan}, ValueError, "head_std"),
        ({"bias": math.inf}, ValueError, "bias must be None or a finite number"),
        ({"model": "resnet"}, ValueError, "model must be one of unet, got 'resnet'"),
        ({"optimizer": "lion"}, ValueError, "optimizer must be one of adam, adamw, sgd"),
        ({"schedule": "linear"}, ValueError, "schedule must be one of cosine, constant"),
        ({"precision": "float64"}, ValueError, "precision must be one of auto, float32, bfloat16"),
        ({"loss": "focall"}, ValueError, "did you mean 'focal'"),
        ({"loss_options": {"sgma": 1.0}}, ValueError, "did you mean 'sigma'"),
        ({"loss_options": {"sigma": -1.0}}, ValueError, "sigma"),
        ({"loss_options": [1.0]}, TypeError, "loss_options must be a mapping"),
    ],
)
@pytest.mark.bad_input
def test_bad_runs_are_refused_before_anything_is_computed(changed, error, named):
    with pytest.raises(error, match=named):
        Run(**changed)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"dataset": 3}, "dataset"),
        ({"size": True}, "size"),
        ({"bias": True}, "bias"),
        ({"device": 3}, "device"),
        ({"loss": ["focal"]}, "loss"),
    ],
)
@pytest.mark.bad_input
def test_fields_of_a_wrong_type_are_named(changed, named):
    with pytest.raises((TypeError, ValueError), match=f"{named} .*must|{named} must|no {named}"):
        Run(**changed)


def test_a_runs_options_change_when_the_callers_mapping_does():
    options = {"sigma": 2.0}
    run = Run(loss_options=options)
    before = run.describe()
    options["sigma"] = 9.0
    assert run.describe() == before


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "", "mps", "meta"])
def test_unknown_devices_are_named(device):
    with pytest.raises(ValueError, match=f"device must be 'cpu', 'cuda' or 'cuda:N', got '{device}'"):
        training.check_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_named_before_anything_is_computed(spots):
    with pytest.raises(ValueError, match="device 'cuda:0' is not available"):
        train(TINY.replace(device="cuda:0"))
