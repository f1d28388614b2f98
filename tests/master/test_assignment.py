"""The master's parameters reach the process complete, and are not inherited by its programs."""

import os
import subprocess
import sys
from typing import Any

import pytest

from gateman.master.assignment import Assignment


def assignment(**more: Any) -> Assignment:
    """Make an assignment, with some of it chosen."""
    all_of_it: dict[str, Any] = {
        "worker": 1,
        "worker_count": 2,
        "number": 3,
        "listen": "wss://[::]:8282",
        "channel": 7,
        "sockets": [[8, 9], [10, 11]],
        "path": "/srv/a b/Ω\n'\"/server.py",
        "module": "",
        "argv": ["--room", "", "zwei\udcff"],
    }
    return Assignment(**{**all_of_it, **more})


@pytest.mark.parametrize("module", ["", "package.module"])
def test_it_arrives_as_it_was_put(module: str) -> None:
    """Whatever is in a path or an argument, bytes that are no UTF-8 among it."""
    environment: dict[str, str] = {}
    put = assignment(module=module)
    put.put(environment)

    assert Assignment.take(environment) == put


def test_it_goes_through_a_real_environment() -> None:
    """The system takes it for a variable of another process."""
    put = assignment()
    environment = dict(os.environ)
    put.put(environment)
    program = (
        "import os; from gateman.master.assignment import Assignment;"
        " print(ascii(Assignment.take(os.environ)))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )

    assert told.stdout.rstrip() == ascii(put)


def test_taking_leaves_nothing_for_others() -> None:
    """A program that the user's code starts is not a process of this master."""
    environment = {"HOME": "/"}
    assignment().put(environment)
    Assignment.take(environment)

    assert environment == {"HOME": "/"}
    with pytest.raises(KeyError):
        Assignment.take(environment)
