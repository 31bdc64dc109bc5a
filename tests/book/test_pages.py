"""The built book in a real browser: nothing from outside, nothing missing, nothing unreadable."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe

ROOT = Path(__file__).resolve().parents[2]
PHONE = {"width": 390, "height": 844}
# Those that are shown are fetched, which else they are once they come near the window.
IMAGES = """async () => {
  const images = [...document.querySelectorAll('article img')].map(i => [i, i.offsetParent !== null])
  for (const [image, shown] of images) {
    if (shown) { image.loading = 'eager'; await image.decode() }
  }
  return images.map(([i, shown]) => ({
    src: i.currentSrc || i.src, alt: i.alt, shown, natural: i.naturalWidth, width: i.getBoundingClientRect().width,
    fetched: i.complete && i.naturalWidth > 0}))
}"""


def pages(built: Path) -> list[Path]:
    found = [*built.glob("*.html"), *built.glob("book/**/*.html"), *built.glob("notebooks/*.html")]
    return [p for p in sorted(found) if not p.name.startswith(("genindex", "search", "py-modindex", "404"))]


@pytest.fixture(scope="module")
def visits(built, browser):
    """Every page opened from its file on a phone, in dark mode: what it asked for, what it logged, what it shows."""
    context = browser.new_context(viewport=PHONE, color_scheme="dark")
    seen = {}
    for path in pages(built):
        page, asked, logged = context.new_page(), [], []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("console", lambda said, logged=logged: logged.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error, logged=logged: logged.append(str(error)))
        page.goto(path.as_uri(), wait_until="load")
        page.wait_for_selector("article")  # the first page leads on to another
        page.wait_for_function("!window.MathJax || !MathJax.startup || MathJax.startup.promise.then(() => true)")
        images = page.evaluate(IMAGES)
        seen[path.relative_to(built).as_posix()] = {
            "asked": [*asked], "logged": [*logged], "images": images,  # before axe-core asks for files of its own
            "width": page.evaluate("document.documentElement.scrollWidth"),
            "maths": page.evaluate("document.querySelectorAll('mjx-container').length"),
            "cut": page.evaluate("!window.MathJax ? [] : [...MathJax.startup.document.math].filter(m => m.display"
                                 " && m.typesetRoot.scrollWidth > m.typesetRoot.clientWidth + 1).map(m => m.math)"),
            "serious": serious(page),
            "raw": page.evaluate("(document.querySelector('article') || document.body).innerText"),
        }
        page.close()
    context.close()
    return seen


def test_no_page_asks_for_anything_outside(visits):
    inside = ("file:", "data:", "blob:")
    outside = {name: [url for url in v["asked"] if not url.startswith(inside)] for name, v in visits.items()}
    assert not {name: urls for name, urls in outside.items() if urls}


def test_no_page_logs_an_error(visits):
    assert not {name: v["logged"] for name, v in visits.items() if v["logged"]}


def test_every_picture_is_there_and_described(visits):
    bad = [(name, image) for name, v in visits.items() for image in v["images"]
           if not image["alt"].strip() or "/" in image["alt"] or (image["shown"] and not image["fetched"])]
    assert not bad
    assert all(v["images"] for name, v in visits.items() if "notebooks/0" in name)


def test_pages_fit_a_phone(visits):
    assert not {name: v["width"] for name, v in visits.items() if v["width"] > PHONE["width"] + 1}


def test_dark_pages_show_the_dark_drawings(visits):
    drawn = [i for v in visits.values() for i in v["images"] if "_images/" in i["src"] and i["src"].endswith(".svg")]
    assert drawn
    assert all(image["src"].endswith(".dark.svg") == image["shown"] for image in drawn)


def test_a_phone_gets_drawings_for_its_width_whose_words_are_not_shrunk(visits):
    shown = [i for name, v in visits.items() for i in v["images"]
             if i["shown"] and "notebooks/" in name and "_images/" in i["src"]]
    assert shown
    assert all(".narrow." in image["src"] and image["width"] > 0.95 * image["natural"] for image in shown)


def test_no_page_fetches_what_it_does_not_show(visits):
    asked = {name: {url.rpartition("/")[2].partition("?")[0] for url in v["asked"]} for name, v in visits.items()}
    drawings = {name: {one for one in urls if one.endswith(".svg") and "made" not in one and "mark" not in one}
                for name, urls in asked.items()}
    assert all(one.endswith(".dark.svg") for urls in drawings.values() for one in urls)
    assert not [name for name, urls in asked.items() if "fontawesome.js" in urls]
    assert {name for name, v in visits.items() if v["maths"]} == {
        name for name, urls in asked.items() if "tex-chtml.js" in urls}
    assert "book/index.html" not in {name for name, v in visits.items() if v["maths"]}


def test_no_page_keeps_anybody_from_reading_it(built, browser, visits):
    context, light = browser.new_context(color_scheme="light"), {}
    for path in pages(built):
        page = context.new_page()
        page.goto(path.as_uri(), wait_until="load")
        page.wait_for_selector("article")
        light[path.relative_to(built).as_posix()] = serious(page)
        page.close()
    context.close()
    dark = {name: visit["serious"] for name, visit in visits.items()}
    assert not {name: faults for seen in (light, dark) for name, faults in seen.items() if faults}


def serious(page) -> list[tuple[str, str]]:
    """What axe-core calls serious or critical, and where."""
    faults = Axe().run(page).response["violations"]
    return [(one["id"], node["html"]) for one in faults if one["impact"] in ("serious", "critical")
            for node in one["nodes"]]


def test_maths_is_set(visits):
    assert visits["notebooks/01_cross_entropy.html"]["maths"] > 0
    assert not [name for name, v in visits.items() if re.search(r"\\(log|frac|sigma)\b", v["raw"])]


def test_no_equation_is_wider_than_a_phone(visits):
    assert not {name: v["cut"] for name, v in visits.items() if v["cut"]}


def test_no_reference_is_left_open(visits):
    assert not [name for name, v in visits.items() if re.search(r"\{(glue|numref|eq|term|cite)\b", v["raw"])]
    assert not [name for name, v in visits.items() if re.search(r"\{(rec|guard)\b", v["raw"]) and "api" not in name]


def test_chapters_end_with_where_they_came_from(visits):
    for name, visit in visits.items():
        if name.startswith("notebooks/0"):
            end = visit["raw"].split("Where these numbers came from")[-1]
            for word in ("Profile", "tiny", "Parameters", "Device", "Versions", "torch", "Commit", "Finished"):
                assert word in end, (name, word)


def test_chapters_carry_where_they_came_from_for_programs(built):
    for path in sorted((built / "notebooks").glob("0*.html")):
        found = re.findall(r'<script type="application/json" id="provenance">(.*?)</script>', path.read_text())
        (stamp,) = map(json.loads, found)
        assert {"parameters", "changed", "profile", "seeds", "device", "precision", "versions", "fingerprint", "commit",
                "clean", "finished", "seconds"} <= stamp.keys()
        assert (stamp["chapter"], stamp["profile"], stamp["parameters"]["steps"]) == (path.stem, "tiny", 4)


def test_chapters_show_their_parameters_in_one_line_that_opens_on_a_table(built, visits):
    for name, visit in visits.items():
        if name.startswith("notebooks/"):
            assert "Parameters, profile tiny: dataset, " in visit["raw"], name
            assert "optimiser steps of each run" not in visit["raw"], name
            assert "optimiser steps of each run" in (built / name).read_text(encoding="utf-8"), name


def test_every_page_says_what_it_is_to_those_who_only_see_a_link(built):
    words = [re.findall(r'<meta name="description" content="(.+?)"', path.read_text(encoding="utf-8"))
             for path in pages(built) if path.parent != built]
    assert all(len(one) == 1 and 20 < len(one[0]) <= 210 for one in words), words
    assert len({one[0] for one in words}) == len(words)
    assert "A near miss" in (built / "404.html").read_text(encoding="utf-8")


def test_every_claim_has_a_verdict_once_its_experiment_is_recorded(built):
    html = (built / "book" / "claims.html").read_text(encoding="utf-8")
    rows = [re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL) for row in re.findall(r"<tr.*?</tr>", html, re.DOTALL)]
    plain = [[re.sub(r"<.*?>", "", cell).strip() for cell in row] for row in rows if row]
    verdicts = {name: verdict for name, _, verdict, *_ in plain}
    claims = yaml.safe_load((ROOT / "data" / "claims.yml").read_text(encoding="utf-8"))
    assert verdicts.keys() == claims.keys()
    for name, claim in claims.items():
        manifest = ROOT / "data" / "recorded" / "study" / f"{claim.get('experiment')}.json"
        there = "experiment" not in claim or (manifest.exists() and json.loads(manifest.read_text())["complete"])
        assert verdicts[name] in ({"supported", "refuted", "undecided"} if there else {"not recorded yet"}), name


def test_the_replay_in_the_repository_is_shown(built):
    assert "Last replay: " in (built / "book" / "claims.html").read_text(encoding="utf-8")


def test_search_finds_a_term(built, browser):
    page = browser.new_page()
    page.goto((built / "search.html").as_uri() + "?q=focal")
    page.wait_for_selector("#search-results li a", timeout=10_000)
    assert page.locator("#search-results li").count() > 3
    page.close()


def test_search_finds_first_the_page_whose_title_is_what_was_typed(built, browser):
    page = browser.new_page()
    page.goto((built / "search.html").as_uri() + "?q=which loss")
    page.wait_for_selector("#search-results li a", timeout=10_000)
    page.wait_for_function("!document.querySelector('#search-progress')?.innerText.includes('...')")
    assert page.locator("#search-results li > a").first.inner_text() == "Which loss for my problem?"
    page.close()


def test_links_inside_the_book_lead_somewhere(built):
    missing = set()
    for path in pages(built):
        for target in re.findall(r'href="([^"#?]+)', path.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists():
                missing.add((path.name, target))
    assert not missing


def test_chapters_are_stored_without_outputs():
    notebooks = Path(__file__).resolve().parents[2] / "notebooks"
    for path in notebooks.glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert not [c for c in cells if c["cell_type"] == "code" and (c["outputs"] or c["execution_count"])], path.name
