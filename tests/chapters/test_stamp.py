import json
import re
from html.parser import HTMLParser

import pytest
from extensions import extension_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from projects import CELL, PARAMETERS, write_chapter

from falloff.chapters import Chapter, parameters, stamp
from falloff.plots.show import NARROW
from falloff.project import commit

DECLARED = parameters.schema(CELL)
DEFAULTS = {name: parameter.default for name, parameter in DECLARED.items()}
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
PLAIN_TEXT = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=10)


# Where the numbers came from.


@pytest.fixture
def carried(tmp_path, monkeypatch):
    """What the executed copy of a small chapter would carry, with one parameter changed."""
    monkeypatch.setenv("FALLOFF_ROOT", str(tmp_path))
    write_chapter(tmp_path, "01_small", "1 + 1", parameters=PARAMETERS)
    one = Chapter("01_small")
    values = one.parameters("quick", {"steps": "7"})
    return stamp.provenance(one, values, "quick", 1.25) | {"fingerprint": one.fingerprint(values), **commit()}


class Scripts(HTMLParser):
    """The text of each script element, by its id."""

    def __init__(self):
        super().__init__()
        self.found, self.here = {}, None

    def handle_starttag(self, tag, attributes):
        self.here = dict(attributes).get("id") if tag == "script" else None

    def handle_data(self, data):
        if self.here:
            self.found[self.here] = self.found.get(self.here, "") + data


def machine_readable(cell):
    """What the provenance cell holds for programs."""
    page = Scripts()
    page.feed(next(part.content for part in MarkdownIt().parse(cell.source) if part.info == "{raw} html"))
    return json.loads(page.found["provenance"])


def test_the_last_cell_says_where_the_numbers_came_from(carried):
    cell = stamp.provenance_cell(carried)
    assert cell.metadata["tags"] == ["provenance"] and cell.source.startswith("## Where these numbers came from")
    found = machine_readable(cell)
    assert found == carried
    assert found["parameters"] == {"steps": 7, "title": "plain", "seeds": [0, 1], "fast": False}
    assert (found["changed"], found["profile"], found["seeds"], found["device"]) == (["steps"], "quick", [0, 1], "cpu")
    assert found["precision"] in ("float32", "bfloat16") and found["form"] in ("compiled", "eager")
    assert re.fullmatch(r"[0-9a-f]{40}|unknown", found["commit"]) and isinstance(found["clean"], bool)
    for shown in ("`steps = 7`", "with `steps` changed", found["versions"]["torch"], found["commit"][:12], "1.2 s"):
        assert shown in cell.source


def test_the_seed_of_a_chapter_that_has_one_alone_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("FALLOFF_ROOT", str(tmp_path))
    write_chapter(tmp_path, "01_small", "1 + 1", parameters="seed: int = 3  # which; [0, 9]")
    one = Chapter("01_small")
    assert stamp.provenance(one, one.parameters("quick", {"seed": "5"}), "quick", 1.0)["seeds"] == [5]


def test_a_figure_is_a_file_of_the_name_that_its_output_or_its_cell_has(tmp_path, monkeypatch):
    def cell(metadata, **output):
        faces = {"image/svg+xml": output["drawing"], NARROW: f"narrow {output['drawing']}"}
        drawing = {"output_type": "display_data", "data": faces, "metadata": {}}
        printed = {"output_type": "stream", "name": "stdout", "text": "said"}
        return new_code_cell("1", metadata=metadata, outputs=[drawing, printed])

    monkeypatch.setenv("FALLOFF_CHAPTERS", str(tmp_path / "chapters"))
    stamp.export_figures(new_notebook(cells=[
        new_markdown_cell("words"), cell({}, drawing="<svg>0</svg>"),
        cell({"mystnb": {"figure": {"name": "fig-two", "caption": "Two."}}}, drawing="<svg>2</svg>")]))
    found = {path.name: path.read_text() for path in (tmp_path / "figures").iterdir()}
    assert found == {"fig-two.svg": "<svg>2</svg>", "fig-two.narrow.svg": "narrow <svg>2</svg>"}


HOSTILE = ["</script><b>", "<!-- <script>", "`<img src=x onerror=alert(1)>`", "``` \n```\n# A heading", "{raw} & <b>x"]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_parameter_breaks_out_of_the_last_cell(carried, text):
    cell = stamp.provenance_cell(carried | {"parameters": {"title": text}})
    assert machine_readable(cell)["parameters"] == {"title": text}
    parts = MarkdownIt().parse(cell.source)
    assert [part.type for part in parts] == ["heading_open", "inline", "heading_close", "fence", "fence"]
    table, raw = parts[3:]
    assert (table.info, raw.info) == ("{list-table}", "{raw} html")
    assert re.findall("<!--|</?script", raw.content) == ["<script", "</script"]  # after "<!--<script" no end is seen
    inside = [child.type for token in MarkdownIt().parse(table.content) for child in token.children or [token]]
    assert not {"html_inline", "html_block", "heading_open", "fence"} & set(inside)


# The table of parameters.


def rows(text):
    """The cells of a table as a reader sees them."""
    from docutils import nodes
    from docutils.core import publish_doctree
    from myst_parser.parsers.docutils_ import Parser

    tree = publish_doctree(text, parser=Parser(), settings_overrides={"halt_level": 2, "report_level": 2})
    assert [type(node) for node in tree.children] == [nodes.table]
    return [[entry.astext() for entry in row.findall(nodes.entry)] for row in tree.findall(nodes.row)]


def test_the_table_says_what_the_cell_says():
    assert rows(stamp.parameters_table(DECLARED, {})) == [
        ["Name", "Kind", "Default", "Allowed", "Meaning"],
        ["steps", "int", "200", "1\xa0to\xa0100000", "optimiser steps"],
        ["rate", "float", "0.003", "1e-6\xa0to\xa01", "learning rate"],
        ["loss", "str", "focal", "bce, focal, mse", "which loss"],
        ["title", "str", "a # b", "–", "shown above the figure"],
        ["fast", "bool", "false", "true, false", "skip the slow part"],
        ["seeds", "list[int]", "0, 1", "each 0\xa0to\xa099", "one run each"],
        ["rates", "list[float]", "0.1", "–", "to choose from"],
        ["labels", "list[str]", "one", "–", "names of the curves"],
    ]
    assert stamp.parameters_table(DECLARED, DEFAULTS) == stamp.parameters_table(DECLARED, {})
    assert stamp.parameters_table({}, {}) == ""


def test_the_table_shows_a_run_that_differs():
    text = stamp.parameters_table(DECLARED, DEFAULTS | {"steps": 9, "seeds": [0, 1, 2]})
    assert [row[3] for row in rows(text)] == [
        "This run", "9", "0.003", "focal", "a # b", "false", "0, 1, 2", "0.1", "one",
    ]
    assert text.count("**") == 4 and "**`9`**" in text and "**`0, 1, 2`**" in text


@settings(max_examples=150)
@given(PLAIN_TEXT, PLAIN_TEXT.filter(bool), ANY_TEXT)
@example("1. `a` *b* _c_ [d](e) {f}`g` <h> &amp; $i$ \\", "``", "\n```")
@example("- a", "`", "")
@example("% a", "``a`", " a ")
@example("+++", "'", ":::")
def test_the_table_shows_any_text_as_itself(meaning, choice, default):
    declared = {
        "one": parameters.Parameter("one", "str", default, meaning),
        "two": parameters.Parameter("two", "str", choice, "", (choice,)),
    }
    _, one, two = rows(stamp.parameters_table(declared, {}))
    assert one[4] == meaning and two[3] == choice
    assert one[2] in (default, repr(default)) and two[2] in (choice, repr(choice))


@pytest.fixture(scope="module")
def executed():
    """What puts a run's outputs into a page."""
    return extension_of("executed")


@pytest.mark.parametrize("values", [DEFAULTS, DEFAULTS | {"steps": 9}])
def test_a_page_has_one_line_that_opens_on_the_table_in_place_of_the_cell(executed, values):
    cell = {"cell_type": "code", "id": "a", "metadata": {"tags": ["parameters"]}, "source": CELL.splitlines(True)}
    ran = cell | {"outputs": [], "execution_count": 1}
    injected = ran | {"metadata": {"tags": ["injected-parameters"]}, "source": "steps = 9"}
    clean = {"cells": [cell], "metadata": {}}
    before = json.dumps(clean)
    whole = {"falloff": {"profile": "quick", "parameters": values}}
    page = executed.merge(clean, {"cells": [ran, injected], "metadata": whole})
    [shown] = page["cells"]
    assert shown["cell_type"] == "markdown" and stamp.parameters_table(DECLARED, values) in shown["source"]
    assert shown["source"].startswith("````{dropdown} Parameters, profile quick: ")
    assert json.dumps(clean) == before


def test_the_text_of_a_copy_has_numbers_where_the_book_has_roles():
    kept = {"output_type": "display_data", "metadata": {"scrapbook": {"name": "ch1-one"}},
            "data": {"application/papermill.record/text/plain": "0.125"}}
    text = "It is {glue:text}`ch1-one:.2f`, {rec}`3:.1f`, {glue:text}`other`.{guard}`1 < 2` So. {rec}`no`{guard}`2 < 1`"
    notebook = new_notebook(cells=[new_markdown_cell(text), new_code_cell("1", outputs=[kept])])
    stamp.fill(notebook)
    assert notebook.cells[0].source == "It is 0.12, 3.0, {glue:text}`other`. So. "
