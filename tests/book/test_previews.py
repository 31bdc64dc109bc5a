"""What previews and search engines are told of a page."""

import re
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from docutils.core import publish_doctree
from extensions import extension_of
from PIL import Image


@pytest.fixture(scope="module")
def previews():
    """The extension, as the book loads it."""
    return extension_of("previews")


@pytest.mark.parametrize(("text", "words"), [
    ("Short words.", "Short words."),
    (f"One is said. {'X' * 150}. {'Y' * 100}.", f"One is said. {'X' * 150}."),
    (f"So says Fig. 2, {'x' * 200}", "So says Fig. 2, …"),
    ("word " * 60, ("word " * 39).strip() + " …"),
    ("- a list alone", ""),
])
def test_a_page_is_described_by_its_first_sentences(previews, text, words):
    assert previews.description(publish_doctree(f"Title\n=====\n\nOther\n-----\n\n{text}\n")) == words


def test_addresses_are_told_only_where_there_is_one(previews):
    alone = previews.tags('So "it" is', "What & why.", "", "book/one")
    assert 'content="So &quot;it&quot; is"' in alone and 'content="What &amp; why."' in alone and "http" not in alone
    hosted = previews.tags("A", "B", "https://a.b/c/", "book/one")
    assert re.findall('content="(https.+?)"', hosted) == [
        "https://a.b/c/book/one.html", "https://a.b/c/_cards/book-one.png"]


@pytest.mark.parametrize("title", ["Short", "Why does my net answer zero, and what has that to do with its start?"])
def test_a_card_has_the_size_of_previews_and_holds_its_title(previews, tmp_path, title):
    path = tmp_path / "_cards" / "one.png"
    previews.card(path, title, "Near Misses")
    with Image.open(path) as drawn:
        grey = drawn.convert("L")
        assert drawn.size == (1200, 630)
        assert grey.crop((60, 60, 1140, 500)).getextrema()[0] < 80  # the title
        assert grey.crop((1190, 0, 1200, 630)).getextrema() == grey.crop((0, 0, 10, 630)).getextrema() == (255, 255)


@pytest.mark.parametrize("base", ["", "https://a.b/c/"])
def test_a_book_with_an_address_has_a_sitemap(previews, tmp_path, base):
    app = SimpleNamespace(outdir=tmp_path, builder=SimpleNamespace(format="html"), env=SimpleNamespace(
        found_docs={"book/one", "notebooks/02_two"}), config=SimpleNamespace(html_baseurl=base, html_title="A & B"))
    previews.finish(app, None)
    assert f'href="{base or "index.html"}"' in (tmp_path / "404.html").read_text()
    assert (tmp_path / "sitemap.xml").exists() == bool(base)
    if base:
        found = [one.text for one in ElementTree.parse(tmp_path / "sitemap.xml").iter() if one.tag.endswith("loc")]
        assert found == ["https://a.b/c/book/one.html", "https://a.b/c/notebooks/02_two.html"]
