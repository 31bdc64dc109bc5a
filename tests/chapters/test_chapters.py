import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from markdown_it import MarkdownIt
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from scenes import set_arrays, write_set

import falloff
from falloff import chapters, cli, digests, profiles
from falloff.chapters import Chapter, stamp
from falloff.study import engine

PARAMETERS = """
steps: int = 5  # of the optimiser; [1, 100]
title: str = "plain"  # shown above
seeds: list[int] = [0, 1]  # one run each; [0, 99]
fast: bool = False  # skip the slow part
"""
VALIDATE = 'from falloff import chapters\n\nchapters.validate("01_small", globals())'
REST = """
import sys
sys.stderr.write("something else\\nruns: 1 of 2 stored, 1 to do\\n")
print(f"{title}: {steps + 1} steps, {len(seeds)} seeds")
"""
FAILING = ("print('so far so good')", "def halve(x):\n    return x / 0\n\nhalve(3)")


def write_chapter(root, name, *cells, parameters=""):
    notebook = new_notebook(cells=[
        new_markdown_cell("# A question\n\nSome words."),
        *([new_code_cell(parameters.strip(), metadata={"tags": ["parameters"]})] if parameters else []),
        *(new_code_cell(cell.strip()) for cell in cells),
    ], metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}})
    (root / "notebooks").mkdir(exist_ok=True)
    nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")


def write_claims(root, words="So it is.", **changed):
    """One claim of each of two chapters, and one that no chapter judges yet; of the first, what decides it changed."""
    test = {"what": words, "number": "one", "above": 0}
    entries = {
        "C1": {"claim": words, "chapter": "01_one", "decided_by": [test | changed]},
        "C2": {"claim": words, "chapter": "02_two", "decided_by": [test]},
        "C3": {"claim": words, "planned": words},
    }
    (root / "data").mkdir(exist_ok=True)
    (root / "data" / "claims.yml").write_text(yaml.safe_dump(entries))


# Chapters that ran.


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A project with a chapter that works and one that does not, built by the command: root, exit status, log."""
    root = tmp_path_factory.mktemp("book")
    write_claims(root)
    write_chapter(root, "01_small", VALIDATE, REST, parameters=PARAMETERS)
    write_chapter(root, "02_failing", *FAILING)
    write_chapter(root, "03_slip", "print('this is Python'", "%time 1 + 1")
    log, before = io.StringIO(), signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(log):
        patch.setenv("FALLOFF_ROOT", str(root))
        patch.setenv(engine.SCHEDULER, "tcp://127.0.0.1:1")  # these chapters train nothing
        status = cli.main(["book"])
    signal.signal(signal.SIGTERM, before)
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


class Scripts(HTMLParser):
    """The text of each script element, by its id."""

    def __init__(self):
        super().__init__()
        self.found, self.here = {}, None

    def handle_starttag(self, tag, attributes):
        self.here = dict(attributes).get("id") if tag == "script" else None

    def handle_data(self, data):
        if self.here:
            self.found[self.here] = self.found.get(self.here, "") + data


def machine_readable(cell):
    """What the provenance cell holds for programs."""
    page = Scripts()
    page.feed(next(part.content for part in MarkdownIt().parse(cell.source) if part.info == "{raw} html"))
    return json.loads(page.found["provenance"])


def test_the_last_cell_says_where_the_numbers_came_from(book):
    executed = nbformat.read(Chapter("01_small").executed, as_version=4)
    cell = executed.cells[-1]
    assert cell.metadata["tags"] == ["provenance"] and cell.source.startswith("## Where these numbers came from")
    found = machine_readable(cell)
    assert found == executed.metadata["falloff"]
    assert found["parameters"] == {"steps": 5, "title": "plain", "seeds": [0, 1], "fast": False}
    assert (found["changed"], found["profile"], found["seeds"], found["device"]) == ([], "quick", [0, 1], "cpu")
    assert found["precision"] in ("float32", "bfloat16") and "torch" in found["versions"]
    assert found["fingerprint"] == Chapter("01_small").fingerprint(found["parameters"])
    assert re.fullmatch(r"[0-9a-f]{40}|unknown", found["commit"]) and isinstance(found["clean"], bool)
    assert found["finished"].startswith("20") and 0 < found["seconds"] < 600
    for shown in ("`steps = 5`", "nothing changed", found["versions"]["torch"], found["commit"][:12]):
        assert shown in cell.source


HOSTILE = ["</script><b>", "<!-- <script>", "`<img src=x onerror=alert(1)>`", "``` \n```\n# A heading", "{raw} & <b>x"]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_parameter_breaks_out_of_the_last_cell(book, text):
    ran = nbformat.read(Chapter("01_small").executed, as_version=4).metadata["falloff"]
    cell = stamp.provenance_cell(ran | {"parameters": {"title": text}})
    assert machine_readable(cell)["parameters"] == {"title": text}
    parts = MarkdownIt().parse(cell.source)
    assert [part.type for part in parts] == ["heading_open", "inline", "heading_close", "fence", "fence"]
    table, raw = parts[3:]
    assert (table.info, raw.info) == ("{list-table}", "{raw} html")
    assert re.findall("<!--|</?script", raw.content) == ["<script", "</script"]  # after "<!--<script" no end is seen
    inside = [child.type for token in MarkdownIt().parse(table.content) for child in token.children or [token]]
    assert not {"html_inline", "html_block", "heading_open", "fence"} & set(inside)


# Parameters in the chapter itself.


def test_validating_sets_each_parameter_to_what_its_text_says_and_leaves_the_rest(book):
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
def test_what_does_not_fit_is_refused_in_the_words_of_the_command(book, capsys, given, words):
    with pytest.raises(ValueError) as refused:
        chapters.validate("01_small", dict(given))
    assert str(refused.value).startswith(words)
    before = signal.getsignal(signal.SIGTERM)
    status = cli.main(["run", "01_small", *(f"{name}={value}" for name, value in given.items())])
    signal.signal(signal.SIGTERM, before)
    assert status == 2 and capsys.readouterr().err == f"falloff: {refused.value}\n"


def test_papermill_alone_stops_in_the_cell_that_checks(book, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError) as stopped:
        papermill.execute_notebook(
            Chapter("01_small").source, tmp_path / "out.ipynb", {"steps": 0}, kernel_name="python3", progress_bar=False
        )
    assert stopped.value.source == VALIDATE
    assert stopped.value.ename == "ValueError" and stopped.value.evalue == "steps must be in [1, 100], got 0"


def test_a_chapter_that_is_not_there_is_named(book):
    with pytest.raises(ValueError, match=r"no chapter is named '01_smal' \(did you mean '01_small'\?\); known: 01_sm"):
        chapters.validate("01_smal", {})


def test_a_profile_gives_a_chapter_what_it_declares_and_what_is_given_goes_before_it(book, monkeypatch):
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
    write_claims(tmp_path)
    write_chapter(tmp_path, "01_one", "from falloff.points import Points", "1 + 1", parameters="steps: int = 5  # many")
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
    "the words of a claim": lambda project: write_claims(project, words="So it is, in other words"),
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
    "a claim's threshold": (lambda project: write_claims(project, above=1), {"01_one": "changed: claims"}),
    "what a claim compares": (lambda project: write_claims(project, number="two"), {"01_one": "changed: claims"}),
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
