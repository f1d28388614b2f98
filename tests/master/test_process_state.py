"""What the system knows of a process."""

import os
import signal
import subprocess
import sys

import pytest

from gateman.master.process_state import is_stopped, parent_of
from tests.support.master import until
from tests.support.suspend import suspend


@pytest.mark.skipif(sys.platform != "linux", reason="it is read from /proc")
def test_a_process_that_is_stopped_and_continues() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=subprocess.PIPE) as process:
        assert not is_stopped(process.pid)
        try:
            suspend(process.pid)
            assert is_stopped(process.pid)
            os.kill(process.pid, signal.SIGCONT)
            until(lambda: not is_stopped(process.pid))
        finally:
            process.kill()


def test_a_process_that_is_not_there() -> None:
    assert not is_stopped(0)
    assert parent_of(0) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="it is read from /proc")
def test_the_parent_of_a_process() -> None:
    assert parent_of(os.getpid()) == os.getppid()
