"""Every figure's style in one place, its kinds, and how a figure, a table or a number reaches the page."""

from falloff.plots.draw import answers, curve, dots, matrix, picture, score_map
from falloff.plots.show import display, number, numbers, table
from falloff.plots.style import COLOR, INK, MARKER, MUTED, PAPER, TITLE, arm, axes, label_ends, looks, new

__all__ = [
    "COLOR", "INK", "MARKER", "MUTED", "PAPER", "TITLE", "answers", "arm", "axes", "curve", "display", "dots",
    "label_ends", "looks", "matrix", "new", "number", "numbers", "picture", "score_map", "table",
]
