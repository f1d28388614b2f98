"""
Growth: throughput and memory per connection with 100, 1 000 and 10 000 connections.

Echoes of 64 bytes over ws, one under way on each connection. Throughput is that of the server's
CPU-second, divided by its own with 100 connections: 1 means that nothing gets dearer. Memory is
that of connections that have echoed a message and are idle, as in ``memory.py``.

    python bench/growth.py             about 3 minutes
    QUICK=1 python bench/growth.py     about 10 seconds: up to 1 000, without memory
"""

import argparse
import os
import resource
import sys
from functools import partial

from generator import Load, MissingTool, Unmeasured, build
from memory import idle_cost
from peers import GATEMAN, PICOWS, SOME, add_option, chosen
from subject import Server, Subject
from turns import announce, load_of, report, take_turns

QUICK = bool(os.environ.get("QUICK"))

SPARE = 200  # descriptors besides those of connections


def measure(server: Server, subject: Subject, count: int, *, secure: bool, seconds: float) -> Load:
    """Put one server under load for one turn."""
    return load_of(
        server, subject, secure=secure, connections=count, warm_up=seconds / 2, duration=seconds
    )


def affordable(counts: list[int]) -> list[int]:
    """Leave out, and say, for how many connections the descriptors do not suffice."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for count in counts:
        if count + SPARE > limit:
            print(f"left out: {count:,} connections; `ulimit -Hn` is {limit:,}")
    return [count for count in counts if count + SPARE <= limit]


def report_memory(servers: list[Server], counts: list[int], scheme: str) -> None:
    """Measure and print what a connection costs when there are so many."""
    for count in counts:
        costs, failures = {}, {}
        for server in servers:
            try:
                costs[server] = [idle_cost(server, count, secure=scheme == "wss", touch=True)]
            except Unmeasured as why:
                failures[server] = str(why)
        report(
            "growth",
            f"{scheme}, {count:,} connections",
            costs,
            unit="KiB per connection",
            failures=failures,
            is_less_better=True,
            form=".1f",
            base="",
        )


def main() -> None:
    """Read the arguments, measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_option(parser, (GATEMAN, PICOWS) if QUICK else SOME)
    parser.add_argument(
        "--counts", type=int, nargs="+", default=[100, 1000] if QUICK else [100, 1000, 10_000]
    )
    parser.add_argument("--turns", type=int, default=2 if QUICK else 4)
    parser.add_argument("--seconds", type=float, default=0.3 if QUICK else 1.0, help="of a turn")
    parser.add_argument("--scheme", choices=("ws", "wss"), default="ws")
    parser.add_argument("--no-memory", action="store_true", default=QUICK)
    arguments = parser.parse_args()
    try:
        build()
    except MissingTool as missing:
        sys.exit(str(missing))
    # Servers get what this process has.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    servers, counts = chosen(arguments.servers), affordable(arguments.counts)
    secure = arguments.scheme == "wss"
    announce(servers)
    turns = take_turns(
        servers,
        counts,
        partial(measure, secure=secure, seconds=arguments.seconds),
        secure=secure,
        starts=1,
        turns=arguments.turns,
    )
    few = turns.of(counts[0])
    for count in counts[1:]:
        report(
            "growth",
            f"{arguments.scheme}, {count:,} connections",
            {
                server: [
                    load.per_cpu_second / first.per_cpu_second
                    for load, first in zip(loads, few.get(server, ()), strict=False)
                ]
                for server, loads in turns.of(count).items()
            },
            unit=f"of its throughput with {counts[0]}",
            failures=turns.failures_in(count),
            form=".2f",
            base="",
        )
    if not arguments.no_memory:
        report_memory(servers, counts, arguments.scheme)


if __name__ == "__main__":
    main()
