"""The built wheel gives the losses to somebody who has PyTorch and none of the book's packages."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

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


def test_the_wheel_needs_nothing_of_the_study_or_the_book(tmp_path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", project["readme"], *project["license-files"]):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", "--no-build-isolation", "--no-index", "--target", site, source],
                   check=True)

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
