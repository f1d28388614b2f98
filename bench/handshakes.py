"""
Handshakes: how many connections a second a server takes, and lets go.

Sixteen connections at once are opened up to the 101, closed with a Close frame, and opened again.
Over wss once with a full TLS 1.3 handshake each (ECDSA P-256), and once with the session of one
before. A server that resumes no session is said.

Then a storm, as after an outage: 5 000 clients connect over wss at once, and again if that fails,
while ten clients that were connected before send an echo now and then. It takes until the last one
is served; the echoes are those of its first seconds.

    python bench/handshakes.py             about 8 minutes
    QUICK=1 python bench/handshakes.py     about 40 seconds, with a storm of 500
    python bench/handshakes.py --storm     only the storm
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from generator import Load, MissingTool, Unmeasured, build, idle_connections
from peers import EVERYBODY, SOME, add_option, chosen
from subject import Server, Subject, running
from turns import announce, load_of, report, report_loads, take_turns, warm

QUICK = bool(os.environ.get("QUICK"))

AT_ONCE = 16

STORMED = {"gateman", "bare picows", "aiohttp", "uvicorn"}

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


def storm(server: Server, count: int) -> tuple[float, float]:
    """
    Let clients connect at once; give the seconds until the last is served, and the echoes' p99.

    Raises:
        Unmeasured: Not all of them were served within a minute.
    """
    with running(server, secure=True) as subject, ThreadPoolExecutor(1) as thread:
        warm(server, subject, secure=True)
        echoes = thread.submit(
            load_of,
            server,
            subject,
            secure=True,
            connections=10,
            depth=64,
            rate=200,
            warm_up=0.5,
            # No server here does 1500 handshakes a second on one core.
            duration=max(count / 1500, 1),
        )
        time.sleep(0.5)
        load = {**dict(server.load), "storm": True}
        with idle_connections(subject.port, count, secure=True, touch=False, **load) as seconds:
            return seconds, echoes.result().p99_us / 1000


def measure_storms(servers: Sequence[Server], count: int, turns: int) -> None:
    """Measure servers by turns, and print."""
    results: dict[Server, list[tuple[float, float]]] = {}
    failures: dict[Server, str] = {}
    for server in [*servers] * turns:
        try:
            results.setdefault(server, []).append(storm(server, count))
        except Unmeasured as why:
            failures[server] = str(why)
    case = f"storm of {count:,} over wss"
    for number, unit in enumerate(("seconds until the last is served", "p99 of an echo, ms")):
        values = {
            server: [result[number] for result in results.get(server, ())]
            for server in servers
            if server not in failures
        }
        report(
            "handshakes",
            case,
            values,
            unit=unit,
            failures=failures,
            is_less_better=True,
            form=",.1f",
        )


def main() -> None:
    """Read the arguments, run, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_option(parser, SOME[:4] if QUICK else EVERYBODY)
    parser.add_argument("--starts", type=int, default=1 if QUICK else 2, help="of the servers")
    parser.add_argument("--turns", type=int, default=2 if QUICK else 4, help="per start")
    parser.add_argument("--seconds", type=float, default=0.3 if QUICK else 0.7, help="of a turn")
    parser.add_argument("--clients", type=int, default=500 if QUICK else 5000, help="of a storm")
    parser.add_argument("--storm", action="store_true", help="only the storm")
    parser.add_argument("--scheme", choices=("ws", "wss"), default="wss" if QUICK else None)
    arguments = parser.parse_args()
    try:
        build()
    except MissingTool as missing:
        sys.exit(str(missing))
    servers = chosen(arguments.servers)
    announce(servers)
    schemes = [arguments.scheme] if arguments.scheme else ["ws", "wss"]
    for scheme in schemes if not arguments.storm else ():
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
    stormed = [server for server in servers if server.name in STORMED]
    measure_storms(stormed, arguments.clients, 1 if QUICK else arguments.turns)


if __name__ == "__main__":
    main()
