"""
Memory: what an idle connection costs the server, gateman beside bare picows.

PSS of the server process (``/proc/PID/smaps_rollup``) with N idle connections, less its PSS
with a few, divided by N. The few have loaded code and grown pools, so that only what grows
with connections is left. Read when it has stopped moving; a fresh server for each figure.
"silent" connections never sent a message, "touched" ones have echoed one.

    python bench/memory.py             about 2 minutes
    QUICK=1 python bench/memory.py     about 30 seconds
"""

import argparse
import os
import sys

from generator import MissingTool, build, idle_connections
from subject import GATEMAN, PICOWS, Server, conditions, running

WARM_COUNT = 20  # connections before the first reading, open throughout


def idle_cost(server: Server, count: int, *, secure: bool, touch: bool) -> float:
    """
    Measure one server.

    Args:
        server: Which.
        count: Idle connections.
        secure: Whether they are wss.
        touch: Whether each has echoed a message.

    Returns:
        Bytes of PSS per connection.
    """
    with (
        running(server, secure=secure) as subject,
        idle_connections(subject.port, WARM_COUNT, secure=secure, touch=True),
    ):
        before = subject.settled_pss()
        with idle_connections(subject.port, count, secure=secure, touch=touch):
            return (subject.settled_pss() - before) / count


def main() -> None:
    """Read the arguments, measure, and print a table."""
    quick = bool(os.environ.get("QUICK"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=int, nargs="+", default=[1000] if quick else [1000, 2000])
    parser.add_argument("--scheme", choices=("ws", "wss"), help="only this one")
    arguments = parser.parse_args()
    try:
        build()
    except MissingTool as missing:
        sys.exit(str(missing))
    print(conditions())
    print(f"\n{'KiB of PSS per idle connection':34}{'silent':>10}{'touched':>10}")
    for scheme in [arguments.scheme] if arguments.scheme else ["ws", "wss"]:
        for count in arguments.counts:
            for server in (GATEMAN, PICOWS):
                costs = [
                    idle_cost(server, count, secure=scheme == "wss", touch=touch) / 1024
                    for touch in (False, True)
                ]
                label = f"{scheme:5}{count:6,}  {server.name}"
                print(f"{label:34}{costs[0]:10.1f}{costs[1]:10.1f}", flush=True)


if __name__ == "__main__":
    main()
