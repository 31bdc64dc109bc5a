import dataclasses
import json
import math
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import set_arrays, write_set

from falloff import data, losses
from falloff.study import (
    Store,
    compare,
    curves,
    digests,
    engine,
    parameters,
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


# Statistics.


def test_an_interval_worked_by_hand():
    # Mean 5, s = sqrt(20 / 3) = 2.58199, t of 3 degrees of freedom at 97.5 % is 3.18245 in any table.
    found = statistics.interval([2.0, 4.0, 6.0, 8.0])
    half = 3.182446 * math.sqrt(20 / 3) / 2
    assert (found.mean, found.count) == (5.0, 4)
    assert (found.low, found.high) == pytest.approx((5 - half, 5 + half), rel=1e-6)
    assert str(found) == "5.000\u00a0±\u00a04.109"


def test_one_seed_has_a_mean_and_no_interval():
    found = statistics.interval([0.25])
    assert found.mean == 0.25 and found.count == 1 and math.isnan(found.low) and math.isnan(found.high)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_intervals_cover_the_truth_as_often_as_they_say(confidence):
    draws = np.random.default_rng(0).normal(1.0, 2.0, size=(2000, 4))
    found = [statistics.interval(row, confidence) for row in draws.tolist()]
    assert np.mean([i.low <= 1.0 <= i.high for i in found]) == pytest.approx(confidence, abs=0.02)


def test_paired_differences_are_taken_seed_by_seed():
    rows = [("a", 0, 0.9), ("a", 1, 0.5), ("a", 2, 0.7), ("b", 2, 0.6), ("b", 0, 0.8), ("b", 1, 0.4)]
    found = statistics.paired(pd.DataFrame(rows, columns=["loss", "seed", "ap"]), "ap", "a", "b")
    # The two vary by 0.4, their difference not at all.
    assert (found.mean, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))


def test_paired_needs_the_same_seeds_of_both():
    rows = pd.DataFrame([("a", 0, 0.9), ("a", 1, 0.5), ("b", 0, 0.8)], columns=["loss", "seed", "ap"])
    with pytest.raises(ValueError, match="'b' must have every seed"):
        statistics.paired(rows, "ap", "a", "b")
    with pytest.raises(ValueError, match="'c' must have every seed"):
        statistics.paired(rows, "ap", "a", "c")


@pytest.mark.parametrize(
    "rows",
    [
        [("a", 0, 0.9), ("a", 1, math.nan), ("b", 0, 0.8), ("b", 1, math.nan)],
        [("a", 0, 0.9), ("a", 0, 0.1), ("a", 1, 0.5), ("b", 0, 0.8), ("b", 1, 0.4)],
    ],
    ids=["a seed that both lack", "a seed twice"],
)
def test_paired_neither_drops_nor_averages_seeds_in_silence(rows):
    with pytest.raises(ValueError):
        statistics.paired(pd.DataFrame(rows, columns=["loss", "seed", "ap"]), "ap", "a", "b")


def test_a_summary_has_a_row_per_loss_in_the_order_of_the_table():
    rows = pd.DataFrame({"loss": ["mse", "mse", "bce"], "ap": [0.2, 0.4, 0.5], "error": [1.0, 1.0, 2.0]})
    found = statistics.summary(rows, ["ap", "error"])
    assert found.index.tolist() == ["mse", "bce"]
    assert found.loc["mse", ("ap", "mean")] == pytest.approx(0.3)
    assert found.loc["mse", ("error", "low")] == 1.0 and math.isnan(found.loc["bce", ("ap", "low")])


def test_steps_to_a_threshold_keep_the_runs_that_never_get_there():
    rows = [("a", 0, 10, 0.2), ("a", 0, 20, 0.8), ("a", 0, 30, 0.7), ("b", 0, 10, 0.1), ("b", 0, 30, 0.3)]
    found = statistics.steps_to(pd.DataFrame(rows, columns=["loss", "seed", "step", "ap"]), 0.7)
    assert found.set_index("loss")[["steps", "reached"]].T.to_dict("list") == {
        "a": [20, True],
        "b": [30, False],
    }


@pytest.mark.parametrize(
    ("values", "confidence", "named"),
    [
        ([], 0.95, "values must be"),
        ([1.0, math.nan], 0.95, "values must be"),
        ([[1.0]], 0.95, "values must be"),
        ([1.0], 1.0, "confidence must be in"),
        ([1.0], 0.0, "confidence"),
    ],
)
@pytest.mark.bad_input
def test_bad_values_of_an_interval_are_named(values, confidence, named):
    with pytest.raises(ValueError, match=named):
        statistics.interval(values, confidence)


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


# Parameters of a chapter.

CELL = """
steps: int = 200  # optimiser steps; [1, 100000]
rate: float = 0.003  # learning rate; [1e-6, 1]
loss: str = "focal"  # which loss; {bce, focal, mse}
title: str = "a # b"  # shown above the figure
fast: bool = False  # skip the slow part
seeds: list[int] = [0, 1]  # one run each; [0, 99]
rates: list[float] = [0.1]  # to choose from
"""
DECLARED = parameters.schema(CELL)


def test_the_cell_is_the_schema():
    assert {name: (p.kind, p.default, p.bounds, p.choices) for name, p in DECLARED.items()} == {
        "steps": ("int", 200, (1, 100000), None),
        "rate": ("float", 0.003, (1e-6, 1), None),
        "loss": ("str", "focal", None, ("bce", "focal", "mse")),
        "title": ("str", "a # b", None, None),
        "fast": ("bool", False, None, None),
        "seeds": ("list[int]", [0, 1], (0, 99), None),
        "rates": ("list[float]", [0.1], None, None),
    }
    assert DECLARED["steps"].meaning == "optimiser steps"
    assert parameters.read(DECLARED, {}) == {name: p.default for name, p in DECLARED.items()}


def test_values_from_a_shell_are_read_as_what_they_say():
    given_words = parameters.pairs(
        ["steps=12", "rate=1e-2", "loss=mse", "fast=True", "seeds=3, 4", "title=a=b"]
    )
    assert parameters.read(DECLARED, given_words) == {
        "steps": 12,
        "rate": 0.01,
        "loss": "mse",
        "title": "a=b",
        "fast": True,
        "seeds": [3, 4],
        "rates": [0.1],
    }


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("steps", "1.5", "steps must be an integer, got '1.5'"),
        ("steps", 1.0, "steps must be an integer"),
        ("steps", True, "steps must be an integer, got True"),
        ("steps", "0", r"steps must be in \[1, 100000\], got '0'"),
        ("steps", "", "steps must be an integer, got ''"),
        ("steps", None, "steps must be an integer, got None"),
        ("steps", "9" * 5000, "steps must be"),
        ("rate", "nan", "rate must be a finite number, got 'nan'"),
        ("rate", "inf", "rate must be a finite number"),
        ("rate", 10**400, "rate must be a finite number"),
        ("rate", "2", r"rate must be in \[1e-06, 1\]"),
        ("loss", "hinge", "loss must be one of bce, focal, mse; got 'hinge'"),
        ("loss", 3, "loss must be a string"),
        ("fast", "yes", "fast must be true or false, got 'yes'"),
        ("fast", 1, "fast must be true or false"),
        ("seeds", "", "seeds must be a list of int"),
        ("seeds", "1,,2", "seeds must be an integer, got ''"),
        ("seeds", [], "seeds must be a list of int"),
        ("seeds", 3, "seeds must be a list of int"),
        ("seeds", "1,100", r"seeds must be in \[0, 99\]"),
        ("step", "3", "unknown parameter 'step'.*did you mean 'steps'"),
        ("", "3", "unknown parameter ''"),
    ],
)
def test_what_does_not_fit_is_named(name, value, named):
    with pytest.raises(ValueError, match=named):
        parameters.read(DECLARED, {name: value})


TEXT = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["'; import os #", '"""', "a\nb", "\\", "__import__('os').getcwd()", "{steps}", "%s", "1; 2", "\0"]
    ),
)
VALUES = st.one_of(
    TEXT,
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.lists(TEXT, max_size=2),
    st.lists(st.integers(), max_size=2),
)


@settings(max_examples=100)
@given(st.sampled_from(sorted(DECLARED)) | TEXT, VALUES)
def test_whatever_is_given_is_read_as_what_it_says_or_refused_by_name(name, value):
    try:
        read = parameters.read(DECLARED, {name: value})
    except ValueError as error:
        assert name in str(error) or repr(name) in str(error)
        return
    assert read.keys() == DECLARED.keys()
    assert all(read[other] == DECLARED[other].default for other in DECLARED if other != name)
    kind = {"int": int, "float": float, "str": str, "bool": bool, "list[int]": list, "list[float]": list}
    got = read[name]
    assert type(got) is kind[DECLARED[name].kind]
    if isinstance(value, str) and type(got) in (int, float):
        assert got == type(got)(value)
    elif isinstance(got, (int, float, str)):
        assert got == value or str(got).lower() == value.lower()


@given(TEXT)
def test_a_string_arrives_as_it_was_given(text):
    assert parameters.read(DECLARED, parameters.pairs([f"title={text}"]))["title"] == text


@given(st.lists(TEXT, max_size=3))
def test_words_are_pairs_or_refused(words):
    try:
        found = parameters.pairs(words)
    except ValueError as error:
        assert "name=value" in str(error) or "given twice" in str(error)
        return
    assert [f"{name}={value}" for name, value in found.items()] == words


@pytest.mark.parametrize(
    ("cell", "named"),
    [
        ("steps = 3", "'steps = 3'"),
        ("steps: int", "'steps: int'"),
        ("import os", "'import os'"),
        ("print(1)", r"print\(1\)"),
        ("steps: dict = {}", "steps: kind must be one of int, float"),
        ("steps: int = 'a'", "steps must be an integer"),
        ("steps: int = 3  # some; [5, 9]", r"steps must be in \[5, 9\]"),
        ("steps: int = 3  # some; from 5 to 9", "a limit is written"),
        ("loss: str = 'mse'  # some; {bce, focal}", "loss must be one of"),
        ("seeds: list[int] = []", "seeds must be a list of int"),
    ],
)
def test_a_cell_that_is_no_schema_is_named(cell, named):
    with pytest.raises(ValueError, match=named):
        parameters.schema(cell)


def test_a_default_that_is_computed_is_named():
    with pytest.raises(ValueError, match="steps"):
        parameters.schema("import_me: int = 1\nsteps: int = len('abc')")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["steps"], "name=value, got 'steps'"),
        (["=3"], "name=value, got '=3'"),
        (["steps=1", "steps=2"], "'steps' is given twice"),
    ],
)
def test_words_that_are_no_pairs_are_named(words, named):
    with pytest.raises(ValueError, match=named):
        parameters.pairs(words)
