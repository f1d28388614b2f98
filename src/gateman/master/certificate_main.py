"""The program of the process that orders certificates: :mod:`gateman.acme.child`, without root."""

import os
import signal
import sys

import msgspec

from ..acme.child import main as order
from .privileges import Identity, switch_to

# A terminal or a service manager sends them to the whole process group; the master ends this
# process when it has stopped.
_OF_MASTER = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def main() -> int:
    for number in _OF_MASTER:
        signal.signal(number, signal.SIG_IGN)
    # Challenges and DNS records are taken back on the way.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if len(sys.argv) > 1:
        # Only now: the interpreter and this package may be in a folder that only root can read.
        # Nothing that an authority says has been read yet.
        switch_to(msgspec.json.decode(sys.argv[1], type=Identity), os.environ)
    return order()
