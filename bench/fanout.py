"""
Fan-out: how many deliveries a second, when many write to many through the hub.

    all to all     each of N clients sends 20 bytes that go to all N, over and over
    one to many    one client sends 20 bytes that go to 5000, one message at a time
    two processes  all to all, over two processes and the local bus between them
    bare C         one SSL_write for each client and no more: what one to many cannot do without

Over ws and wss. The server is on one core, with all of its processes, and the clients (``crowd.c``)
on another; they count every message and compare who sent it. Servers take turns, several times, and
what is printed is the best run of each: others on the machine can only make a run worse. *Per
CPU-second* divides by the CPU time of all processes that serve, kernel included; the router between
two of them is not among these, and takes a tenth of what they take.

    python bench/fanout.py             about 4 minutes
    QUICK=1 python bench/fanout.py     about 40 seconds
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial

from figures import Figure, record
from generator import HERE, MissingTool, build
from peers import BARE_C
from subject import Server, Subject, conditions, cores, running

CROWD = HERE / "crowd.c"

GATEMAN = Server(name="gateman", script="gateman_crowd.py")
GATEMAN_2 = Server(name="gateman, 2 processes", script="gateman_crowd.py", arguments=("--count=2",))
BARE = replace(BARE_C, arguments=("--crowd",))
WEBSOCKETS = Server(name="websockets broadcast", script="websockets_crowd.py")


@dataclass(frozen=True, kw_only=True)
class Case:
    """
    What is measured.

    Attributes:
        name: For the table.
        server: Who serves.
        clients: How many there are.
        senders: How many of them send.
        depth: How many messages of each are under way.
        secure: Whether it is wss.
        is_quick: Whether it is measured in a quick run, too.
    """

    name: str
    server: Server
    clients: int
    senders: int
    depth: int = 4
    secure: bool = False
    is_quick: bool = True


def cases(
    kind: str,
    *servers: Server,
    clients: int,
    senders: int,
    depth: int = 4,
    secure: bool = False,
    is_quick: bool = True,
) -> list[Case]:
    """Measure the same of several servers."""
    return [
        Case(
            name=f"{kind}, {clients}{', wss' * secure}",
            server=server,
            clients=clients,
            senders=senders,
            depth=depth,
            secure=secure,
            is_quick=is_quick,
        )
        for server in servers
    ]


_100 = partial(cases, "all to all", clients=100, senders=100)
_1000 = partial(cases, "all to all", clients=1000, senders=1000)
_5000 = partial(cases, "one to many", clients=5000, senders=1, depth=1)

# Fewer messages under way where a server takes seconds for a round of them.
CASES = [
    *_100(WEBSOCKETS, depth=2),
    *_100(GATEMAN, GATEMAN_2),
    *_100(WEBSOCKETS, depth=2, secure=True, is_quick=False),
    *_100(GATEMAN, secure=True, is_quick=False),
    *_1000(GATEMAN, GATEMAN_2),
    *_5000(WEBSOCKETS, BARE, GATEMAN, is_quick=False),
    *_5000(WEBSOCKETS, secure=True, is_quick=False),
    *_5000(BARE, GATEMAN, secure=True),
]


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """
    What one run measured.

    Attributes:
        deliveries: Messages that arrived, at all clients together.
        seconds: Length of the measured window.
        cpu_seconds: What the clients used.
        busy: Share of the window that they spent outside ``epoll_wait``.
        server_cpu_seconds: What all processes of the server used.
    """

    deliveries: int
    seconds: float
    cpu_seconds: float
    busy: float
    server_cpu_seconds: float

    @property
    def rate(self) -> float:
        """Deliveries per second."""
        return self.deliveries / self.seconds

    @property
    def per_cpu_second(self) -> float:
        """Deliveries per second of the server's CPU time."""
        return self.deliveries / self.server_cpu_seconds


def measure(subject: Subject, case: Case, *, seconds: float) -> Crowd:
    """Let a crowd talk."""
    words = [str(build(CROWD)), f"--port={subject.port}", f"--core={cores()[1]}"]
    words += [f"--clients={case.clients}", f"--senders={case.senders}", f"--depth={case.depth}"]
    words += [f"--duration={seconds}", *(f"--watch={pid}" for pid in subject.pids)]
    if case.secure:
        words.append("--tls")
    done = subprocess.run(words, stdout=subprocess.PIPE, check=False, timeout=300)
    if done.returncode:
        sys.exit("the crowd measured nothing (see above)")
    return Crowd(**json.loads(done.stdout))


def main() -> None:
    """Read the arguments, run, and print."""
    quick = bool(os.environ.get("QUICK"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=1 if quick else 3)
    parser.add_argument("--seconds", type=float, default=1.0 if quick else 2.0)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    arguments = parser.parse_args()
    try:
        build(CROWD)
    except MissingTool as missing:
        sys.exit(str(missing))
    print(conditions())
    print(f"server on core {cores()[0]}, clients on core {cores()[1]}; millions of deliveries\n")
    print(f"{'':26}{'server':24}{'per second':>12}{'per CPU-s':>12}{'clients busy':>14}")
    runs: dict[Case, list[Crowd]] = {}
    for _ in range(arguments.turns):
        for case in CASES:
            if arguments.only in case.name and (case.is_quick or not quick):
                with running(case.server, secure=case.secure) as subject:
                    runs.setdefault(case, []).append(
                        measure(subject, case, seconds=arguments.seconds)
                    )
    for case, crowds in runs.items():
        rate = max(crowd.rate for crowd in crowds)
        per_cpu_second = max(crowd.per_cpu_second for crowd in crowds)
        busy = max(crowd.busy for crowd in crowds)
        print(
            f"{case.name:26}{case.server.name:24}{rate / 1e6:12.2f}{per_cpu_second / 1e6:12.2f}"
            f"{busy:14.0%}"
        )
        for unit, values in (
            ("deliveries per CPU-second", [crowd.per_cpu_second for crowd in crowds]),
            ("deliveries per second", [crowd.rate for crowd in crowds]),
        ):
            name = case.server.name
            record(
                Figure(question="fan-out", case=case.name, server=name, unit=unit, values=values)
            )


if __name__ == "__main__":
    main()
