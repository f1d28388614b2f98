"""
The history: how many appends and recoveries a second each store takes, and what fan-out costs.

One process appends to many channels, 64 appends at a time; then it recovers 20 messages of 100
bytes for each of many clients, 64 at a time; then it publishes to followers in another process,
once through the history and once as messages of the bus alone. Stores: the router's memory, with
SQLite behind it, and JetStream of the NATS server in PATH.

    python bench/history.py             about 30 seconds
    QUICK=1 python bench/history.py     about 10 seconds
"""

import argparse
import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateman.bus import Bus, open_bus, subject
from gateman.history.base import HistoryLimits

PAYLOAD = bytes(100)
MISSED = 20
AT_ONCE = 64
LIMITS = HistoryLimits(size=100, ttl=300)


@contextmanager
def router(folder: Path, *options: str) -> Iterator[str]:
    """Run a router, and tell its URL."""
    path = folder / "bus.sock"
    command = [sys.executable, "-m", "gateman.bus.router", str(path), *options]
    with _running(command, socket.AF_UNIX, str(path)):
        yield f"local://{path}"


@contextmanager
def nats(folder: Path) -> Iterator[str]:
    """Run a NATS server with JetStream, and tell its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "nats.conf"
    config.write_text(
        f'listen: 127.0.0.1:{port}\njetstream {{ store_dir: "{folder / "jetstream"}" }}\n'
    )
    command = ["nats-server", "-c", str(config)]
    with _running(command, socket.AF_INET, ("127.0.0.1", port)):
        yield f"nats://127.0.0.1:{port}?name=bench"


@contextmanager
def _running(command: list[str], family: int, address: str | tuple[str, int]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            with socket.socket(family) as probe:
                try:
                    probe.connect(address)
                    break
                except OSError:
                    time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait()


async def measure(url: str, seconds: float) -> dict[str, float]:
    """Return rates a second."""
    here, there = open_bus(url), open_bus(url)
    await here.start()
    await there.start()
    history = here.history
    channels = [f"room-{number}" for number in range(1000)]
    start = (await history.since(channels[0], None, 0)).position
    for _ in range(MISSED):
        await history.append(channels[0], PAYLOAD, LIMITS)
    found = {
        "appends": await _rate(
            seconds, lambda turn: history.append(channels[turn % 1000], PAYLOAD, LIMITS)
        ),
        "recoveries": 0.0,
        "followed": await _followed(here, there, seconds),
        "plain": await _plain(here, there, seconds),
    }
    start = (await history.since("back", None, 0)).position
    for _ in range(MISSED):
        await history.append("back", PAYLOAD, LIMITS)
    found["recoveries"] = await _rate(seconds, lambda _: history.since("back", start, 100))
    missed = await history.since("back", start, 100)
    assert (missed.is_complete, len(missed.messages)) == (True, MISSED)
    await here.stop()
    await there.stop()
    return found


async def _rate(seconds: float, act: Callable[[int], Awaitable[object]]) -> float:
    """Do something, some at a time, and return how often a second."""
    begun_at = time.perf_counter()
    end = begun_at + seconds
    done = 0

    async def go() -> None:
        nonlocal done
        while time.perf_counter() < end:
            done += 1
            await act(done)

    await asyncio.gather(*(go() for _ in range(AT_ONCE)))
    return done / (time.perf_counter() - begun_at)


async def _followed(here: Bus, there: Bus, seconds: float) -> float:
    """Publish through the history to a follower in another process."""
    got = 0

    def receive(_: object) -> None:
        nonlocal got
        got += 1

    await there.history.follow("live", receive, lambda: None)
    begun_at = time.perf_counter()
    await _rate(seconds, lambda _: here.history.append("live", PAYLOAD, LIMITS))
    return got / (time.perf_counter() - begun_at)


async def _plain(here: Bus, there: Bus, seconds: float) -> float:
    """Publish to a subscriber in another process, as many ahead as appends at once."""
    got = sent = 0
    name, back = subject("bench"), subject("back")
    arrived = asyncio.Event()

    def receive(_: bytes) -> None:
        nonlocal got
        got += 1
        if got % (AT_ONCE // 2) == 0:
            there.publish(back, b"")

    await there.subscribe(name, receive)
    await here.subscribe(back, lambda _: arrived.set())
    begun_at = time.perf_counter()
    while time.perf_counter() < begun_at + seconds:
        arrived.clear()
        while sent < got + AT_ONCE:
            sent += 1
            here.publish(name, PAYLOAD)
        await arrived.wait()
    return got / (time.perf_counter() - begun_at)


def main() -> None:
    """Measure all stores, and print a table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    seconds = 0.7 if os.environ.get("QUICK") else 2.0
    print(f"{'':22}{'appends/s':>12}{'recoveries/s':>14}{'followed/s':>12}{'plain/s':>10}")
    for name in ("router", "router with SQLite", "JetStream"):
        if name == "JetStream" and shutil.which("nats-server") is None:
            print("JetStream: there is no nats-server")
            continue
        with tempfile.TemporaryDirectory(prefix="gateman-bench-") as text:
            folder = Path(text)
            options = [f"--history={folder / 'history.db'}"] if "SQLite" in name else []
            with nats(folder) if name == "JetStream" else router(folder, *options) as url:
                rates = asyncio.run(measure(url, seconds))
        print(
            f"{name:22}{rates['appends']:12,.0f}{rates['recoveries']:14,.0f}"
            f"{rates['followed']:12,.0f}{rates['plain']:10,.0f}"
        )


if __name__ == "__main__":
    main()
