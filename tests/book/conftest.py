"""A small book, built once from a copy of the project with tiny parameters."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The HTML of a book whose chapters ran with the tiny profile; its log is ``build.log`` beside it."""
    home = tmp_path_factory.mktemp("smoke")
    for name in ("_config.yml", "_toc.yml", "book", "notebooks", "data"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, home / name)
    environment = os.environ | {"FALLOFF_ROOT": str(home)}
    environment.pop("FALLOFF_DATA", None)
    here = Path(sys.executable).parent
    for words in ([here / "falloff", "book", "--profile", "tiny"], [here / "falloff", "pages"]):
        done = subprocess.run(list(map(str, words)), cwd=home, env=environment, capture_output=True, text=True)
        log = done.stdout + done.stderr
        assert done.returncode == 0, log[-6000:]
    return home / "_build" / "html"


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium as installed on the machine; a test that needs one is skipped where there is none."""
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=[
            "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--no-first-run", "--allow-file-access-from-files",
        ])
        yield chromium
        chromium.close()
