"""
Memory: what an idle connection costs a server.

PSS of the server's processes (``/proc/PID/smaps_rollup``) with N idle connections, less their PSS
with a few, divided by N. The few have loaded code and grown pools, so that only what grows with
connections is left. Read when it has stopped moving; a fresh server for each figure. "Silent"
connections never sent a message, "touched" ones have echoed one. What the kernel holds for the
sockets is in none of it.

    python bench/memory.py             about 5 minutes
    QUICK=1 python bench/memory.py     about 20 seconds
"""

import argparse
import os
import sys

from generator import MissingTool, Unmeasured, build, idle_connections
from peers import EVERYBODY, SOME, add_option, chosen
from subject import Server, running
from turns import announce, report

QUICK = bool(os.environ.get("QUICK"))

WARM_COUNT = 20  # connections before the first reading, open throughout


def idle_cost(server: Server, count: int, *, secure: bool, touch: bool) -> float:
    """
    Measure one server.

    Raises:
        Unmeasured: It did not start, or did not take so many connections.
    """
    load = dict(server.load)
    with (
        running(server, secure=secure) as subject,
        idle_connections(subject.port, WARM_COUNT, secure=secure, touch=True, **load),
    ):
        before = subject.settled_pss()
        with idle_connections(subject.port, count, secure=secure, touch=touch, **load):
            return (subject.settled_pss() - before) / count / 1024


def main() -> None:
    """Read the arguments, measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_option(parser, SOME[:3] if QUICK else EVERYBODY)
    parser.add_argument("--counts", type=int, nargs="+", default=[300] if QUICK else [1000])
    parser.add_argument("--scheme", choices=("ws", "wss"), help="only this one")
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=("silent", "touched"),
        default=["touched"] if QUICK else ["silent", "touched"],
    )
    arguments = parser.parse_args()
    try:
        build()
    except MissingTool as missing:
        sys.exit(str(missing))
    servers = chosen(arguments.servers)
    announce(servers)
    for scheme in [arguments.scheme] if arguments.scheme else ["ws", "wss"]:
        for count in arguments.counts:
            for kind in arguments.kinds:
                costs, failures = {}, {}
                for server in servers:
                    try:
                        cost = idle_cost(
                            server, count, secure=scheme == "wss", touch=kind == "touched"
                        )
                        costs[server] = [cost]
                    except Unmeasured as why:
                        failures[server] = str(why)
                report(
                    "idle memory",
                    f"{scheme}, {count:,} {kind}",
                    costs,
                    unit="KiB per connection",
                    failures=failures,
                    is_less_better=True,
                    form=".1f",
                    base="",
                )


if __name__ == "__main__":
    main()
