"""Handlers of a business worker, with a gateway that notes what they say."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from gateman.cluster.names import ClientId
from gateman.gateway.event_runner import EventRunner
from gateman.gateway.protocol import AdoptEvent, AnyEvent, MessageEvent, Result

from .loop import eventually

ANN, BOB = ClientId("gate-1"), ClientId("gate-2")
HEAD = b"GET /chat?a=1 HTTP/1.1\r\nHost: example.com\r\n\r\n"


class RunnerHarness:
    """Handlers, and what they say to a gateway."""

    prefix = "gate-"

    def __init__(self, **functions: Callable[..., Any]) -> None:
        self.counts: Counter[str] = Counter()
        self.closed: list[ClientId] = []
        self.results: list[Result] = []
        self.said: list[object] = []
        self.handlers = EventRunner(functions, self.counts, self.closed.append)
        self._number = 0

    def handle(self, *events: AnyEvent) -> None:
        """Let events come; numbered from 1 on."""
        for event in events:
            self._number += 1
            self.handlers.handle([(self._number, event)], self)

    def handled(self, number: int) -> None:
        """Take an empty result."""
        self.complete(Result(number))

    def complete(self, result: Result) -> None:
        """Take a result."""
        self.results.append(result)
        self.said.append(result.number)

    def announce(self, number: int) -> None:
        """Take note of an event that begins."""
        self.said.append(f"begins {number}")

    async def until(self, count: int) -> list[int]:
        """Wait until so many events are done; gives their numbers."""
        await eventually(lambda: len(self.results) >= count)
        return [result.number for result in self.results]


def adopt(client: ClientId, session: bytes = b"") -> AdoptEvent:
    """Make what a client begins with."""
    return AdoptEvent(client, 0, session, "10.0.0.1", 5000)


def text(client: ClientId, payload: str, suspicion: int = 0) -> MessageEvent:
    """Make a message."""
    return MessageEvent(client, suspicion, payload=payload.encode())


def packed(value: object) -> bytes:
    """Write a session."""
    return msgspec.msgpack.encode(value)
