"""
The bus: what a message between two processes costs, by a router of ours and by NATS.

One process publishes as fast as others receive; the CPU time of each is its own (``getrusage``),
and that of the broker is read from ``/proc``. Also: what a subscription costs.

    python bench/bus.py             about 30 seconds
    QUICK=1 python bench/bus.py     about 10 seconds
"""

import argparse
import asyncio
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gateman.bus import open_bus, subject

SUBJECT = subject("gateman", "group", "bench")
PROGRESS = subject("gateman", "progress")
BATCH = 100  # messages per turn of the publisher's loop

_TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds


async def publish(url: str, count: int, size: int, receivers: int) -> None:
    """Publish as fast as the receivers follow."""
    bus = open_bus(url)
    await bus.start()
    payload = bytes(size)
    window = _window(size)
    received = [0] * receivers
    progress = asyncio.Event()

    def note(said: bytes) -> None:
        who, so_far = map(int, said.split())
        received[who] = so_far
        progress.set()

    await bus.subscribe(PROGRESS, note)
    before = _cpu_time()
    sent = 0
    while min(received) < count:
        progress.clear()
        room = min(BATCH, count - sent, min(received) + window - sent)
        sent += sum(bus.publish(SUBJECT, payload) for _ in range(room))
        if room > 0:
            await asyncio.sleep(0)
        else:
            await progress.wait()
    print(json.dumps({"cpu": _cpu_time() - before}))
    await bus.stop()


async def receive(url: str, count: int, size: int, number: int) -> None:
    """Receive all of it, and say how far it has come."""
    bus = open_bus(url)
    ended = asyncio.Event()
    await bus.start()
    received = 0
    step = _window(size) // 4

    def take(_: bytes) -> None:
        nonlocal received
        received += 1
        if received % step == 0 or received == count:
            bus.publish(PROGRESS, b"%d %d" % (number, received))
        if received == count:
            ended.set()

    await bus.subscribe(SUBJECT, take)
    before = _cpu_time()
    print("ready", flush=True)
    await ended.wait()
    print(json.dumps({"cpu": _cpu_time() - before}))
    await bus.stop()


def _window(size: int) -> int:
    """Return how many messages may be under way: what no bus here drops."""
    return 2 * 1024 * 1024 // (size + 64)


async def subscribe(url: str, count: int) -> None:
    """Subscribe to many subjects, and wait until they are effective."""
    bus = open_bus(url)
    await bus.start()
    subjects = [subject("gateman", "uid", str(number)) for number in range(count)]
    before, began, cpu = _resident_size(os.getpid()), time.perf_counter(), _cpu_time()
    for one in subjects[:-1]:
        bus.subscribe(one, _ignore)
    await bus.subscribe(subjects[-1], _ignore)
    took = time.perf_counter() - began
    size = (_resident_size(os.getpid()) - before) / count
    print(json.dumps({"seconds": took, "cpu": _cpu_time() - cpu, "size": size}), flush=True)
    sys.stdin.read()
    await bus.stop()


def _ignore(_: bytes) -> None:
    pass


def _cpu_time() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _resident_size(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


class Broker:
    """A broker in a child process."""

    def __init__(self, name: str, url: str, pid: int) -> None:
        self.name = name
        self.url = url
        self._pid = pid

    def cpu_time(self) -> float:
        """Return the seconds of CPU that it has used."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK

    def resident_size(self) -> int:
        """Return the bytes that it holds in memory."""
        return _resident_size(self._pid)


@contextmanager
def router(folder: Path) -> Iterator[Broker]:
    """Run our router."""
    path = folder / "bus.sock"
    command = [sys.executable, "-m", "gateman.bus.router", str(path)]
    with _running(command, socket.AF_UNIX, str(path)) as pid:
        yield Broker("local", f"local://{path}", pid)


@contextmanager
def nats() -> Iterator[Broker]:
    """Run a NATS server."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    program = shutil.which("nats-server", path=path)
    if program is None:
        sys.exit("nats-server is not installed: see scripts/debian-packages.txt")
    command = [program, "-a", "127.0.0.1", "-p", str(port)]
    with _running(command, socket.AF_INET, ("127.0.0.1", port)) as pid:
        yield Broker("nats", f"nats://127.0.0.1:{port}?name=bench", pid)


@contextmanager
def _running(command: list[str], family: int, address: str | tuple[str, int]) -> Iterator[int]:
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as child:
        try:
            while True:
                with socket.socket(family, socket.SOCK_STREAM) as probe:
                    if probe.connect_ex(address) == 0:
                        break
                time.sleep(0.01)
            yield child.pid
        finally:
            child.terminate()


def run(*arguments: object) -> subprocess.Popen[str]:
    """Run this program in another role."""
    return subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def measure(broker: Broker, *, count: int, size: int, receivers: int) -> str:
    """
    Measure one bus.

    Args:
        broker: Whose.
        count: How many messages are published.
        size: Of each, in bytes.
        receivers: How many processes get each of them.

    Returns:
        A line of the table.
    """
    with ExitStack() as stack:
        others = [
            stack.enter_context(run("receive", broker.url, count, size, number))
            for number in range(receivers)
        ]
        for one in others:
            assert one.stdout is not None
            one.stdout.readline()
        before, began = broker.cpu_time(), time.perf_counter()
        publisher = stack.enter_context(run("publish", broker.url, count, size, receivers))
        publishing = json.loads(publisher.communicate()[0])["cpu"]
        receiving = sum(json.loads(one.communicate()[0])["cpu"] for one in others)
        took = time.perf_counter() - began
        routing = broker.cpu_time() - before
    delivered = count * receivers
    total = publishing + receiving + routing
    return (
        f"{broker.name:7}{size:7,}{receivers:6}{delivered / took:14,.0f}{delivered / total:14,.0f}"
        f"{count / publishing:14,.0f}{delivered / receiving:14,.0f}{delivered / routing:14,.0f}"
    )


def measure_subscriptions(broker: Broker, count: int) -> str:
    """
    Measure what subscriptions cost.

    Args:
        broker: Whose.
        count: How many.

    Returns:
        A line of the table.
    """
    before = broker.resident_size()
    with run("subscribe", broker.url, count) as child:
        assert child.stdout is not None
        said = json.loads(child.stdout.readline())
        size = (broker.resident_size() - before) / count
        child.communicate()
    return f"{broker.name:7}{count:9,}{said['seconds']:10.2f}{said['size']:14,.0f}{size:14,.0f}"


def main() -> None:
    """Read the arguments, measure, and print tables; or play a part in that."""
    quick = bool(os.environ.get("QUICK"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100_000 if quick else 500_000)
    parser.add_argument("--subscriptions", type=int, default=100_000)
    parser.add_argument("part", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    match arguments.part:
        case ["publish", url, count, size, receivers]:
            asyncio.run(publish(url, int(count), int(size), int(receivers)))
        case ["receive", url, count, size, number]:
            asyncio.run(receive(url, int(count), int(size), int(number)))
        case ["subscribe", url, count]:
            asyncio.run(subscribe(url, int(count)))
        case _:
            _table(arguments.count, arguments.subscriptions)


def _table(count: int, subscriptions: int) -> None:
    print(
        f"{'':7}{'':7}{'':6}{'delivered':>14}{'per CPU-second of':>56}\n"
        f"{'bus':7}{'bytes':>7}{'to':>6}{'per second':>14}{'all':>14}{'publisher':>14}"
        f"{'receivers':>14}{'broker':>14}"
    )
    with tempfile.TemporaryDirectory() as folder, router(Path(folder)) as ours, nats() as theirs:
        for size, receivers in ((64, 1), (1000, 1), (64, 3)):
            for broker in (ours, theirs):
                some = count if size == 64 else count // 5
                print(measure(broker, count=some, size=size, receivers=receivers), flush=True)
    # Fresh ones: what a broker has used before, it does not give back.
    with tempfile.TemporaryDirectory() as folder, router(Path(folder)) as ours, nats() as theirs:
        print(f"\n{'bus':7}{'subjects':>9}{'seconds':>10}{'bytes each':>14}{'in broker':>14}")
        for broker in (ours, theirs):
            print(measure_subscriptions(broker, subscriptions), flush=True)


if __name__ == "__main__":
    main()
