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


SAID = '''
import logging, warnings
log = logging.getLogger("it")

def area(radius, shape):
    if radius < 0:
        raise ValueError(f"radius must be at least 0, got {radius!r}")
    check_positive("radius", radius)
    checks.refuse_where(radius == 1, f"not {radius}", shape)
    assert shape, "no shape"
    log.warning("a large %s", radius)
    warnings.warn("it takes long", stacklevel=2)
    return radius**2
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("radius must be at least 0, got", "a radius is at least 0, not"),
        ('check_positive("radius"', 'check_positive("the radius"'),
        ('f"not {radius}"', 'f"{radius} is refused"'),
        ('"no shape"', '"a shape is wanted"'),
        ('"a large %s"', '"the large %s"'),
        ("it takes long", "it takes a while"),
    ],
)
def test_a_digest_is_blind_to_the_text_of_errors_and_logs(old, new):
    assert old in SAID and digests.of_source(SAID.replace(old, new)) == digests.of_source(SAID)


def test_a_digest_is_blind_to_types_of_arguments_and_results_and_sees_those_of_fields():
    plain = "class A:\n    x: int = 0\n    def f(self, a, *b, c=1): return a"
    typed = "class A:\n    x: int = 0\n    def f(self, a: int, *b: str, c: float = 1) -> int: return a"
    assert digests.of_source(plain) == digests.of_source(typed)
    assert digests.of_source(plain) != digests.of_source(plain.replace("x: int", "x: ClassVar[int]"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ValueError", "TypeError"),
        ("if radius < 0", "if radius < 1"),
        ("radius == 1", "radius == 2"),
        ('check_positive("radius", radius)', 'check_positive("radius", shape)'),
        ("assert shape", "assert radius"),
    ],
)
def test_a_digest_sees_what_is_raised_and_when(old, new):
    assert old in SAID and digests.of_source(SAID.replace(old, new)) != digests.of_source(SAID)


SYNTAX = '''
from __future__ import annotations
import a.b as c
from d import e, f as g

@deco(1, key="v")
class K(B, metaclass=M):
    x: int = 0
    y: str

    def m(self, a, /, b=1.5, *args, c: int, d=None, **kw) -> dict[str, int]:
        global z
        z = {**a, "k": [i async for i in b if i], None: {1, 2j}}
        try:
            with open(a) as h, b:
                yield from (x := 3, *h)
        except* (E, F) as err:
            pass
        else:
            del a[1:2, ...]
        finally:
            return lambda q: q if q else f"{q!r:>{a}} é \N{BULLET}"

async def n():
    match await x:
        case {"a": 1, **r} | [1, *_] if r:
            return -1 // 2 @ 3
        case K(x=0) as k:
            nonlocal_ = not k < 1 <= 2 is not None
    while True:
        break
'''


def test_every_version_of_python_gives_the_same_digest():
    # Computed under Python 3.11.7, 3.12.1 and 3.13.0 alike.
    assert digests.of_source(SYNTAX)[:16] == "ce383f3d1c71ec9e"


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
    assert digests.closure(["pack.a"], digests.package()) == {"pack", "pack.a", "pack.b", "pack.inner", "pack.inner.c"}
    assert digests.imports("import pack.d, os\nfrom pack.inner import c") == {"pack.d", "pack.inner", "pack.inner.c"}


def test_modules_that_import_each_other_are_followed_once(package):
    (package / "d.py").write_text("from pack import e")
    (package / "e.py").write_text("from pack import d")
    assert digests.closure(["pack.d"], digests.package()) == {"pack", "pack.d", "pack.e"}


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


def test_a_modules_data_belong_to_it(package):
    before = digests.of_modules(["pack.a"])
    (package / "inner" / "c.json").write_text("[1]")
    first = digests.of_modules(["pack.a"])
    (package / "inner" / "c.json").write_text("[2]")
    second = digests.of_modules(["pack.a"])
    assert len({before, first, second}) == 3
    (package / "d.json").write_text("[1]")  # of a module that is not among them
    assert digests.of_modules(["pack.a"]) == second


def test_ingredients_leave_out_choosers_and_what_is_reached_through_them(package):
    (package / "d.py").write_text("import pack.inner\nfrom pack.inner import c\nfrom pack import e")
    (package / "inner" / "__init__.py").write_text("from pack import b")
    found = digests.ingredients(["pack.d"], digests.package())
    assert found.keys() == {"pack.d", "pack.e", "pack.inner.c"}
    (package / "inner" / "__init__.py").write_text("from pack import b, a")
    assert digests.ingredients(["pack.d"], digests.package()) == found


def test_code_that_was_read_before_an_edit_is_what_counts(package):
    code = digests.package()
    before = digests.ingredients(["pack.d"], code)
    (package / "d.py").write_text("Y = 22")
    assert digests.ingredients(["pack.d"], code) == before != digests.ingredients(["pack.d"], digests.package())


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
