"""The page of what others found, as Markdown, from tables of a small experiment."""

from pathlib import Path

import pytest
import yaml
from extensions import extension_of
from scipy import stats

from falloff.study import published, recording

ROOT = Path(__file__).resolve().parents[2]
ROW = {
    "question": "Which is better?", "source": "one2001", "where": "Table 1", "compared": "Two losses", "task": "boxes",
    "metric": "AP", "numbers": {"focal": 34.0, "CE": 31.1, "none": "diverges"}, "difference": ["focal", "CE"],
}
PAIR = {"experiment": "pair", "metric": "ap", "difference": ["focal", "bce"]}


@pytest.fixture(scope="module")
def extension():
    """The extension, as the book loads it."""
    return extension_of("published")


@pytest.fixture
def cells(extension, copied):
    """The cells of the table that some rows give."""
    root = copied.parents[3]
    (root / "book").mkdir()
    (root / "book" / "references.bib").write_text("@misc{one2001,\n}\n\n@misc{two2002,\n}\n")

    def rendered(**rows):
        path = root / "data" / "published.yml"
        path.write_text(yaml.safe_dump(rows, sort_keys=False))
        text = "\n".join(extension.page(published.load(path), "tiny"))
        assert text.startswith("```{list-table} ") and text.endswith("\n```") and ":class: published\n" in text
        return [[cell.strip() for cell in row.split("\n  - ")] for row in text[: -len("\n```")].split("\n* - ")[2:]]

    return rendered


def test_a_row_says_what_was_asked_what_they_found_and_what_the_record_has(cells):
    [(asked, theirs, difference, ours)] = cells(A={**ROW, "note": "A note.", "ours": PAIR})
    assert asked == "**Which is better?** Two losses."
    assert theirs == ("{cite:t}`one2001`, Table 1. Boxes, AP: 34.0 (focal), 31.1 (CE), diverges (none). *A note.*")
    assert difference == "focal minus CE: **+2.9**"
    table = recording.recorded("pair", "tiny")
    focal, bce = (table.query("role == 'reported' and arm == @arm")["ap"] for arm in ("focal", "bce"))
    low, high = stats.ttest_ind(focal, bce, equal_var=False).confidence_interval(0.95)
    shown = f"{focal.mean() - bce.mean():.3f}\u00a0±\u00a0{(high - low) / 2:.3f}".replace("-", "−")
    assert ours.startswith(f"AP at 2 px, *focal* minus *BCE*: **{shown}** (experiment `pair`, 3 seeds)")


def test_what_is_not_recorded_and_what_has_no_counterpart_is_said(cells):
    rows = cells(A={**ROW, "ours": {**PAIR, "experiment": "later", "metric": "error"}},
                 B={**ROW, "no_counterpart": "Nothing is like it."})
    assert rows[0][3] == ("localisation error, px, less is better, *focal* minus *BCE*: not recorded yet "
                          "(experiment `later`)")
    assert rows[1][3] == "*No counterpart.* Nothing is like it."


def test_a_question_is_said_once_and_sources_stand_together(cells):
    rows = cells(A={**ROW, "no_counterpart": "No."},
                 B={**ROW, "source": ["one2001", "two2002"], "lower_is_better": True, "difference": ["none", "CE"],
                    "compared": "The same", "no_counterpart": "No."},
                 C={**ROW, "question": "And else?", "difference": ["CE", "focal"], "no_counterpart": "No."})
    assert [row[0] for row in rows] == ["**Which is better?** Two losses.", "The same.", "**And else?** Two losses."]
    assert rows[1][1].startswith("{cite:t}`one2001,two2002`, Table 1. Boxes, AP, less is better: ")
    assert [row[2] for row in rows[1:]] == ["none minus CE: no number", "CE minus focal: **−2.9**"]


def test_the_sign_of_ours_is_held_against_theirs(cells):
    [row] = cells(A={**ROW, "ours": PAIR})
    effect = published.load()[0].measure(recording.evidence("pair", "tiny"))
    sign = published.load()[0].sign(effect)
    assert sign in published.SIGNS and row[3].endswith(f"; {sign}")


def test_the_page_of_the_book_shows_every_row_of_the_study(extension, monkeypatch):
    monkeypatch.setenv("FALLOFF_ROOT", str(ROOT))
    rows = published.load(ROOT / "data" / "published.yml")
    text = "\n".join(extension.page(rows))
    assert text.count("\n* - ") == len(rows) + 1
    assert all(row.where in text and row.task[1:] in text for row in rows)
    page = (ROOT / "book" / "published.md").read_text(encoding="utf-8")
    assert "```{published}\n```" in page and "book/published" in (ROOT / "_toc.yml").read_text(encoding="utf-8")
