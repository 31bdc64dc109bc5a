"""Where `make` takes PyTorch from when it sets up .venv, with a pip that installs nothing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHON = """#!/bin/sh
test "$1" = -m || exit 0
mkdir -p "$3/bin"
cp "$(dirname "$0")/pip" "$3/bin/pip"
"""
PIP = """#!/bin/sh
echo "$@" >> "$ASKED"
case "$*" in
  "config list") echo "$SETTINGS";;
  freeze) echo "$THERE";;
  *--index-url*) exit "$CPU_INDEX";;
esac
"""


@pytest.mark.parametrize(("given", "said", "tried"), [
    ({}, "the CPU build of https://download.pytorch.org/whl/cpu", True),
    ({"CPU_INDEX": "1"}, "https://download.pytorch.org/whl/cpu gave no CPU build", True),
    ({"SETTINGS": "global.extra-index-url='https://ours'"}, "the CPU build of", True),
    ({"SETTINGS": ":env:.index-url='https://ours'"}, "from where pip is set to look", False),
    ({"SETTINGS": ":env:.extra-index-url='https://ours'"}, "from where pip is set to look", False),
    ({"gpu": "yes"}, "for the NVIDIA GPU of this machine", False),
    ({"THERE": "torch==2.13.0+cpu"}, "", False),
], ids=["no GPU", "out of reach", "a further index in pip.conf", "an index set", "a further index set", "GPU", "there"])
def test_the_cpu_build_is_taken_where_no_gpu_is_seen(tmp_path, given, said, tried):
    if Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi"):
        pytest.skip("this machine has an NVIDIA GPU")
    tools = {"python": PYTHON, "pip": PIP} | ({"nvidia-smi": "#!/bin/sh\n"} if "gpu" in given else {})
    for name, text in tools.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    asked = tmp_path / "asked"
    settings = {"ASKED": str(asked), "SETTINGS": "", "THERE": "", "CPU_INDEX": "0"}
    settings["PATH"] = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["make", "ready", f"PYTHON={tmp_path}/python", f"VENV={tmp_path}/venv"], cwd=ROOT, check=True,
                          env=os.environ | settings | given, capture_output=True, text=True)
    said_of_torch = [line for line in done.stdout.splitlines() if line.startswith("PyTorch: ")]
    assert len(said_of_torch) == bool(said) and said in done.stdout
    assert ("--index-url" in asked.read_text()) == tried
    assert "-r requirements.lock" in asked.read_text() and (tmp_path / "venv" / ".ready").exists()
