"""The parameters of a chapter: its parameters cell is the schema, and nothing else is accepted.

Text, as a shell gives it, is read by the kind that the cell declares. A number is written as in Python with the digits
0 to 9, with no underscore, no leading zero and no space around it: an integer without point or exponent, a float finite
and not so small that it would become 0. A bool is ``true`` or ``false``, in capitals or not. Text for a list is split
at its commas: an item that is empty, holds a comma, or begins or ends with a space has to come in a list, from a file
or from Python.

A file is TOML, where a value has a kind already, which must be the declared one; text in it is read as from a shell.
"""

from __future__ import annotations

import ast
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from reprlib import repr as shown  # at most some 30 characters of a text, 40 digits, six items
from typing import Any

from falloff.checks import nearest

_ITEM = {"int": "an integer", "float": "a finite number", "str": "a string in UTF-8", "bool": "true or false"}
KINDS = (*_ITEM, "list[int]", "list[float]", "list[str]")
_INT = r"[+-]?(0|[1-9][0-9]*)"
_FLOAT = rf"({_INT}(\.[0-9]*)?|[+-]?\.[0-9]+)([eE][+-]?[0-9]+)?"


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: ``name: kind = default  # meaning; [low, high]`` or ``; {one, another}``."""

    name: str
    kind: str
    default: Any
    meaning: str
    allowed: tuple[str, ...] = ()  # as the cell writes it: low and high of numbers, or the choices of strings

    @property
    def item(self) -> str:
        """The kind of a list's items; of anything else, its own."""
        return self.kind.removeprefix("list[").removesuffix("]")

    def parse(self, given: object) -> Any:
        """A value of this parameter from what was given, text as a shell passes it or a Python value.

        Raises:
            ValueError: not of the kind, or out of range; the message names the parameter and what is allowed.
        """
        one = self.kind == self.item
        values = [_convert(item, self.item) for item in ([given] if one else _items(given))]
        if not values or None in values:
            several = "" if one else "a list with commas, each item "
            raise ValueError(f"{self.name} must be {several}{_ITEM[self.item]}, got {shown(given)}")
        if self.item == "str" and self.allowed and not set(values) <= set(self.allowed):
            raise ValueError(f"{self.name} must be one of {', '.join(self.allowed)}; got {shown(given)}")
        if self.item != "str" and self.allowed:
            low, high = map(float, self.allowed)
            if min(values) < low or max(values) > high:
                raise ValueError(f"{self.name} must be in [{', '.join(self.allowed)}], got {shown(given)}")
        return values[0] if one else values


def schema(source: str) -> dict[str, Parameter]:
    """The parameters that a cell declares.

    Raises:
        ValueError: a line is not a declaration, a name comes twice, a kind is not one of ``KINDS``, or a default or a
            limit does not fit it.
    """
    rule = ("a parameters cell holds lines 'name: kind = default  # meaning', each name once, of a kind among "
            f"{', '.join(KINDS)}, with a plain value")
    try:
        body: list[Any] = ast.parse(source).body
    except SyntaxError as error:
        raise ValueError(f"{rule}; line {error.lineno}: {error.msg}") from error
    found: dict[str, Parameter] = {}
    for node in body:
        name, kind, default = "", "", None
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            with suppress(TypeError, ValueError):  # what only running the cell would tell
                name, kind, default = node.target.id, ast.unparse(node.annotation), ast.literal_eval(node.value)
        if kind not in KINDS or name in found:
            raise ValueError(f"{rule}; got {ast.unparse(node)!r}")
        comment = source.split("\n")[(node.end_lineno or 1) - 1].encode()[node.end_col_offset:].decode()
        parameter = _limited(Parameter(name, kind, default, comment.strip().lstrip("# ")))
        value = parameter.parse(default)
        if value != default:  # such as "3" for an int: right from a shell, wrong where the cell itself runs
            raise ValueError(f"{name}: the default must be of kind {kind}, got {shown(default)}")
        found[name] = replace(parameter, default=value)
    return found


def parse(declared: Mapping[str, Parameter], given: Mapping[str, object]) -> dict[str, Any]:
    """All parameters of a chapter: what was given, checked, and the defaults of the rest.

    Raises:
        ValueError: an unknown name (the message gives the nearest known one) or a value that does not fit.
    """
    for name in given:
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise ValueError(f"unknown parameter {name!r}{nearest(name, declared)}; known: {known}")
    return {name: parameter.parse(given.get(name, parameter.default)) for name, parameter in declared.items()}


def pairs(words: Iterable[str]) -> dict[str, str]:
    """``name=value`` words as a mapping; a space beside the "=" or behind a comma does no harm.

    Raises:
        ValueError: a word has no "=" or a name comes twice.
    """
    found = {}
    for word in _joined(words):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"parameters are written name=value, got {word!r}")
        if name in found:
            raise ValueError(f"parameter {name!r} is given twice")
        found[name] = value
    return found


def _joined(words: Iterable[str]) -> list[str]:
    """``name = 1, 2``, which is several words, as the one that is meant."""
    found: list[str] = []
    for word in words:
        before = found[-1] if found else ""
        begun = before.count("=") == 1 and before.endswith(("=", ",")) and "=" not in word
        if begun or (word.startswith("=") and before and "=" not in before):
            found[-1] += word
        else:
            found.append(word)
    return found


def from_file(path: str | Path) -> dict[str, Any]:
    """What a TOML file gives, one ``name = value`` a line; :func:`parse` says whether it fits.

    Raises:
        ValueError: it cannot be read or is not TOML; the message names the file, and the line where there is one.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} must be a TOML file of parameters: {error}") from error


def _items(given: object) -> list | tuple:
    """The items of a list, empty where it is none."""
    if isinstance(given, str):
        items = [item.strip(" ") for item in given.split(",")]
        return [] if "" in items else items  # of strings, too: "a,,b" is more often a slip than meant
    return given if isinstance(given, (list, tuple)) else []


def _convert(given: object, kind: str) -> Any:
    """One value as that kind, or None. A number or a bool is read as the text that Python writes for it."""
    try:
        if kind == "str":
            return given.encode().decode() if isinstance(given, str) else None
        text = str(given) if isinstance(given, (str, int, float)) else ""
        if kind == "bool":
            return {"true": True, "false": False}.get(text.lower())
        if kind == "int":
            return int(text) if re.fullmatch(_INT, text) else None
        value = float(text) if re.fullmatch(_FLOAT, text) else math.nan
    except ValueError:  # a lone surrogate; more digits than Python reads or writes
        return None
    vanished = value == 0 and re.search("[1-9]", re.split("[eE]", text)[0])
    return value if math.isfinite(value) and not vanished else None


def _limited(parameter: Parameter) -> Parameter:
    """The same, with the limit at the end of its meaning taken for what is allowed."""
    if ";" not in parameter.meaning:
        return parameter
    meaning, limit = (part.strip() for part in parameter.meaning.rsplit(";", 1))
    numbers = rf"\[{_FLOAT}, *{_FLOAT}\]"
    written = {"int": numbers, "float": numbers, "str": r"\{.+\}"}
    if parameter.item not in written or not re.fullmatch(written[parameter.item], limit):
        rule = "a limit is written [low, high] for numbers, {one, another} for strings"
        raise ValueError(f"{parameter.name}: {rule}; got {limit!r}")
    return replace(parameter, meaning=meaning, allowed=tuple(word.strip() for word in limit[1:-1].split(",")))
