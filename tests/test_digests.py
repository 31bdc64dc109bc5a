import re

import pytest

from falloff import digests

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
    ids=["comment", "docstrings", "layout", "no docstring"],
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


def test_a_function_that_only_has_a_docstring_is_one_that_passes():
    assert digests.of_source('def f():\n    """Nothing."""') == digests.of_source("def f(): pass")


def test_parts_do_not_run_into_each_other():
    assert len({digests.of_text(*parts) for parts in (("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""))}) == 4


# Modules.


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in place of falloff's own: a imports b imports c, lazily; d and e stand alone."""
    home = tmp_path / "pack"
    files = {
        "__init__.py": "",
        "a.py": "from pack import b",
        "b.py": "def f():\n    from pack.inner.c import X\n",
        "inner/__init__.py": "",
        "inner/c.py": "X = 1",
        "d.py": "Y = 1",
        "e.py": "Z = 1",
        "all.py": "from pack import d, e\nimport pack.b",
    }
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    monkeypatch.setattr(digests, "PACKAGE", home)
    return home


def test_imports_are_followed_inner_ones_too(package):
    assert digests.closure(["pack.a"]) == {"pack", "pack.a", "pack.b", "pack.inner", "pack.inner.c"}
    assert digests.imports("import pack.d, os\nfrom pack.inner import c") == {"pack.d", "pack.inner", "pack.inner.c"}


def test_modules_that_import_each_other_are_followed_once(package):
    (package / "d.py").write_text("from pack import e")
    (package / "e.py").write_text("from pack import d")
    assert digests.closure(["pack.d"]) == {"pack", "pack.d", "pack.e"}


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


@pytest.mark.parametrize(("changed", "moves"), [("d.py", True), ("e.py", False), ("b.py", True)])
def test_modules_apart_count_only_where_they_are_roots(package, changed, moves):
    def digest():
        return digests.of_modules(["pack.all", "pack.d"], apart=["pack.d", "pack.e"])

    before = digest()
    (package / changed).write_text("changed = 1")
    assert (digest() != before) == moves


def test_a_name_counts_and_not_the_text_alone(package):
    (package / "e.py").write_text((package / "d.py").read_text())
    assert digests.of_modules(["pack.d"]) != digests.of_modules(["pack.e"])


def test_a_module_that_is_not_there_is_named(package):
    with pytest.raises(ModuleNotFoundError, match=r"pack\.absent"):
        digests.of_modules(["pack.absent"])


def test_a_module_that_is_not_python_is_named(package):
    path = package / "inner" / "c.py"
    path.write_text("# fine\ndef f(:\n    pass\n")
    with pytest.raises(ValueError, match=re.escape(f"{path}, line 2: invalid syntax")):
        digests.of_modules(["pack.a"])


def test_a_runs_code_holds_all_that_computes_its_numbers():
    found = digests.closure(["falloff.training"])
    assert {
        f"falloff.{name}"
        for name in ("points", "heatmaps", "decode", "metrics", "training", "losses.sigmoid", "losses.starts",
                     "losses.focal_loss", "data.digits", "data.npz", "models.unet")
    } <= found
    assert not any(name.startswith(("falloff.plots", "falloff.study", "falloff.cli")) for name in found)
