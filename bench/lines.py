"""
Lines: what a ``text://`` worker echoes beside asyncio's streams and beside its own WebSocket.

Messages of 64 B and 1 KiB, one under way on each of 50 connections, and a case with eight. The
generator is a loop over sockets in Python, the same for all three: it is slower than ``echo.py``'s,
and only the CPU time of the server counts. The servers run side by side and are measured by turns;
ratios are the medians of the turns, with the lowest and the highest.

    python bench/lines.py             about half a minute
    QUICK=1 python bench/lines.py     about ten seconds
    python bench/lines.py --check     exit code 1 below 1.2 of streams or 0.9 of ws
"""

import argparse
import base64
import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from figures import ratio
from generator import Unmeasured
from subject import Server, Subject, cores, running
from turns import announce, report

QUICK = bool(os.environ.get("QUICK"))
CONNECTIONS = 50
LINES = Server(name="gateman text", script="gateman_echo.py", arguments=("--scheme=text",))
STREAMS = Server(name="asyncio streams", script="streams_echo.py")
WEBSOCKET = Server(name="gateman ws", script="gateman_echo.py")
SERVERS = (LINES, STREAMS, WEBSOCKET)
GOALS = {STREAMS: 1.2, WEBSOCKET: 0.9}

_KEY = base64.b64encode(bytes(16)).decode()
_HANDSHAKE = (
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()


@dataclass(frozen=True)
class Case:
    """Messages of one kind: their size in bytes, and how many are under way on a connection."""

    size: int
    depth: int = 1

    def __str__(self) -> str:
        return f"{self.size} B" + (f", {self.depth} deep" if self.depth > 1 else "")


CASES = (Case(64), Case(64, 8), Case(1024))


def request(server: Server, case: Case) -> tuple[bytes, int]:
    """Make what is sent at once, and the size of its answer."""
    payload = b"x" * case.size
    if server != WEBSOCKET:
        return (payload + b"\n") * case.depth, (case.size + 1) * case.depth
    is_short = case.size < 126
    length = bytes([0x80 | case.size]) if is_short else b"\xfe" + case.size.to_bytes(2)
    # A mask of zeros costs the server what any mask does.
    sent = b"\x81" + length + bytes(4) + payload
    return sent * case.depth, (case.size + (2 if is_short else 4)) * case.depth


@contextmanager
def clients(server: Server, subject: Subject) -> Iterator[list[socket.socket]]:
    """Connect, with a handshake where there is one."""
    with ExitStack() as stack:
        found = []
        for _ in range(CONNECTIONS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", subject.port), 10))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if server == WEBSOCKET:
                client.sendall(_HANDSHAKE)
                answer = b""
                while not answer.endswith(b"\r\n\r\n"):
                    answer += client.recv(4096)
            found.append(client)
        yield found


def cpu_seconds(pid: int) -> float:
    """Read the CPU time of a process."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def measure(server: Server, subject: Subject, case: Case, seconds: float) -> float:
    """Return the echoes per CPU-second of the server."""
    sent, wanted = request(server, case)
    with clients(server, subject) as found, select.epoll() as poll:
        by_number = {client.fileno(): client for client in found}
        missing = dict.fromkeys(by_number, wanted)
        for client in found:
            poll.register(client.fileno(), select.EPOLLIN)
            client.sendall(sent)
        count = 0
        until, began = time.monotonic() + seconds, cpu_seconds(subject.pid)
        while time.monotonic() < until:
            for number, _ in poll.poll(1):
                client = by_number[number]
                missing[number] -= len(client.recv(1 << 16))
                if not missing[number]:
                    missing[number] = wanted
                    count += case.depth
                    client.sendall(sent)
        used = cpu_seconds(subject.pid) - began
    if used < seconds / 20:
        raise Unmeasured("other processes left it no time")
    return count / used


def main() -> None:
    """Run, print and judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=5 if QUICK else 15)
    parser.add_argument("--seconds", type=float, default=0.2, help="of a turn")
    parser.add_argument("--check", action="store_true", help="fail below the goals")
    arguments = parser.parse_args()
    announce(SERVERS)
    is_below = False
    with ExitStack() as stack:
        subjects = {one: stack.enter_context(running(one, secure=False)) for one in SERVERS}
        os.sched_setaffinity(0, {cores()[1]})
        for case in CASES:
            values: dict[Server, list[float]] = {one: [] for one in SERVERS}
            for number in range(arguments.turns + 1):
                order = list(subjects) if number % 2 else list(reversed(subjects))
                try:
                    turn = {
                        server: measure(server, subjects[server], case, arguments.seconds)
                        for server in order
                    }
                except Unmeasured as why:
                    print(f"note: a turn was left out: {why}")
                    continue
                for server, value in turn.items() if number else ():  # The first warms up.
                    values[server].append(value)
            report("lines", str(case), values, unit="messages per CPU-second", base=LINES.name)
            for server, goal in GOALS.items():
                found = ratio(values[LINES], values[server])
                if found is not None:
                    is_below |= found.median < goal
                    print(f"  {LINES.name} makes {found} of {server.name}; the goal is {goal}")
    if arguments.check and is_below:
        sys.exit("below a goal")


if __name__ == "__main__":
    main()
