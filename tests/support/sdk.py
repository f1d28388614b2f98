"""
Clients of the official SDKs: for JavaScript in Node and in Chromium, and for Python.

They run unmodified in a driver, a program of ``tests/clients_sdk`` that is told what to do and
reports answers and events; so one test runs with each of them, with JSON and with Protobuf.
"""

import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .browser import Chromium
from .deadlines import TIMEOUT
from .proxies import program

FOLDER = Path(__file__).parents[1] / "clients_sdk"
PACKAGES = FOLDER / "node_modules"


class SdkError(Exception):
    """The server, or the SDK, refused a command; the code is ``None`` if the SDK has none."""

    def __init__(self, code: int | None, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message


class Driver(ABC):
    """A program with any number of clients."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._names = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self._events: dict[str, list[dict[str, Any]]] = {}
        self._clients: list[SdkClient] = []

    def client(self, url: str, **options: Any) -> "SdkClient":
        """Make a client, which does not connect yet; see ``open`` in ``driver.js``."""
        client = SdkClient(self, f"client-{next(self._names)}")
        client.do("open", url=url, **options)
        self._clients.append(client)
        return client

    def disconnect_all(self) -> None:
        """End the clients: they would connect again and again to a port that is another test's."""
        for client in self._clients:
            client.do("disconnect")
        self._clients.clear()

    def begin(self, verb: str, **fields: Any) -> int:
        """Have a command executed, and return the number of its answer."""
        number = next(self._numbers)
        self._write(json.dumps({"number": number, "do": verb, **fields}))
        return number

    def answer(self, number: int) -> Any:
        """Wait for the answer of a command."""
        self._read_until(lambda: number in self._answers, f"no answer to command {number}")
        answer = self._answers.pop(number)
        if "error" in answer:
            raise SdkError(**answer["error"])
        return answer["value"]

    def events(self, client: str) -> list[dict[str, Any]]:
        """Return the events of a client that nobody has taken yet."""
        return self._events.setdefault(client, [])

    def take(self, client: str, event: str, **fields: Any) -> dict[str, Any]:
        """Wait for an event with these fields, and take it out of those of the client."""
        wanted = {"event": event, **fields}
        events = self.events(client)

        def found() -> dict[str, Any] | None:
            return next((one for one in events if wanted.items() <= one.items()), None)

        self._read_until(lambda: found() is not None, f"no event {wanted}; there were {events}")
        taken = found()
        assert taken is not None
        # Two events may be equal: the first one goes.
        events.remove(taken)
        return taken

    def _read_until(self, condition: Any, otherwise: str) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            left = deadline - time.monotonic()
            reports = self._read(left) if left > 0 else []
            if not reports:
                raise AssertionError(f"within {TIMEOUT} s, {otherwise}")
            for report in reports:
                if "answer" in report:
                    self._answers[report["answer"]] = report
                else:
                    self.events(report.pop("client")).append(report)

    @abstractmethod
    def _write(self, command: str) -> None:
        """Give a command in JSON to the program."""

    @abstractmethod
    def _read(self, timeout: float) -> list[dict[str, Any]]:
        """Wait for reports; none if there is none in time."""


class SdkClient:
    """One client."""

    def __init__(self, driver: Driver, name: str) -> None:
        self._driver = driver
        self._name = name

    def do(self, verb: str, **fields: Any) -> Any:
        """
        Execute a command to its end, such as ``publish`` or ``history``; see ``driver.js``.

        Raises:
            SdkError: It was refused.
        """
        return self._driver.answer(self.begin(verb, **fields))

    def begin(self, verb: str, **fields: Any) -> int:
        """Begin to execute a command whose answer the test waits for later, or never."""
        return self._driver.begin(verb, client=self._name, **fields)

    def answer(self, number: int) -> Any:
        """Wait for the answer to a command that was begun."""
        return self._driver.answer(number)

    def connect(self) -> dict[str, Any]:
        """Connect, and wait until it is connected."""
        self.do("connect")
        return self.take("connected")

    def subscribe(self, channel: str, **options: Any) -> dict[str, Any]:
        """Subscribe to a channel, and wait until it is subscribed."""
        self.do("subscribe", channel=channel, **options)
        return self.take("subscribed", channel=channel)

    def take(self, event: str, **fields: Any) -> dict[str, Any]:
        """Wait for an event with these fields, and take it out of :attr:`events`."""
        return self._driver.take(self._name, event, **fields)

    def publications(self, channel: str, count: int) -> list[Any]:
        """Wait for so many publications of a channel, and return their data."""
        return [self.take("publication", channel=channel)["data"] for _ in range(count)]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events that were reported and not taken."""
        return self._driver.events(self._name)


class ChildDriver(Driver):
    """A driver in a child process."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        super().__init__()
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read_lines, daemon=True)
        self._reader.start()

    def end(self) -> None:
        """End the program; its clients vanish without a word."""
        self._process.kill()
        self._process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def _read_lines(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def _write(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def _read(self, timeout: float) -> list[dict[str, Any]]:
        try:
            return [json.loads(self._lines.get(timeout=timeout))]
        except queue.Empty:
            return []


class PageDriver(Driver):
    """A driver in a page, which a browser has open."""

    def __init__(self, page: Chromium) -> None:
        super().__init__()
        self._page = page
        page.paste((PACKAGES / "centrifuge/dist/centrifuge.js").read_text())
        page.paste("globalThis.JsonCentrifuge = globalThis.Centrifuge")
        page.paste((PACKAGES / "centrifuge/dist/centrifuge.protobuf.js").read_text())
        page.paste((FOLDER / "driver.js").read_text().replace('"use strict";', "", 1))
        page.paste("""
            globalThis.reports = [];
            globalThis.told = () => {};
            const sdkOf = (Centrifuge) => (
                { Centrifuge, UnauthorizedError: Centrifuge.UnauthorizedError }
            );
            globalThis.perform = makeDriver({
                json: sdkOf(JsonCentrifuge),
                protobuf: sdkOf(Centrifuge),
            }, (report) => { reports.push(report); told(); });
            globalThis.next = async (milliseconds) => {
                if (reports.length === 0) {
                    await new Promise((done) => {
                        told = done;
                        setTimeout(done, milliseconds);
                    });
                }
                return reports.splice(0);
            };
        """)

    def _write(self, command: str) -> None:
        self._page.paste(f"perform({command})")

    def _read(self, timeout: float) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._page.evaluate(
            f"next({timeout * 1000})", timeout=timeout + TIMEOUT
        )
        return found


class Kind(NamedTuple):
    """An SDK, and how it encodes."""

    name: str
    is_protobuf: bool

    @property
    def options(self) -> dict[str, bool]:
        """What ``open`` is told."""
        return {"protobuf": self.is_protobuf}


def need_packages() -> Path:
    """Return the folder of the packages of npm, or skip the test."""
    if not (PACKAGES / "ready").exists():
        pytest.skip("The packages of npm are missing: scripts/setup-node .venv/bin/python")
    return PACKAGES


@contextmanager
def node_driver() -> Iterator[Driver]:
    """Run clients in Node."""
    need_packages()
    driver = ChildDriver([program("node"), str(FOLDER / "driver.js")], {})
    try:
        yield driver
    finally:
        driver.end()


@contextmanager
def python_driver() -> Iterator[Driver]:
    """Run clients in Python."""
    driver = ChildDriver([sys.executable, str(FOLDER / "driver.py")], {})
    try:
        yield driver
    finally:
        driver.end()


DRIVERS = {"node": node_driver, "python": python_driver}
"""The programs that a test may run its clients in; a page is made from a browser of the test."""

KINDS = tuple(Kind(name, is_protobuf) for name in DRIVERS for is_protobuf in (False, True))
NAMES = tuple(f"{kind.name}-{'protobuf' if kind.is_protobuf else 'json'}" for kind in KINDS)
