import os
import subprocess
import sys

import numpy as np
from scenes import write_set

from falloff import data, sets


def test_the_digest_follows_a_files_content(tmp_path, monkeypatch):
    monkeypatch.setenv("FALLOFF_DATA", str(tmp_path))
    write_set(tmp_path, "some")
    first = sets.digest("some")
    path = write_set(tmp_path, "some", names=np.array(["light", "dark"]))
    os.utime(path, ns=(1, 1))
    assert sets.digest("some") != first
    assert sets.digest("digits") == "made"


def test_looking_for_sets_imports_no_torch():
    code = "import sys; from falloff import sets; sets.digest('digits'); sets.root(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_set_that_is_made_has_a_reader():
    assert all(callable(data.reader(name)) for name in sets.MADE)


def test_the_folder_of_the_sets_may_be_relative_or_in_the_home_folder(tmp_path, monkeypatch):
    path = write_set(tmp_path / "sets", "some")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for folder in ("sets", "./sets", "~/sets", str(tmp_path / "sets")):
        monkeypatch.setenv("FALLOFF_DATA", folder)
        assert sets.root().is_absolute() and sets.find("some").samefile(path)
        assert sets.available() == ["some"]


def test_a_path_holds_in_any_folder_and_a_page_shows_what_the_file_is_called(tmp_path, monkeypatch):
    path = write_set(tmp_path, "some")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(path.parent)
    for name in ("some.npz", "~/some/some.npz", str(path)):
        assert sets.anywhere(name) == str(path) and sets.short(name) == "some" and sets.find(name) == path
        assert sets.digest(name) == sets.digest(str(path))
    assert (sets.anywhere("some"), sets.short("some"), sets.anywhere("digits")) == ("some", "some", "digits")
