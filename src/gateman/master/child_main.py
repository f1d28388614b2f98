"""
Where a process begins: runs the script again, as the process that its master assigned.

The master starts this file by its path; nothing imports it.
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # This folder: nothing in it is meant to stand in for a module of Python's.
    del sys.path[0]

import faulthandler
import importlib.util
import os
import signal
from pathlib import Path

if importlib.util.find_spec("gateman") is None:
    # The script has found it by changing sys.path, which would come too late here.
    sys.path.append(str(Path(__file__).parents[2]))

from gateman import at_fork, excepthook
from gateman.errors import CommandError
from gateman.log import write_beside
from gateman.master import child
from gateman.master.assignment import Assignment
from gateman.master.script import Script
from gateman.master.spawn import STACK_SIGNAL


def main() -> None:
    """Run the script up to its ``Worker.run_all()``, and serve there."""
    excepthook.install()
    assignment = Assignment.take(os.environ)
    inherited = child.InheritedSockets(assignment)
    at_fork.reset_signals({signal.SIGINT, STACK_SIGNAL})
    # The terminal's Ctrl-C is for the master, which tells us what to do.
    signal.signal(signal.SIGINT, lambda *_: None)
    faulthandler.enable()
    faulthandler.register(STACK_SIGNAL, all_threads=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, STACK_SIGNAL})
    script = Script(Path(assignment.path), assignment.module)
    try:
        script.run(assignment.argv, lambda workers: child.run(workers, assignment, inherited))
    except CommandError as error:
        write_beside(str(error))
        sys.exit(int(error.exit_code))


if __name__ == "__main__":
    main()
