"""The parameters of a chapter: its parameters cell is the schema, and nothing else is accepted.

Text, from a shell or from a file, is read by the kind that the cell declares. A number is written as in Python with the
digits 0 to 9, with no underscore, no leading zero and no space around it: an integer without point or exponent, a float
finite and not so small that it would become 0. A bool is ``true`` or ``false``, in capitals or not. Text for a list is
split at its commas: an item that is empty, holds a comma, or begins or ends with a space has to come in a list, from a
file or from Python.
"""

from __future__ import annotations

import ast
import io
import math
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

KINDS = ("int", "float", "str", "bool", "list[int]", "list[float]", "list[str]")


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: ``name: kind = default  # meaning; [low, high]`` or ``; {one, another}``."""

    name: str
    kind: str
    default: Any
    meaning: str
    bounds: tuple[float, float] | None = None
    choices: tuple[str, ...] | None = None

    def read(self, given: object) -> Any:
        """A value of this parameter from what was given, text as a shell passes it or a Python value.

        Raises:
            ValueError: not of the kind, or out of range; the message names the parameter and what is allowed.
        """
        if not self.kind.startswith("list"):
            return self._one(given)
        items = given
        if isinstance(given, str):
            items = [item.strip(" ") for item in given.split(",")]
            bracketed = given[:1] in ("[", "(") and self.kind != "list[str]"  # as in Python; a shell's words are plain
            items = [] if bracketed or "" in items else items  # of strings, too: "a,,b" is more often a slip than meant
        if not isinstance(items, (list, tuple)) or len(items) == 0:
            kind, example = _inner(self.kind), "'a,b'" if self.kind == "list[str]" else "'1,2'"
            raise ValueError(f"{self.name} must be a list of {kind}, such as {example}; got {_shown(given)}")
        return [self._one(item) for item in items]

    def _one(self, given: object) -> Any:
        kind = _inner(self.kind)
        value = _convert(given, kind)
        if value is None:
            raise ValueError(f"{self.name} must be {_ARTICLE[kind]}, got {_shown(given)}")
        if self.bounds and not self.bounds[0] <= value <= self.bounds[1]:
            low, high = map(_number, self.bounds)
            raise ValueError(f"{self.name} must be in [{low}, {high}], got {_shown(given)}")
        if self.choices and value not in self.choices:
            raise ValueError(f"{self.name} must be one of {', '.join(self.choices)}; got {_shown(given)}")
        return value


_ARTICLE = {
    "int": "an integer", "float": "a finite number", "bool": "true or false", "str": "a string that UTF-8 can hold",
}


def schema(source: str) -> dict[str, Parameter]:
    """The parameters that a cell declares.

    Raises:
        ValueError: a line is not a declaration, a name comes twice, a kind is not one of ``KINDS``, or a default or a
            limit does not fit it.
    """
    rule = "a parameters cell holds lines 'name: kind = default  # meaning'"
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise ValueError(f"{rule}; line {error.lineno}: {error.msg}") from error
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type == tokenize.COMMENT
    }
    found = {}
    for node in body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.value is None:
            raise ValueError(f"{rule}; got {ast.unparse(node)!r}")
        name, kind = node.target.id, ast.unparse(node.annotation)
        if name in found:
            raise ValueError(f"{name} is declared twice")
        if kind not in KINDS:
            raise ValueError(f"{name}: kind must be one of {', '.join(KINDS)}, got {kind!r}")
        try:
            default = ast.literal_eval(node.value)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{name}: the default must be a plain value, got {ast.unparse(node.value)!r}") from error
        parameter = Parameter(name, kind, default, *_limits(name, kind, comments.get(node.end_lineno, "")))
        value = parameter.read(default)
        if value != default:  # such as "3" for an int: right from a shell, wrong where the cell itself runs
            raise ValueError(f"{name}: the default must be of kind {kind}, got {_shown(default)}")
        found[name] = replace(parameter, default=value)
    return found


def read(declared: Mapping[str, Parameter], given: Mapping[str, object]) -> dict[str, Any]:
    """All parameters of a chapter: what was given, checked, and the defaults of the rest.

    Raises:
        ValueError: an unknown name (the message gives the nearest known one) or a value that does not fit.
    """
    for name in given:
        if name not in declared:
            near = get_close_matches(str(name), declared, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"unknown parameter {name!r}{hint}; known: {', '.join(declared) or 'none'}")
    return {name: parameter.read(given.get(name, parameter.default)) for name, parameter in declared.items()}


def pairs(words: list[str]) -> dict[str, str]:
    """``name=value`` words as a mapping.

    Raises:
        ValueError: a word has no "=" or a name comes twice.
    """
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"parameters are written name=value, got {word!r}")
        if name in found:
            raise ValueError(f"parameter {name!r} is given twice")
        found[name] = value
    return found


def from_file(path: str | Path) -> dict[str, object]:
    """The parameters that a YAML file gives, one ``name: value`` each; a value is plain text or a list of it.

    Nothing is guessed from how a value looks: ``010``, ``1e-3``, ``yes`` and ``1:30`` stay the text that they are, in
    quotes or without, for :func:`read` to take as the declared kind. Only ``null``, ``~`` and nothing at all are None
    where they stand without quotes, and None fits no parameter.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, is not YAML in UTF-8, or holds anything else: a name that is no identifier or
            comes twice, a nested value, a tag. The message names the file, the line and what is allowed.
    """
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: there is no such file of parameters") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{str(path)!r} cannot be read as a file of parameters: {reason}") from error
    root = _compose(path, raw)
    if not isinstance(root, yaml.MappingNode) or root.tag != _TAG + "map":
        line = root.start_mark.line if root else 0
        raise _fault(path, line, "the file must be a mapping, one 'name: value' a line")
    found: dict[str, object] = {}
    for key, node in root.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        if key.tag != _TAG + "str" or not name.isidentifier():
            raise _fault(path, key.start_mark.line, f"a name must be a parameter's, such as steps; got {name!r}")
        if name in found:
            raise _fault(path, key.start_mark.line, f"{name} is given twice")
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            found[name] = [_plain(path, name, item) for item in node.value]
        else:
            found[name] = _plain(path, name, node)
    return found


def table(declared: Mapping[str, Parameter], here: Mapping[str, Any] | None = None) -> str:
    """The parameters as a MyST table: name, kind, default, what is allowed, meaning; "" where there are none.

    Args:
        declared: the parameters, in the order of the rows.
        here: values of one run; where they are not all the defaults, a column shows them, in bold those that differ.
    """
    if not declared:
        return ""
    here = {name: (here or {}).get(name, parameter.default) for name, parameter in declared.items()}
    differ = {name for name, parameter in declared.items() if here[name] != parameter.default}
    rows = [["Name", "Kind", "Default", *(["This run"] if differ else []), "Allowed", "Meaning"]]
    for name, parameter in declared.items():
        shown = literal(_text(here[name]))
        column = [f"**{shown}**" if name in differ else shown] if differ else []
        rows.append([literal(name), literal(parameter.kind), literal(_text(parameter.default)), *column,
                     _allowed(parameter), _prose(parameter.meaning)])
    cells = "\n".join("* - " + "\n  - ".join(row) for row in rows)
    return f"```{{list-table}}\n:header-rows: 1\n:class: parameters\n\n{cells}\n```\n"


def _inner(kind: str) -> str:
    """The kind of a list's items; of anything else, its own."""
    return kind.removeprefix("list[").removesuffix("]")


def _convert(given: object, kind: str) -> Any:
    """The value as that kind, or None."""
    try:
        return _of_text(given, kind) if isinstance(given, str) else _of_value(given, kind)
    except (ValueError, OverflowError):  # a lone surrogate; more digits than Python reads or a float holds
        return None


def _of_text(text: str, kind: str) -> Any:
    if kind == "str":
        return text.encode().decode()
    if kind == "bool":
        return {"true": True, "false": False}.get(text.lower())
    if not re.fullmatch(_INT if kind == "int" else _FLOAT, text):
        return None
    if kind == "int":
        return int(text)
    value = float(text)
    vanished = value == 0 and re.search("[1-9]", re.split("[eE]", text)[0])
    return value if math.isfinite(value) and not vanished else None


def _of_value(value: object, kind: str) -> Any:
    if isinstance(value, bool) or kind == "bool":
        return value if isinstance(value, bool) and kind == "bool" else None
    if kind == "int":
        # Through text: what Python would not write cannot stand in a cell.
        return int(str(int(value))) if isinstance(value, int) else None
    if kind == "float" and isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    return None


_INT = r"[+-]?(0|[1-9][0-9]*)"
_FLOAT = rf"({_INT}(\.[0-9]*)?|[+-]?\.[0-9]+)([eE][+-]?[0-9]+)?"


def _limits(name: str, kind: str, comment: str) -> tuple[str, tuple[float, float] | None, tuple[str, ...] | None]:
    """Meaning, bounds and choices of one declaration."""
    if ";" not in comment:
        return comment, None, None
    meaning, _, limit = (part.strip() for part in comment.rpartition(";"))
    numbers, words = re.fullmatch(r"\[([^,]+),([^,]+)\]", limit), re.fullmatch(r"\{(.+)\}", limit)
    try:
        if numbers and _inner(kind) in ("int", "float"):
            return meaning, (float(numbers[1]), float(numbers[2])), None
    except ValueError:
        words = None
    if words and _inner(kind) == "str":
        return meaning, None, tuple(choice.strip() for choice in words[1].split(","))
    raise ValueError(f"{name}: a limit is written [low, high] for numbers, {{one, another}} for strings; got {limit!r}")


def _compose(path: str | Path, raw: bytes) -> yaml.Node | None:
    """The nodes of a YAML file; nothing is made of them yet."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start)
        raise _fault(path, line, f"the file must be UTF-8, got the byte 0x{raw[error.start]:02x}") from error
    if odd := re.search("[\x85\u2028\u2029]", text):  # ends of lines to YAML, which makes spaces of them
        line = text.count("\n", 0, odd.start())
        raise _fault(path, line, f"{odd[0]!a} must be written as an escape, in double quotes")
    try:
        return yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position)
        raise _fault(path, line, f"U+{error.character:04X} must be written as an escape, in double quotes") from error
    except yaml.MarkedYAMLError as error:
        raise _fault(path, error.problem_mark.line, f"the file must be YAML; {error.problem}") from error
    except (ValueError, OverflowError, RecursionError) as error:  # what PyYAML lets through
        raise ValueError(f"{path}: the file must be YAML; {error}") from error


def _plain(path: str | Path, name: str, node: yaml.Node) -> str | None:
    """The text of a node as it stands; None where YAML says that there is none."""
    if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + "str":
        problem = f"{name} must be plain text or a list of it, with no tag such as !!int"
        raise _fault(path, node.start_mark.line, problem)
    return None if node.style is None and node.value in ("", "~", "null", "Null", "NULL") else node.value


_TAG = "tag:yaml.org,2002:"


def _fault(path: str | Path, line: int, problem: str) -> ValueError:
    return ValueError(f"{path}, line {line + 1}: {problem}")


def _shown(given: object) -> str:
    """What was given, for a message."""
    try:
        text = repr(given)
    except ValueError:  # an integer of more digits than Python writes
        return "a value too long to show"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _text(value: object) -> str:
    """A value as one writes it in a file or a shell."""
    if isinstance(value, (list, tuple)):
        return ", ".join(repr(item) if isinstance(item, str) and "," in item else _text(item) for item in value)
    if isinstance(value, str):
        plain = value.isprintable() and value == value.strip() and value[:1] not in ("", "'", '"')
        return value if plain else repr(value)
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _allowed(parameter: Parameter) -> str:
    """The range of a number or of each item, or the choices, in Markdown."""
    if parameter.bounds:
        span = "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}".join(literal(_number(bound)) for bound in parameter.bounds)
        return span if parameter.kind == _inner(parameter.kind) else f"each {span}"
    choices = ("true", "false") if parameter.kind == "bool" else parameter.choices
    return ", ".join(map(literal, choices)) if choices else "–"


def literal(text: str) -> str:
    """Text as code in Markdown, whatever backticks it holds."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def _prose(text: str) -> str:
    """Text as itself in Markdown."""
    text = re.sub(r"([\\`*_{}\[\]<>&$])", r"\\\1", text)
    return re.sub(r"^(\d*)([!-/:-@^|~])", r"\1\\\2", text)  # no list, heading, fence or comment
