"""How a figure, a table or a number reaches the page: with a name, a caption and words for those who cannot see it."""

from __future__ import annotations

import io
import math
import re

import pandas as pd
from matplotlib.figure import Figure

from falloff.plots.narrow import narrow

NARROW = "application/vnd.falloff.narrow+svg"  # beside the drawing: the same, laid out for a phone


def display(drawn: Figure) -> None:
    """Show a figure as SVG, beside it the same for a phone, and close it.

    Name, caption and alt text are the cell's metadata, as MyST-NB has them.
    """
    import IPython.display
    import matplotlib.pyplot as plt

    shown = {"image/svg+xml": _svg(drawn), NARROW: _svg(narrow(drawn)), "text/plain": "a figure"}
    plt.close(drawn)
    IPython.display.display(shown, raw=True)


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


def _svg(drawn: Figure) -> str:
    buffer = io.StringIO()
    drawn.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _check(name: str, prefix: str, **texts: str) -> None:
    if not re.fullmatch(rf"{prefix}[a-z0-9-]+", name):
        raise ValueError(f"name must be {prefix!r} and then letters, digits and hyphens, got {name!r}")
    for what, text in texts.items():
        if not text.strip():
            raise ValueError(f"{what} must not be empty")
