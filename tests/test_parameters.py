"""Parameters of a chapter, from a shell, a file or Python, up to the cell that papermill makes of them."""

import ast
import builtins
import enum
import importlib.util
import json
import keyword
import math
import shlex
import unicodedata
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from falloff.study import parameters

ROOT = Path(__file__).resolve().parents[1]

CELL = """
steps: int = 200  # optimiser steps; [1, 100000]
rate: float = 0.003  # learning rate; [1e-6, 1]
loss: str = "focal"  # which loss; {bce, focal, mse}
title: str = "a # b"  # shown above the figure
fast: bool = False  # skip the slow part
seeds: list[int] = [0, 1]  # one run each; [0, 99]
rates: list[float] = [0.1]  # to choose from
labels: list[str] = ["one"]  # names of the curves
"""
DECLARED = parameters.schema(CELL)
DEFAULTS = {name: parameter.default for name, parameter in DECLARED.items()}


# The cell.


def test_the_cell_is_the_schema():
    assert {name: (p.kind, p.default, p.bounds, p.choices) for name, p in DECLARED.items()} == {
        "steps": ("int", 200, (1, 100000), None),
        "rate": ("float", 0.003, (1e-6, 1), None),
        "loss": ("str", "focal", None, ("bce", "focal", "mse")),
        "title": ("str", "a # b", None, None),
        "fast": ("bool", False, None, None),
        "seeds": ("list[int]", [0, 1], (0, 99), None),
        "rates": ("list[float]", [0.1], None, None),
        "labels": ("list[str]", ["one"], None, None),
    }
    assert DECLARED["steps"].meaning == "optimiser steps"
    assert parameters.read(DECLARED, {}) == DEFAULTS


def test_a_default_has_its_kind_whichever_way_it_is_written():
    found = parameters.read(parameters.schema("rate: float = 1\nrates: list[float] = [1, 0.5]"), {})
    assert repr(found) == "{'rate': 1.0, 'rates': [1.0, 0.5]}"


def test_a_list_that_was_read_is_the_readers_own():
    parameters.read(DECLARED, {})["seeds"].append(7)
    assert parameters.read(DECLARED, {})["seeds"] == [0, 1]


@pytest.mark.parametrize(
    ("cell", "named"),
    [
        ("steps = 3", "'steps = 3'"),
        ("steps: int", "'steps: int'"),
        ("import os", "'import os'"),
        ("print(1)", r"print\(1\)"),
        ("steps: int =", "'name: kind = default  # meaning'; line 1"),
        ("steps: int = 1\nsteps: int = 2", "steps is declared twice"),
        ("steps: dict = {}", "steps: kind must be one of int, float"),
        ("import_me: int = 1\nsteps: int = len('abc')", "steps: the default must be a plain value"),
        ("steps: int = 'a'", "steps must be an integer"),
        ("steps: int = '3'", "steps: the default must be of kind int, got '3'"),
        ("seeds: list[int] = '0,1'", r"seeds: the default must be of kind list\[int\], got '0,1'"),
        ("seeds: list[int] = ['0']", "seeds: the default must be of kind"),
        ("seeds: list[int] = []", "seeds must be a list of int"),
        ("steps: int = 3  # some; [5, 9]", r"steps must be in \[5, 9\]"),
        ("steps: int = 3  # some; from 5 to 9", "steps: a limit is written"),
        ("steps: int = 3  # some; [a, b]", "steps: a limit is written"),
        ("steps: int = 3  # some; {3, 4}", "steps: a limit is written"),
        ("fast: bool = True  # some; [0, 1]", "fast: a limit is written"),
        ("loss: str = 'mse'  # some; [0, 1]", "loss: a limit is written"),
        ("loss: str = 'mse'  # some; {bce, focal}", "loss must be one of"),
    ],
)
def test_a_cell_that_is_no_schema_is_named(cell, named):
    with pytest.raises(ValueError, match=named):
        parameters.schema(cell)


# What is read, and what is not.


def test_values_from_a_shell_are_read_as_what_they_say():
    words = ["steps=12", "rate=1e-2", "loss=mse", "fast=True", "seeds=3, 4", "title=a=b", "labels=a b,c"]
    assert parameters.read(DECLARED, parameters.pairs(words)) == DEFAULTS | {
        "steps": 12, "rate": 0.01, "loss": "mse", "title": "a=b", "fast": True, "seeds": [3, 4], "labels": ["a b", "c"],
    }


@pytest.mark.parametrize("text", ["0", "-0", "+3", "-12", "9007199254740993"])
def test_an_integer_is_its_decimal_digits(text):
    found = parameters.schema("n: int = 0")["n"].read(text)
    assert type(found) is int and found == Decimal(text)


@pytest.mark.parametrize(
    "text", ["0", "-0.0", "+3", ".5", "3.", "1e5", "1E+05", "-1.25e-3", "5e-324", "0e-999", "1e308"]
)
def test_a_float_is_what_its_text_says(text):
    found = parameters.schema("x: float = 0")["x"].read(text)
    assert type(found) is float and found == float(Decimal(text))
    assert math.copysign(1, found) == math.copysign(1, Decimal(text))


# Python's own int() and float() take most of these, YAML takes some as other numbers.
@pytest.mark.parametrize("kind", ["int", "float"])
@pytest.mark.parametrize(
    "text",
    ["", " ", " 3", "3 ", "3\n", "1_000", "٣", "３", "²", "010", "-01", "00", "0x10", "0o10", "0b1", "1:30", "1,5",
     "--1", "+-1", "- 1", "nan", "-nan", "inf", "infinity", "-Infinity", "1e400", "1e-400", "-1e-400", "1e", "e5", ".",
     "+", "1.e", "1j", "true", "None", "null", ".inf", ".nan", "2024-01-01", "1'000", "3\0"],
)
def test_no_number_is_guessed(kind, text):
    with pytest.raises(ValueError, match="x must be"):
        parameters.schema(f"x: {kind} = 0")["x"].read(text)


@pytest.mark.parametrize("text", ["1.0", "1e3", "3."])
def test_an_integer_has_no_point_and_no_exponent(text):
    with pytest.raises(ValueError, match="steps must be an integer"):
        parameters.read(DECLARED, {"steps": text})


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("steps", "1.5", "steps must be an integer, got '1.5'"),
        ("steps", 1.0, "steps must be an integer"),
        ("steps", True, "steps must be an integer, got True"),
        ("steps", np.True_, "steps must be an integer"),
        ("steps", "0", r"steps must be in \[1, 100000\], got '0'"),
        ("steps", "", "steps must be an integer, got ''"),
        ("steps", None, "steps must be an integer, got None"),
        ("rate", "nan", "rate must be a finite number, got 'nan'"),
        ("rate", "inf", "rate must be a finite number"),
        ("rate", 10**400, "rate must be a finite number"),
        ("rate", math.inf, "rate must be a finite number, got inf"),
        ("rate", True, "rate must be a finite number, got True"),
        ("rate", "2", r"rate must be in \[1e-06, 1\]"),
        ("loss", "hinge", "loss must be one of bce, focal, mse; got 'hinge'"),
        ("loss", 3, "loss must be a string"),
        ("title", None, "title must be a string"),
        ("title", "a\ud800", "title must be a string that UTF-8 can hold"),
        ("title", ["a"], "title must be a string"),
        ("fast", "yes", "fast must be true or false, got 'yes'"),
        ("fast", "1", "fast must be true or false"),
        ("fast", 1, "fast must be true or false"),
        ("seeds", "", "seeds must be a list of int"),
        ("seeds", "1,,2", "seeds must be a list of int.*got '1,,2'"),
        ("seeds", "1,", "seeds must be a list of int"),
        ("seeds", "1;2", "seeds must be an integer, got '1;2'"),
        ("seeds", [], "seeds must be a list of int"),
        ("seeds", 3, "seeds must be a list of int"),
        ("seeds", "[0,1]", r"seeds must be a list of int, such as '1,2'; got '\[0,1\]'"),
        ("seeds", {3: 4}, "seeds must be a list of int"),
        ("seeds", [[1]], r"seeds must be an integer, got \[1\]"),
        ("seeds", [" 1"], "seeds must be an integer, got ' 1'"),
        ("seeds", "1,100", r"seeds must be in \[0, 99\]"),
        ("labels", "a,", "labels must be a list of str"),
        ("labels", [None], "labels must be a string"),
        ("step", "3", "unknown parameter 'step'.*did you mean 'steps'"),
        ("", "3", "unknown parameter ''"),
        (3, "3", "unknown parameter 3; known: steps, rate"),
    ],
)
def test_what_does_not_fit_is_named(name, value, named):
    with pytest.raises(ValueError, match=named) as caught:
        parameters.read(DECLARED, {name: value})
    assert len(str(caught.value)) < 300


def test_more_digits_than_python_writes_are_refused():
    declared = parameters.schema("n: int = 0\nx: float = 0")
    assert declared["n"].read("1" * 4300) == declared["n"].read(int("1" * 4300)) == int("1" * 4300)
    for value in ("1" * 4301, 10**4300, [10**4300]):
        with pytest.raises(ValueError, match=r"n must be an integer, got (a value too long to show|'1111.*\.{3}$)"):
            declared["n"].read(value)
    with pytest.raises(ValueError, match="x must be a finite number, got a value too long to show"):
        declared["x"].read(10**4300)


def test_a_chapter_without_parameters_takes_none():
    assert parameters.read({}, {}) == {}
    with pytest.raises(ValueError, match="unknown parameter 'steps'; known: none"):
        parameters.read({}, {"steps": 3})


def test_kinds_that_only_look_like_python_s_become_python_s():
    class Word(str, enum.Enum):  # noqa: UP042  its str() is not what it equals
        LOSS = "mse"

    class Count(enum.IntEnum):
        MANY = 12

    values = {"loss": Word.LOSS, "steps": Count.MANY, "rate": np.float64(0.5), "seeds": (1, 2)}
    found = parameters.read(DECLARED, values)
    assert [(type(found[name]), found[name]) for name in ("loss", "steps", "rate", "seeds")] == [
        (str, "mse"), (int, 12), (float, 0.5), (list, [1, 2]),
    ]


def test_items_of_a_list_stay_whole():
    items = ["a,b", " c ", "", "d"]
    assert parameters.read(DECLARED, {"labels": items})["labels"] == items


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["steps"], "name=value, got 'steps'"),
        (["=3"], "name=value, got '=3'"),
        (["steps=1", "steps=2"], "'steps' is given twice"),
    ],
)
def test_words_that_are_no_pairs_are_named(words, named):
    with pytest.raises(ValueError, match=named):
        parameters.pairs(words)


@given(st.lists(st.text(max_size=6) | st.sampled_from(["a=b", "a=c", "=", "a", "b=="]), max_size=3))
def test_words_are_pairs_or_refused(words):
    try:
        found = parameters.pairs(words)
    except ValueError as error:
        assert "name=value" in str(error) or "given twice" in str(error)
        return
    assert [f"{name}={value}" for name, value in found.items()] == words


# A file.


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A function that writes a file of parameters, in place of the one before, and gives its path."""
    path = tmp_path_factory.mktemp("files") / "given.yml"

    def write(content):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_a_file_gives_what_stands_in_it(file):
    path = file("""# another run
steps: 12
rate: 1e-2     # text to PyYAML, a number to everyone else
loss: "mse"
title: 'it''s "a": b'
fast: TRUE
seeds: [3, 4]
rates:
  - 0.1
  - .5
labels: ["a, b", ' c', d]
""")
    assert parameters.read(DECLARED, parameters.from_file(path)) == {
        "steps": 12, "rate": 0.01, "loss": "mse", "title": 'it\'s "a": b', "fast": True, "seeds": [3, 4],
        "rates": [0.1, 0.5], "labels": ["a, b", " c", "d"],
    }
    assert parameters.from_file(str(path)) == parameters.from_file(path)


# What YAML 1.1 makes of them: an octal, base 60, a hex, booleans, a date, floats, a string, numbers.
@pytest.mark.parametrize(
    "text", ["010", "1:30", "0x1F", "yes", "on", "y", "2024-01-01", ".inf", ".NaN", "1e-3", "1_000", "12", "True", "="]
)
def test_nothing_is_guessed_from_how_text_looks(file, text):
    for written in (text, f"'{text}'", f'"{text}"'):
        assert parameters.from_file(file(f"title: {written}")) == {"title": text}
    assert parameters.read(DECLARED, parameters.from_file(file(f"title: {text}")))["title"] == text


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_nothing_is_no_value(file, text):
    assert parameters.from_file(file(f"title: {text}")) == {"title": None}
    assert parameters.from_file(file(f"title: '{text}'")) == {"title": text}
    for name in DECLARED:
        with pytest.raises(ValueError, match=f"{name} must be .*got None"):
            parameters.read(DECLARED, parameters.from_file(file(f"{name}: {text}")))


@pytest.mark.parametrize(
    "text",
    ["title: a\nsteps: 3\n", "title: a\r\nsteps: 3\r\n", "\ufefftitle: a\nsteps: 3", "{title: a, steps: 3}",
     '{"title": "a", "steps": 3}', "---\ntitle: a\nsteps: 3\n...\n", "title: &x a\nsteps: !!str 3",
     "title: |-\n  a\nsteps: >-\n  3\n"],
)
def test_yaml_is_written_in_many_ways(file, text):
    assert parameters.from_file(file(text)) == {"title": "a", "steps": "3"}


def test_an_empty_mapping_gives_nothing(file):
    assert parameters.from_file(file("{}")) == {}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "line 1: the file must be a mapping"),
        ("# nothing\n", "line 1: the file must be a mapping"),
        ("- steps\n- 3", "line 1: the file must be a mapping"),
        ("\nsteps=3", "line 2: the file must be a mapping"),
        ("steps: 3\nrate: 1\nsteps: 4", "line 3: steps is given twice"),
        ("steps: 3\n'steps': 3", "line 2: steps is given twice"),
        ("1: 3", "line 1: a name must be a parameter's, such as steps; got '1'"),
        ("~: 3", "line 1: a name must be"),
        ("{'': 3}", "line 1: a name must be"),
        ("? [steps]\n: 3", "line 1: a name must be"),
        ("steps: 3\n? {a: b}\n: 3", "line 2: a name must be"),
        ("!!int 1: 3", "line 1: a name must be"),
        ("my steps: 3", "line 1: a name must be a parameter's, such as steps; got 'my steps'"),
        ("steps: 3\nseeds: [1, [2]]", "line 2: seeds must be plain text or a list of it"),
        ("title: {a: b}", "line 1: title must be plain text"),
        ("title: {steps}", "line 1: title must be plain text"),
        ("steps: !!int 010", "line 1: steps must be plain text .* no tag such as !!int"),
        ("seeds: !!set {1, 2}", "line 1: seeds must be plain text"),
        ("seeds: !!python/tuple [1, 2]", "line 1: seeds must be plain text"),
        ("title: !!binary YQ==", "line 1: title must be plain text"),
        ("title: !!python/object/apply:os.getcwd []", "line 1: title must be plain text"),
        ("!!python/object/apply:os.getcwd []", "line 1: the file must be a mapping"),
        ("!!omap {a: b}", "line 1: the file must be a mapping"),
        ("title: &a [*a]", "line 1: title must be plain text"),
        ("<<: {steps: 3}", "line 1: a name must be .*got '<<'"),
        ("steps: 3\nrate: [1", "line 2: the file must be YAML; "),
        ("steps: 3\nrate: 'a", "line 2: the file must be YAML; "),
        ("steps: 3\n\trate: 1", "line 2: the file must be YAML; "),
        ("steps: 3\n---\nrate: 1", "line 2: the file must be YAML; "),
        ("title: a: b", "line 1: the file must be YAML; "),
        ("title: *a", "line 1: the file must be YAML; "),
        ('title: "\\UFFFFFFFF"', "the file must be YAML; "),
        ('title: "\\d"', "line 1: the file must be YAML; "),
        ("steps: 3\ntitle: a\0", "line 2: U[+]0000 must be written as an escape, in double quotes"),
        ("title: 'a\x85b'", r"line 1: '\\x85' must be written as an escape"),
        ("title: 'a\u2028b'", r"line 1: '\\u2028' must be written as an escape"),
        (b"steps: 3\ntitle: \xff", "line 2: the file must be UTF-8, got the byte 0xff"),
        ("steps: 3".encode("utf-16"), "line 1: the file must be UTF-8"),
        ("title: é".encode("latin-1"), "line 1: the file must be UTF-8, got the byte 0xe9"),
    ],
)
def test_a_file_that_says_something_else_is_named(file, content, named):
    with pytest.raises(ValueError, match=rf"given\.yml(, |: ){named}"):
        parameters.from_file(file(content))


def test_a_file_nested_deeper_than_python_follows_is_named(file):
    with pytest.raises(ValueError, match=r"given\.yml: the file must be YAML; maximum recursion depth"):
        parameters.from_file(file("a: " + "[" * 20_000))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.yml: there is no such file of parameters"):
        parameters.from_file(tmp_path / "absent.yml")
    with pytest.raises(ValueError, match=f"'{tmp_path}' cannot be read as a file of parameters: Is a directory"):
        parameters.from_file(tmp_path)
    with pytest.raises(ValueError, match=r"'a\\x00b' cannot be read"):
        parameters.from_file("a\0b")


SOUP = st.lists(
    st.sampled_from([
        *"{}[]:,&*!|>'\"%@`#-?\n\t~\\<=", " ", ": ", "- ", "\n  ", "a", "b", "1", "steps", "!!int ", "\\x", "\\u",
        "\\U0010FFFF", "\ufeff", "é", "%YAML ", "---\n", "...\n",
    ]),
    max_size=25,
)


@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SOUP.map("".join).map(str.encode) | st.binary(max_size=20))
def test_any_bytes_are_parameters_or_refused_by_the_files_name(file, content):
    try:
        found = parameters.from_file(file(content))
    except ValueError as error:
        assert "given.yml" in str(error)
        return
    items = [item for value in found.values() for item in (value if isinstance(value, list) else [value])]
    assert all(type(name) is str and name.isidentifier() for name in found)
    assert all(item is None or type(item) is str for item in items)


# Any set of parameters, through three doors, up to the cell that runs.

HARD = (
    "'", '"', "'''", '"""', "\\", "\\'", '\\"', "\\\\", "\n", "\r", "\r\n", "\t", "\0", "\x1b", "\x7f", "\x85",
    "\xa0", "\xad", "\u2028", "\u2029", "\u200b", "\ufeff", "\ufffe", "\uffff", "\ud800", "\udcff", "\ud83d\ude42",
    "🙂", "é", "e\u0301", "٣", "\\n", "\\x41", "\\N{BULLET}", "\\ud800", "{", "}", "{steps}", "{{x}}", "{0.__class__}",
    "%s", "%(steps)d", "$HOME", "$(id)", "`id`", "__import__('os').system('false')", "open('x', 'w')",
    "; import os #", "'; open('x', 'w') #", '"\nopen("x", "w")\n"', "#", " # a", ": ", "a: b", "- a", "? a",
    "!!int 3", "!x", "&a", "*a", "|", ">", "%", "@", "[1]", "{a: 1}", ",", "a,b", " a", "a ", "=", "a=b", "-", "--x",
    "", " ", "null", "~", "None", "true", "True", "false", "yes", "on", "n", "0", "1", "-1", "+1", "010", "1_000",
    "0x10", "1:30", "1e5", "1e-3", ".5", "5.", "1e400", "nan", "inf", "infinity", ".inf", " 3 ", "2024-01-01", "<<",
    "9" * 5000,
)
TEXT = st.one_of(
    st.sampled_from(HARD), st.text(max_size=8), st.text(st.characters(), max_size=4),
    st.lists(st.sampled_from(HARD[:-1]), min_size=2, max_size=4).map("".join),
)
HELD = TEXT.filter(lambda text: not any("\ud800" <= sign <= "\udfff" for sign in text))
NAMES = st.one_of(
    st.sampled_from(["steps", "rate", "on", "null", "σ", "_", "pm", "open", "print", "parameters"]),
    st.text("abcé_0σﬁ", min_size=1, max_size=4),
).filter(lambda name: name.isidentifier() and not keyword.iskeyword(name)).map(
    lambda name: unicodedata.normalize("NFKC", name)  # as Python's own parser does
)
SCALARS = st.one_of(
    TEXT, st.integers(), st.integers(-3, 3), st.sampled_from([2**63, 10**400, 10**4299, 10**4300, -(10**5000)]),
    st.floats(), st.booleans(), st.none(), st.binary(max_size=2), st.dates(),
)
ANYTHING = st.one_of(
    SCALARS, st.lists(SCALARS, max_size=3), st.lists(st.lists(SCALARS, max_size=2), max_size=2),
    st.dictionaries(TEXT, SCALARS, max_size=2), st.sets(st.integers(), max_size=2),
)
NUMBERS = ("010", "-01", "1_000", "٣", "３", " 3", "3\n", "0x10", "1:30", "", None, True, False, 10**4300, -(10**4300))
NEARLY = {
    "int": (*NUMBERS, "3.0", "1e3", 3.0, 10**4299),
    "float": (*NUMBERS, "1e400", "1e-400", "-1e-400", "nan", "Infinity", math.nan, -math.inf, 10**400, 3, -0.0),
    "str": ("\ud800", "a\udcff", "\ud83d\ude42", None, True, 3, 0.5, b"a", "", " a ", "a,b", "\u3000a"),
    "bool": ("yes", "on", "1", 1, 0, "", " true", "t", None, "TRUE", "False"),
}
PLAIN_TEXT = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=10)


@st.composite
def declared_parameters(draw):
    """The source of a parameters cell, and for each name what fits and what does so nearly."""
    lines, fitting, nearly = [], {}, {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        kind = draw(st.sampled_from(parameters.KINDS))
        inner = kind.removeprefix("list[").removesuffix("]")
        limited = draw(st.booleans())
        limit = ""
        if inner == "int":
            low, high = sorted(draw(st.tuples(st.integers(-9, 9), st.integers(-9, 9))))
            one = st.integers(low, high) if limited else st.integers(-(10**30), 10**30)
            limit = f"; [{low}, {high}]"
        elif inner == "float":
            low, high = sorted(draw(st.tuples(st.integers(-9, 9), st.integers(-9, 9))))
            one = st.floats(low, high) if limited else st.floats(allow_nan=False, allow_infinity=False)
            limit = f"; [{low}, {high:g}]"
        elif inner == "str":
            one = st.sampled_from(["bce", "mse", "it's", '"x"']) if limited else HELD
            limit = "; {bce, mse, it's, \"x\"}"
        else:
            one, limited = st.booleans(), False
        near = st.sampled_from(NEARLY[inner])
        fitting[name] = one if kind == inner else st.lists(one, min_size=1, max_size=3)
        nearly[name] = near if kind == inner else near | st.lists(near | one, max_size=2)
        meaning = draw(st.sampled_from(["", "width, pixels", "one of [0, 1], {a}; or not" if limited else "# '\"\\"]))
        lines.append(f"{name}: {kind} = {draw(fitting[name])!r}  # {meaning}{limit if limited else ''}")
    return "\n".join(lines), fitting, nearly


@st.composite
def parameter_sets(draw):
    """A cell, what is given, and whether all of it fits."""
    source, fitting, nearly = draw(declared_parameters())
    names = draw(st.lists(st.sampled_from(sorted(fitting)), min_size=1, max_size=3, unique=True))
    values = {name: draw(fitting[name]) for name in names}
    fits = draw(st.booleans())
    if not fits:
        if draw(st.booleans()):
            values[names[0]] = draw(nearly[names[0]])
        else:
            known = st.sampled_from(sorted(fitting))
            values |= draw(st.dictionaries(st.one_of(known, NAMES, TEXT), ANYTHING, min_size=1, max_size=2))
    return source, values, fits


def faithful(kind, said, got):
    """Whether a value is what was said, neither more nor less; no use is made of how it was read."""
    if kind.startswith("list"):
        items = [item.strip(" ") for item in said.split(",")] if isinstance(said, str) else said
        inner = kind.removeprefix("list[").removesuffix("]")
        return type(got) is list and len(got) == len(items) > 0 and all(
            faithful(inner, one, other) for one, other in zip(items, got, strict=True)
        )
    if type(got).__name__ != kind:
        return False
    if kind == "float" and type(said) is int:
        return got == float(said)
    if not isinstance(said, str):
        return type(said) is type(got) and repr(said) == repr(got)
    if kind == "str":
        return got == said
    if kind == "bool":
        return said.lower() == str(got).lower()
    if not said.isascii() or "_" in said or said != said.strip():
        return False
    if kind == "int":
        return said == "-0" or said.removeprefix("+") == str(got)
    return math.isfinite(got) and got == float(Decimal(said)) and (got != 0 or Decimal(said) == 0)


def spelled(value, text):
    """Whether what a file gives is the text of what safe_dump was given."""
    if isinstance(value, (list, tuple)):
        return isinstance(text, list) and len(text) == len(value) and all(map(spelled, value, text))
    if value is None:
        return text is None
    if isinstance(value, float) and math.isfinite(value):
        return repr(float(text)) == repr(value)
    if isinstance(value, float):
        return text in (".nan", ".inf", "-.inf")
    return text == (str(value).lower() if isinstance(value, bool) else str(value))


def shell(values):
    """The words of a shell that say these values, or None where a shell has no word for one."""

    def word(value):
        if isinstance(value, list):
            return ",".join(map(word, value))
        return str(value).lower() if isinstance(value, bool) else str(value)

    words = []
    for name, value in values.items():
        items = value if isinstance(value, list) else [value]
        if "=" in name or not name or not all(isinstance(item, (str, int, float)) for item in items):
            return None
        texts = [item for item in items if isinstance(item, str) and isinstance(value, list)]
        if any(not text or "," in text or text != text.strip(" ") for text in texts):
            return None
        try:
            words.append(shlex.quote(f"{name}={word(value)}"))
        except ValueError:  # more digits than Python writes
            return None
    return " ".join(words)


class Called(Exception):
    pass


def survives(values):
    """The values are those of the cell that papermill makes of them, which calls nothing, and those of its stamp."""
    from papermill.translators import papermill_translators

    code = papermill_translators.find_translator("python3", "python").codify(values)
    assert all(isinstance(line, ast.Assign) for line in ast.parse(code).body)

    def trap(*words, **more):
        raise Called

    space = {"__builtins__": dict.fromkeys(dir(builtins), trap)}
    exec(code, space)
    del space["__builtins__"]
    assert repr(space) == repr(dict(values))  # of plain values: the type, the sign of a zero and all digits, too
    assert repr(json.loads(json.dumps(values, ensure_ascii=False).encode())) == repr(values)


def checked(declared, given_values):
    """What is read, after every check; None where it was refused, by a name that is to blame."""
    try:
        values = parameters.read(declared, given_values)
    except ValueError as error:
        blamed = [name for name in given_values if name not in declared or refused(declared, name, given_values[name])]
        assert any(str(error).startswith((f"{name} must be", f"unknown parameter {name!r}")) for name in blamed)
        return None
    assert list(values) == list(declared)
    for name, parameter in declared.items():
        if name in given_values:
            assert faithful(parameter.kind, given_values[name], values[name]), (name, given_values[name], values[name])
            items = values[name] if isinstance(values[name], list) else [values[name]]
            assert not parameter.bounds or all(parameter.bounds[0] <= item <= parameter.bounds[1] for item in items)
            assert not parameter.choices or set(items) <= set(parameter.choices)
        else:
            assert repr(values[name]) == repr(parameter.default)
    survives(values)
    return values


def refused(declared, name, value):
    try:
        declared[name].read(value)
    except ValueError:
        return True
    return False


def by_hand(values, quote):
    """A file of parameters as a person writes it, each text in quotes; None for other values."""
    lines = []
    for name, value in values.items():
        items = value if isinstance(value, list) else [value]
        if not name.isidentifier() or not all(isinstance(item, str) and item.isprintable() for item in items):
            return None
        said = ", ".join(map(quote, items))
        lines.append(f"{name}: [{said}]" if isinstance(value, list) else f"{name}: {said}")
    return "\n".join(lines)


def single(text):
    return "'" + text.replace("'", "''") + "'"


def double(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@settings(max_examples=1000, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(parameter_sets())
@example(("title: str = ''", {"title": "__import__('os').system('false')"}, True))
@example(("title: str = ''", {"title": '"\nopen("x", "w")\n"'}, True))
@example(("title: str = ''", {"title": "{steps} \\\"' \0\r\n\x85\u2028🙂"}, True))
@example(("x: float = 0.0", {"x": -0.0}, True))
@example(("x: float = 0.0", {"x": "-1e-400"}, False))
@example(("x: int = 0", {"x": 10**4300}, False))
def test_whatever_is_given_is_read_as_what_it_says_or_refused_by_name(file, drawn):
    source, values, fits = drawn
    declared = parameters.schema(source)

    found = checked(declared, values)
    if fits:
        assert repr(found) == repr({name: values.get(name, p.default) for name, p in declared.items()})

    if (line := shell(values)) is not None:
        words = parameters.pairs(shlex.split(line))
        assert list(words) == list(values)
        from_shell = checked(declared, words)
        assert not fits or repr(from_shell) == repr(found)

    unicode = len(source) % 2 == 0
    try:
        text = yaml.safe_dump(values, allow_unicode=unicode)
    except ValueError:  # more digits than Python writes
        text = ""
    if text:
        try:
            given_values = parameters.from_file(file(text))
        except ValueError as error:
            assert "given.yml, line" in str(error)
            assert not fits or (unicode and any(sign in text for sign in "\x85\u2028\u2029"))
        else:
            assert given_values.keys() == values.keys()
            assert all(spelled(values[name], given_values[name]) for name in values)
            from_yaml = checked(declared, given_values)
            assert not fits or repr(from_yaml) == repr(found)

    for quote in (single, double):
        if (text := by_hand(values, quote)) is not None:
            assert parameters.from_file(file(text)) == values


# The table.


def rows(text):
    """The cells of a table as a reader sees them."""
    from docutils import nodes
    from docutils.core import publish_doctree
    from myst_parser.parsers.docutils_ import Parser

    tree = publish_doctree(text, parser=Parser(), settings_overrides={"halt_level": 2, "report_level": 2})
    assert [type(node) for node in tree.children] == [nodes.table]
    return [[entry.astext() for entry in row.findall(nodes.entry)] for row in tree.findall(nodes.row)]


def test_the_table_says_what_the_cell_says():
    assert rows(parameters.table(DECLARED)) == [
        ["Name", "Kind", "Default", "Allowed", "Meaning"],
        ["steps", "int", "200", "1\xa0to\xa0100000", "optimiser steps"],
        ["rate", "float", "0.003", "1e-06\xa0to\xa01", "learning rate"],
        ["loss", "str", "focal", "bce, focal, mse", "which loss"],
        ["title", "str", "a # b", "–", "shown above the figure"],
        ["fast", "bool", "false", "true, false", "skip the slow part"],
        ["seeds", "list[int]", "0, 1", "each 0\xa0to\xa099", "one run each"],
        ["rates", "list[float]", "0.1", "–", "to choose from"],
        ["labels", "list[str]", "one", "–", "names of the curves"],
    ]
    assert parameters.table(DECLARED, DEFAULTS) == parameters.table(DECLARED, {}) == parameters.table(DECLARED)
    assert parameters.table({}) == ""


def test_the_table_shows_a_run_that_differs():
    text = parameters.table(DECLARED, DEFAULTS | {"steps": 9, "seeds": [0, 1, 2]})
    assert [row[3] for row in rows(text)] == [
        "This run", "9", "0.003", "focal", "a # b", "false", "0, 1, 2", "0.1", "one",
    ]
    assert text.count("**") == 4 and "**`9`**" in text and "**`0, 1, 2`**" in text


@settings(max_examples=150)
@given(PLAIN_TEXT, st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=10), HELD)
@example("1. `a` *b* _c_ [d](e) {f}`g` <h> &amp; $i$ \\", "``", "\n```")
@example("- a", "`", "")
@example("% a", "``a`", " a ")
@example("+++", "'", ":::")
def test_the_table_shows_any_text_as_itself(meaning, choice, default):
    declared = {
        "one": parameters.Parameter("one", "str", default, meaning),
        "two": parameters.Parameter("two", "str", choice, "", choices=(choice,)),
    }
    _, one, two = rows(parameters.table(declared))
    assert one[4] == meaning and two[3] == choice
    assert one[2] in (default, repr(default)) and two[2] in (choice, repr(choice))


@pytest.fixture(scope="module")
def executed():
    """The Sphinx extension that puts a run's outputs into a page."""
    spec = importlib.util.spec_from_file_location("executed", ROOT / "book" / "_extensions" / "executed.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("values", [DEFAULTS, DEFAULTS | {"steps": 9}])
def test_a_page_has_the_table_in_place_of_the_cell(executed, values):
    cell = {"cell_type": "code", "id": "a", "metadata": {"tags": ["parameters"]}, "source": CELL.splitlines(True)}
    ran = cell | {"outputs": [], "execution_count": 1}
    injected = ran | {"metadata": {"tags": ["injected-parameters"]}, "source": "steps = 9"}
    clean = {"cells": [cell], "metadata": {}}
    before = json.dumps(clean)
    stamp = {"profile": "quick", "parameters": values}
    page = executed.merge(clean, {"cells": [ran, injected], "metadata": {"falloff": stamp}})
    folded, shown = page["cells"]
    assert folded["source"] == cell["source"] and folded["metadata"]["tags"] == ["parameters", "hide-input"]
    assert parameters.table(DECLARED, values) in shown["source"]
    assert json.dumps(clean) == before
