"""
Handshakes: how many connections a second a server takes, and lets go.

Sixteen connections at once are opened up to the 101, closed with a Close frame, and opened again.
Over wss once with a full TLS 1.3 handshake each (ECDSA P-256), and once with the session of one
before. A server that resumes no session is said.

    python bench/handshakes.py             about 4 minutes
    QUICK=1 python bench/handshakes.py     about 15 seconds
"""

import argparse
import os
import sys
from functools import partial

from generator import Load, MissingTool, Unmeasured, build
from peers import EVERYBODY, SOME, add_option, chosen
from subject import Server, Subject
from turns import announce, load_of, report_loads, take_turns

QUICK = bool(os.environ.get("QUICK"))

AT_ONCE = 16

UNITS = {
    "handshakes per CPU-second": lambda load: load.per_cpu_second,
    "handshakes per second": lambda load: load.rate,
}


def measure(server: Server, subject: Subject, kind: str, *, seconds: float) -> Load:
    """Shake hands with one server for one turn."""
    load = load_of(
        server,
        subject,
        secure=kind != "ws",
        handshakes=True,
        connections=AT_ONCE,
        resume=kind == "wss, resumed",
        warm_up=min(0.2, seconds / 2),
        duration=seconds,
    )
    if not load.messages:
        raise Unmeasured("it shook no hands")
    if kind == "wss, resumed" and load.resumed < load.messages / 2:
        raise Unmeasured("it resumes no TLS session")
    return load


def main() -> None:
    """Read the arguments, run, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_option(parser, SOME[:4] if QUICK else EVERYBODY)
    parser.add_argument("--starts", type=int, default=1 if QUICK else 2, help="of the servers")
    parser.add_argument("--turns", type=int, default=2 if QUICK else 4, help="per start")
    parser.add_argument("--seconds", type=float, default=0.3 if QUICK else 0.7, help="of a turn")
    parser.add_argument("--scheme", choices=("ws", "wss"), default="wss" if QUICK else None)
    arguments = parser.parse_args()
    try:
        build()
    except MissingTool as missing:
        sys.exit(str(missing))
    servers = chosen(arguments.servers)
    announce(servers)
    for scheme in [arguments.scheme] if arguments.scheme else ["ws", "wss"]:
        kinds = ["ws"] if scheme == "ws" else ["wss, full", "wss, resumed"]
        turns = take_turns(
            servers,
            kinds,
            partial(measure, seconds=arguments.seconds),
            secure=scheme == "wss",
            starts=arguments.starts,
            turns=arguments.turns,
        )
        for kind in kinds:
            report_loads("handshakes", kind, turns, kind, UNITS)


if __name__ == "__main__":
    main()
