"""The parameters of a chapter: its parameters cell is the schema, and nothing else is accepted."""

from __future__ import annotations

import ast
import io
import math
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

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
        """A value of this parameter from what was given, a string as a shell passes it or a Python value.

        Raises:
            ValueError: not of the kind, or out of range; the message names the parameter and what is allowed.
        """
        inner = self.kind.removeprefix("list[").removesuffix("]")
        if inner == self.kind:
            return self._one(given, inner)
        items = given.split(",") if isinstance(given, str) else given
        if not isinstance(items, (list, tuple)) or len(items) == 0 or (isinstance(given, str) and not given.strip()):
            raise ValueError(f"{self.name} must be a list of {inner}, such as 'a,b'; got {given!r}")
        return [self._one(item.strip() if isinstance(item, str) else item, inner) for item in items]

    def _one(self, given: object, kind: str) -> Any:
        value = _convert(given, kind)
        if value is None:
            raise ValueError(f"{self.name} must be {_ARTICLE[kind]}, got {given!r}")
        if self.bounds and not self.bounds[0] <= value <= self.bounds[1]:
            raise ValueError(f"{self.name} must be in [{self.bounds[0]:g}, {self.bounds[1]:g}], got {given!r}")
        if self.choices and value not in self.choices:
            raise ValueError(f"{self.name} must be one of {', '.join(self.choices)}; got {given!r}")
        return value


_ARTICLE = {"int": "an integer", "float": "a finite number", "str": "a string", "bool": "true or false"}


def schema(source: str) -> dict[str, Parameter]:
    """The parameters that a cell declares.

    Raises:
        ValueError: a line is not a declaration, its kind is not one of ``KINDS``, or its default does not fit it.
    """
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type == tokenize.COMMENT
    }
    found = {}
    for node in ast.parse(source).body:
        line = source.splitlines()[node.lineno - 1]
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.value is None:
            raise ValueError(f"a parameters cell holds lines 'name: kind = default  # meaning'; got {line!r}")
        name, kind = node.target.id, ast.unparse(node.annotation)
        if kind not in KINDS:
            raise ValueError(f"{name}: kind must be one of {', '.join(KINDS)}, got {kind!r}")
        meaning, bounds, choices = _limits(comments.get(node.end_lineno, ""))
        try:
            default = ast.literal_eval(node.value)
        except ValueError as error:
            raise ValueError(f"{name}: the default must be a plain value, got {ast.unparse(node.value)!r}") from error
        parameter = Parameter(name, kind, default, meaning, bounds, choices)
        parameter.read(parameter.default)
        found[name] = parameter
    return found


def read(declared: Mapping[str, Parameter], given: Mapping[str, object]) -> dict[str, Any]:
    """All parameters of a chapter: what was given, checked, and the defaults of the rest.

    Raises:
        ValueError: an unknown name (the message gives the nearest known one) or a value that does not fit.
    """
    for name in given:
        if name not in declared:
            near = get_close_matches(name, declared, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"unknown parameter {name!r}{hint}; known: {', '.join(declared)}")
    return {
        name: parameter.read(given[name]) if name in given else parameter.default
        for name, parameter in declared.items()
    }


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


def _convert(given: object, kind: str) -> Any:
    """The value as that kind, or None."""
    if kind == "str":
        return given if isinstance(given, str) else None
    if kind == "bool":
        if isinstance(given, str):
            return {"true": True, "false": False}.get(given.lower())
        return given if isinstance(given, bool) else None
    if isinstance(given, bool) or not isinstance(given, (int, float, str)):
        return None
    try:
        if kind == "int":
            return int(given) if isinstance(given, (int, str)) else None
        value = float(given)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _limits(comment: str) -> tuple[str, tuple[float, float] | None, tuple[str, ...] | None]:
    meaning, _, limit = (part.strip() for part in comment.rpartition(";")) if ";" in comment else (comment, "", "")
    if match := re.fullmatch(r"\[([^,\]]+),([^,\]]+)\]", limit):
        return meaning, (float(match[1]), float(match[2])), None
    if match := re.fullmatch(r"\{(.+)\}", limit):
        return meaning, None, tuple(choice.strip() for choice in match[1].split(","))
    if limit:
        raise ValueError(f"a limit is written [low, high] or {{one, another}}, got {limit!r}")
    return meaning, None, None
