"""What identifies code: a digest of modules, blind to what changes no number.

Blind to comments, docstrings and layout, to the types of arguments and results, which nothing evaluates (all modules
have ``from __future__ import annotations``), and to the text of errors, warnings and logs: what stands in ``raise``, in
the message of an ``assert``, in a call of ``log`` or ``warnings``, and the strings given to functions named
``check_...``, ``refuse_...`` or ``require_...``, which only raise. Every version of Python gives the same digest.

A module's data, a ``.json`` of the same name beside it, belong to it.

A package's ``__init__`` is a chooser, and so is :mod:`falloff.sets`: it lists and finds by name, and holds no number.
What computes a number is not sought through it: what was chosen is found from the objects (:func:`ingredients`).
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import NamedTuple, TypeGuard

from falloff.project import PACKAGE

CHOOSERS = ("falloff.sets",)  # beside each __init__
_ONLY_RAISE = ("check_", "refuse_", "require_")


def of_text(*parts: str) -> str:
    """Digest of some texts in order."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part.encode() + b"\0")
    return whole.hexdigest()


def of_source(source: str) -> str:
    """Digest of Python code: see the head of this module for what it is blind to."""
    return of_text(_plain(ast.parse(source)))


class Source(NamedTuple):
    """What a module's text says: its digest, the package's modules and the other libraries that it imports."""

    digest: str
    inside: frozenset[str]
    outside: frozenset[str]


def package() -> dict[str, Source]:
    """Every module of the package by name, as its file is now.

    Raises:
        ValueError: one of them is not Python.
    """
    return {_name(path): _source(path) for path in sorted(PACKAGE.rglob("*.py"))}


def of_modules(roots: Iterable[str]) -> str:
    """Digest of some modules of the package and of all that they import from it, directly or not, choosers too.

    Raises:
        ModuleNotFoundError: the package has no such module.
        ValueError: a module is not Python.
    """
    return of_text(*(part for pair in modules(roots).items() for part in pair))


def modules(roots: Iterable[str]) -> dict[str, str]:
    """The digest of each module that :func:`of_modules` counts, by name."""
    code = package()
    return {name: code[name].digest for name in sorted(closure(roots, code))}


def ingredients(roots: Iterable[str], code: Mapping[str, Source]) -> dict[str, Source]:
    """What computes a number, by name: some modules and what they import of the package, but for choosers.

    Args:
        roots: modules of the package; one of another library counts alone with what it imports from the package.
        code: from :func:`package`, when the code was loaded: an edit since then is not what computes.
    """
    roots = set(roots)
    beside = {name: _source(Path(inspect.getsourcefile(sys.modules[name]) or "")) for name in roots - code.keys()}
    code = {**code, **beside}
    return {name: code[name] for name in sorted(closure(roots, code, choosers=False))}


def libraries(sources: Iterable[Source]) -> dict[str, str]:
    """The public version, such as 2.13.0 of 2.13.0+cpu, of each installed library that some modules import."""
    found = {_distribution(top) for source in sources for top in source.outside}
    return {name: version(name).split("+")[0] for name in sorted(found - {""})}


def closure(roots: Iterable[str], code: Mapping[str, Source], *, choosers: bool = True) -> set[str]:
    """The modules themselves and all of the package that they import, directly or not."""
    todo, done = set(roots), set()
    while todo:
        name = todo.pop()
        if name not in code:
            raise ModuleNotFoundError(f"no module {name!r} in {PACKAGE}")
        if not choosers and is_chooser(name):
            continue
        done.add(name)
        todo |= code[name].inside - done
        if choosers:
            todo |= {name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)} - done
    return done


def is_chooser(name: str) -> bool:
    """Whether a module only lists and finds."""
    return name in CHOOSERS or _path_or_none(name, "__init__.py") is not None


def imports(source: str) -> set[str]:
    """Modules of the package that some code imports by name."""
    return {name for name in _imported(source) if _path_or_none(name)}


def _source(path: Path) -> Source:
    state, data = path.stat(), path.with_suffix(".json")
    found = _read(str(path), state.st_size, state.st_mtime_ns)
    return found._replace(digest=of_text(found.digest, data.read_text(encoding="utf-8"))) if data.exists() else found


@functools.lru_cache(maxsize=512)
def _read(path: str, size: int, changed: int) -> Source:
    source = Path(path).read_text(encoding="utf-8")
    try:
        names = _imported(source)
        tops = {name.split(".")[0] for name in names} - {PACKAGE.name} - sys.stdlib_module_names
        return Source(of_source(source), frozenset(filter(_path_or_none, names)), frozenset(tops))
    except SyntaxError as error:
        raise ValueError(f"{path}, line {error.lineno}: {error.msg}") from error


def _imported(source: str) -> set[str]:
    """All that some code imports by name: modules, and what may be one inside another."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@functools.cache
def _distribution(top: str) -> str:
    """The installed library that provides a module; "" where none does."""
    try:
        version(top)
        return top
    except PackageNotFoundError:
        return packages_distributions().get(top, [""])[0]


def _name(path: Path) -> str:
    parts = (PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _path_or_none(name: str, *endings: str) -> Path | None:
    """The file of a module of the package, if there is one."""
    head, *rest = name.split(".")
    if head != PACKAGE.name:
        return None
    base = PACKAGE.joinpath(*rest)
    files = {"__init__.py": base / "__init__.py", ".py": base.with_suffix(".py")}
    return next((files[ending] for ending in endings or files if files[ending].is_file()), None)


def _plain(node: object) -> str:
    """A syntax tree as text: its types and what they hold, nothing empty, so that no version's own fields show."""
    if isinstance(node, list):
        return f"[{','.join(_plain(item) for item in node if not _says_nothing(item))}]"
    if not isinstance(node, ast.AST):
        return ascii(node)
    if isinstance(node, ast.Constant):
        return f"Constant({type(node.value).__name__} {node.value!a})"
    if isinstance(node, ast.Raise):
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return f"Raise({_plain(raised)})"
    if isinstance(node, ast.Assert):
        return f"Assert({_plain(node.test)})"
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.JoinedStr):  # Python 3.12.1 adds empty texts
        fields["values"] = [part for part in node.values if not (_is_text(part) and part.value == "")]
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        fields["returns"] = None
    if isinstance(node, ast.arg):
        fields["annotation"] = None
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if called.startswith(("log.", "logging.", "warnings.")):
            return "Call(said)"
        if called.rpartition(".")[2].lstrip("_").startswith(_ONLY_RAISE):
            fields["args"] = [a for a in node.args if not isinstance(a, ast.JoinedStr) and not _is_text(a)]
    held = (f"{name}={_plain(value)}" for name, value in fields.items() if value is not None and value != [])
    return f"{type(node).__name__}({','.join(held)})"


def _says_nothing(node: object) -> bool:
    """Whether a statement is a docstring, a lone text or ``pass``."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and _is_text(node.value))


def _is_text(node: ast.AST) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
