"""What previews and search engines want: a description and a card of each page, a sitemap, a page for 404.

Addresses are absolute there, so canonical links, cards and the sitemap are made only where ``html.baseurl`` is set.
"""

from __future__ import annotations

import html
import re
import textwrap
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from docutils import nodes
from sphinx.application import Sphinx

LONGEST = 200  # characters of a description, beyond which previews cut it
CARD = (12.0, 6.3)  # inches at 100 dots each: what previews show uncut

LOST = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Not found - {title}</title></head>
<body style="font: 1.1rem/1.6 system-ui, sans-serif; max-width: 34rem; margin: 15vh auto; padding: 0 1rem">
<h1>A near miss</h1><p>There is no page at this address. <a href="{home}">The book begins here</a>, and its search finds
the rest.</p></body></html>
"""


def description(doctree: nodes.document) -> str:
    """The first paragraph of a page, as far as it goes into a preview; nothing where there is none."""
    paragraphs = (one for one in doctree.findall(nodes.paragraph)
                  if isinstance(one.parent, (nodes.section, nodes.document)))
    first = next(paragraphs, None)
    words = " ".join(first.astext().split()) if first is not None else ""
    if len(words) <= LONGEST:
        return words
    sentences = [found.end() for found in re.finditer(r"[.?!](?= [A-Z])", words[:LONGEST])]
    return words[: sentences[-1]] if sentences else textwrap.shorten(words, LONGEST, placeholder=" …")


def tags(title: str, words: str, base: str, page: str) -> str:
    """The elements of a page's head that previews read."""
    found = {"og:type": "article", "og:title": title, "og:description": words}
    if base:
        found |= {"og:url": urljoin(base, f"{page}.html"), "og:image": urljoin(base, f"_cards/{_card(page)}")}
    named = [f'<meta name="description" content="{html.escape(words)}">'] if words else []
    return "\n".join([*named, *(f'<meta property="{name}" content="{html.escape(text)}">'
                                for name, text in found.items() if text)])


def card(path: Path, title: str, site: str) -> None:
    """Draw what a link's preview shows: the title of a page over the name of the book."""
    from matplotlib.figure import Figure

    from falloff.plots.style import COLOR, INK, MUTED, PALE

    drawn = Figure(CARD, dpi=100, facecolor=PALE)
    lines = textwrap.wrap(title, 26)
    size = 54 if len(lines) < 4 else 40
    drawn.text(0.08, 0.86, "\n".join(lines), fontsize=size, color=INK, va="top", linespacing=1.3)
    drawn.text(0.08, 0.1, site, fontsize=30, color=MUTED)
    drawn.text(0.92, 0.1, "\N{FISHEYE} \N{BLACK CIRCLE}", fontsize=36, color=COLOR["distance-aware"], ha="right")
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path)


def describe(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Put the description into a page's head, and draw its card."""
    if doctree is None:
        return
    base, title = app.config.html_baseurl, re.sub("<.*?>", "", context["title"])
    context["metatags"] += tags(title, description(doctree), base, pagename)
    if base:
        card(Path(app.outdir, "_cards", _card(pagename)), html.unescape(title), site(app))


def site(app: Sphinx) -> str:
    """The title of the book."""
    return str(app.config.html_title)


def finish(app: Sphinx, error: Exception | None) -> None:
    """Write the page for 404 and, where the address is known, the sitemap."""
    if error is not None or app.builder.format != "html":
        return
    base, out = app.config.html_baseurl, Path(app.outdir)
    lost = LOST.format(title=html.escape(site(app)), home=base or "index.html")
    (out / "404.html").write_text(lost, encoding="utf-8")
    if base:
        urls = "".join(f"<url><loc>{html.escape(urljoin(base, f'{name}.html'))}</loc></url>\n"
                       for name in sorted(app.env.found_docs))
        sitemap = f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{urls}</urlset>\n'
        (out / "sitemap.xml").write_text(f'<?xml version="1.0" encoding="UTF-8"?>\n{sitemap}', encoding="utf-8")


def _card(page: str) -> str:
    return f"{page.replace('/', '-')}.png"


def setup(app: Sphinx) -> dict:
    """Connect the extension."""
    app.connect("html-page-context", describe)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
