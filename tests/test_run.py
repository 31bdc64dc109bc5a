import json
import math

import numpy as np
import pytest

from falloff.run import Run


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


@pytest.mark.bad_input
def test_numbers_of_numpy_describe_the_same_run_which_goes_through_json():
    options = {"steps": 20, "width": 4, "learning_rate": 0.5, "seed": 1, "loss_options": {"sigma": 2.0}}
    numpys = {"steps": np.int64(20), "width": np.uint8(4), "learning_rate": np.float32(0.5), "seed": np.int32(1),
              "loss_options": {"sigma": np.float32(2.0)}}
    assert Run(**numpys) == Run(**options)
    assert json.dumps(Run(**numpys).describe()) == json.dumps(Run(**options).describe())


def test_a_run_is_shown_by_what_is_not_a_default():
    run = Run(loss="mse", learning_rate=1.0, loss_options={"sigma": 2.0})
    assert repr(run) == "Run(loss='mse', loss_options={'sigma': 2}, learning_rate=1.0)"
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
        "form",
        "watched",
        "augment",
        "device",
    ],
)
def test_every_field_is_part_of_the_description(field):
    other = {
        "dataset": "spots",
        "size": 96,
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
        "form": "eager",
        "watched": ("f1",),
        "augment": {"flip": 0.5},
        "device": "cuda",
    }[field]
    plain = Run(precision="bfloat16", form="compiled")
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
        ({"size": 33}, ValueError, "size must be None or an integer, at least 64, got 33"),
        ({"size": 64, "dataset": "mice"}, ValueError, "size must be None, as the set has its own, got 64"),
        ({"dataset": ""}, ValueError, "dataset must be the name of a set, got ''"),
        ({"device": "gpu"}, ValueError, "device must be 'cpu', 'cuda' or 'cuda:N', got 'gpu'"),
        ({"device": "mps"}, ValueError, "device must be 'cpu', 'cuda' or 'cuda:N', got 'mps'"),
        ({"size": 64.0}, ValueError, "size"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be finite and above 0"),
        ({"learning_rate": math.nan}, ValueError, "learning_rate"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate must be a number, got 'fast'"),
        ({"head_std": -0.1}, ValueError, "head_std must be a number in"),
        ({"head_std": math.nan}, ValueError, "head_std"),
        ({"bias": math.inf}, ValueError, "bias must be None or a finite number"),
        ({"model": "resnet"}, ValueError, "no model is named 'resnet'.*known: unet"),
        ({"optimizer": "lion"}, ValueError, "optimizer must be one of adam, adamw, sgd"),
        ({"schedule": "linear"}, ValueError, "schedule must be one of cosine, constant"),
        ({"precision": "float64"}, ValueError, "precision must be one of auto, float32, bfloat16"),
        ({"loss": "focall"}, ValueError, "did you mean 'focal'"),
        ({"loss_options": {"sgma": 1.0}}, ValueError, "did you mean 'sigma'"),
        ({"loss_options": {"sigma": -1.0}}, ValueError, "sigma"),
        ({"loss_options": [1.0]}, TypeError, "loss_options must be a mapping"),
        ({"loss_options": {"sigma": {1}}}, TypeError, "loss_options\\['sigma'\\] must be a number, a string"),
        ({"loss": None}, ValueError, "loss must be a name, got None"),
        ({"model": None}, ValueError, "model must be a name, got None"),
        ({"model_options": {"depth": 2}}, ValueError, "model 'unet' has no option 'depth'"),
        ({"system": "heatmaps"}, ValueError, "no system is named 'heatmaps' \\(did you mean 'heatmap'"),
        ({"system_options": {"stride": 4}}, ValueError, "system 'heatmap' has no option 'stride'"),
        ({"watched": ("app",)}, ValueError, "app"),
        ({"watched": "ap"}, TypeError, "watched must be a tuple of names, got 'ap'"),
        ({"form": "fast"}, ValueError, "form must be one of auto, compiled, eager, got 'fast'"),
        ({"augment": {"flips": 0.5}}, ValueError, "augment has no option 'flips' \\(did you mean 'flip'"),
        ({"augment": {"flip": 2.0}}, ValueError, "flip must be in"),
        ({"loss": "nowhere:Loss"}, ValueError, "nowhere:Loss"),
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


def test_a_description_comes_back_from_json_as_the_same_run():
    run = Run(loss="mse", loss_options={"sigma": 2.5}, watched=("ap", "f1"), augment={"flip": 0.5}, seed=3)
    again = Run.of(json.loads(json.dumps(run.describe())))
    assert again.describe() == run.describe() and hash(again) == hash(run)


def test_options_are_numbers_strings_bools_and_tuples_of_them():
    options = Run(loss_options={"sigma": 2.0}).loss_options
    assert options == {"sigma": 2} and type(options["sigma"]) is int
    described = Run(loss="focal").describe()["loss_options"]
    assert described == {"alpha": None, "gamma": 2, "normalizer": "points"}


def test_a_data_set_that_is_a_path_holds_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = {Run(dataset=name).dataset for name in ("a.npz", "./a.npz", "~/a.npz", tmp_path / "a.npz")}
    assert found == {str(tmp_path / "a.npz")}
    assert Run(dataset="faces").dataset == "faces"
    assert Run.of(Run(dataset="a.npz").describe()).dataset == str(tmp_path / "a.npz")
