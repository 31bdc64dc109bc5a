"""Each chapter on real labelled sets, with parameters that only try whether all runs."""

import os
import re
import subprocess
import sys
from itertools import product

import nbformat
import numpy as np
import pytest

from falloff import chapters, sets
from falloff.data import SPLITS
from falloff.project import project_root

FEW = 16  # pictures of a split where it is cut


def with_points():
    for name in sets.available():
        with np.load(sets.find(name)) as stored:
            if "points" in stored.files:
                yield name


SETS, CHAPTERS = list(with_points()), [chapter.name for chapter in chapters.find_all()]
NONE = pytest.param("", "", marks=pytest.mark.skip(f"no labelled set under {sets.root()}, which FALLOFF_DATA names"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A project with the chapters of this one and runs of its own, which they share."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("notebooks", "data"):
        (folder / name).symlink_to(project_root() / name)
    return folder


def run(root, chapter, dataset):
    environment = os.environ | {"FALLOFF_ROOT": str(root), "FALLOFF_DATA": str(sets.root()), "FALLOFF_COMPILE": "0"}
    done = subprocess.run([sys.executable, "-m", "falloff.cli", "run", "--profile", "tiny", chapter,
                           f"dataset={dataset}"], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    executed = nbformat.read(done.stdout.removeprefix("executed: ").strip(), as_version=4)
    assert not [text for text in said(executed) if re.search(r"\bnan\b|supported|refuted|undecided", text)]


def said(notebook):
    """What the cells of a chapter give its page: numbers and words for its sentences, captions, tables."""
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        words, data = output.get("metadata", {}), output.get("data", {})
        yield from (data.get("application/papermill.record/text/plain", ""), data.get("text/markdown", ""),
                    *words.get("falloff", {}).values())


@pytest.mark.parametrize(("chapter", "dataset"), [
    (chapter, SETS[place % len(SETS)]) for place, chapter in enumerate(CHAPTERS) if SETS] or [NONE])
def test_a_chapter_runs_on_some_pictures_of_a_real_set(root, tmp_path, chapter, dataset):
    with np.load(sets.find(dataset)) as stored:
        chosen = np.concatenate([np.flatnonzero(stored["split"] == split)[:FEW] for split in SPLITS])
        count = len(stored["split"])
        some = {name: stored[name] for name in stored.files}
    some = {name: array[chosen] if len(array) == count else array for name, array in some.items()}
    np.savez(tmp_path / f"{dataset}.npz", **some)
    run(root, chapter, tmp_path / f"{dataset}.npz")


@pytest.mark.every_set
@pytest.mark.parametrize(("dataset", "chapter"), list(product(SETS, CHAPTERS)) or [NONE])
def test_each_chapter_runs_on_each_real_set(root, chapter, dataset):
    run(root, chapter, dataset)
