import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
from nbformat.v4 import new_notebook
from projects import PARAMETERS, VALIDATE, write_chapter
from scenes import set_arrays, write_set

import falloff
from falloff import chapters, cli, digests, profiles
from falloff.chapters import Chapter

# Parameters.


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A project of one chapter, which checks its parameters."""
    monkeypatch.setenv("FALLOFF_ROOT", str(tmp_path))
    write_chapter(tmp_path, "01_small", VALIDATE, parameters=PARAMETERS)


def test_validating_sets_each_parameter_to_what_its_text_says_and_leaves_the_rest(small):
    given = {"steps": "7", "title": "a, b", "seeds": "3, 4", "fast": "true"}
    other = {"chapters": chapters, "_": "an output", "__name__": "__main__", "In": ["", "x = 1"], "Out": {}, "f": len}
    namespace = given | other
    chapters.validate("01_small", namespace)
    assert namespace == {"steps": 7, "title": "a, b", "seeds": [3, 4], "fast": True} | other


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"stepss": "3"}, "unknown parameter 'stepss' (did you mean 'steps'?)"),
        ({"steps": "0"}, "steps must be in [1, 100], got '0'"),
        ({"seeds": "1,1"}, "seeds must hold each value once, got [1, 1]"),
        ({"fast": "perhaps"}, "fast must be true or false, got 'perhaps'"),
    ],
)
def test_what_does_not_fit_is_refused_in_the_words_of_the_command(small, capsys, given, words):
    with pytest.raises(ValueError) as refused:
        chapters.validate("01_small", dict(given))
    assert str(refused.value).startswith(words)
    status = cli.main(["run", "01_small", *(f"{name}={value}" for name, value in given.items())])
    assert status == 2 and capsys.readouterr().err == f"falloff: {refused.value}\n"


def test_papermill_alone_stops_in_the_cell_that_checks(small, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError) as stopped:
        papermill.execute_notebook(
            Chapter("01_small").source, tmp_path / "out.ipynb", {"steps": 0}, kernel_name="python3", progress_bar=False
        )
    assert stopped.value.source == VALIDATE
    assert stopped.value.ename == "ValueError" and stopped.value.evalue == "steps must be in [1, 100], got 0"


OWN = {  # what people set in the files that IPython runs as it starts
    "ipython_dir/profile_default/startup/00-mine.py": 'DATA_DIR = "/data"\nsteps = 7\nchapters = torch = None\n',
    "ipython_dir/profile_default/ipython_kernel_config.py": 'get_config().InteractiveShellApp.exec_lines = ["a = 1"]',
    "start.py": "history_length = 1000\nIn = 3\n",
}


@pytest.mark.parametrize(("given", "said"), [
    ({"seeds": [3]}, "5 [3]\n"), ({"stepss": 3}, "unknown parameter 'stepss' (did you mean 'steps'?); known: steps, "),
])
def test_what_a_users_own_files_set_is_no_parameter_and_a_misspelt_one_is_refused(
    small, tmp_path, monkeypatch, given, said
):
    for name, text in OWN.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython_dir"))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "start.py"))
    write_chapter(tmp_path, "01_small", VALIDATE, "print(steps, seeds)", parameters=PARAMETERS)
    out = tmp_path / "out.ipynb"
    try:
        papermill.execute_notebook(Chapter("01_small").source, out, given, kernel_name="python3", progress_bar=False)
        text = nbformat.read(out, as_version=4).cells[-1].outputs[0].text
    except papermill.PapermillExecutionError as stopped:
        text = stopped.evalue
    assert text.startswith(said)


def test_a_chapter_that_is_not_there_is_named(small):
    with pytest.raises(ValueError, match=r"no chapter is named '01_smaal' \(did you mean '01_small'\?\); known: 01_s"):
        chapters.validate("01_smaal", {})


def test_the_beginning_of_a_name_is_enough_where_no_other_begins_so(small, tmp_path):
    write_chapter(tmp_path, "02_other")
    write_chapter(tmp_path, "02_others")
    assert chapters.find("01") == chapters.find("01_small") == Chapter("01_small")
    assert chapters.find("02_other") == Chapter("02_other")  # a whole name, though another begins so
    with pytest.raises(ValueError, match="2 chapters begin with '02'; known: 02_other, 02_others"):
        chapters.find("02")
    with pytest.raises(ValueError, match="no chapter is named ''"):
        chapters.find("")


def test_a_profile_gives_a_chapter_what_it_declares_and_what_is_given_goes_before_it(small, monkeypatch):
    monkeypatch.setitem(profiles.PROFILES, "tiny", {"steps": 3, "seeds": [7], "device": "cuda", "rates": [0.1]})
    one = Chapter("01_small")
    assert one.parameters("tiny", {}) == {"steps": 3, "title": "plain", "seeds": [7], "fast": False}
    assert one.parameters("tiny", {"steps": "4"})["steps"] == 4
    with pytest.raises(ValueError, match="profile must be one of"):
        one.parameters("huge", {})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"steps": 3}, r"evaluations must be at most steps \(3\), got 4"),
        ({"rates": "0.1,0.1"}, r"rates must hold each value once, got \[0.1, 0.1\]"),
        ({"device": "tpu"}, "device must be 'cpu', 'cuda' or 'cuda:N', got 'tpu'"),
        ({"dataset": "absent"}, "no data set 'absent'"),
    ],
)
def test_parameters_that_cannot_be_together_are_named(spots, tmp_path, monkeypatch, given, words):
    monkeypatch.setenv("FALLOFF_ROOT", str(tmp_path))
    write_chapter(tmp_path, "01_one", parameters=(
        'steps: int = 5  # of the optimiser; [1, 100]\nevaluations: int = 4  # on the way\n'
        'rates: list[float] = [0.1]  # to choose from\ndevice: str = "cpu"  # where\ndataset: str = "spots"  # which'
    ))
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        Chapter("01_one").parameters("quick", given)


def test_a_set_is_checked_with_the_parameters_and_a_path_to_it_holds_in_any_folder(spots, tmp_path, monkeypatch):
    monkeypatch.setenv("FALLOFF_ROOT", str(tmp_path))
    write_chapter(tmp_path, "01_one", parameters='dataset: str = "spots"  # which')
    path = write_set(tmp_path, "mine")
    monkeypatch.chdir(path.parent)
    assert Chapter("01_one").parameters("quick", {"dataset": "mine.npz"}) == {"dataset": str(path)}
    write_set(tmp_path, "mine", **{**set_arrays(), "points": np.full((40, 2, 2), 99.0)})
    with pytest.raises(ValueError, match=r"mine\.npz: image 0 of split 'train', point 0 at .* lies outside"):
        Chapter("01_one").parameters("quick", {"dataset": "mine.npz"})


# What makes a chapter stale.


@pytest.fixture
def project(spots, tmp_path, monkeypatch):
    """A project of two chapters, each with an executed copy that is as it would be now, and a copy of the package."""
    sets, package = tmp_path / "sets", tmp_path / "src" / "falloff"
    shutil.copytree(spots, sets)
    shutil.copytree(Path(falloff.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, value in {"FALLOFF_ROOT": tmp_path, "FALLOFF_DATA": sets}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(digests, "PACKAGE", package)
    (tmp_path / "data" / "recorded" / "study").mkdir(parents=True)
    write_chapter(tmp_path, "01_one", "from falloff.points import Points", "1 + 1", "if 0: study.recorded('pair')",
                  "if 0: study.recorded_lists('other', 'ap')", "if 0: recording.evidence(\n'third')",
                  "if 0: study.recorded_curves('fourth')",
                  parameters="steps: int = 5  # many")
    write_chapter(tmp_path, "02_two", "from falloff import heatmaps", "def f():\n    return 2",
                  parameters='dataset: str = "spots"  # which')
    for chapter in chapters.find_all():
        fingerprint = chapter.fingerprint(chapter.parameters("quick", {}))
        chapter.executed.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(new_notebook(metadata={"falloff": {"fingerprint": fingerprint}}), chapter.executed)
    return tmp_path


def reasons(**given):
    """Why each chapter would run, where it would."""
    found = {one.name: one.why_stale(one.parameters("quick", given)) for one in chapters.find_all()}
    return {name: reason for name, reason in found.items() if reason}


def rewrite(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def touch_everything(project):
    for path in project.rglob("*"):
        os.utime(path, (time.time() + 100, time.time() + 100))


def import_more(project):
    package = project / "src" / "falloff"
    for name in ("one", "two", "three"):
        (package / f"{name}.py").touch()
    (package / "heatmaps.py").open("a").write("from falloff import one, two, three\n")


HARMLESS = {
    "nothing": lambda project: None,
    "prose": lambda project: rewrite(project / "notebooks" / "01_one.ipynb", "Some words.", "Other words."),
    "a comment": lambda project: rewrite(project / "notebooks" / "02_two.ipynb", "return 2", "return 2  # two"),
    "layout": lambda project: rewrite(project / "notebooks" / "01_one.ipynb", "1 + 1", "(1 +  1)"),
    "a comment in the code": lambda project: (project / "src" / "falloff" / "points.py").open("a").write("# words\n"),
    "times of files": touch_everything,
    "code that no chapter uses": lambda project: (project / "src" / "falloff" / "cli.py").open("a").write("x = 1\n"),
}


@pytest.mark.parametrize("change", HARMLESS)
def test_what_changes_no_output_makes_no_chapter_stale(project, change):
    HARMLESS[change](project)
    assert reasons() == {}


CHANGES = {
    "cells": (lambda project: rewrite(project / "notebooks" / "01_one.ipynb", "1 + 1", "1 + 2"),
              {"01_one": "changed: cells"}),
    "a default": (lambda project: rewrite(project / "notebooks" / "01_one.ipynb", "= 5", "= 6"),
                  {"01_one": "changed: cells, parameters"}),
    "code of both": (lambda project: (project / "src" / "falloff" / "points.py").open("a").write("x = 1\n"),
                     {"01_one": "changed: code (falloff.points)", "02_two": "changed: code (falloff.points)"}),
    "code of one": (lambda project: (project / "src" / "falloff" / "heatmaps.py").open("a").write("x = 1\n"),
                    {"02_two": "changed: code (falloff.heatmaps)"}),
    "code that reads the data": (lambda project: (project / "src/falloff/data/npz.py").open("a").write("x = 1\n"),
                                 {"02_two": "changed: code (falloff.data.npz)"}),
    "more code": (import_more, {"02_two": "changed: code (falloff.heatmaps, falloff.one, falloff.three and 1 more)"}),
    "a slip in a cell": (lambda project: rewrite(project / "notebooks" / "01_one.ipynb", "1 + 1", "1 + + )"),
                         {"01_one": "changed: cells"}),
    "data": (lambda project: write_set(project / "sets", "spots", images=set_arrays()["images"] // 2),
             {"02_two": "changed: data"}),
    **{f"what is recorded as {name}": (
        lambda project, name=name: (project / "data" / "recorded" / "study" / f"{name}.json").write_text("{}"),
        {"01_one": "changed: record"}) for name in ("pair", "other", "third", "fourth")},
    "an executed copy that is gone": (lambda project: Chapter("02_two").executed.unlink(),
                                      {"02_two": "it has not run"}),
    "an executed copy that is half": (lambda project: rewrite(Chapter("01_one").executed, "}", ""),
                                      {"01_one": "its executed copy is damaged"}),
    "an executed copy of something else": (lambda project: nbformat.write(new_notebook(), Chapter("01_one").executed),
                                           {"01_one": "its executed copy is damaged"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_an_output_makes_the_chapters_concerned_stale_and_says_why(project, change):
    act, wanted = CHANGES[change]
    act(project)
    assert reasons() == wanted


def test_other_parameters_make_a_chapter_stale(project):
    one = Chapter("01_one")
    assert one.why_stale(one.parameters("quick", {"steps": 6})) == "changed: parameters"
    assert one.why_stale(one.parameters("quick", {"steps": "5"})) is None


def test_another_version_of_torch_makes_every_chapter_stale(project, monkeypatch):
    monkeypatch.setattr("falloff.chapters.chapter.version", lambda name: "0.4.1")
    assert reasons() == {"01_one": "changed: torch", "02_two": "changed: torch"}


def test_chapters_come_in_the_order_of_their_numbers(project):
    write_chapter(project, "10_last")
    write_chapter(project, "draft")
    assert [one.name for one in chapters.find_all()] == ["01_one", "02_two", "10_last"]


WHAT_A_RUN_NEEDS = ("torch", "distributed", "dask", "pandas", "scipy", "numpy", "papermill")

LOOK = f"""
import sys
sys.modules.update(dict.fromkeys({WHAT_A_RUN_NEEDS}))  # importing one of them fails
from falloff import chapters
for one in chapters.find_all():
    print(one.name, one.why_stale(one.parameters("quick", {{}})))
"""


@pytest.mark.parametrize("ran", [False, True])
def test_finding_out_what_is_stale_imports_nothing_that_a_run_needs(tmp_path, monkeypatch, ran):
    monkeypatch.setenv("FALLOFF_CHAPTERS", str(tmp_path))
    found = chapters.find_all()
    for one in found if ran else []:
        whole = {"fingerprint": one.fingerprint(one.parameters("quick", {}))}
        nbformat.write(new_notebook(metadata={"falloff": whole}), one.executed)
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{one.name} {None if ran else 'it has not run'}" for one in found] != []
