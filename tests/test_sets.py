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
