"""Three systems that the study does not have, each one file and one row: the house has a place for them."""

from pathlib import Path

import pytest
import torch
from added.hourglass import Hourglass
from added.offsets import Offsets
from added.regressor import Regressor

from falloff import data, models, study, systems, training
from falloff.run import Run
from falloff.study import Store, engine, store
from falloff.training import train

SMALL = Run(dataset="spots", width=8, steps=20, batch=8, evaluations=2, learning_rate=0.01, precision="float32")


@pytest.fixture(autouse=True)
def rows(monkeypatch):
    """The row of each."""
    monkeypatch.setitem(models.MODELS, "hourglass", Hourglass)
    monkeypatch.setitem(systems.SYSTEMS, "regressor", Regressor)
    monkeypatch.setitem(systems.SYSTEMS, "offsets", Offsets)


def described(name):
    return {
        "hourglass": {"model": "hourglass", "model_options": {"stages": 2}},
        "regressor": {"system": "regressor", "model": None, "loss": None, "watched": ("ap", "error")},
        "offsets": {"system": "offsets", "system_options": {"weight": 0.5}},
    }[name]


TERMS = {"hourglass": {"loss_maps, stage 1", "loss_maps, stage 2"}, "regressor": {"loss_distance"},
         "offsets": {"loss_maps", "loss_offsets"}}


@pytest.fixture(params=TERMS)
def name(request):
    return request.param


@pytest.fixture
def done(spots, tmp_path, name):
    """The run, and its record in a store, trained and measured."""
    run = SMALL.replace(**described(name))
    return run, Store(tmp_path).get_or_train(run), tmp_path


def test_each_is_one_file_of_less_than_80_lines():
    for path in Path(__file__).with_name("added").glob("*.py"):
        assert len(path.read_text().splitlines()) < 80, path


def test_each_trains_and_has_a_column_a_term(done, name):
    run, record, _ = done
    assert TERMS[name] == {column for column in record.curve[0] if column.startswith("loss_")}
    first, last = record.curve[0], record.curve[-1]
    assert last["step"] == run.steps and last["train_loss"] < first["train_loss"]
    assert last["train_loss"] == pytest.approx(sum(last[term] for term in TERMS[name]), rel=1e-5)


def test_each_is_stored_and_comes_back_as_it_was(done, name):
    run, record, folder = done
    again = Store(folder).get(run)
    test = data.load("spots", "test")
    one, other = (training.predict(found.system(), test, run) for found in (record, again))
    assert torch.equal(one.points.xy, other.points.xy)
    assert f"added.{name}" in store.ingredients(run)


def test_each_is_decoded_in_pixels_of_the_image_and_measured(done, name):
    run, record, _ = done
    test = data.load("spots", "test")
    said = training.predict(record.system(), test, run)
    assert said.points.xy[said.points.valid].amax() > 8  # beyond the size of maps at half resolution
    assert (said.maps is None) == (name == "regressor")
    if name == "hourglass":
        assert said.stride == 2 and said.maps.shape[2:] == (8, 8)
    assert 0 <= record.final["ap"] <= 1
    assert ("score_at_points" in {k for k, v in record.final.items() if v == v}) == (name != "regressor")


def test_each_resumes_bit_for_bit(spots, tmp_path, name):
    run = SMALL.replace(**described(name)).replace(steps=6)
    whole, kept = train(run), store.CheckpointFile(tmp_path / "state.pt", every=0.0)

    class Until(store.CheckpointFile):
        def due(self):
            return not self.path.exists()

    train(run, checkpoint=Until(kept.path))
    resumed = train(run, checkpoint=kept)
    assert repr(resumed.curve) == repr(whole.curve)
    for part, value in whole.weights.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, resumed.weights[part])


def test_a_run_says_what_a_system_lacks(spots):
    with pytest.raises(ValueError, match="loss must be None: the system 'regressor' has its own"):
        SMALL.replace(system="regressor", model=None)
    with pytest.raises(ValueError, match="model must be None"):
        SMALL.replace(system="regressor", loss=None)
    with pytest.raises(ValueError, match="no option 'wieght' \\(did you mean 'weight'"):
        SMALL.replace(system="offsets", system_options={"wieght": 1.0})
    with pytest.raises(ValueError, match="loss must be a name"):
        SMALL.replace(loss=None)


def test_another_decoder_is_measured_from_the_stored_weights(done, name, monkeypatch):
    if name == "regressor":
        pytest.skip("it has no decoder")
    run, _, folder = done
    monkeypatch.setattr(engine, "cluster", lambda *_: pytest.fail("workers were started"))
    kept = Store(folder)
    kept.get_or_train(run, [store.Measuring(metrics=("ap",), decoder={"window": 5})],
                      train=lambda *_, **__: pytest.fail("it was trained again"))
    table = study.measured([run], ["ap"], decoder={"window": 5}, store=kept)
    assert table["failure"].isna().all() and 0 <= table["ap"][0] <= 1


def test_several_decoders_share_what_a_system_puts_out(done, name, monkeypatch):
    if name == "regressor":
        pytest.skip("it has no decoder")
    run, _, folder = done
    seen, outputs = [], training.outputs
    monkeypatch.setattr(training, "outputs", lambda *given: seen.append(given[1].split) or outputs(*given))
    asked = [store.Measuring(metrics=("ap", "f1"), decoder={"window": window}) for window in (3, 5, 7)]
    kept = Store(folder)
    kept.get_or_train(run, asked)
    assert sorted(seen) == ["test", "val"]
    one = study.measured([run], ["ap"], decoder=[{"window": window} for window in (3, 5, 7)], store=kept)
    assert one["decoder"].tolist() == [{"window": window} for window in (3, 5, 7)] and one["ap"].notna().all()
    assert one["ap"][0] == study.run([run], store=kept)["ap"][0]
