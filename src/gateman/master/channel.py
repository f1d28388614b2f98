"""
What the master and a process say to each other: a line of JSON at a time, over a socket pair. PURE.

The classes here are all that may be said, in either direction; what arrives is checked in full
before anybody acts on it. A process that has given up root may be an attacker's by now, and its
master is root's. The control socket speaks in lines too (:mod:`.control_requests`).

The end of it is the end of the other side.
"""

import json
from collections.abc import Iterable
from typing import Annotated, Any, TypedDict, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct

from .events import Policy

T = TypeVar("T")

# The longest is a list of connections.
MAX_LINE_SIZE = 8 << 20  # bytes

_Count = Annotated[int, Meta(ge=0)]
_Text = Annotated[str, Meta(max_length=1024)]


class Report(TypedDict):
    """How a process is; see :mod:`gateman.master.control`."""

    memory: _Count
    connections: _Count
    messages: _Count
    qps: float
    send_fail: _Count
    timers: _Count
    lag: float
    counts: Annotated[dict[_Text, _Count], Meta(max_length=1024)]
    hub: Annotated[dict[_Text, _Count], Meta(max_length=1024)]
    certificate_days: int | None


class ConnectionReport(TypedDict):
    """How a connection is; see :mod:`gateman.master.control`."""

    id: int
    client: _Text
    proxy: _Text | None
    state: _Text
    unsent: _Count
    received: _Count | None
    sent: _Count | None
    messages: _Count
    age: float | None
    uid: _Text | None


# From a process.


class Ready(Struct, tag_field="say", tag="ready"):
    """It serves, as the script that it has loaded declares it."""

    policy: Policy


class Starting(Struct, tag_field="say", tag="starting"):
    """It does not serve yet, and is not stuck: it waits for this; said each second."""

    waits_for: Annotated[str, Meta(max_length=1024, pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z")]


class Heartbeat(Struct, tag_field="say", tag="beat"):
    """It lives; said each second."""

    report: Report


class Signalled(Struct, tag_field="say", tag="signalled"):
    """It got SIGTERM, or SIGQUIT to drain, and waits for what that means."""

    is_graceful: bool


class StillDraining(Struct, tag_field="say", tag="stays"):
    """It has drained, and cannot yet tell what it has done; said each second."""


class ReportAnswer(Struct, tag_field="say", tag="report"):
    """The answer to the :class:`GetReport` with this number."""

    to: int
    report: Report


class ConnectionsAnswer(Struct, tag_field="say", tag="connections"):
    """The answer to the :class:`GetConnections` with this number."""

    to: int
    connections: list[ConnectionReport]
    total: _Count


Answer = ReportAnswer | ConnectionsAnswer
FromProcess = Ready | Starting | Heartbeat | Signalled | StillDraining | Answer


# From the master.


class Accept(Struct, tag_field="do", tag="accept"):
    """Accept for these slots of the worker, and no others."""

    numbers: list[int]


class Drain(Struct, tag_field="do", tag="drain"):
    """Drain, and end; go on accepting for health checks, or accept no more."""

    keeps_accepting: bool = False


class Stop(Struct, tag_field="do", tag="stop"):
    """Close everything, and end."""


class GetReport(Struct, tag_field="do", tag="report"):
    """Answer :class:`ReportAnswer`."""

    number: int


class GetConnections(Struct, tag_field="do", tag="list"):
    """Answer :class:`ConnectionsAnswer`."""

    number: int
    limit: Annotated[int, Meta(ge=1)]


FromMaster = Accept | Drain | Stop | GetReport | GetConnections

from_process: msgspec.json.Decoder[FromProcess] = msgspec.json.Decoder(FromProcess)
from_master: msgspec.json.Decoder[FromMaster] = msgspec.json.Decoder(FromMaster)


_KINDS = {one.__struct_config__.tag for one in (*get_args(FromProcess), *get_args(FromMaster))}


class _Kind(Struct):
    say: str = ""
    do: str = ""


_kinds = msgspec.json.Decoder(_Kind)


class Lines:
    """Cuts received bytes into lines, in time that grows with their number only."""

    def __init__(self, max_size: int = MAX_LINE_SIZE) -> None:
        self._unfinished = bytearray()
        self._max_size = max_size

    def feed(self, data: bytes) -> list[bytes]:
        """
        Take bytes.

        Raises:
            ValueError: A line is too long.
        """
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = bytes(self._unfinished + lines[0])
            self._unfinished.clear()
        self._unfinished += rest
        if max(map(len, (self._unfinished, *lines))) > self._max_size:
            raise ValueError(f"a line has more than {self._max_size} bytes")
        return lines


def decode(decoder: "msgspec.json.Decoder[T]", data: bytes) -> T:
    """
    Read a line that another process wrote.

    Raises:
        ValueError: It is not one of what may be said.
    """
    try:
        return decoder.decode(data)
    except RecursionError:
        raise ValueError("a line is nested too deeply") from None


def read(decoder: "msgspec.json.Decoder[T]", lines: Iterable[bytes]) -> list[T]:
    """
    Read lines of the channel.

    A reload may load a newer version of gateman: what only that one says is left out.

    Raises:
        ValueError: One is not of what may be said.
    """
    messages: list[T] = []
    for one in lines:
        try:
            messages.append(decode(decoder, one))
        except msgspec.ValidationError:
            kind = decode(_kinds, one)
            if (kind.say or kind.do) in {"", *_KINDS}:
                raise
    return messages


def line(message: Struct | dict[str, Any]) -> bytes:
    """Write a message; in its texts, what UTF-8 cannot carry becomes a question mark."""
    text = json.dumps(msgspec.to_builtins(message), ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="replace") + b"\n"
