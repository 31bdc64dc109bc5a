import io
import json
import re
import shutil
from contextlib import redirect_stderr
from pathlib import Path

import nbformat
import numpy as np
import pytest
from projects import PARAMETERS, VALIDATE, write_chapter
from scenes import write_set

import falloff
from falloff import chapters, cli, sets
from falloff.chapters import Chapter
from falloff.study import engine

REST = """
import sys
sys.stderr.write("something else\\nruns: 1 of 2 stored, 1 to do\\n")
print(f"{title}: {steps + 1} steps, {len(seeds)} seeds")
"""
FAILING = ("print('so far so good')", "def halve(x):\n    return x / 0\n\nhalve(3)")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A project with a chapter that works and one that does not, built by the command: root, exit status, log."""
    root = tmp_path_factory.mktemp("book")
    write_chapter(root, "01_small", VALIDATE, REST, parameters=PARAMETERS)
    write_chapter(root, "02_failing", *FAILING)
    write_chapter(root, "03_slip", "print('this is Python'", "%time 1 + 1")
    log = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(log):
        patch.setenv("FALLOFF_ROOT", str(root))
        patch.setenv(engine.SCHEDULER, "tcp://127.0.0.1:1")  # these chapters train nothing
        status = cli.main(["book"])
    return root, status, log.getvalue()


@pytest.fixture
def book(built, monkeypatch):
    monkeypatch.setenv("FALLOFF_ROOT", str(built[0]))
    monkeypatch.setattr(engine, "cluster", lambda *_: pytest.fail("workers were started"))
    return built[0]


def test_a_chapter_that_fails_is_named_with_its_cell_and_the_end_of_its_traceback(built):
    _, status, log = built
    failed = re.search("falloff: failed: (.*)", log)[1].split(", ")
    assert status == 1 and sorted(failed) == ["02_failing", "03_slip"]
    told = log[log.index("02_failing: failed (exit status 1)") :]
    assert "cell 2:" in told and "halve(3)" in told and "ZeroDivisionError: division by zero" in told
    assert "\x1b" not in told


def test_a_cell_that_is_not_python_fails_its_own_chapter_alone(built):
    _, _, log = built
    told = log[log.index("03_slip: failed (exit status 1)") :]
    assert "cell 1:" in told and "SyntaxError" in told and "01_small: done after" in log


def test_what_ran_of_a_chapter_that_fails_is_kept_and_is_not_the_books(book):
    kept = nbformat.read(book / "runs" / "chapters" / "02_failing.failed.ipynb", as_version=4)
    said = [output.get("text") for cell in kept.cells for output in cell.get("outputs", [])]
    assert "so far so good\n" in said
    assert "ZeroDivisionError" in [output.get("ename") for cell in kept.cells for output in cell.get("outputs", [])]
    assert not Chapter("02_failing").executed.exists()
    assert Chapter("02_failing").why_stale({}) == "it has not run"


def test_the_others_finish_and_tell_of_their_progress(built, book):
    log = built[2]
    assert "01_small: it has not run" in log and "01_small: done after" in log
    assert "01_small: 1 of 2 stored, 1 to do" in log and "something else" not in log
    executed = nbformat.read(Chapter("01_small").executed, as_version=4)
    assert "plain: 6 steps, 2 seeds\n" in [o.get("text") for cell in executed.cells for o in cell.get("outputs", [])]
    left = {path.name for path in (book / "runs" / "chapters").iterdir() if path.suffix != ".lock"}
    assert left == {"01_small.ipynb", "02_failing.failed.ipynb", "03_slip.failed.ipynb"}


def test_a_chapter_that_ran_need_not_run_again(book):
    values = Chapter("01_small").parameters("quick", {})
    assert Chapter("01_small").why_stale(values) is None
    assert chapters.build(names=["01_small"]) == []
    assert chapters.rerun("01_small", {"steps": "5"}) == Chapter("01_small").executed


def test_a_copy_of_the_project_with_its_runs_runs_nothing(book, tmp_path, monkeypatch):
    shutil.copytree(book, tmp_path / "copy")
    package = tmp_path / "copy" / "src" / "falloff"
    shutil.copytree(Path(falloff.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for module in ("digests", "project"):
        monkeypatch.setattr(f"falloff.{module}.PACKAGE", package)
    monkeypatch.delenv("FALLOFF_ROOT")
    assert Chapter("01_small").executed == tmp_path / "copy" / "runs" / "chapters" / "01_small.ipynb"
    assert chapters.build(names=["01_small"]) == []


def test_a_copy_carries_where_its_numbers_came_from_and_its_last_cell_says_the_same(book):
    executed = nbformat.read(Chapter("01_small").executed, as_version=4)
    carried = executed.metadata["falloff"]
    assert json.dumps(carried, sort_keys=True) in executed.cells[-1].source
    assert carried["parameters"] == {"steps": 5, "title": "plain", "seeds": [0, 1], "fast": False}
    assert (carried["changed"], carried["profile"], carried["device"]) == ([], "quick", "cpu")
    assert carried["fingerprint"] == Chapter("01_small").fingerprint(carried["parameters"])
    assert carried["finished"].startswith("20") and 0 < carried["seconds"] < 600


def test_a_kernel_reads_the_data_that_the_command_named_from_its_own_folder(tmp_path, monkeypatch):
    home, here = tmp_path / "project", tmp_path / "here"
    home.mkdir()
    write_set(here / "sets", "mine")
    cell = "from falloff import data\n\nprint(dataset, len(data.load(dataset, 'train').images))"
    write_chapter(home, "01_one", "from falloff import chapters\n\nchapters.validate('01_one', globals())", cell,
                  parameters='dataset: str = "digits"  # which')
    monkeypatch.chdir(here)
    for name, value in {"FALLOFF_ROOT": "../project", "FALLOFF_DATA": "sets", engine.SCHEDULER: "tcp://127.0.0.1:1"}.items():
        monkeypatch.setenv(name, value)
    for given in ("mine", "sets/mine/mine.npz"):
        executed = nbformat.read(chapters.rerun("01_one", {"dataset": given}), as_version=4)
        assert executed.cells[0].source.startswith("> **A run with parameters of its own:** `dataset=mine`.")
        said = [output.get("text") for cell in executed.cells for output in cell.get("outputs", [])]
        assert said == [f"{sets.anywhere(given)} 24\n"]
        assert executed.metadata["falloff"]["parameters"] == {"dataset": "mine"}  # what a page shows
        assert str(here) not in executed.cells[-1].source


def test_what_is_doubtful_in_a_set_is_said_before_a_kernel_starts(book, capsys, tmp_path, monkeypatch):
    write_chapter(tmp_path, "01_one", parameters='dataset: str = "digits"  # which')
    monkeypatch.setenv("FALLOFF_ROOT", str(tmp_path))
    path = write_set(tmp_path, "mine", visibilty=np.ones(3), names=np.array(["a", "a"]))
    assert cli.main(["run", "01_one", f"dataset={path}"]) == 2  # refused before workers, on which this test fails
    assert "mine.npz: names must be" in capsys.readouterr().err
    write_set(tmp_path, "mine", visibilty=np.ones(3))
    monkeypatch.setattr(engine, "cluster", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", "01_one", f"dataset={path}"])
    assert "mine.npz: nothing reads the array 'visibilty' (did you mean 'visibility'?)" in capsys.readouterr().err
