"""
How many requests a worker's HTTP application answers, beside uvicorn with the same application.

Each connection sends its next request when the response to the last one is there. One is uvicorn on
asyncio's event loop, as ``gateman[http]`` installs it; the other one is on uvloop.

    python bench/http_requests.py             about a minute
    QUICK=1 python bench/http_requests.py     about 20 seconds
"""

import argparse
import os
import selectors
import socket
import time
from pathlib import Path

from generator import Unmeasured
from subject import Server, Subject, cores
from turns import Turns, announce, report, take_turns

QUICK = bool(os.environ.get("QUICK"))

SCRIPT = "http_application.py"
SERVERS = [
    Server(name="gateman", script=SCRIPT, package="gateman", worker=r"child_main\.py"),
    Server(name="uvicorn", script=SCRIPT, arguments=("--in=asyncio",), package="uvicorn"),
    Server(name="uvicorn, uvloop", script=SCRIPT, arguments=("--in=uvloop",), package="uvloop"),
]
REQUEST = (
    b"GET /orders/7?full=1 HTTP/1.1\r\nHost: 127.0.0.1:8282\r\nUser-Agent: bench/1\r\n"
    b"Accept: */*\r\n\r\n"
)
END = b"hello, world"
CASES = ("1 connection", "32 connections")

Rates = tuple[float, float]


def cpu_seconds(subject: Subject) -> float:
    """Read what the server's processes have used."""
    used = [Path(f"/proc/{pid}/schedstat").read_text().split()[0] for pid in subject.pids]
    return sum(map(int, used)) / 1e9


def measure(_server: Server, subject: Subject, case: str, *, seconds: float) -> Rates:
    """Send requests for one turn; give those per CPU-second, and per second."""
    number = int(case.split(maxsplit=1)[0])
    clients = [socket.create_connection(("127.0.0.1", subject.port)) for _ in range(number)]
    with selectors.EpollSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ, client)
            client.sendall(REQUEST)
        count, used, began = 0, cpu_seconds(subject), time.monotonic()
        while time.monotonic() < began + seconds:
            for key, _ in selector.select(1):
                answer = key.data.recv(1 << 16)
                if not answer:
                    raise Unmeasured("it ended a connection")
                if answer.endswith(END):
                    count += 1
                    key.data.sendall(REQUEST)
        took, used = time.monotonic() - began, cpu_seconds(subject) - used
    for client in clients:
        client.close()
    if not count:
        raise Unmeasured("it answered nothing")
    return count / used, count / took


def warm(server: Server, subject: Subject, *, secure: bool) -> None:
    """Wait until it answers, and send some requests that do not count."""
    del secure
    with socket.create_connection(("127.0.0.1", subject.port), timeout=20) as client:
        client.sendall(REQUEST)
        if not client.recv(1 << 16):
            raise Unmeasured("it ended a connection")
    measure(server, subject, CASES[0], seconds=0.3)


def main() -> None:
    """Read the arguments, run, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--starts", type=int, default=1 if QUICK else 2, help="of the servers")
    parser.add_argument("--turns", type=int, default=3 if QUICK else 8, help="per start")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn")
    arguments = parser.parse_args()
    announce(SERVERS)
    os.sched_setaffinity(0, {cores()[1]})
    turns: Turns[str, Rates] = take_turns(
        SERVERS,
        CASES,
        lambda server, subject, case: measure(server, subject, case, seconds=arguments.seconds),
        secure=False,
        starts=arguments.starts,
        turns=arguments.turns,
        prepare=warm,
    )
    for case in CASES:
        found = turns.of(case)
        for number, unit in enumerate(("requests per CPU-second", "requests per second")):
            values = {server: [one[number] for one in them] for server, them in found.items()}
            report("http", case, values, unit=unit, failures=turns.failures_in(case))


if __name__ == "__main__":
    main()
