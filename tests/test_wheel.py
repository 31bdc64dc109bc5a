"""The built wheel: the losses for who has PyTorch and none of the book's packages, and all that a notebook reads."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# The README's code, in a process that cannot import what the wheel does not ask for.
LIBRARY_ALONE = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused!r}:
            raise ModuleNotFoundError(f"{{name}} is not among what the library asks for", name=name)

sys.meta_path.insert(0, Refused())
{code}
from falloff import decode, heatmaps, losses, metrics, points
import falloff
print(falloff.__version__, falloff.__file__)
"""


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder in which the wheel is installed, alone."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in ("src", "notebooks", "data"):
        unwanted = shutil.ignore_patterns("*.egg-info", "__pycache__", "external", ".*")
        shutil.copytree(ROOT / name, source / name, ignore=unwanted)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", PROJECT["readme"], *PROJECT["license-files"]):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", "--no-build-isolation", "--no-index", "--target", site, source],
                   check=True)
    return site


def test_the_wheel_needs_nothing_of_the_study_or_the_book(site, tmp_path):
    project = PROJECT
    code = "".join(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S))
    extras = {re.split(r"[<>=!~ ]", one)[0] for asked in project["optional-dependencies"].values() for one in asked}
    imports = {"pyyaml": "yaml", "scikit-image": "skimage", "jupyter-book": "jupyter_book", "myst-nb": "myst_nb"}
    brought = {"torch", "setuptools", "filelock"}  # by PyTorch
    refused = {imports.get(name, name) for name in extras} - brought | {"dask", "IPython", "nbformat"}
    assert {"pandas", "matplotlib", "distributed", "yaml", "skimage"} <= refused
    done = subprocess.run([sys.executable, "-c", LIBRARY_ALONE.format(refused=refused, code=code)], cwd=tmp_path,
                          env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    version, where = done.stdout.split()
    assert version == project["version"]
    assert Path(where).is_relative_to(site)
    assert (Path(where).parent / "py.typed").exists()  # its types are for type checkers to read


def test_a_downloaded_notebook_runs_outside_of_the_repository(site, tmp_path):
    shutil.copy(ROOT / "notebooks" / "05_where_training_starts.ipynb", tmp_path / "mine.ipynb")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FALLOFF_")}
    done = subprocess.run(
        [sys.executable, "-m", "papermill", "--no-progress-bar", "mine.ipynb", "out.ipynb", "-p", "steps", "4",
         "-p", "evaluations", "2"],
        cwd=tmp_path, env=environment | {"PYTHONPATH": str(site)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "<svg" in (tmp_path / "out.ipynb").read_text(encoding="utf-8")
    assert str(ROOT) not in (tmp_path / "out.ipynb").read_text(encoding="utf-8")
