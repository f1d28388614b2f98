"""
The program of a process: runs the script again, and serves the worker that its master assigned.

The master starts this file by its path; no module imports it.
"""

import gc
import sys

if __name__ == "__main__":
    # Imports leave nothing that the garbage collector could free.
    gc.disable()
    if not sys.flags.safe_path:
        # This folder, whose modules must not hide modules of the standard library.
        del sys.path[0]

import faulthandler
import importlib.util
import os
import signal
from pathlib import Path

if importlib.util.find_spec("gateman") is None:
    # The master's script has changed sys.path to find it; this is before the script runs.
    sys.path.append(str(Path(__file__).parents[2]))

from gateman import at_fork, excepthook
from gateman.errors import CommandError
from gateman.log import write_to_user
from gateman.master import child
from gateman.master.assignment import Assignment
from gateman.master.script import Script
from gateman.master.spawn import STACK_SIGNAL

# No collection looks at the modules again, nor do those at the end of the process: a tenth of a
# second.
gc.freeze()
gc.enable()


def main() -> None:
    """Run the script up to its ``Worker.run_all()``, and serve there."""
    excepthook.install()
    assignment = Assignment.take(os.environ)
    inherited = child.InheritedSockets(assignment)
    at_fork.reset_signals({signal.SIGINT, STACK_SIGNAL})
    # Ctrl-C in the terminal is for the master, which tells its processes to end.
    signal.signal(signal.SIGINT, lambda *_: None)
    faulthandler.enable()
    faulthandler.register(STACK_SIGNAL, all_threads=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, STACK_SIGNAL})
    script = Script(Path(assignment.path), assignment.module)
    try:
        script.run(assignment.argv, lambda workers: child.run(workers, assignment, inherited))
    except CommandError as error:
        write_to_user(str(error))
        sys.exit(int(error.exit_code))


if __name__ == "__main__":
    main()
