"""
Echo: what gateman costs over the engine below it, in paired runs.

64-byte text messages over 100 connections, one message under way on each; ws and wss; the
server on one core, the generator on another. Both servers run side by side and are measured
by turns, a second each, so that a change of the machine's pace meets both. They are started
anew several times, so that no single memory layout decides, and get a connection and a second
of load that do not count: on glibc a TLS server is slow until its allocator has seen a buffer
freed. Pairs that other processes disturbed are shown, and left out if enough others are left.

Ratios are per CPU-second of the server (what counts on a shared machine) and per second of
the wall (what a user sees): the median of the pairs, with the lowest and the highest.

    python bench/echo.py             about 2 minutes
    QUICK=1 python bench/echo.py     about 40 seconds
"""

import argparse
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from generator import Load, MissingTool, build, run
from subject import GATEMAN, GATEMAN_ASYNC, PICOWS, Server, Subject, conditions, cores, running

SERVERS = {"gateman": GATEMAN, "gateman-async": GATEMAN_ASYNC, "picows": PICOWS}

MIN_PAIRS = 5  # undisturbed ones that make the others superfluous


def measure(
    subject: Subject,
    arguments: argparse.Namespace,
    *,
    secure: bool,
    warm_up: float = 0.2,
) -> Load:
    """Put one server under load for one turn."""
    return run(
        subject.port,
        secure=secure,
        core=cores()[1],
        watch=subject.pid,
        connections=arguments.connections,
        depth=arguments.depth,
        size=arguments.size,
        warm_up=warm_up,
        duration=arguments.seconds,
    )


def measured_pairs(
    servers: tuple[Server, Server], arguments: argparse.Namespace, *, secure: bool
) -> Iterator[tuple[Load, Load]]:
    """
    Measure two servers by turns.

    Yields:
        Their loads, in the order of ``servers``, whichever was measured first.
    """
    for _ in range(arguments.starts):
        with ExitStack() as stack:
            subjects = [stack.enter_context(running(server, secure=secure)) for server in servers]
            for subject in subjects:
                run(subject.port, secure=secure, connections=1, warm_up=0, duration=0.1)
                measure(subject, arguments, secure=secure, warm_up=0.5)
            for turn in range(arguments.turns):
                first = turn % 2
                loads = {
                    place: measure(subjects[place], arguments, secure=secure)
                    for place in (first, 1 - first)
                }
                yield loads[0], loads[1]


def spread(values: Sequence[float], form: str = ".3f") -> str:
    """Write a median with the lowest and the highest."""
    median = statistics.median(values)
    return f"{median:{form}} ({min(values):{form}} to {max(values):{form}})"


def warnings(loads: Sequence[Load]) -> list[str]:
    """Say what makes the figures worth less than they look."""
    said = []
    bottleneck = sum(load.was_generator_bottleneck for load in loads)
    if bottleneck:
        said.append(f"the generator was the bottleneck in {bottleneck} of {len(loads)} runs")
    errors = sum(load.errors for load in loads)
    if errors:
        said.append(f"{errors} connections failed: these figures are void")
    return said


def compare(server: Server, arguments: argparse.Namespace, *, secure: bool) -> bool:
    """
    Run the pairs of one server against bare picows, and print them.

    Returns:
        Whether every echo was right.
    """
    scheme = "wss" if secure else "ws"
    print(f"\n{scheme}, {server.name} against {PICOWS.name}")
    print(f"{'':16}{'messages/CPU-s':>16}{'messages/s':>14}{'p50 us':>10}{'p99 us':>10}")
    pairs = []
    for loads in measured_pairs((server, PICOWS), arguments, secure=secure):
        pairs.append(loads)
        for measured, load in zip((server, PICOWS), loads, strict=True):
            print(
                f"{measured.name:16}{load.per_cpu_second:16,.0f}{load.rate:14,.0f}"
                f"{load.p50_us:10,.0f}{load.p99_us:10,.0f}"
                f"{'  disturbed' if load.was_disturbed else ''}",
                flush=True,
            )
    loads_of_all = [load for loads in pairs for load in loads]
    clean = [loads for loads in pairs if not any(load.was_disturbed for load in loads)]
    if len(clean) >= MIN_PAIRS:
        pairs = clean
    print(f"of {len(pairs)} pairs: median, lowest and highest; and of the best run of each")
    by_cpu = [ours.per_cpu_second / theirs.per_cpu_second for ours, theirs in pairs]
    by_wall = [ours.rate / theirs.rate for ours, theirs in pairs]
    best_ours, best_theirs = (
        max(loads[place].per_cpu_second for loads in pairs) for place in (0, 1)
    )
    print(f"ratio per CPU-second  {spread(by_cpu)}  best {best_ours / best_theirs:.3f}")
    print(f"ratio per second      {spread(by_wall)}")
    if pairs is not clean:
        print(
            f"note: other processes disturbed all but {len(clean)} pairs, so all are counted:"
            " run again on a quiet machine"
        )
    for sentence in warnings(loads_of_all):
        print(f"note: {sentence}")
    return not any(load.errors for load in loads_of_all)


def main() -> None:
    """Read the arguments, run, and exit with 1 where an echo was wrong."""
    quick = bool(os.environ.get("QUICK"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--starts", type=int, default=2 if quick else 4, help="of the servers")
    parser.add_argument("--turns", type=int, default=4 if quick else 5, help="pairs per start")
    parser.add_argument("--seconds", type=float, default=0.6 if quick else 1.0)
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--depth", type=int, default=1, help="messages under way on each")
    parser.add_argument("--size", type=int, default=64, help="bytes of a message")
    parser.add_argument("--scheme", choices=("ws", "wss"), help="only this one")
    parser.add_argument(
        "--server", choices=SERVERS, default="gateman", help="picows shows the noise of it all"
    )
    arguments = parser.parse_args()
    try:
        build()
    except MissingTool as missing:
        sys.exit(str(missing))
    server_core, generator_core = cores()
    print(conditions())
    print(
        f"{arguments.connections} connections, {arguments.size} bytes, depth {arguments.depth};"
        f" server on core {server_core}, generator on core {generator_core}"
    )
    if server_core == generator_core:
        print("note: there is one core for both: only the figures per CPU-second mean anything")
    schemes = [arguments.scheme] if arguments.scheme else ["ws", "wss"]
    right = [
        compare(SERVERS[arguments.server], arguments, secure=scheme == "wss") for scheme in schemes
    ]
    sys.exit(0 if all(right) else 1)


if __name__ == "__main__":
    main()
