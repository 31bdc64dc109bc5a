"""Parameters of a chapter, from a shell, a file or Python, up to the cell that papermill makes of them."""

import ast
import builtins
import enum
import json
import keyword
import math
import shlex
import tomllib
import unicodedata
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from projects import CELL

from falloff.chapters import parameters

DECLARED = parameters.schema(CELL)
DEFAULTS = {name: parameter.default for name, parameter in DECLARED.items()}


# The cell.


def test_the_cell_is_the_schema():
    assert {name: (p.kind, p.default, p.allowed) for name, p in DECLARED.items()} == {
        "steps": ("int", 200, ("1", "100000")),
        "rate": ("float", 0.003, ("1e-6", "1")),
        "loss": ("str", "focal", ("bce", "focal", "mse")),
        "title": ("str", "a # b", ()),
        "fast": ("bool", False, ()),
        "seeds": ("list[int]", [0, 1], ("0", "99")),
        "rates": ("list[float]", [0.1], ()),
        "labels": ("list[str]", ["one"], ()),
    }
    assert [DECLARED[name].meaning for name in ("steps", "title")] == ["optimiser steps", "shown above the figure"]
    assert parameters.parse(DECLARED, {}) == DEFAULTS


def test_a_default_has_its_kind_whichever_way_it_is_written():
    found = parameters.parse(parameters.schema("rate: float = 1\nrates: list[float] = [1, 0.5]"), {})
    assert repr(found) == "{'rate': 1.0, 'rates': [1.0, 0.5]}"


def test_a_list_that_was_read_is_the_readers_own():
    parameters.parse(DECLARED, {})["seeds"].append(7)
    assert parameters.parse(DECLARED, {})["seeds"] == [0, 1]


@pytest.mark.parametrize(
    ("cell", "named"),
    [
        ("steps = 3", "'name: kind = default  # meaning'.*got 'steps = 3'"),
        ("steps: int", "got 'steps: int'"),
        ("import os", "got 'import os'"),
        ("print(1)", r"got 'print\(1\)'"),
        ("a.steps: int = 3", "got 'a.steps: int = 3'"),
        ("steps: int =", "'name: kind = default  # meaning'.*; line 1"),
        ("steps: int = 1\nsteps: int = 2", "each name once.*got 'steps: int = 2'"),
        ("steps: dict = {}", "of a kind among int, float.*got 'steps: dict = {}'"),
        ("import_me: int = 1\nsteps: int = len('abc')", r"with a plain value; got .steps: int = len\("),
        ("steps: int = 'a'", "steps must be an integer"),
        ("steps: int = '3'", "steps: the default must be of kind int, got '3'"),
        ("seeds: list[int] = '0,1'", r"seeds: the default must be of kind list\[int\], got '0,1'"),
        ("seeds: list[int] = ['0']", "seeds: the default must be of kind"),
        ("seeds: list[int] = []", "seeds must be a list with commas, each item an integer"),
        ("steps: int = 3  # some; [5, 9]", r"steps must be in \[5, 9\]"),
        ("steps: int = 3  # some; from 5 to 9", "steps: a limit is written"),
        ("steps: int = 3  # some; [a, b]", "steps: a limit is written"),
        ("steps: int = 3  # some; [1, 2, 3]", "steps: a limit is written"),
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
    assert parameters.parse(DECLARED, parameters.pairs(words)) == DEFAULTS | {
        "steps": 12, "rate": 0.01, "loss": "mse", "title": "a=b", "fast": True, "seeds": [3, 4], "labels": ["a b", "c"],
    }


@pytest.mark.parametrize("text", ["0", "-0", "+3", "-12", "9007199254740993"])
def test_an_integer_is_its_decimal_digits(text):
    found = parameters.schema("n: int = 0")["n"].parse(text)
    assert type(found) is int and found == Decimal(text)


@pytest.mark.parametrize(
    "text", ["0", "-0.0", "+3", ".5", "3.", "1e5", "1E+05", "-1.25e-3", "5e-324", "0e-999", "1e308"]
)
def test_a_float_is_what_its_text_says(text):
    found = parameters.schema("x: float = 0")["x"].parse(text)
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
        parameters.schema(f"x: {kind} = 0")["x"].parse(text)


@pytest.mark.parametrize("text", ["1.0", "1e3", "3."])
def test_an_integer_has_no_point_and_no_exponent(text):
    with pytest.raises(ValueError, match="steps must be an integer"):
        parameters.parse(DECLARED, {"steps": text})


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
        ("rate", "2", r"rate must be in \[1e-6, 1\]"),
        ("loss", "hinge", "loss must be one of bce, focal, mse; got 'hinge'"),
        ("loss", 3, "loss must be a string"),
        ("title", None, "title must be a string"),
        ("title", "a\ud800", "title must be a string in UTF-8"),
        ("title", ["a"], "title must be a string"),
        ("fast", "yes", "fast must be true or false, got 'yes'"),
        ("fast", "1", "fast must be true or false"),
        ("fast", 1, "fast must be true or false"),
        ("seeds", "", "seeds must be a list with commas, each item an integer, got ''"),
        ("seeds", "1,,2", "seeds must be a list.*got '1,,2'"),
        ("seeds", "1,", "seeds must be a list"),
        ("seeds", "1;2", "seeds must be a list with commas, each item an integer, got '1;2'"),
        ("seeds", [], "seeds must be a list"),
        ("seeds", 3, "seeds must be a list"),
        ("seeds", "[0,1]", r"seeds must be a list with commas, each item an integer, got '\[0,1\]'"),
        ("seeds", {3: 4}, "seeds must be a list"),
        ("seeds", [[1]], r"seeds must be a list.*got \[\[1\]\]"),
        ("seeds", [" 1"], r"seeds must be a list.*got \[' 1'\]"),
        ("seeds", "1,100", r"seeds must be in \[0, 99\]"),
        ("labels", "a,", "labels must be a list with commas, each item a string"),
        ("labels", [None], r"labels must be a list.*got \[None\]"),
        ("step", "3", "unknown parameter 'step'.*did you mean 'steps'"),
        ("", "3", "unknown parameter ''"),
        (3, "3", "unknown parameter 3; known: steps, rate"),
    ],
)
def test_what_does_not_fit_is_named(name, value, named):
    with pytest.raises(ValueError, match=named) as caught:
        parameters.parse(DECLARED, {name: value})
    assert len(str(caught.value)) < 300


def test_more_digits_than_python_writes_are_refused():
    declared = parameters.schema("n: int = 0\nx: float = 0")
    assert declared["n"].parse("1" * 4300) == declared["n"].parse(int("1" * 4300)) == int("1" * 4300)
    with pytest.raises(ValueError, match=r"n must be an integer, got '1+\.\.\.1+'$"):
        declared["n"].parse("1" * 4301)
    for name in declared:
        with pytest.raises(ValueError, match="4300 digits"):
            declared[name].parse(10**4300)


def test_a_chapter_without_parameters_takes_none():
    assert parameters.parse({}, {}) == {}
    with pytest.raises(ValueError, match="unknown parameter 'steps'; known: none"):
        parameters.parse({}, {"steps": 3})


def test_kinds_that_only_look_like_python_s_become_python_s():
    class Word(str, enum.Enum):  # noqa: UP042  its str() is not what it equals
        LOSS = "mse"

    class Count(enum.IntEnum):
        MANY = 12

    values = {"loss": Word.LOSS, "steps": Count.MANY, "rate": np.float64(0.5), "seeds": (1, 2)}
    found = parameters.parse(DECLARED, values)
    assert [(type(found[name]), found[name]) for name in ("loss", "steps", "rate", "seeds")] == [
        (str, "mse"), (int, 12), (float, 0.5), (list, [1, 2]),
    ]


def test_items_of_a_list_stay_whole():
    items = ["a,b", " c ", "", "d"]
    assert parameters.parse(DECLARED, {"labels": items})["labels"] == items


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
    path = tmp_path_factory.mktemp("files") / "given.toml"

    def write(content):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_a_file_gives_what_stands_in_it(file):
    path = file("""# another run
steps = 12
rate = 1e-2     # a number as in Python
loss = "mse"
title = 'it"s "a": b'
fast = true
seeds = [3, 4]
rates = [
  0.1,
  1,
]
labels = ["a, b", ' c', "d"]
""")
    assert parameters.parse(DECLARED, parameters.from_file(path)) == {
        "steps": 12, "rate": 0.01, "loss": "mse", "title": 'it"s "a": b', "fast": True, "seeds": [3, 4],
        "rates": [0.1, 1.0], "labels": ["a, b", " c", "d"],
    }
    assert parameters.from_file(str(path)) == parameters.from_file(path)


def test_text_in_a_file_is_read_as_that_of_a_shell(file):
    path = file('steps = "12"\nrate = ".5"\nfast = "TRUE"\nseeds = "3, 4"')
    found = parameters.parse(DECLARED, parameters.from_file(path))
    assert [found[name] for name in ("steps", "rate", "fast", "seeds")] == [12, 0.5, True, [3, 4]]


@pytest.mark.parametrize("content", ["", "# nothing\n", b""])
def test_an_empty_file_gives_nothing(file, content):
    assert parameters.from_file(file(content)) == {}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("steps = 12.0", "steps must be an integer, got 12.0"),
        ("steps = true", "steps must be an integer, got True"),
        ("fast = 1", "fast must be true or false, got 1"),
        ("loss = 3", "loss must be a string"),
        ("rate = nan", "rate must be a finite number, got nan"),
        ("rate = inf", "rate must be a finite number, got inf"),
        ("title = 2024-01-01", "title must be a string"),
        ("seeds = 3", "seeds must be a list"),
        ("seeds = [1, [2]]", "seeds must be a list"),
        ("steps = 0", r"steps must be in \[1, 100000\], got 0"),
        ("[steps]\na = 1", "steps must be an integer, got {'a': 1}"),
        ("steps.a = 1", "steps must be an integer, got {'a': 1}"),
        ("step = 3", "unknown parameter 'step'.*did you mean 'steps'"),
        ("'my steps' = 3", "unknown parameter 'my steps'"),
    ],
)
def test_a_value_of_a_file_that_does_not_fit_is_named(file, content, named):
    with pytest.raises(ValueError, match=named):
        parameters.parse(DECLARED, parameters.from_file(file(content)))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("steps: 3", r"Expected '=' after a key.*\(at line 1"),
        ("steps = 3\nrate = ", r"Invalid value.*\(at "),
        ("steps = 3\nrate = 1\nsteps = 4", r"Cannot overwrite a value.*\(at "),
        ("steps = 010", r"\(at line 1"),
        ("fast = yes", r"Invalid value.*\(at line 1"),
        ("title = 'a\0b'", r"\(at line 1"),
        (b"title = '\xff'", "can't decode byte 0xff"),
        ("steps = 3".encode("utf-16"), "can't decode byte"),
        ("steps = " + "1" * 4301, "4300 digits"),
        ("a = " + "[" * 20_000, "recursion depth"),
    ],
)
def test_a_file_that_is_no_toml_is_named(file, content, named):
    with pytest.raises(ValueError, match=rf"given\.toml' must be a TOML file of parameters: .*{named}"):
        parameters.from_file(file(content))


def test_a_file_that_is_not_there_is_named(tmp_path):
    for path, named in {tmp_path / "absent.toml": "No such file", tmp_path: "Is a directory", "a\0b": "null"}.items():
        with pytest.raises(ValueError, match=f"must be a TOML file of parameters: .*{named}") as caught:
            parameters.from_file(path)
        assert str(caught.value).startswith(repr(str(path)))


SOUP = st.lists(
    st.sampled_from([
        *"{}[]:,'\"#-+_.\n\t\\=", " ", " = ", "[[", '"""', "a", "b", "1", "steps", "true", "nan", "1e", "\\x", "\\u",
        "\\U0010FFFF", "\ufeff", "é", "2024-01-01", "\r",
    ]),
    max_size=25,
)


@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SOUP.map("".join).map(str.encode) | st.binary(max_size=20))
def test_any_bytes_are_parameters_or_refused_by_the_files_name(file, content):
    try:
        found = parameters.from_file(file(content))
    except ValueError as error:
        assert "given.toml" in str(error)
        return
    assert all(type(name) is str for name in found)


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
    TEXT, st.integers(), st.integers(-3, 3), st.sampled_from([2**63, 10**400, 10**4299]),
    st.floats(), st.booleans(), st.none(), st.binary(max_size=2), st.dates(),
)
ANYTHING = st.one_of(
    SCALARS, st.lists(SCALARS, max_size=3), st.lists(st.lists(SCALARS, max_size=2), max_size=2),
    st.dictionaries(TEXT, SCALARS, max_size=2), st.sets(st.integers(), max_size=2),
)
NUMBERS = ("010", "-01", "1_000", "٣", "３", " 3", "3\n", "0x10", "1:30", "", None, True, False)
NEARLY = {
    "int": (*NUMBERS, "3.0", "1e3", 3.0, 10**4299),
    "float": (*NUMBERS, "1e400", "1e-400", "-1e-400", "nan", "Infinity", math.nan, -math.inf, 10**400, 3, -0.0),
    "str": ("\ud800", "a\udcff", "\ud83d\ude42", None, True, 3, 0.5, b"a", "", " a ", "a,b", "\u3000a"),
    "bool": ("yes", "on", "1", 1, 0, "", " true", "t", None, "TRUE", "False"),
}


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
        words.append(shlex.quote(f"{name}={word(value)}"))
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
        values = parameters.parse(declared, given_values)
    except ValueError as error:
        blamed = [name for name in given_values if name not in declared or refused(declared, name, given_values[name])]
        assert any(str(error).startswith((f"{name} must be", f"unknown parameter {name!r}")) for name in blamed)
        return None
    assert list(values) == list(declared)
    for name, parameter in declared.items():
        if name in given_values:
            assert faithful(parameter.kind, given_values[name], values[name]), (name, given_values[name], values[name])
            items = values[name] if isinstance(values[name], list) else [values[name]]
            if parameter.allowed and parameter.item == "str":
                assert set(items) <= set(parameter.allowed)
            elif parameter.allowed:
                low, high = map(float, parameter.allowed)
                assert all(low <= item <= high for item in items)
        else:
            assert repr(values[name]) == repr(parameter.default)
    survives(values)
    return values


def refused(declared, name, value):
    try:
        declared[name].parse(value)
    except ValueError:
        return True
    return False


def toml(values):
    """A file that says these values, or None where TOML has no word for one."""

    def word(value):
        if isinstance(value, str):  # a line of JSON, but for one sign
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        if isinstance(value, list):
            return f"[{', '.join(map(word, value))}]"
        return str(value).lower() if isinstance(value, bool) else repr(value)

    items = [item for value in values.values() for item in (value if isinstance(value, list) else [value])]
    if not all(isinstance(item, (str, int, float)) for item in items):
        return None
    text = "".join(f"{word(name)} = {word(value)}\n" for name, value in values.items())
    return None if any("\ud800" <= sign <= "\udfff" for sign in text) else text


@settings(max_examples=1000, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(parameter_sets())
@example(("title: str = ''", {"title": "__import__('os').system('false')"}, True))
@example(("title: str = ''", {"title": '"\nopen("x", "w")\n"'}, True))
@example(("title: str = ''", {"title": "{steps} \\\"' \0\r\n\x85\u2028🙂"}, True))
@example(("x: float = 0.0", {"x": -0.0}, True))
@example(("x: float = 0.0", {"x": "-1e-400"}, False))
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

    if (text := toml(values)) is not None:
        assert repr(tomllib.loads(text)) == repr(dict(values))
        from_toml = checked(declared, parameters.from_file(file(text)))
        assert repr(from_toml) == repr(found)
