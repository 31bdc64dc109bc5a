"""The README's code runs, and the files that must agree do."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import torch
import yaml

from falloff import heatmaps, losses, plots, study
from falloff.plots import style
from falloff.points import Points
from falloff.study import prose

ROOT = Path(__file__).resolve().parents[1]


def test_the_readme_s_code_runs_as_written():
    code = "".join(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S))
    names: dict = {}
    exec(code, names)
    assert names["net"].weight.grad.abs().sum() > 0
    assert names["found"].score.shape == (2, 5)
    assert len(names["predicted"]) == 2


def test_the_loss_that_contributing_shows_is_complete(tmp_path, monkeypatch):
    code, = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.S)
    (tmp_path / "my_module.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_module", raising=False)
    loss = losses.make("my_module:Charbonnier", epsilon=0.2)
    points = Points.from_lists([([[3.0, 4.5]], [0])])
    logits = torch.randn(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    heat = heatmaps.render(points, (8, 8), 1, sigma=1.5).double()
    charged = (((logits - heat) ** 2 + 0.2**2).sqrt() - 0.2).sum()
    torch.testing.assert_close(loss(logits, points), charged)
    got, right = (torch.autograd.grad(value, logits)[0] for value in (loss(logits, points), charged))
    torch.testing.assert_close(got, right)
    assert -1 < losses.best_constant(loss, points, (8, 8), classes=1) < 1


def pins(text: str) -> set[str]:
    return set(re.findall(r"^\s*(?:- )?([A-Za-z0-9._-]+==[^\s;]+)$", text, flags=re.M))


def test_conda_users_get_the_locked_versions():
    locked = pins((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    assert locked == pins((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert len(locked) > 100


def test_everything_that_the_project_asks_for_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: asked for name, asked in project["optional-dependencies"].items() if name != "bench"}
    asked = [*project["dependencies"], *chain(*extras.values())]
    lock = pins((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    locked = {pin.split("==")[0].lower().replace("_", "-") for pin in lock}
    assert not {re.split(r"[<>=!~ ]", one)[0].lower() for one in asked} - locked


def test_the_workflow_tests_the_oldest_and_the_locked_versions():
    text = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest, = re.findall(r"torch>=([\d.]+)", " ".join(project["dependencies"]))
    locked, = re.findall(r"^torch==(.+)$", (ROOT / "requirements.lock").read_text(encoding="utf-8"), flags=re.M)
    tested = jobs["library"]["strategy"]["matrix"]
    assert tested["torch"] == [f"{oldest}.0", locked]
    assert f">={tested['python'][0]}" == project["requires-python"]
    for path in re.findall(r"tests/\S+", text):
        assert (ROOT / path).exists(), path


def test_vendored_files_are_what_was_vendored():
    vendor = ROOT / "book" / "_static" / "vendor"
    lines = (vendor / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    recorded = dict(reversed(line.split("  ")) for line in lines)
    there = {p.relative_to(vendor).as_posix() for p in vendor.rglob("*") if p.is_file()} - {"SHA256SUMS"}
    assert set(recorded) == there
    for name, digest in recorded.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest, name


def test_the_changelog_starts_with_what_is_unreleased_and_then_has_this_version():
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.M)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert headings[:2] == ["Unreleased", project["version"]]


def test_make_help_lists_every_target():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("book", "test", "run", "serve", "clean", "lint", "types", "hooks", "lock", "plan"):
        assert re.search(rf"make {target}\b", shown), target


def test_the_files_and_names_that_contributing_gives_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert re.findall(r"^## To add an? (.*)$", text, flags=re.M) == [
        "loss", "net", "system", "data set", "metric", "experiment", "figure", "chapter"]
    named = re.findall(r"`([\w./]+)`", text)
    paths = {one for one in named if "/" in one or one.endswith((".md", ".yml"))}
    new = {one for one in paths if "NAME" in one or "07_name" in one}
    assert len(paths) > 30 and len(new) > 8
    for path in paths - new - {"data/external", "runs/"} | {one.rpartition("/")[0] for one in new}:
        assert (ROOT / path).exists(), path
    rows = re.findall(r"`(\w+)`,? (?:in|of) `([\w./]+)`", text)
    assert len(rows) >= 7
    for row, path in rows:
        assert re.search(rf"^{row}\b", (ROOT / path).read_text(encoding="utf-8"), flags=re.M), (row, path)


def test_the_readme_s_figure_is_that_of_the_record(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle["image/svg+xml"]))
    runs = study.recorded("head-to-head")
    order = runs.groupby("loss")["ap_tuned"].mean().sort_values(ascending=False).index
    fig, ax = plots.new(height=4.2)
    plots.dots(ax, runs, "ap_tuned", order=list(order))
    plots.axes(ax, x="mean AP over 1 and 2 px")
    plots.display(fig)
    for name, drawing in {"result": shown[0], "result.dark": style.dark(shown[0])}.items():
        assert (ROOT / "data" / "recorded" / f"{name}.svg").read_text(encoding="utf-8") == drawing


def test_the_record_bears_the_book_out():
    assert prose.broken(root=ROOT) == []


def test_what_passes_its_tests_is_built_and_published():
    workflow, tests = (yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))
                       for name in ("book.yml", "test.yml"))
    asked, jobs = workflow[True], workflow["jobs"]  # YAML reads "on" as true
    assert asked["workflow_run"]["workflows"] == [tests["name"]] and asked["workflow_run"]["branches"] == ["main"]
    assert [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step] == ["make book"]
    assert [step["run"] for step in tests["jobs"]["everything"]["steps"] if "run" in step][-1] == "make test"
    used = {step["uses"].split("@")[0]: step.get("with", {}) for job in jobs.values() for step in job["steps"]
            if "uses" in step}
    assert f"{used['actions/cache']['path']}/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert used["actions/upload-pages-artifact"]["path"] == "_build/html" and jobs["publish"]["needs"] == "build"
    assert all(job.get("permissions") for job in jobs.values())  # no job has more than it names
