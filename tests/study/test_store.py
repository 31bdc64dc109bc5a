import dataclasses
import json
import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scenes import measured, set_arrays, write_set

from falloff import digests, project, training
from falloff.study import store
from falloff.study.store import CheckpointFile, Store
from falloff.training import Run, train

TINY = Run(dataset="spots", width=2, steps=2, batch=4, evaluations=2)


@pytest.fixture(scope="module")
def trained(spots):
    return measured(TINY)


def same(one, other, *, but=("weights",)):
    """Equal records to the last bit, NaN being equal to NaN."""
    plain = [repr([getattr(r, f.name) for f in dataclasses.fields(r) if f.name not in but]) for r in (one, other)]
    return plain[0] == plain[1] and one.weights.keys() == other.weights.keys() and all(
        torch.equal(value, other.weights[name]) for name, value in one.weights.items() if torch.is_tensor(value)
    )


def listed(folder):
    """All files under a folder, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def files(name):
    """What the store holds of one run."""
    return [f"measured/{name}.json", f"records/{name}.json", f"weights/{name}.pt"]


# The key.


@pytest.mark.parametrize(
    "named",
    [
        {"loss_options": {"sigma": 1.5}},
        {"optimizer": "adam", "schedule": "cosine", "size": None},
        {"learning_rate": 0.003, "loss_options": {"beta": 4, "alpha": 2.0}},
    ],
)
def test_naming_a_default_changes_no_key(spots, named):
    assert store.key(TINY.replace(**named)) == store.key(TINY)


@pytest.mark.parametrize("whole", [{"learning_rate": 1}, {"bias": 0}, {"head_std": 0}, {"loss_options": {"alpha": 3}}])
def test_an_integer_and_the_same_float_have_one_key(spots, whole):
    as_float = {
        name: {"alpha": 3.0} if name == "loss_options" else float(value) for name, value in whole.items()
    }
    assert store.key(TINY.replace(**whole)) == store.key(TINY.replace(**as_float)) != store.key(TINY)


def test_gpus_are_alike_and_no_cpu(spots):
    one, two, three, cpu = (
        store.key(TINY.replace(device=name, precision="float32")) for name in ("cuda", "cuda:0", "cuda:1", "cpu")
    )
    assert one == two == three != cpu


def test_a_precision_left_open_is_what_it_comes_to(spots):
    keys = {name: store.key(TINY.replace(precision=name)) for name in ("auto", "float32", "bfloat16")}
    assert keys["float32"] != keys["bfloat16"] and keys["auto"] == keys[TINY.describe()["precision"]]


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"steps": 3}, {"batch": 5}, {"width": 3}, {"loss": "mse"}, {"loss_options": {"sigma": 2.0}},
     {"evaluations": 1}, {"optimizer": "sgd"}, {"schedule": "constant"}, {"head_std": 0.1}, {"bias": -1.0}],
    ids=lambda other: next(iter(other)),
)
def test_other_runs_have_other_keys(spots, other):
    assert store.key(TINY.replace(**other)) != store.key(TINY)


def test_other_data_of_the_same_name_have_another_key(spots, tmp_path, monkeypatch):
    before = store.key(TINY)
    write_set(tmp_path, "spots", images=set_arrays()["images"] // 2)
    monkeypatch.setenv("FALLOFF_DATA", str(tmp_path))
    assert store.key(TINY) != before


def test_another_version_of_torch_has_another_key(spots, monkeypatch):
    before = store.key(TINY)
    monkeypatch.setattr(digests, "version", lambda name: "0.4.1")
    store._made_of.cache_clear()
    assert store.key(TINY) != before
    store._made_of.cache_clear()


# Records.


def test_what_is_put_is_got(tmp_path, trained):
    Store(tmp_path).put(trained)
    assert same(Store(str(tmp_path)).get(TINY), trained)


def test_a_record_is_one_readable_file_and_the_weights_another(tmp_path, trained):
    path = Store(tmp_path).put(trained)
    name = store.key(TINY)
    assert listed(tmp_path) == files(name)
    found = json.loads(path.read_text())
    assert found["run"] == json.loads(json.dumps(TINY.describe()))
    assert {"run", "curve", "seconds", "versions", "machine", "code", "libraries", "data", "commit", "clean",
            "finished"} <= found.keys()
    assert found["versions"]["torch"] == torch.__version__
    measured = json.loads((tmp_path / "measured" / path.name).read_text())["measured"]
    assert measured[store.FINAL.name]["numbers"]["ap"] == trained.final["ap"]
    assert found["data"] == store.identity(TINY)["data"]
    assert path.stat().st_mode & 0o777 == 0o644


@given(st.lists(st.floats(), min_size=1, max_size=4))
def test_floats_survive_to_the_last_bit(trained, tmp_path_factory, values):
    metrics = dict(zip(store.FINAL.metrics, values * len(store.FINAL.metrics), strict=False))
    kept = Store(tmp_path_factory.mktemp("floats"))
    kept.put(dataclasses.replace(trained, final=metrics, validation=metrics, weights={}))
    found = kept.get(TINY)
    assert repr(found.final) == repr(found.validation) == repr(metrics)  # repr: -0.0 is not 0.0, NaN is NaN


def test_other_runs_are_not_there(tmp_path, trained):
    Store(tmp_path).put(trained)
    assert Store(tmp_path).get(TINY.replace(seed=1)) is None
    assert Store(tmp_path / "elsewhere").get(TINY) is None
    assert not (tmp_path / "elsewhere").exists()  # looking makes no folder


DAMAGE = {
    "zero bytes": lambda text: "",
    "truncated": lambda text: text[: len(text) // 2],
    "foreign": lambda text: "not a record",
    "other JSON": lambda text: "[1, 2]",
    "another format": lambda text: text.replace(f'"format": {store.FORMAT}', '"format": 1'),
    "another key": lambda text: text.replace(store.key(TINY), store.key(TINY.replace(seed=7))),
    "a part missing": lambda text: "".join(line for line in text.splitlines(True) if '"curve"' not in line),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_is_set_aside_and_the_run_done_again(tmp_path, trained, caplog, damage):
    kept = Store(tmp_path)
    path = kept.put(trained)
    path.write_text(DAMAGE[damage](path.read_text()))
    broken = path.read_bytes()
    assert kept.entry(TINY).read() is None
    assert path.name in caplog.text and "set aside" in caplog.text and "runs: " in caplog.text
    assert not path.exists() and path.with_name(path.name + ".damaged").read_bytes() == broken
    assert same(kept.get_or_train(TINY), trained, but=("weights", "seconds"))
    assert same(kept.get(TINY), trained, but=("weights", "seconds"))


def never(*_, **__):
    pytest.fail("it was trained again")


@pytest.mark.parametrize("damage", [name for name in DAMAGE if name != "a part missing"])
def test_damaged_numbers_are_set_aside_and_measured_again_without_a_training(tmp_path, trained, caplog, damage):
    kept = Store(tmp_path)
    path = tmp_path / "measured" / kept.put(trained).name
    path.write_text(DAMAGE[damage](path.read_text()))
    broken = path.read_bytes()
    assert kept.get(TINY).final == {}
    assert path.name in caplog.text and "set aside" in caplog.text and "runs: " in caplog.text
    assert not path.exists() and path.with_name(path.name + ".damaged").read_bytes() == broken
    assert same(kept.get_or_train(TINY, train=never), trained)
    assert same(kept.get(TINY), trained)


def test_a_run_that_was_stored_and_not_measured_is_measured_without_a_training(tmp_path, trained):
    kept = Store(tmp_path)
    path = kept.put(dataclasses.replace(trained, validation={}, final={}))
    assert listed(tmp_path) == [name for name in files(path.stem) if not name.startswith("measured")]
    assert kept.get(TINY).final == {}
    assert same(kept.get_or_train(TINY, train=never), trained)


def test_what_is_measured_on_test_sees_validation_by_the_same_decoder(tmp_path, trained):
    kept = Store(tmp_path)
    kept.put(dataclasses.replace(trained, validation={}, final={}))
    names = ("threshold", "ap_tuned", "peak_brier_platt", "ap_tuned_by_picture", "last_weight_change", "pck_mean")
    asked = [store.Measuring(metrics=names, decoder={"refine": refine}) for refine in ("none", "quarter")]
    kept.get_or_train(TINY, asked, train=never)
    stored = kept.entry(TINY).read()
    found = [kept.entry(TINY).numbers(stored, one) for one in asked]
    own = [dataclasses.replace(one, split="val", metrics=("threshold", "peak_brier_platt")) for one in asked]
    kept.get_or_train(TINY, own, train=never)
    for numbers, one in zip(found, own, strict=True):
        on_validation = kept.entry(TINY).numbers(stored, one)
        assert numbers["threshold"] == on_validation["threshold"]
        assert math.isnan(on_validation["peak_brier_platt"]) and 0 <= numbers["peak_brier_platt"] <= 1
        pseudo = numbers["ap_tuned_by_picture"]
        assert len(pseudo) == 8 and sum(pseudo) / 8 == pytest.approx(numbers["ap_tuned"])
        assert numbers["last_weight_change"] == found[0]["last_weight_change"] != 0
    assert found[0]["pck_mean"] != found[1]["pck_mean"]


def test_predictions_near_a_better_one_of_another_class_are_left_out_where_that_is_asked(tmp_path, trained):
    kept = Store(tmp_path)
    kept.put(trained)
    asked = [store.Measuring(metrics=("ap", "threshold"), threshold=0.0, decoder=decoder)
             for decoder in ({}, {"apart": 1e-3}, {"apart": 100.0})]
    kept.get_or_train(TINY, asked, train=never)
    stored = kept.entry(TINY).read()
    plain, none, all_but_one = (kept.entry(TINY).numbers(stored, one)["ap"] for one in asked)
    assert plain == none and plain > all_but_one


@pytest.mark.parametrize("decoder", [{}, {"refine": "soft-argmax", "soft_window": 5}, {"apart": 2.5, "window": 7}])
def test_a_decoder_is_told_in_words_that_tell_it(decoder):
    one = store.Measuring(split="fresh", decoder=decoder)
    assert store.options(one.reading) == decoder and one.title == f"fresh {one.reading}".strip()


def test_validation_is_not_looked_at_for_what_does_not_ask_for_it(tmp_path, trained, monkeypatch):
    kept, splits, outputs = Store(tmp_path), [], training.outputs

    def noted(system, dataset, run):
        splits.append(dataset.split)
        return outputs(system, dataset, run)

    kept.put(trained)
    monkeypatch.setattr(training, "outputs", noted)
    kept.get_or_train(TINY, [store.Measuring(metrics=("ap_3", "pck_mean"))], train=never)
    kept.get_or_train(TINY, [store.Measuring(metrics=("recall",), decoder={"window": one}) for one in (5, 7)])
    assert splits == ["test", "test", "val"]  # decoders share what the system puts out


def test_numbers_of_other_weights_are_not_believed(tmp_path, trained):
    kept = Store(tmp_path)
    path = tmp_path / "measured" / kept.put(trained).name
    content = json.loads(path.read_text())
    others = {name: one | {"numbers": dict.fromkeys(one["numbers"], 0.5)} for name, one in content["measured"].items()}
    path.write_text(json.dumps(content | {"weights": "0" * 64, "measured": others}))
    assert kept.get(TINY).final == {}
    assert same(kept.get_or_train(TINY, train=never), trained)
    assert repr(json.loads(path.read_text())) == repr(content)


def flipped(weights, trained):
    """A file with one bit of the net's last layer turned over."""
    content = bytearray(weights)
    content[content.find(trained.weights["net.heads.maps.weight"].numpy().tobytes())] ^= 1
    return bytes(content)


def foreign(tmp_path):
    torch.save({"another": torch.zeros(1)}, tmp_path / "another.pt")
    return (tmp_path / "another.pt").read_bytes()


@pytest.mark.parametrize("damage", ["missing", "zero bytes", "truncated", "one bit", "of another net"])
def test_damaged_weights_are_set_aside_and_the_run_done_again(tmp_path, trained, caplog, damage):
    kept = Store(tmp_path / "runs")
    record = kept.put(trained)
    path = tmp_path / "runs" / "weights" / f"{record.stem}.pt"
    whole = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({
            "zero bytes": b"", "truncated": whole[: len(whole) // 2], "one bit": flipped(whole, trained),
            "of another net": foreign(tmp_path),
        }[damage])
    assert kept.get(TINY) is None
    assert path.name in caplog.text and "done again" in caplog.text
    assert same(kept.get_or_train(TINY), trained, but=("weights", "seconds"))
    assert same(kept.get(TINY), trained, but=("weights", "seconds"))


def test_a_write_that_fails_leaves_what_was_there_and_no_litter(tmp_path):
    target = tmp_path / "deep" / "file"
    with project.written(target) as temporary:
        temporary.write_text("first")
        assert not target.exists()
    with pytest.raises(RuntimeError), project.written(target) as temporary:
        temporary.write_text("second, half don")
        raise RuntimeError
    assert target.read_text() == "first"
    assert listed(tmp_path) == ["deep/file"]


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o022, 0o002])
def test_a_file_and_its_folder_have_the_permissions_that_the_umask_gives(tmp_path, umask):
    before = os.umask(umask)
    try:
        with project.written(tmp_path / "deep" / "file") as temporary:
            temporary.write_text("first")
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("deep", "deep/file")] == [
        0o777 & ~umask, 0o666 & ~umask]


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path, trained):
    kept = Store(tmp_path)
    kept.put(trained)
    before = listed(tmp_path)
    with pytest.raises(TypeError):
        kept.put(dataclasses.replace(trained, final={"ap": object()}))
    with pytest.raises(Exception, match="pickle"):
        kept.put(dataclasses.replace(trained, weights={"net": lambda: None}))
    assert listed(tmp_path) == before
    assert same(kept.get(TINY), trained)


# Several processes. The script forks after its imports: one start of Python for all of them.

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
import torch
from falloff.study import store
from falloff.study.store import Store
from falloff.training import Run, train

torch.set_num_threads(1)
home = Path(sys.argv[1])
run = Run(dataset="spots", width=2, steps=12, batch=4, evaluations=2)
store.CHECKPOINT_EVERY = 0.0

def noted(run, checkpoint):
    with open(home / "trainings", "a") as file:
        file.write("resumed\\n" if checkpoint.path.exists() else "fresh\\n")
    return train(run, checkpoint=checkpoint)

def want():
    if child := os.fork():
        return child
    record = Store(home / "runs").get_or_train(run, train=noted)
    (home / f"final-{os.getpid()}").write_text(repr([record.final, record.curve, record.validation]))
    os._exit(0)

first = want()
while not list((home / "runs").glob("checkpoints/*.pt")):
    time.sleep(0.005)
os.kill(first, signal.SIGKILL)
os.waitpid(first, 0)
assert list((home / "runs" / "locks").iterdir()) and not (home / f"final-{first}").exists()
for child in [want() for _ in range(3)]:
    assert os.waitpid(child, 0)[1] == 0
"""


def test_of_processes_that_want_one_run_one_does_it_and_goes_on_from_one_that_was_killed(spots, tmp_path):
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], check=True, env=os.environ, timeout=120)
    assert (tmp_path / "trainings").read_text().split() == ["fresh", "resumed"]
    whole = measured(TINY.replace(steps=12))
    got = [path.read_text() for path in tmp_path.glob("final-*")]
    assert got == [repr([whole.final, whole.curve, whole.validation])] * 3
    name = store.key(whole.run)
    assert listed(tmp_path / "runs") == files(name)  # no lock, no checkpoint


def test_a_stored_run_needs_neither_lock_nor_training(tmp_path, trained):
    kept = Store(tmp_path)
    kept.put(trained)
    assert same(kept.get_or_train(TINY, train=never), trained)
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("measured", "records", "weights")] == []


# Checkpoints.


class Every(CheckpointFile):
    """A checkpoint at every step, all of which are kept."""

    def __init__(self, path):
        super().__init__(path, every=0.0)
        self.kept = []

    def save(self, state):
        super().save(state)
        self.kept.append(self.path.read_bytes())


@pytest.mark.parametrize(
    "how",
    [
        {"optimizer": "adam"},
        {"optimizer": "sgd", "loss": "focal", "schedule": "constant"},
        {"optimizer": "adamw", "loss": "bce", "loss_options": {"normalizer": "running"}},
        {"loss": "dice"},
    ],
    ids=["adam", "sgd", "adamw, running normalizer", "dice"],
)
def test_a_training_resumed_after_any_step_gives_what_an_uninterrupted_one_gives(spots, tmp_path, how):
    run = TINY.replace(steps=4, learning_rate=0.01, **how)  # measured after steps 2 and 4
    whole, watching = train(run), Every(tmp_path / "checkpoint.pt")
    assert same(train(run, checkpoint=watching), whole, but=("weights", "seconds"))
    assert len(watching.kept) == 4
    for content in watching.kept:
        watching.path.write_bytes(content)
        resumed = train(run, checkpoint=CheckpointFile(watching.path, every=math.inf))
        assert same(resumed, whole, but=("weights", "seconds"))
        assert watching.path.read_bytes() == content


def test_the_wall_time_of_a_resumed_training_is_that_of_all_its_parts(spots, tmp_path):
    watching = Every(tmp_path / "checkpoint.pt")
    train(TINY, checkpoint=watching)
    watching.save(watching.load() | {"seconds": 1000.0})
    assert 1000.0 < train(TINY, checkpoint=CheckpointFile(watching.path)).seconds < 1100.0


@pytest.mark.parametrize("damage", ["zero bytes", "truncated", "text", "of something else"])
def test_a_damaged_checkpoint_is_left_with_a_warning_and_the_training_starts_anew(
    tmp_path, trained, caplog, damage
):
    watching = Every(tmp_path / "checkpoint.pt")
    train(TINY, checkpoint=watching)
    whole = watching.kept[0]
    watching.path.write_bytes({
        "zero bytes": b"", "truncated": whole[: len(whole) // 2], "text": b"nothing",
        "of something else": foreign(tmp_path),
    }[damage])
    again = train(TINY, checkpoint=CheckpointFile(watching.path))
    assert watching.path.name in caplog.text and "starts anew" in caplog.text
    assert same(again, trained, but=("weights", "seconds", "validation", "final"))


def test_a_checkpoint_stays_until_the_record_is_stored(spots, tmp_path, monkeypatch, trained):
    monkeypatch.setattr(store, "CHECKPOINT_EVERY", 0.0)
    kept, seen = Store(tmp_path), []

    def stopped(run, checkpoint):
        train(run, checkpoint=checkpoint)
        seen.append(checkpoint.path.exists())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept.get_or_train(TINY, train=stopped)
    name = store.key(TINY)
    assert seen == [True] and listed(tmp_path) == [f"checkpoints/{name}.pt"]
    assert same(kept.get_or_train(TINY), trained, but=("weights", "seconds"))
    assert listed(tmp_path) == files(name)


def test_checkpoints_are_as_far_apart_as_they_are_told(tmp_path):
    now, then = CheckpointFile(tmp_path / "a", every=0.0), CheckpointFile(tmp_path / "a", every=3600.0)
    assert now.due() and not then.due()
    assert then.load() is None  # nothing was saved yet
    now.save({"step": 1})
    assert then.load() == {"step": 1}


def test_a_checkpoint_that_was_left_beside_a_record_goes(tmp_path, trained):
    kept = Store(tmp_path)
    kept.put(dataclasses.replace(trained, final={}))
    left = kept.entry(TINY).file("checkpoints")
    CheckpointFile(left).save({"step": 1})
    kept.get_or_train(TINY, train=lambda *_, **__: pytest.fail("it was trained again"))
    assert not left.exists()
