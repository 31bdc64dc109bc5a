import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import falloff as falloff_package
from falloff import chapters, cli
from falloff.chapters import headless
from falloff.study import engine

CHAPTER = "01_small"
SOURCE = str(Path(falloff_package.__file__).parents[1])
PARAMETERS = """steps: int = 5  # of the optimiser; [1, 100]
rate: float = 0.1  # learning rate; [0.001, 1]
title: str = "plain"  # shown above
seeds: list[int] = [0]  # one run each; [0, 99]"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of one chapter that only has parameters and shows them."""
    notebook = new_notebook(
        cells=[new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
               new_code_cell("print(steps, rate, title, seeds)")],
        metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}},
    )
    for folder in ("notebooks", "data"):
        (tmp_path / folder).mkdir()
    nbformat.write(notebook, tmp_path / "notebooks" / f"{CHAPTER}.ipynb")
    (tmp_path / "data" / "claims.yml").write_text("{}")
    monkeypatch.setenv("FALLOFF_ROOT", str(tmp_path))
    monkeypatch.setenv(engine.SCHEDULER, "tcp://127.0.0.1:1")  # this chapter trains nothing
    return tmp_path


@pytest.fixture
def falloff(capsys):
    """The command, here and now: its exit status and what it said."""
    def run(*words):
        capsys.readouterr()
        status = cli.main([str(word) for word in words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def no_kernel(monkeypatch):
    monkeypatch.setattr(headless, "_execute_all", lambda *_: pytest.fail("a chapter was started"))


def parameters_file(project, text):
    path = project / "mine.toml"
    path.write_text(text)
    return path


def test_what_is_given_as_name_and_value_goes_before_a_file_and_a_file_before_the_default(project, falloff):
    mine = parameters_file(project, "steps = 7\nrate = 1e-2\nseeds = [3, 4]\n")
    status, out, err = falloff("run", "--file", mine, "--params", "title='a b'", CHAPTER, "steps=9")
    assert status == 0 and f"{CHAPTER}: done" in err
    executed = Path(out.removeprefix("executed: ").strip())
    assert executed.parent == project / "runs" / "variants"  # the book's copy is that of the profile alone
    run = nbformat.read(executed, as_version=4)
    assert "9 0.01 a b [3, 4]\n" in [output.text for cell in run.cells for output in cell.get("outputs", [])]
    stamp = run.metadata["falloff"]
    assert stamp["parameters"] == {"steps": 9, "rate": 0.01, "title": "a b", "seeds": [3, 4]}
    assert stamp["changed"] == ["rate", "seeds", "steps", "title"]
    again = falloff("run", CHAPTER, "title=a b", "steps=9", "rate=0.01", "--file", mine)
    assert again[0] == 0 and again[1] == out and "done" not in again[2]  # it need not run twice


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["stepps=3"], "unknown parameter 'stepps' (did you mean 'steps'?)"),
        (["steps=many"], "steps must be an integer, got 'many'"),
        (["steps=1000"], "steps must be in [1, 100], got '1000'"),
        (["steps=1", "steps=2"], "parameter 'steps' is given twice"),
        (["steps"], "parameters are written name=value, got 'steps'"),
        (["steps 3"], "parameters are written name=value, got 'steps 3'"),
        (["steps", "=", "rate=1"], "steps must be an integer, got ''"),
        (["--params", "title='open"], "PARAMS must be quoted as in a shell"),
        (["--profile", "huge"], "profile must be one of quick, study, full, tiny, got 'huge'"),
        (["--file", "absent.toml"], "'absent.toml' must be a TOML file of parameters: [Errno 2] No such file"),
    ],
)
def test_what_does_not_fit_ends_with_2_before_a_kernel_starts(project, falloff, no_kernel, words, named):
    status, out, err = falloff("run", CHAPTER, *words)
    assert (status, out) == (2, "") and err.startswith(f"falloff: {named}")
    assert not (project / "runs").exists()


@pytest.mark.parametrize(
    ("text", "words", "named"),
    [
        ("steps = 'many'", [], "steps must be an integer, got 'many'"),
        ("steps = 'many'\nrate = 2", ["steps=3"], "rate must be in [0.001, 1], got 2"),  # steps was put right
        ("stepps = 3", ["steps=3"], "unknown parameter 'stepps' (did you mean 'steps'?)"),
        ("steps = {a = 1}", [], "steps must be an integer, got {'a': 1}"),
        ("steps: 3", ["steps=3"], "mine.toml' must be a TOML file of parameters: Expected '='"),
    ],
)
def test_a_file_is_held_to_the_same(project, falloff, no_kernel, text, words, named):
    status, out, err = falloff("run", "--file", parameters_file(project, text), CHAPTER, *words)
    assert (status, out) == (2, "") and named in err


@pytest.mark.parametrize("words", ["steps = 9 seeds = 3, 4", "steps= 9 seeds =3,4", "steps =9 seeds=3, 4"])
def test_spaces_around_what_is_given_do_no_harm(project, falloff, monkeypatch, words):
    asked = []
    monkeypatch.setattr(headless, "_execute_all", lambda todo, _: asked.extend(values for values, _ in todo.values()))
    assert falloff("run", "01", "--params", words)[0] == 0
    assert [(values["steps"], values["seeds"]) for values in asked] == [(9, [3, 4])]


def test_words_may_come_in_any_order(project, falloff, no_kernel):
    mine = parameters_file(project, "rate = 2")
    said = {falloff("run", *words)[2] for words in (
        ("--file", mine, CHAPTER, "steps=3"), (CHAPTER, "steps=3", "--file", mine), (CHAPTER, "--file", mine, "steps=3")
    )}
    assert said == {"falloff: rate must be in [0.001, 1], got 2\n"}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["run", "01_smaal"], "no chapter is named '01_smaal' (did you mean '01_small'?)"),
        (["book", "--profile", "huge"], "profile must be one of"),
        (["record", "--profile", "huge"], "profile must be one of"),
        (["record", "head-to-hed"], "no experiment is named 'head-to-hed'; known: pilot, tuning, head-to-head"),
        (["verify"], "nothing is recorded for profile 'study'"),
    ],
)
def test_every_verb_names_what_is_not_there(project, falloff, no_kernel, words, named):
    status, out, err = falloff(*words)
    assert (status, out) == (2, "") and err.startswith(f"falloff: {named}")


def test_a_plan_says_what_would_run_and_why(project, falloff):
    assert falloff("plan")[:2] == (0, f"{CHAPTER}: it has not run\n")
    one = chapters.Chapter(CHAPTER)
    one.executed.parent.mkdir(parents=True)
    stamp = {"fingerprint": one.fingerprint(one.parameters("quick", {}))}
    nbformat.write(new_notebook(metadata={"falloff": stamp}), one.executed)
    assert falloff("plan")[1] == f"{CHAPTER}: up to date\n"
    assert falloff("plan", "--profile", "tiny")[1] == f"{CHAPTER}: changed: parameters\n"


def by_itself(project, words, **own):
    """The command in a process of its own, in an environment of its own: its exit status and what it said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    done = subprocess.run(["bash", "-o", "pipefail", "-c", f"{sys.executable} -m falloff.cli {words}"],
                          capture_output=True, text=True, env={**environment, "PYTHONPATH": SOURCE, **own})
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("own", [
    {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
])
def test_a_terminal_of_ascii_is_told_what_it_can_show(project, tmp_path, own):
    root = tmp_path / "προjekt"
    shutil.copytree(project, root, ignore=shutil.ignore_patterns("runs"))
    status, out, err = by_itself(root, f"run {CHAPTER} steps=7", FALLOFF_ROOT=str(root), **own)
    assert (status, out.startswith("executed: ")) == (0, True), err
    assert out.isascii() and re.search(r"(\\u\w{4})+jekt/runs/variants/01_small", out)


def test_a_reader_who_has_enough_changes_nothing(project):
    assert by_itself(project, "plan | true") == (0, "", "")
    assert by_itself(project, "plan >&-")[0] == 0


# What people set for themselves.

MINE = {"startup.py": "list = print = steps = None\n", "matplotlibrc": "text.usetex: True\n"}


def test_a_chapter_runs_whatever_its_reader_has_set_for_other_work(project, tmp_path, monkeypatch, falloff):
    folder = tmp_path / "ipython" / "profile_default" / "startup"
    folder.mkdir(parents=True)
    for name, text in MINE.items():
        (folder / name).write_text(text)
    own = {"IPYTHONDIR": tmp_path / "ipython", "PYTHONSTARTUP": folder / "startup.py", "PYTHONWARNINGS": "error",
           "MPLBACKEND": "nonsense", "MATPLOTLIBRC": folder / "matplotlibrc", "PYTHONIOENCODING": "ascii"}
    for name, value in own.items():
        monkeypatch.setenv(name, str(value))
    rewritten = project / "notebooks" / f"{CHAPTER}.ipynb"
    notebook = nbformat.read(rewritten, as_version=4)
    notebook.cells.append(new_code_cell(
        "import warnings\n\nfrom falloff import plots\n\nwarnings.warn('µ')\n"
        "plots.new()[0].axes[0].set_title('$y$').get_usetex()"))
    nbformat.write(notebook, rewritten)
    status, out, err = falloff("run", CHAPTER, "title=ü")
    assert status == 0, err
    run = nbformat.read(out.removeprefix("executed: ").strip(), as_version=4)
    assert "False" in [output.data["text/plain"] for cell in run.cells for output in cell.get("outputs", [])
                       if output.output_type == "execute_result"]


def test_a_package_that_is_not_installed_is_named_with_what_to_do(project, falloff, monkeypatch):
    def lacking(*_):
        raise ModuleNotFoundError("No module named 'papermill'", name="papermill")

    monkeypatch.setattr(chapters, "build", lacking)
    status, _, err = falloff("book")
    assert status == 2 and err.startswith("falloff: papermill is not installed;") and "pip install" in err


def test_what_is_stopped_from_the_keyboard_says_what_is_kept(project, falloff, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(chapters, "build", stopped)
    assert falloff("book") == (130, "", "falloff: stopped; what had finished is kept\n")


def test_a_word_that_is_no_verb_ends_with_2(falloff):
    with pytest.raises(SystemExit) as ended:
        falloff("bake")
    assert ended.value.code == 2
