"""
Compression: what permessage-deflate costs, beside others that speak it, and what it saves.

Text as services send it (JSON), 100 connections, one message under way on each; neither side keeps
context between messages, so that each is as costly as the first. Every server compresses at the
level that is its own default; what that makes of a message is printed too. "gateman uncompr." is
the same without compression.

    python bench/compression.py             about 1 minute
    QUICK=1 python bench/compression.py     about 15 seconds
"""

import argparse
import os
import sys
from dataclasses import replace
from functools import partial

from generator import Load, MissingTool, Unmeasured, build
from peers import EVERYBODY, GATEMAN, add_option, chosen, compressing
from subject import Server, Subject
from turns import THROUGHPUT, announce, load_of, report, report_loads, take_turns

QUICK = bool(os.environ.get("QUICK"))

# The generator asks for compression, and gateman does not do it: for what it costs.
PLAIN = replace(GATEMAN, name="gateman uncompr.")


def measure(server: Server, subject: Subject, size: int, *, seconds: float) -> Load:
    """Put one server under load for one turn."""
    load = load_of(
        server,
        subject,
        secure=False,
        compress=server != PLAIN,
        size=size,
        connections=100,
        warm_up=min(0.2, seconds / 2),
        duration=seconds,
    )
    if server != PLAIN and load.packed < load.messages:
        raise Unmeasured(f"it compressed {load.packed} of {load.messages} messages")
    return load


def no_warming(_server: Server, _subject: Subject, **_: object) -> None:
    """Do nothing: a server that compresses would be offered nothing."""


def main() -> None:
    """Read the arguments, run, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_option(parser, [server for server in EVERYBODY if server.can_compress])
    parser.add_argument("--starts", type=int, default=1 if QUICK else 2, help="of the servers")
    parser.add_argument("--turns", type=int, default=2 if QUICK else 4, help="per start")
    parser.add_argument("--seconds", type=float, default=0.2 if QUICK else 0.5, help="of a turn")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024] if QUICK else [1024, 16384])
    arguments = parser.parse_args()
    try:
        build()
    except MissingTool as missing:
        sys.exit(str(missing))
    servers = [*compressing(chosen(arguments.servers)), PLAIN]
    announce(servers)
    turns = take_turns(
        servers,
        arguments.sizes,
        partial(measure, seconds=arguments.seconds),
        secure=False,
        starts=arguments.starts,
        turns=arguments.turns,
        prepare=no_warming,
    )
    for size in arguments.sizes:
        case = f"ws, {size // 1024} KiB of JSON"
        report_loads("compression", case, turns, size, THROUGHPUT)
        report(
            "compression",
            case,
            {
                server: [load.packed_bytes / load.packed / size * 100 for load in loads]
                for server, loads in turns.of(size).items()
                if server != PLAIN
            },
            unit="% of its size",
            is_less_better=True,
            base="",
        )


if __name__ == "__main__":
    main()
