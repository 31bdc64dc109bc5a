"""What a run's key holds: all that computes it, and nothing else."""

import ast
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import torch

import falloff
from falloff import data, digests, losses, measures, models, systems, training
from falloff.measures import Measured
from falloff.run import Run
from falloff.study import store
from falloff.training import train

HOME = Path(falloff.__file__).parent
TINY = Run(dataset="spots", width=2, steps=2, batch=4, evaluations=1, form="eager", precision="float32")


def without(system):
    """What a run leaves out for a system that has its own net, or no class maps."""
    return {part: None for part, taken in (("model", "net"), ("loss", "loss")) if taken not in systems.takes(system)}


RUNS = {f"loss {name}": TINY.replace(loss=name) for name in losses.names()}
RUNS |= {f"system {name}": TINY.replace(system=name, **without(name)) for name in systems.names()}
RUNS |= {f"model {name}": TINY.replace(model=name) for name in models.names()}
RUNS |= {f"metric {name}": TINY.replace(watched=(name,)) for name in store.FINAL.metrics}
RUNS |= {"digits": TINY.replace(dataset="digits"), "augmented": TINY.replace(augment={"flip": 0.5, "degrees": 10.0})}


# What computes is in the key.


@pytest.fixture
def executed():
    """The modules of the package in which a function was called since."""
    found = set()

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_name != "<module>":
            found.add(frame.f_code.co_filename)

    def start():
        threading.setprofile(note)
        sys.setprofile(note)

    def stop():
        sys.setprofile(None)
        threading.setprofile(None)
        inside = (Path(name) for name in found if name.startswith(str(HOME)))
        return {".".join(("falloff", *path.relative_to(HOME).with_suffix("").parts)).removesuffix(".__init__")
                for path in inside}

    yield start, stop
    stop()


@pytest.mark.parametrize("name", RUNS)
def test_what_a_run_executes_is_in_its_key_or_a_chooser(spots, executed, name):
    run = RUNS[name]
    watched, (start, stop) = measures.get(run.watched[0]), executed
    data._load.cache_clear()
    start()
    record = train(run)
    split = data.load(run.dataset, "val", run.size).head(8)
    said = training.predict(record.system(), split, run)
    measures.measure(said, split, [watched.name])
    found = stop()
    assert {"falloff.training", "falloff.points", *(type(m).__module__ for m in record.system().modules()
            if type(m).__module__.startswith("falloff"))} <= found
    assert {module for module in found - store.ingredients(run).keys() if not digests.is_chooser(module)} == set()


@pytest.fixture(scope="module")
def tiny(spots):
    """A trained system beside what it says of two splits."""
    record = train(TINY)

    def said(name):
        split = data.load(TINY.dataset, name, TINY.size).head(8)
        prediction = training.predict(record.system(), split, TINY)
        return Measured(prediction, split, refer=lambda: said("val"), trained=record)

    return said("test")


@pytest.mark.parametrize("name", [*measures.STUDY, *measures.PICTURES, *measures.DENSE])
def test_what_a_metric_executes_is_in_its_digest_or_a_chooser(tiny, executed, name):
    metric, (start, stop) = measures.get(name), executed
    reference = tiny.reference  # which is decoded as the split is
    measured = Measured(tiny.prediction, tiny.dataset, refer=lambda: reference, trained=tiny.trained)
    start()
    metric.of(measured)
    found = stop()
    assert metric.of.__module__ in found
    known = digests.ingredients({metric.of.__module__}, store._CODE).keys()
    if metric.needs_training:  # which the run's key holds
        known |= store.ingredients(TINY).keys()
    assert {module for module in found - known if not digests.is_chooser(module)} == set()


def test_choosers_hold_no_number():
    for path in [*HOME.rglob("__init__.py"), *(HOME / f"{name.split('.')[1]}.py" for name in digests.CHOOSERS)]:
        numbers = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)
                   and isinstance(node.value, (int, float)) and not isinstance(node.value, bool)]
        assert numbers == [], path


# A copy of the package's files, of which one is changed.


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    copy = tmp_path_factory.mktemp("copied") / "falloff"
    shutil.copytree(HOME, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture
def changed(copied, spots, monkeypatch):
    """The runs whose keys move when some text of a file is replaced, or something added."""
    runs = {name: run for name, run in RUNS.items() if name != "augmented"}

    def keys():
        store._made_of.cache_clear()
        monkeypatch.setattr(store, "_CODE", digests.package())
        return {name: store.key(run) for name, run in runs.items()}

    def change(file, old=None, new="\nchanged = 1\n"):
        source = (copied / file).read_text()
        assert old is None or old in source
        with monkeypatch.context() as patch:
            patch.setattr(digests, "PACKAGE", copied)
            before = keys()
            (copied / file).write_text(source + new if old is None else source.replace(old, new))
            after = keys()
        (copied / file).write_text(source)
        return {name for name in before if before[name] != after[name]}

    yield change
    store._made_of.cache_clear()


def test_a_line_that_a_run_executes_changes_its_key(changed):
    every = RUNS.keys() - {"augmented"}
    drawn = {name for name in every if (RUNS[name].system, RUNS[name].model) == ("heatmap", "unet")}
    for file in ("training.py", "points.py", "heatmaps.py", "systems/base.py", "machine.py", "run.py"):
        assert changed(file) == every, file
    for file in ("decode.py", "systems/heatmap.py", "models/unet.py", "losses/base.py"):
        assert drawn <= changed(file), file


@pytest.mark.parametrize(
    ("file", "of_these", "not_of"),
    [
        ("losses/overlap.py", {"loss dice", "loss tversky"}, {"loss bce", "loss dsnt", "digits"}),
        ("losses/cross_entropy.py", {"loss bce", "loss soft-bce"}, {"loss mse", "loss dice", "digits"}),
        ("data/npz.py", {"loss bce", "loss mse"}, {"digits"}),
        ("data/digits.py", {"digits"}, {"loss bce"}),
        ("measures/calibration.py", {"metric calibration_error"}, {"loss bce", "digits", "metric ap"}),
    ],
)
def test_a_part_changes_the_keys_of_the_runs_that_have_it(changed, file, of_these, not_of):
    found = changed(file)
    assert of_these <= found and not not_of & found


@pytest.mark.parametrize("file", ["study/engine.py", "study/store.py", "cli.py", "plots/style.py", "sets.py",
                                  "losses/__init__.py", "systems/__init__.py"])
def test_what_looks_at_runs_and_what_chooses_change_no_key(changed, file):
    assert changed(file) == set()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import torch\n", "import torch  # which computes\n\n\n"),
        ("training diverged at step", "the training went wrong at step"),
        ("        # ", "        # Or: "),
        ('"""Train one system as described.', '"""Train a system.'),
    ],
    ids=["layout", "text of an error", "comment", "docstring"],
)
def test_comments_docstrings_and_the_text_of_errors_change_no_key(changed, old, new):
    source = (HOME / "training.py").read_text()
    assert changed("training.py", old if old in source else '"""One run', new if old in source else '"""A run') == set()


ADDED = {
    "losses/new.py": """
        from dataclasses import dataclass
        from falloff.losses.cross_entropy import BCE

        @dataclass(frozen=True, kw_only=True)
        class New(BCE):
            name = "new"
        """,
    "models/new.py": """
        from falloff.models.unet import UNet

        class New(UNet):
            pass
        """,
    "systems/new.py": """
        from falloff.systems.heatmap import Heatmap

        class New(Heatmap):
            pass
        """,
    "data/new.py": """
        from falloff.data import npz

        def read(name, split, size):
            return npz.read("spots", split, size)
        """,
    "measures/new.py": """
        from falloff.measures.base import Metric

        def _of(measured):
            return 0.5

        NEW = Metric(name="new", title="new", of=_of)
        """,
}
ROWS = [
    ("losses/__init__.py", "        DSNT,\n", "        DSNT,\n        New,\n", "from falloff.losses.new import New\n"),
    ("models/__init__.py", '"unet": UNet', '"unet": UNet, "new": New', "from falloff.models.new import New\n"),
    ("systems/__init__.py", '"heatmap": Heatmap', '"heatmap": Heatmap, "new": New',
     "from falloff.systems.new import New\n"),
    ("sets.py", '{"digits": ', '{"new": "falloff.data.new", "digits": ', ""),
    ("measures/__init__.py", "points.AP, ", "points.AP, new.NEW, ", "from falloff.measures import new\n"),
]
KEYS = """
import json, sys
from falloff.measures import Measured
from falloff.run import Run
from falloff.study import store
from falloff.training import train

base = json.loads(sys.argv[1])
runs = {name: Run.of(base | json.loads(change)) for name, change in json.loads(sys.argv[2]).items()}
print(json.dumps({name: store.key(run) for name, run in runs.items()}))
if len(sys.argv) > 3:
    everything = Run.of(base | {"system": "new", "model": "new", "loss": "new", "loss_options": {},
                               "dataset": "new", "watched": ["new"]})
    assert train(everything).curve[0]["new"] == 0.5
"""


def test_a_new_file_and_its_row_change_no_other_runs_key(copied, spots, tmp_path):
    home = tmp_path / "src"
    shutil.copytree(copied, home / "falloff")
    base = json.dumps(TINY.describe())
    names = json.dumps({name: json.dumps({}) for name in ("same",)} | {
        name: json.dumps({"loss": name, "loss_options": {}}) for name in losses.names() if name != "dice"})

    def keys(*more):
        done = subprocess.run([sys.executable, "-c", KEYS, base, names, *more], capture_output=True, text=True,
                              cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(home)})
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[0])

    before = keys()
    for file, text in ADDED.items():
        (home / "falloff" / file).write_text(textwrap.dedent(text))
    for file, old, new, first in ROWS:
        source = (home / "falloff" / file).read_text()
        assert old in source
        place = source.index("from falloff")
        (home / "falloff" / file).write_text(source[:place] + first + source[place:].replace(old, new))
    assert keys("and train what is new") == before


# Outside the package.

MINE = """
import torch
from falloff.losses.cross_entropy import BCE
from falloff.systems.heatmap import Heatmap
from falloff.models.unet import UNet

FACTOR = 2.0

class Loss(BCE):
    pass

class Net(UNet):
    pass

class System(Heatmap):
    pass
"""


@pytest.mark.parametrize("part", ["loss", "model", "system"])
def test_a_part_outside_the_package_is_named_by_its_module_and_its_source_is_in_the_key(
    spots, tmp_path, monkeypatch, part
):
    name = f"mine_{part}"
    (tmp_path / f"{name}.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    run = TINY.replace(**{part: f"{name}:{ {'loss': 'Loss', 'model': 'Net', 'system': 'System'}[part] }"})
    assert train(run).curve[0]["step"] == 2
    before = store.key(run)
    assert name in store.ingredients(run)
    (tmp_path / f"{name}.py").write_text(MINE.replace("2.0", "30.0"))
    store._made_of.cache_clear()
    assert store.key(run) != before


# Values and libraries.


def test_libraries_are_in_the_key_at_their_public_versions():
    made, stored = (json.loads(store.identity(RUNS[name])["libraries"]) for name in ("digits", "loss bce"))
    assert made["torch"] == torch.__version__.split("+")[0]
    assert {"scikit-image", "scikit-learn", "numpy"} <= made.keys()
    assert "scikit-image" not in stored and "kornia" not in made


def test_the_form_of_the_losses_is_in_the_key(spots):
    keys = {form: store.key(TINY.replace(form=form)) for form in ("auto", "compiled", "eager")}
    assert keys["compiled"] != keys["eager"] and keys["auto"] in (keys["compiled"], keys["eager"])
