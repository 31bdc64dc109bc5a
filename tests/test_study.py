import dataclasses
import json
import math
import threading

import pandas as pd
import pytest
import torch
from scenes import set_arrays, write_set

from falloff import data, losses
from falloff.study import (
    Store,
    compare,
    curves,
    digests,
    engine,
    protocol,
    record,
    statistics,
    store,
)
from falloff.study import run as run_all
from falloff.training import Run, train

TINY = Run(dataset="spots", width=2, steps=2, batch=4, evaluations=2)


def same(one, other):
    """Equal records, NaN being equal to NaN."""
    plain = [
        {f.name: getattr(r, f.name) for f in dataclasses.fields(r) if f.name != "weights"}
        for r in (one, other)
    ]
    weights = one.weights.keys() == other.weights.keys() and all(
        torch.equal(one.weights[name], other.weights[name]) for name in one.weights
    )
    return weights and repr(plain[0]) == repr(plain[1])


@pytest.fixture(scope="module")
def trained(spots):
    return train(TINY)


# The store.


def test_what_is_put_is_got(tmp_path, trained):
    path = Store(tmp_path).put(trained)
    assert same(Store(str(tmp_path)).get(TINY), trained)
    assert json.loads(path.with_suffix(".json").read_text())["run"] == json.loads(json.dumps(TINY.describe()))
    assert {p.suffix for p in tmp_path.iterdir()} == {".pt", ".json"}


def test_other_runs_are_not_there(tmp_path, trained):
    Store(tmp_path).put(trained)
    assert Store(tmp_path).get(TINY.replace(seed=1)) is None
    assert Store(tmp_path / "elsewhere").get(TINY) is None


@pytest.mark.parametrize("damage", ["empty", "half", "text", "another run", "another format"])
def test_a_damaged_file_is_set_aside_and_the_run_done_again(tmp_path, trained, caplog, damage):
    kept = Store(tmp_path)
    path = kept.put(trained)
    whole = path.read_bytes()
    if damage in ("another run", "another format"):
        content = torch.load(path, weights_only=True)
        content["run" if damage == "another run" else "format"] = {"steps": 7}
        torch.save(content, path)
    else:
        path.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "text": b"not a record"}[damage])
    broken = path.read_bytes()
    assert kept.get(TINY) is None
    assert "set aside" in caplog.text and path.name in caplog.text
    assert not path.exists() and path.with_suffix(".damaged").read_bytes() == broken
    again = kept.get_or_train(TINY)
    assert repr(again.final) == repr(trained.final)
    assert path.exists()


def test_a_write_that_fails_leaves_what_was_there_and_no_litter(tmp_path):
    target = tmp_path / "deep" / "file"
    with store.written(target) as temporary:
        temporary.write_text("first")
        assert not target.exists()
    with pytest.raises(RuntimeError), store.written(target) as temporary:
        temporary.write_text("second, half don")
        raise RuntimeError
    assert target.read_text() == "first"
    assert [p.name for p in target.parent.iterdir()] == ["file"]
    assert target.stat().st_mode & 0o777 == 0o644


def test_two_that_want_one_run_train_it_once(tmp_path, trained, monkeypatch):
    calls, release = [], threading.Event()

    def slow(run, progress=None):
        calls.append(run)
        release.wait(5)
        return trained

    monkeypatch.setattr(store, "train", slow)
    wanting = [threading.Thread(target=Store(tmp_path).get_or_train, args=(TINY,)) for _ in range(2)]
    for one in wanting:
        one.start()
    release.set()
    for one in wanting:
        one.join(10)
    assert calls == [TINY]


def test_the_key_is_that_of_the_description_the_code_and_the_data(spots, monkeypatch):
    first = store.key(TINY)
    assert store.key(TINY.replace(loss_options={"sigma": 1.5})) == first
    assert store.key(TINY.replace(seed=1)) != first
    monkeypatch.setattr(data, "digest", lambda name: "other bytes")
    assert store.key(TINY) != first
    monkeypatch.undo()
    monkeypatch.setattr(store, "_CODE", "other code")
    assert store.key(TINY) != first


# The engine.


@pytest.fixture(scope="module")
def table(spots, tmp_path_factory):
    """Three runs over real workers, one of which cannot be done, and a second call for the other two."""
    folder = tmp_path_factory.mktemp("records")
    write_set(spots, "half", **set_arrays((4, 4, 0)))
    runs = [TINY, TINY.replace(dataset="half"), TINY.replace(loss="mse", learning_rate=0.01), TINY]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(engine.SCHEDULER, raising=False)
        patch.setattr(engine, "cores", lambda: 1)
        first = run_all(runs, store=Store(folder))
    return runs, first, folder


def test_a_table_has_a_row_per_run_in_their_order(table):
    _, first, _ = table
    assert first["loss"].tolist() == ["distance-aware", "distance-aware", "mse", "distance-aware"]
    assert first["dataset"].tolist() == ["spots", "half", "spots", "spots"]
    assert {"ap", "val_ap", "seconds", "failure", "error"} <= set(first.columns)


def test_a_run_that_fails_says_why_and_the_others_are_done(table):
    _, first, folder = table
    assert "no image of split 'test'" in first["failure"][1] and math.isnan(first["ap"][1])
    assert first["failure"][[0, 2, 3]].isna().all() and first["ap"][[0, 2, 3]].notna().all()
    assert len(list(folder.glob("*.pt"))) == 2  # the run that was asked for twice was done once


def test_workers_give_what_training_here_gives(table, trained):
    _, first, folder = table
    kept = Store(folder).get(TINY)
    assert repr(kept.final) == repr(trained.final) and repr(kept.curve) == repr(trained.curve)
    assert first["ap"][0] == trained.final["ap"]


def test_what_is_stored_starts_no_worker(table, monkeypatch):
    runs, first, folder = table
    monkeypatch.setattr(engine, "cluster", lambda: pytest.fail("workers were started"))
    done = [runs[0], runs[2]]
    again = run_all(done, store=Store(folder))
    wanted = first.iloc[[0, 2]].reset_index(drop=True)
    assert again["failure"].isna().all()
    pd.testing.assert_frame_equal(
        again.drop(columns="failure"), wanted.drop(columns="failure"), check_dtype=False
    )
    assert record(TINY, store=Store(folder)).final["ap"] == first["ap"][0]
    steps = curves(done, store=Store(folder))
    assert steps["step"].tolist() == [1, 2, 1, 2]


def test_curves_keep_the_name_of_the_loss_beside_the_training_loss(table, monkeypatch):
    runs, _, folder = table
    monkeypatch.setattr(engine, "cluster", lambda: pytest.fail("workers were started"))
    steps = curves([runs[0], runs[2]], store=Store(folder))
    assert steps["loss"].tolist() == ["distance-aware"] * 2 + ["mse"] * 2
    assert len(statistics.steps_to(steps, 2.0)) == 2


def test_a_table_keeps_every_metric_of_the_test_split(tmp_path, trained):
    # The localisation error and the reason of a failure were once both called "error".
    final = {name: 0.001 + index for index, name in enumerate(trained.final)}
    Store(tmp_path).put(dataclasses.replace(trained, final=final))
    row = run_all([TINY], store=Store(tmp_path)).iloc[0].tolist()
    assert [name for name, value in final.items() if value not in row] == []


def test_what_cannot_be_is_refused_before_any_worker_starts(spots, monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "cluster", lambda: pytest.fail("workers were started"))
    with pytest.raises(ValueError, match="runs must hold at least one Run, got none"):
        run_all([], store=Store(tmp_path))
    with pytest.raises(FileNotFoundError, match="no data set 'absent'"):
        run_all([TINY, TINY.replace(dataset="absent")], store=Store(tmp_path))
    with pytest.raises(ValueError, match="device must be"):
        run_all([TINY.replace(device="tpu")], store=Store(tmp_path))


@pytest.mark.bad_input
def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(TypeError, match="runs must hold Run, got str"):
        run_all(["digits"], store=Store(tmp_path))


# The protocol.


class Oracle:
    """Stands in for the engine: validation prefers one rate per loss, test depends on the seed."""

    def __init__(self, best):
        self.best, self.asked = best, []

    def run(self, runs, **_):
        self.asked += runs
        return pd.DataFrame(
            [
                {
                    **one.describe(),
                    "val_ap": -abs(math.log(one.learning_rate / self.best[one.loss])),
                    "ap": one.seed / 10,
                    "failure": None,
                }
                for one in runs
            ]
        )

    def curves(self, runs, **_):
        return pd.DataFrame([{**one.describe(), "step": 1, "ap": 0.5} for one in runs])


@pytest.fixture
def oracle(monkeypatch):
    one = Oracle({"focal": 3e-3, "mse": 3e-2})
    monkeypatch.setattr(engine, "run", one.run)
    monkeypatch.setattr(engine, "curves", one.curves)
    return one


def test_each_loss_gets_its_best_rate_by_validation_and_then_every_seed(oracle):
    found = compare(Run(), ["focal", "mse"], rates=[1e-3, 3e-3, 3e-2], seeds=[0, 1])
    chosen = found.tuning[found.tuning["chosen"]].set_index("loss")
    assert chosen["learning_rate"].to_dict() == {"focal": 3e-3, "mse": 3e-2}
    assert chosen["at_edge"].to_dict() == {"focal": False, "mse": True}
    assert sorted(
        zip(found.table["loss"], found.table["seed"], found.table["learning_rate"], strict=True)
    ) == [("focal", 0, 3e-3), ("focal", 1, 3e-3), ("mse", 0, 3e-2), ("mse", 1, 3e-2)]
    assert found.run("mse").learning_rate == 3e-2
    assert len(found.curves) == 4


def test_every_loss_gets_the_same_budget_and_tuning_uses_no_reported_seed(oracle):
    compare(Run(steps=77), ["focal", "mse"], rates=[1e-3, 3e-2], seeds=[0, 1, 2])
    budgets = {
        name: sorted(
            (one.learning_rate, one.seed) for one in oracle.asked if one.loss == name and one.seed > 2
        )
        for name in ("focal", "mse")
    }
    assert budgets["focal"] == budgets["mse"] and len(budgets["focal"]) == 2
    assert {one.steps for one in oracle.asked} == {77}
    assert protocol.TUNING_SEED not in protocol.SEEDS
    assert set(protocol.OPTIONS) == set(protocol.LOSSES) <= set(losses.names())


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"names": []}, "names must hold at least one value, each once"),
        ({"names": ["focal", "focal"]}, "names"),
        ({"rates": []}, "rates"),
        ({"seeds": [1, 1]}, "seeds must hold .* got \\[1, 1\\]"),
        ({"names": ["focall"]}, "did you mean 'focal'"),
    ],
)
def test_bad_comparisons_are_named(oracle, changed, named):
    with pytest.raises(ValueError, match=named):
        compare(Run(), **{"names": ["focal"], "rates": [1e-3], "seeds": [0], **changed})


def test_a_comparison_with_a_failed_run_stops(oracle, monkeypatch):
    monkeypatch.setattr(engine, "run", lambda runs: pd.DataFrame([{"loss": "focal", "failure": "it burnt"}]))
    with pytest.raises(RuntimeError, match="1 of 1 runs failed; the first: it burnt"):
        compare(Run(), ["focal"], rates=[1e-3], seeds=[0])


# Digests of code.

CODE = '''
"""What it is."""
import math

def area(radius):
    """The area."""
    return math.pi * radius**2  # of a disc

class Disc:
    "A disc."
    sides = 0
'''


@pytest.mark.parametrize(
    "other",
    [
        CODE.replace("# of a disc", "# something else"),
        CODE.replace('"""The area."""', '"""Another text."""').replace('"A disc."', '"A ring."'),
        CODE.replace("\n\n", "\n\n\n").replace("math.pi * radius**2", "(math.pi *\n        radius ** 2)"),
        CODE.replace('    """The area."""\n', "").replace('"""What it is."""', ""),
    ],
)
def test_a_digest_is_blind_to_comments_docstrings_and_layout(other):
    assert other != CODE
    assert digests.of_source(other) == digests.of_source(CODE)


@pytest.mark.parametrize(
    "other",
    [
        CODE.replace("radius**2", "radius**3"),
        CODE.replace("sides = 0", "sides = 0.0"),
        CODE.replace("sides = 0", "sides = False"),
        CODE.replace("math.pi", "math.tau"),
        CODE.replace("def area", "def extent"),
        CODE + "area(2)\n",
        CODE.replace("sides = 0", 'sides = 0; text = "A disc."'),
    ],
)
def test_a_digest_sees_every_change_of_meaning(other):
    assert digests.of_source(other) != digests.of_source(CODE)


def test_parts_do_not_run_into_each_other():
    assert digests.of_text("ab", "c") != digests.of_text("a", "bc") != digests.of_text("abc")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in place of falloff's own: a imports b imports c; d stands alone."""
    home = tmp_path / "pack"
    files = {
        "__init__.py": "",
        "a.py": "from pack import b",
        "b.py": "def f():\n    from pack.inner.c import X\n",
        "inner/__init__.py": "",
        "inner/c.py": "X = 1",
        "d.py": "Y = 1",
    }
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    monkeypatch.setattr(digests, "PACKAGE", home)
    return home


def test_imports_are_followed_inner_ones_too(package):
    assert digests.closure(["pack.a"]) == {"pack", "pack.a", "pack.b", "pack.inner", "pack.inner.c"}
    assert digests.imports("import pack.d, os\nfrom pack.inner import c") == {
        "pack.d",
        "pack.inner",
        "pack.inner.c",
    }


@pytest.mark.parametrize(
    ("changed", "text", "moves"),
    [
        ("inner/c.py", "X = 22", True),
        ("inner/__init__.py", "import sys", True),
        ("d.py", "Y = 22", False),
        ("inner/c.py", "X = 1  # one", False),
    ],
)
def test_a_digest_of_modules_follows_what_they_import(package, changed, text, moves):
    before = digests.of_modules(["pack.a"])
    (package / changed).write_text(text)
    assert (digests.of_modules(["pack.a"]) != before) == moves


def test_a_module_that_is_not_there_is_named(package):
    with pytest.raises(ModuleNotFoundError, match=r"pack\.absent"):
        digests.of_modules(["pack.absent"])


def test_a_runs_code_holds_all_that_computes_its_numbers():
    found = digests.closure(["falloff.training"])
    assert {
        f"falloff.{name}"
        for name in (
            "points",
            "heatmaps",
            "decode",
            "metrics",
            "training",
            "losses.charges",
            "losses.dense",
            "losses.family",
            "data.digits",
            "data.npz",
            "models.unet",
        )
    } <= found
    assert not any(name.startswith(("falloff.plots", "falloff.study", "falloff.cli")) for name in found)
