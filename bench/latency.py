"""
Latency at a fixed rate: what a message waits while the server has time to spare.

100 connections, 64 bytes, and a rate that is the same for all. Messages are sent by the clock, and
a latency counts from the moment at which the message was due: a server that stalls is not waited
for (no "coordinated omission"). One that does not keep up with the rate is said, and has no
latency. Others on the machine show in p99.9 before anywhere else.

    python bench/latency.py             about 4 minutes
    QUICK=1 python bench/latency.py     about 20 seconds
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

KEPT_UP = 0.97  # of the rate

QUANTILES = {
    "p50, us": lambda load: load.p50_us,
    "p99, us": lambda load: load.p99_us,
    "p99.9, us": lambda load: load.p999_us,
}


def measure(server: Server, subject: Subject, rate: int, *, secure: bool, seconds: float) -> Load:
    """Send at a rate to one server for one turn."""
    load = load_of(
        server,
        subject,
        secure=secure,
        connections=100,
        depth=64,
        rate=rate,
        warm_up=0.3,
        duration=seconds,
    )
    if load.rate < KEPT_UP * rate:
        raise Unmeasured(f"it answered {load.rate:,.0f} of {rate:,} messages a second")
    return load


def main() -> None:
    """Read the arguments, run, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_option(parser, SOME[:4] if QUICK else EVERYBODY)
    parser.add_argument("--starts", type=int, default=1 if QUICK else 2, help="of the servers")
    parser.add_argument("--turns", type=int, default=2 if QUICK else 4, help="per start")
    parser.add_argument("--seconds", type=float, default=0.5 if QUICK else 1.5, help="of a turn")
    parser.add_argument("--rates", type=int, nargs="+", default=[5000], help="messages a second")
    parser.add_argument("--scheme", choices=("ws", "wss"), default="ws" if QUICK else None)
    arguments = parser.parse_args()
    try:
        build()
    except MissingTool as missing:
        sys.exit(str(missing))
    servers = chosen(arguments.servers)
    announce(servers)
    for scheme in [arguments.scheme] if arguments.scheme else ["ws", "wss"]:
        secure = scheme == "wss"
        turns = take_turns(
            servers,
            arguments.rates,
            partial(measure, secure=secure, seconds=arguments.seconds),
            secure=secure,
            starts=arguments.starts,
            turns=arguments.turns,
        )
        for rate in arguments.rates:
            case = f"{scheme}, {rate:,} messages a second"
            report_loads("latency", case, turns, rate, QUANTILES, is_less_better=True)


if __name__ == "__main__":
    main()
