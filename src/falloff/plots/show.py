"""How a figure, a table or a number reaches the page: with a name, a caption and words for those who cannot see it."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import Protocol

import pandas as pd
from matplotlib.figure import Figure


class _Named(Protocol):
    name: str


class Judged(Protocol):
    """What was measured for a claim: its name, effects (the first one leads), verdict, and all of it as JSON."""

    @property
    def claim(self) -> _Named: ...

    @property
    def effects(self) -> Sequence[object]: ...

    @property
    def verdict(self) -> str: ...


def display(drawn: Figure) -> None:
    """Show a figure as SVG and close it; name, caption and alt text are the cell's metadata, as MyST-NB has them."""
    import IPython.display

    IPython.display.display({"image/svg+xml": _svg(drawn), "text/plain": "a figure"}, raw=True)


def figure(drawn: Figure, name: str, caption: str, alt: str) -> None:
    """Show a figure as SVG and close it.

    Args:
        drawn: from :func:`falloff.plots.new`.
        name: what prose refers to with the role ``numref``; letters, digits and hyphens, starting with "fig-".
        caption: what the figure answers, in a sentence or two; Markdown, with numbers that code computed.
        alt: what is to be seen, for those who cannot.

    Raises:
        ValueError: ``name`` is not of that form, or ``caption`` or ``alt`` is empty.
    """
    from IPython.display import display

    _check(name, "fig-", caption=caption, alt=alt)
    bundle = {"image/svg+xml": _svg(drawn), "text/plain": alt}
    display(bundle, raw=True, metadata={"falloff": {"name": name, "caption": caption, "alt": alt}})


def table(frame: pd.DataFrame, name: str, caption: str, *, digits: int = 3) -> None:
    """Show a table with its caption; the index is the first column, and a number that is NaN a dash.

    Args:
        frame: one level of columns, and the index has a name.
        name: what prose refers to, starting with "tab-".
        caption: what the table answers; Markdown.
        digits: that floats are rounded to, those that count.
    """
    from IPython.display import display

    _check(name, "tab-", caption=caption)

    def written(value: object) -> object:
        if not isinstance(value, float):
            return value
        if math.isnan(value):
            return "–"
        large = abs(value) >= 10**digits
        return (f"{value:,.0f}" if large else f"{value:#.{digits}g}".rstrip(".")).replace("-", "−")

    rounded = frame.reset_index().map(written)
    body = rounded.to_markdown(index=False, disable_numparse=True)
    display({"text/markdown": f"~~~~{{table}} {caption}\n:name: {name}\n\n{body}\n~~~~", "text/plain": str(frame)},
            raw=True)


def number(name: str, value: object) -> None:
    """Keep a number or a word under a name, for prose to read with the role ``glue:text`` on this page or any other."""
    from myst_nb import glue

    plain = value.item() if hasattr(value, "item") else value  # numpy's own repr could not be read back
    glue(name, plain, display=False)


def numbers(chapter: str, **values: object) -> None:
    """Keep some numbers or words, each under the chapter's name and its own: ``ch1-one-in`` for ``one_in``."""
    for name, value in values.items():
        number(f"{chapter}-{name.replace('_', '-')}", value)


def claim(judged: Judged) -> None:
    """Keep what was measured for a claim: prose reads ``c3-verdict`` and ``c3-effect``.

    Args:
        judged: from :func:`falloff.study.claims.judge`.
    """
    name, first = judged.claim.name.lower(), judged.effects[0]
    number(f"{name}-effect", str(first))
    number(f"{name}-verdict", judged.verdict)


def _svg(drawn: Figure) -> str:
    """The drawing, after which the figure is closed."""
    import matplotlib.pyplot as plt

    buffer = io.StringIO()
    drawn.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(drawn)
    return buffer.getvalue()


def _check(name: str, prefix: str, **texts: str) -> None:
    if not re.fullmatch(rf"{prefix}[a-z0-9-]+", name):
        raise ValueError(f"name must be {prefix!r} and then letters, digits and hyphens, got {name!r}")
    for what, text in texts.items():
        if not text.strip():
            raise ValueError(f"{what} must not be empty")
