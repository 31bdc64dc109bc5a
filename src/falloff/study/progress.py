"""How far many runs are: a bar for someone who watches, a plain line now and then for a log."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from falloff import measures

STYLE = "FALLOFF_PROGRESS"
PREFIX = "runs: "  # of lines that a chapter's process passes on from its kernel
LINE_EVERY = 15.0  # seconds between two lines of a log


class Progress:
    """Runs done and left, time left, and the best so far by what the runs watch first, on standard error.

    A terminal and a notebook get a bar, anything else plain lines; ``FALLOFF_PROGRESS`` set to "bar", "lines" or
    "none" decides otherwise. Nothing is shown when nothing is to do. ``stage`` says which part of a larger work it is.
    """

    def __init__(self, total: int, stored: int, stage: str = "") -> None:
        self.total, self.done, self.new, self.failed, self.stage = total, stored, 0, 0, stage
        self.best: Mapping[str, Any] | None = None
        self.started = self.last = time.monotonic()
        style = os.environ.get(STYLE) or ("bar" if _is_watched() else "lines")
        if style not in ("bar", "lines", "none"):
            raise ValueError(f"{STYLE} must be bar, lines or none, got {style!r}")
        if stored == total:
            style = "none"
        self.lines, self.bar = style == "lines", None
        if style == "bar":
            from tqdm import tqdm  # which `pip install '.[study]'` does not bring

            self.bar = tqdm(total=total, initial=stored, desc=stage or "runs", unit="run", file=sys.stderr,
                            mininterval=0.5, dynamic_ncols=True)
        self._say(f"{stored} of {total} stored, {total - stored} to do")

    def advance(self, row: Mapping[str, Any] | None) -> None:
        """One run ended, with this row of the table; None where it failed."""
        self.done, self.new, self.failed = self.done + 1, self.new + 1, self.failed + (row is None)
        if row is not None and self._is_better(row):
            self.best = row
        if self.bar is not None:
            self.bar.set_postfix_str("; ".join(filter(None, (self._failed(), self._best()))), refresh=False)
            self.bar.update()
        now = time.monotonic()
        if now - self.last >= LINE_EVERY or self.done == self.total:
            self.last = now
            spent = now - self.started
            left = (self.total - self.done) * spent / self.new
            time_left = f"about {_clock(left)} to go" if left else f"after {_clock(spent)}"
            counts = (f"{self.done - self.failed} done", self._failed(), f"{self.total - self.done} left", time_left)
            self._say("; ".join(filter(None, (", ".join(filter(None, counts)), self._best()))))

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()

    def _failed(self) -> str:
        return f"{self.failed} failed" if self.failed else ""

    def _best(self) -> str:
        if self.best is None:
            return ""
        metric = self.best["watched"][0]
        of = f"{self.best['loss'] or self.best['system']}, rate {self.best['learning_rate']:g}"
        return f"best {metric} on validation images {self.best[metric]:.3f} ({of})"

    def _is_better(self, row: Mapping[str, Any]) -> bool:
        """Whether a run ended better than the best, by what the runs watch first."""
        metric = next(iter(row["watched"]), None)
        if metric is None or math.isnan(row.get(metric, math.nan)):
            return False
        sign = -1 if measures.get(metric).better == "low" else 1
        return self.best is None or sign * row[metric] > sign * self.best[metric]

    def _say(self, words: str) -> None:
        if self.lines:
            sys.stderr.write(f"{PREFIX}{self.stage}{': ' * bool(self.stage)}{words}\n")
            sys.stderr.flush()


def _is_watched() -> bool:
    """Whether standard error is a terminal or a notebook's, and what draws the bar is there."""
    if find_spec("tqdm") is None:
        return False
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
