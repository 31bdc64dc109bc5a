"""What identifies code: a digest of the modules that it imports, blind to comments, docstrings and layout."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

from falloff.project import PACKAGE


def of_text(*parts: str) -> str:
    """Digest of some texts in order."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part.encode() + b"\0")
    return whole.hexdigest()


def of_source(source: str) -> str:
    """Digest of Python code that stays when comments, docstrings or layout change."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            node.body = body[1:] or [ast.Pass()]
    return of_text(ast.dump(tree))


def of_modules(roots: Iterable[str], apart: Iterable[str] = ()) -> str:
    """Digest of some modules of the package and of all that they import from it, directly or not.

    Args:
        roots: dotted names such as "falloff.training".
        apart: modules that count only where they are roots.

    Raises:
        ModuleNotFoundError: the package has no such module.
        ValueError: one of them is not Python.
    """
    return of_text(*(part for pair in modules(roots, apart).items() for part in pair))


def modules(roots: Iterable[str], apart: Iterable[str] = ()) -> dict[str, str]:
    """The digest of each module that :func:`of_modules` counts, by name."""
    return {name: _module(*_stamp(_path(name)))[0] for name in sorted(closure(roots, apart))}


def closure(roots: Iterable[str], apart: Iterable[str] = ()) -> set[str]:
    """The modules themselves and all of the package that they import, directly or not, but for those apart."""
    todo, done = set(roots), set()
    apart = set(apart) - todo
    while todo:
        name = todo.pop()
        if name in done:
            continue
        done.add(name)
        parents = {name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)}
        todo |= (_module(*_stamp(_path(name)))[1] | parents) - done - apart
    return done


def imports(source: str) -> set[str]:
    """Modules of the package that some code imports by name."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if _path_or_none(alias.name)}
        elif isinstance(node, ast.ImportFrom) and node.module and _path_or_none(node.module):
            found.add(node.module)
            inner = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {name for name in inner if _path_or_none(name)}
    return found


@functools.lru_cache(maxsize=512)
def _module(path: str, size: int, changed: int) -> tuple[str, frozenset[str]]:
    source = Path(path).read_text(encoding="utf-8")
    try:
        return of_source(source), frozenset(imports(source))
    except SyntaxError as error:
        raise ValueError(f"{path}, line {error.lineno}: {error.msg}") from error


def _stamp(path: Path) -> tuple[str, int, int]:
    state = path.stat()
    return str(path), state.st_size, state.st_mtime_ns


def _path(name: str) -> Path:
    path = _path_or_none(name)
    if path is None:
        raise ModuleNotFoundError(f"no module {name!r} in {PACKAGE}")
    return path


def _path_or_none(name: str) -> Path | None:
    head, *rest = name.split(".")
    if head != PACKAGE.name:
        return None
    base = PACKAGE.joinpath(*rest)
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
