"""Checks of arguments, each written once: the error names the argument, its value and what is allowed.

A function named ``check_...`` takes an argument's name and value, gives nothing back and only raises: no number ever
depends on the texts that it is called with.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, TypeVar

T = TypeVar("T")


def is_number(value: object) -> bool:
    """Whether this is one real number, as :func:`plain` gives it; a bool is none."""
    return isinstance(one := plain(value), Real) and not isinstance(one, bool)


def plain(value: Any) -> Any:
    """Python's own number for one of NumPy, or for an array or tensor of no axes that needs no gradient.

    A compiler takes NumPy's for arrays, and JSON for nothing at all. Anything else stays what it is.
    """
    if type(value) in (int, float):  # a compiler cannot ask a number that changes from call to call for its axes
        return value
    single = getattr(value, "ndim", None) == 0 and not getattr(value, "requires_grad", False)
    return value.item() if single else value


def numbers(value: Any) -> tuple[Any, ...] | None:
    """What a tuple, a list, or an array or tensor of one axis holds, each :func:`plain`; None for all else."""
    listed = value.tolist() if getattr(value, "ndim", None) == 1 else value
    return tuple(map(plain, listed)) if isinstance(listed, (tuple, list)) else None


def is_whole(value: object) -> bool:
    """Whether this is one integer, as :func:`plain` gives it; a bool is none."""
    return isinstance(one := plain(value), Integral) and not isinstance(one, bool)


def _check_real(name: str, value: object) -> None:
    if not is_number(value):
        raise TypeError(f"{name} must be a number, got {value!r}")


def check_number(name: str, value: Any) -> None:
    """Raise unless ``value`` is a number, which may be infinite."""
    _check_real(name, value)
    if value != value:
        raise ValueError(f"{name} must be a number, got nan")


def check_finite_number(name: str, value: Any) -> None:
    """Raise unless ``value`` is a finite number."""
    _check_real(name, value)
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")


def check_positive(name: str, value: Any) -> None:
    """Raise unless ``value`` is a finite number above 0."""
    _check_real(name, value)
    if not 0 < value < math.inf:  # a compiler follows no isfinite of a number that changes
        raise ValueError(f"{name} must be finite and above 0, got {value!r}")


def check_ratio(name: str, value: Any) -> None:
    """Raise unless ``value`` is a ratio of two lengths in pixels, from one to a million to a million to one."""
    check_positive(name, value)
    if not 1e-6 <= value <= 1e6:
        raise ValueError(f"{name} must be from 1e-06 to 1e+06, got {value!r}")


def check_at_least_zero(name: str, value: Any) -> None:
    """Raise unless ``value`` is a finite number of at least 0."""
    _check_real(name, value)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {value!r}")


def check_above(name: str, value: Any, bound: float) -> None:
    """Raise unless ``value`` is a finite number above ``bound``, which is at least 0."""
    check_at_least_zero(name, value)
    if not value > bound:
        raise ValueError(f"{name} must be above {bound:g}, got {value!r}")


def check_share(name: str, value: Any) -> None:
    """Raise unless ``value`` is a number in [0, 1]."""
    _check_real(name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value!r}")


def check_count(name: str, value: Any) -> None:
    """Raise ValueError unless ``value`` is an integer above 0."""
    if not (is_whole(value) and value > 0):
        raise ValueError(f"{name} must be an integer above 0, got {value!r}")


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise ValueError unless ``value`` is an integer and at least ``least``."""
    if not (is_whole(value) and value >= least):
        raise ValueError(f"{name} must be an integer, at least {least}, got {value!r}")


def check_size(name: str, value: Any) -> None:
    """Raise ValueError unless ``value`` is two or three integers above 0, as :func:`numbers` takes them."""
    lengths = numbers(value) or ()
    if len(lengths) not in (2, 3) or not all(is_whole(n) and n > 0 for n in lengths):
        raise ValueError(f"{name} must be (height, width) or (depth, height, width), integers above 0, got {value!r}")


def check_one_of(name: str, value: object, allowed: Iterable[str]) -> None:
    """Raise ValueError unless ``value`` is one of some words."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_option(owner: str, option: str, known: Iterable[str]) -> None:
    """Raise ValueError unless ``owner`` has such an option; the message gives the nearest."""
    known = tuple(known)
    if option not in known:
        raise ValueError(f"{owner} has no option {option!r}{nearest(option, known)}; it has: {', '.join(known)}")


def choose(kind: str, name: str, table: Mapping[str, T]) -> T:
    """What a table has under a name; ``"module:Name"`` is what a module outside the package calls so.

    Args:
        kind: what the table holds, for messages: "loss".
        name: a key of the table, or a module that Python can import, a colon and a name in it.
        table: what the package has, by name.

    Raises:
        ValueError: the table has no such name (the message gives the nearest), or there is no such module or name.
    """
    module, colon, attribute = str(name).partition(":")
    if not colon:
        if name not in table:
            raise ValueError(f"no {kind} is named {name!r}{nearest(name, table)}; known: {', '.join(table)}")
        return table[name]
    if not (attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise ValueError(f"{kind} {name!r} must be written 'module:Name'")
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{kind} {name!r}: the module cannot be imported: {error}") from error
    if not hasattr(found, attribute):
        raise ValueError(f"{kind} {name!r}: the module has no {attribute!r}{nearest(attribute, vars(found))}")
    return getattr(found, attribute)


@functools.cache
def own_options(made: Callable[..., object], *others: str) -> Mapping[str, object]:
    """The parameters of what makes something, but for some others, with their defaults."""
    given = inspect.signature(made).parameters.values()
    return MappingProxyType({one.name: one.default for one in given if one.name not in others})


def nearest(name: object, known: Iterable[str]) -> str:
    """The known name most like an unknown one, as a question that ends an error; "" where none is like it."""
    near = get_close_matches(str(name), known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
