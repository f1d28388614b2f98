"""
Gateway and business worker: what does it cost that the application runs in another process?

An echo of 64 bytes through a gateway and a business worker beside the echo of a plain worker. All
processes of a server share one core, the bus's router among them, and the load generator has
another; *per CPU-second* is what all of them spent together. Then p99 at half of the rate that each
reached, by the clock (see ``latency.py``).

    python bench/gateway.py             about 1 minute
    QUICK=1 python bench/gateway.py     about 15 seconds
"""

import argparse
import os
import statistics
import sys
from functools import partial

from figures import Figure, record
from generator import Load, MissingTool, Unmeasured, build
from subject import Server, Subject
from turns import THROUGHPUT, announce, load_of, report_loads, take_turns

QUICK = bool(os.environ.get("QUICK"))

PLAIN = Server(name="gateman", script="gateman_echo.py")
# Whatever has this in its command line is one of its processes: the router too.
GATEWAY = Server(name="gateway and business", script="gateman_gateway.py", worker="gateman")

CASES = ((100, 1), (100, 8), (1000, 1))
"""Connections, and messages under way on each."""


def measure(
    server: Server, subject: Subject, case: tuple[int, int], *, secure: bool, seconds: float
) -> Load:
    """Echo as fast as it goes, for one turn."""
    connections, depth = case
    options = {"connections": connections, "depth": depth, "warm_up": 0.3, "duration": seconds}
    return load_of(server, subject, secure=secure, **options)


def half(
    server: Server,
    subject: Subject,
    _case: str,
    *,
    rates: dict[Server, float],
    secure: bool,
    seconds: float,
) -> Load:
    """Send half of what a server can take."""
    rate = round(rates[server] / 2)
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
    if load.rate < 0.97 * rate:
        raise Unmeasured(f"it answered {load.rate:,.0f} of {rate:,} messages a second")
    return load


def main() -> None:
    """Read the arguments, run, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--starts", type=int, default=1 if QUICK else 2, help="of the servers")
    parser.add_argument("--turns", type=int, default=2 if QUICK else 4, help="per start")
    parser.add_argument("--seconds", type=float, default=0.5 if QUICK else 1.0, help="of a turn")
    arguments = parser.parse_args()
    try:
        build()
    except MissingTool as missing:
        sys.exit(str(missing))
    servers = [PLAIN, GATEWAY]
    announce(servers)
    for scheme in ("ws",) if QUICK else ("ws", "wss"):
        timing = {"secure": scheme == "wss", "seconds": arguments.seconds}
        how = {"secure": scheme == "wss", "starts": arguments.starts, "turns": arguments.turns}
        turns = take_turns(servers, CASES, partial(measure, **timing), **how)
        for case in CASES:
            connections, depth = case
            name = f"{scheme}, {connections} connections, {depth} under way"
            report_loads("gateway", name, turns, case, THROUGHPUT)
        best = turns.of(CASES[0])
        rates = {
            server: statistics.median(load.rate for load in loads) for server, loads in best.items()
        }
        if len(rates) < len(servers):
            continue
        waits = take_turns(servers, ["half"], partial(half, rates=rates, **timing), **how)
        for server, loads in waits.of("half").items():
            values = [load.p99_us for load in loads]
            print(
                f"{scheme}, half of its rate: {server.name:24} p99"
                f" {statistics.median(values) / 1000:.2f} ms ({min(values) / 1000:.2f} to"
                f" {max(values) / 1000:.2f}) at {rates[server] / 2:,.0f} a second"
            )
            record(
                Figure(
                    question="gateway",
                    case=f"{scheme}, half of its rate",
                    server=server.name,
                    unit="p99, us",
                    values=values,
                    is_less_better=True,
                )
            )
        for server, why in waits.failures_in("half").items():
            print(f"{scheme}, half of its rate: {server.name}: {why}")


if __name__ == "__main__":
    main()
