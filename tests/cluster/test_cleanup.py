"""What the tests start ends with them, also where they are killed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_cluster import ends_with_parent, traces, wait_for

HERE = Path(__file__).parent


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_tests_that_are_ended_on_their_way(number: signal.Signals, untouched: None):
    before = traces()
    tests = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--confcutdir={HERE}", HERE / "until_ended.py"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        preexec_fn=ends_with_parent(signal.SIGTERM),
    )
    try:
        wait_for(lambda: tests.poll() is not None or any("slurmstepd" in trace for trace in traces()),
                 "a job of Slurm's", 60)
        ended = tests.poll() is not None
    finally:
        tests.send_signal(number)
        output, _ = tests.communicate(timeout=30)
    assert not ended, output
    if number == signal.SIGKILL:  # then nobody waits for the cleaning up
        wait_for(lambda: not traces() - before, "nothing left", 20)
    assert not traces() - before
