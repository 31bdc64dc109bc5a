"""What is done to the built pages once they are written: what they do not use is left out, what theme and Sphinx leave
unnamed gets a name.

The theme sends all icons there are twice, as a script and as a font with a style for each; the font does. Sphinx sends
MathJax to each page that leads to one with a formula. Together that is most of what a reader would fetch.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

_ICONS = re.compile(r'\s*<script\b[^>]*scripts/fontawesome\.js[^>]*></script>')
_MATHS = re.compile(r'\s*<script>window\.MathJax\b.*?</script>|\s*<script\b[^>]*/mathjax/[^>]*></script>')
_NAMES = {  # for who listens to a page
    '<summary><span class="toctree-toggle"': '<summary aria-label="its pages"><span class="toctree-toggle"',
    '<div role="list" class="citation-list">': '<div class="citation-list">',  # whose children are no list items
}
_ICON = re.compile(r'(?:\.fa-[\w-]+:before,?)+\{content:"[^"]*"\}')


def finish(app: Sphinx, error: Exception | None) -> None:
    """Do all that to every page."""
    if error is not None or app.builder.format != "html":
        return
    home, used = Path(app.outdir), set()
    for path in home.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        light = _ICONS.sub("", page)
        if 'class="math' not in light:
            light = _MATHS.sub("", light)
        light = re.sub(r"<title>(.*?) &#8212; \1</title>", r"<title>\1</title>", light)  # of the cover
        for unnamed, named in _NAMES.items():
            light = light.replace(unnamed, named)
        if light != page:
            path.write_text(light, encoding="utf-8")
        used |= names(light)
    for path in (home / "_static" / "scripts").glob("fontawesome.js*"):
        path.unlink()
    for path in (home / "_static").rglob("*.js"):
        used |= names(path.read_text(encoding="utf-8", errors="replace"))
    for path in (home / "_static" / "styles").glob("pydata-sphinx-theme.css"):
        styles = path.read_text(encoding="utf-8")
        path.write_text(_ICON.sub(lambda found: found[0] if names(found[0]) & used else "", styles), encoding="utf-8")


def names(text: str) -> set[str]:
    """The icons that a text names."""
    return set(re.findall(r"\bfa-[\w-]+", text))


def setup(app: Sphinx) -> dict:
    """Connect the extension."""
    app.connect("build-finished", finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
