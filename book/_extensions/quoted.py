"""Put numbers of the record in place of the roles ``rec``, and take the roles ``guard`` out: ``falloff.study.prose``.

All are checked for all pages before a build. Under ``GUARDS=warn`` a sentence that the record does not bear out is
marked.
"""

from __future__ import annotations

import functools
import os

from sphinx.application import Sphinx
from sphinx.util import logging

from falloff.study import prose, recording

log = logging.getLogger(__name__)


def resolve(record: prose.Record, app: Sphinx, docname: str, source: list[str]) -> None:
    """Resolve the roles of a page, which is read again when a table that they rest on changes."""
    for name in prose.experiments_of(source[0]):
        app.env.note_dependency(str(recording.folder("study") / f"{name}.json"))
    try:
        source[0] = record.resolved(source[0], marked if os.environ.get("GUARDS") == "warn" else None)
    except ValueError as error:
        log.warning("%s: %s", docname, error, type="quoted")


def marked(words: str) -> str:
    """What stands at a role that fails."""
    return " **(the record does not bear this out)**"


def setup(app: Sphinx) -> dict:
    """Connect the extension, after those that say what a page's source is."""
    app.connect("source-read", functools.partial(resolve, prose.Record()), priority=900)  # each table is read once
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
