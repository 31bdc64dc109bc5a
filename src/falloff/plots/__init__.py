"""Every figure's style in one place, and how a figure, a table or a number reaches the page."""

from falloff.plots.show import claim, figure, number, table
from falloff.plots.style import COLOR, INK, MARKER, MUTED, PAPER, TITLE, axes, label_ends, new

__all__ = [
    "COLOR", "INK", "MARKER", "MUTED", "PAPER", "TITLE", "axes", "claim", "figure", "label_ends", "new", "number",
    "table",
]
