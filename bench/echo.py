"""
Echo: what each server makes of messages that it sends back, in paired runs.

Text messages of 64 B, 1 KiB, 16 KiB and 1 MiB over ws and wss, one under way on each connection;
gateman with a plain and with an ``async def`` handler; a case with eight under way, and one with
binary messages. The server is on one core, the generator on another. All servers run side by side
and are measured by turns, so that a change of the machine's pace meets all of them.

Per CPU-second of the server is what counts on a shared machine, per second of the wall is what a
user sees. Ratios are the medians of the turns, with the lowest and the highest.

    python bench/echo.py                                       about 12 minutes
    QUICK=1 python bench/echo.py                               about 1 minute
    python bench/echo.py --servers gateman "bare picows"       what is above the engine
"""

import argparse
import os
import sys
from dataclasses import dataclass
from functools import partial

from generator import Load, MissingTool, build
from peers import add_option, chosen
from subject import Server, Subject
from turns import THROUGHPUT, announce, load_of, report_loads, take_turns

QUICK = bool(os.environ.get("QUICK"))


@dataclass(frozen=True, kw_only=True)
class Case:
    """
    Messages of one kind.

    Attributes:
        name: For the table.
        size: Of a message, in bytes.
        connections: How many there are.
        depth: Messages under way on each.
        binary: Whether they are not text.
    """

    name: str
    size: int
    connections: int = 100
    depth: int = 1
    binary: bool = False

    def __str__(self) -> str:
        return self.name


CASES = (
    Case(name="64 B", size=64),
    Case(name="64 B, 8 deep", size=64, depth=8),
    Case(name="1 KiB", size=1 << 10),
    Case(name="16 KiB", size=16 << 10),
    Case(name="16 KiB binary", size=16 << 10, binary=True),
    Case(name="1 MiB", size=1 << 20, connections=4),
)
QUICK_CASES = ("64 B", "16 KiB")


def measure(server: Server, subject: Subject, case: Case, *, secure: bool, seconds: float) -> Load:
    """Put one server under load for one turn."""
    return load_of(
        server,
        subject,
        secure=secure,
        size=case.size,
        connections=case.connections,
        depth=case.depth,
        binary=case.binary,
        warm_up=min(0.2, seconds / 3),
        duration=seconds,
    )


def main() -> None:
    """Read the arguments, run, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_option(parser)
    parser.add_argument("--starts", type=int, default=1 if QUICK else 2, help="of the servers")
    parser.add_argument("--turns", type=int, default=2 if QUICK else 4, help="per start")
    parser.add_argument("--seconds", type=float, default=0.15 if QUICK else 0.5, help="of a turn")
    parser.add_argument("--scheme", choices=("ws", "wss"), help="only this one")
    parser.add_argument(
        "--cases",
        nargs="+",
        metavar="CASE",
        choices=[case.name for case in CASES],
        default=QUICK_CASES if QUICK else [case.name for case in CASES],
        help="of: " + "; ".join(case.name for case in CASES),
    )
    arguments = parser.parse_args()
    try:
        build()
    except MissingTool as missing:
        sys.exit(str(missing))
    servers = chosen(arguments.servers)
    cases = [case for case in CASES if case.name in arguments.cases]
    announce(servers)
    for scheme in [arguments.scheme] if arguments.scheme else ["ws", "wss"]:
        secure = scheme == "wss"
        turns = take_turns(
            servers,
            cases,
            partial(measure, secure=secure, seconds=arguments.seconds),
            secure=secure,
            starts=arguments.starts,
            turns=arguments.turns,
        )
        for case in cases:
            report_loads("echo", f"{scheme}, {case.name}", turns, case, THROUGHPUT)


if __name__ == "__main__":
    main()
