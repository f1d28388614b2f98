"""
Many clients of the official SDK that publish numbered messages, and the account of every message.

What is promised: each client receives the messages of its channel once and in order, or is told
that some are missing. :func:`faults` compares what each client received with what all received.
"""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .deadlines import TIMEOUT
from .proxies import program
from .sdk import FOLDER, need_packages


@dataclass(frozen=True)
class Part:
    """
    What a client received from when it subscribed, or was told of a gap, to the next gap.

    Attributes:
        epoch: The epoch of its offsets.
        since: The offset behind which it begins.
        messages: Offset and text of each message, in the order of arrival.
    """

    epoch: str
    since: int
    messages: Sequence[tuple[int, str]]


@dataclass(frozen=True)
class Received:
    """What one client received of its channel; ``ended`` says why it is not subscribed any more."""

    name: str
    channel: str
    parts: Sequence[Part]
    ended: tuple[str, int, str] | None = None

    @property
    def gaps(self) -> int:
        """How often it was told that messages are missing."""
        return max(0, len(self.parts) - 1)


@dataclass(frozen=True)
class Account:
    """What all clients received, and what was published: channel and text of each message."""

    received: Sequence[Received]
    acknowledged: Sequence[tuple[str, str]]
    uncertain: Sequence[tuple[str, str]]

    @property
    def gaps(self) -> int:
        """How often a client was told that messages are missing."""
        return sum(one.gaps for one in self.received)


def faults(account: Account) -> list[str]:
    """Tell what was lost, repeated or reordered without a word; nothing, if all is well."""
    found: list[str] = []
    for channel in {one.channel for one in account.received}:
        members = [one for one in account.received if one.channel == channel]
        found += _faults_of(channel, members, account)
    return found


def _faults_of(channel: str, members: Sequence[Received], account: Account) -> list[str]:
    found: list[str] = []
    logs: dict[str, dict[int, str]] = {}
    for one in members:
        for part in one.parts:
            log = logs.setdefault(part.epoch, {})
            for offset, text in part.messages:
                if log.setdefault(offset, text) != text:
                    found.append(f"{channel}: offset {offset} is {text!r} and {log[offset]!r}")
    for one in members:
        if one.ended:
            found.append(f"{one.name} ended: {one.ended}")
        if not one.parts:
            found.append(f"{one.name} was never subscribed")
        for number, part in enumerate(one.parts):
            is_last = number == len(one.parts) - 1
            found += _faults_of_part(one, part, logs[part.epoch], is_last=is_last)
    texts = Counter(text for log in logs.values() for text in log.values())
    found += [
        f"{channel}: {text!r} came {count} times" for text, count in texts.items() if count > 1
    ]
    sent = {text for where, text in account.acknowledged if where == channel}
    known = sent | {text for where, text in account.uncertain if where == channel}
    found += [f"{channel}: {text!r} was not published" for text in set(texts) - known]
    if not all(one.gaps for one in members):
        # Somebody was told of no gap, and so has everything.
        found += [f"{channel}: {text!r} came to nobody" for text in sorted(sent - set(texts))]
    return found


def _faults_of_part(
    one: Received, part: Part, log: Mapping[int, str], *, is_last: bool
) -> list[str]:
    """Compare with what others received in the same time; what came last, if nothing followed."""
    got = [offset for offset, _ in part.messages]
    end = max(log, default=0) if is_last else max(got, default=0)
    due = sorted(offset for offset in log if part.since < offset <= end)
    if got == due:
        return []
    missing, extra = set(due) - set(got), Counter(got) - Counter(due)
    if missing:
        return [
            f"{one.name}: {len(missing)} messages of {one.channel} are missing: {min(missing)}…"
        ]
    if extra:
        return [f"{one.name}: {one.channel} {sorted(extra)[:3]} came again or too early"]
    return [f"{one.name}: {one.channel} is out of order"]


class Fleet:
    """The clients, in a process of their own."""

    def __init__(
        self, urls: Sequence[str], *, clients: int, channels: int, interval: float
    ) -> None:
        """
        Start them; they connect and subscribe at once.

        Args:
            urls: The addresses of services, which clients take in turn.
            clients: How many.
            channels: In how many channels they are.
            interval: Seconds between two messages of one client.
        """
        need_packages()
        options = {
            "urls": list(urls),
            "clients": clients,
            "channels": channels,
            "interval": 1000 * interval,
        }
        self._process = subprocess.Popen(
            [program("node"), str(FOLDER / "fleet.js"), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def publish(self) -> None:
        """Have all clients publish, each one message after the other."""
        self._ask("publish")

    def cut(self, share: float) -> None:
        """Break the connections of this share of the clients, without a close frame."""
        self._ask(f"cut {share}")

    def settle(self) -> None:
        """Wait until all clients are subscribed."""
        self._ask("settle")

    def pause(self) -> None:
        """Stop publishing, and wait for the answers to what was published."""
        self._ask("pause")

    def acknowledged(self) -> int:
        """Tell how many messages were acknowledged so far."""
        return int(self._ask("progress")["acknowledged"])

    def account(self) -> Account:
        """Tell what was published and received, after the last message has had its time."""
        deadline = time.monotonic() + TIMEOUT
        while faults(account := self._account()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return account

    def _account(self) -> Account:
        report = self._ask("report")
        return Account(
            received=[
                Received(
                    name=one["name"],
                    channel=one["channel"],
                    parts=[
                        Part(part["epoch"], part["since"], [(a, b) for a, b in part["messages"]])
                        for part in one["parts"]
                    ],
                    ended=one["ended"] and tuple(one["ended"]),
                )
                for one in report["subscriptions"]
            ],
            acknowledged=[(channel, text) for channel, text in report["acknowledged"]],
            uncertain=[(channel, text) for channel, text in report["uncertain"]],
        )

    def end(self) -> None:
        """End it, if it still runs."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, command: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def fleet(urls: Sequence[str], **options: Any) -> Iterator[Fleet]:
    """Run clients to the end of the block; the options are those of :class:`Fleet`."""
    running = Fleet(urls, **options)
    try:
        yield running
    finally:
        running.end()
