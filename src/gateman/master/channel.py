"""
Messages between the master and a process: lines of JSON over a socket pair. PURE.

The classes here are all messages of both directions. The receiver validates each message completely
before it acts: a process that gave up root may be compromised, and its master may run as root.
The control socket uses the same lines (:mod:`.control_requests`).
"""

import json
from collections.abc import Iterable
from typing import Annotated, Any, TypedDict, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct, field

from .events import Policy

T = TypeVar("T")

# The longest is a list of connections.
MAX_LINE_SIZE = 8 << 20  # bytes

_Count = Annotated[int, Meta(ge=0)]
_Text = Annotated[str, Meta(max_length=1024)]
Nonce = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
"""What the doctor's handshakes carry."""


class Report(TypedDict):
    memory: _Count  # resident, in bytes
    connections: _Count
    messages: _Count  # received
    qps: float  # messages received per second, in the last 5 seconds
    send_fail: _Count  # messages dropped
    timers: _Count
    lag: float  # the longest delay of its event loop in the last 5 seconds, in seconds
    # By cause, such as dropped messages and refused clients; and those of the hub.
    counts: Annotated[dict[_Text, _Count], Meta(max_length=1024)]
    hub: Annotated[dict[_Text, _Count], Meta(max_length=1024)]
    certificate_days: int | None  # until the first of its certificates expires


class ConnectionReport(TypedDict):
    id: int
    client: _Text  # address and port
    proxy: _Text | None  # the address of its proxy
    state: _Text
    unsent: _Count  # bytes in the send buffer
    received: _Count | None  # bytes on the wire, with TLS; None if the system does not count them
    sent: _Count | None
    messages: _Count  # received
    age: float | None  # seconds
    uid: _Text | None


class ArrivalReport(TypedDict):
    """How one of the doctor's handshakes arrived; see :mod:`gateman.net.arrivals`."""

    carriers: Annotated[list[_Text], Meta(max_length=8)]  # field, query or key have the nonce
    begins_with: _Text  # http, or proxy for a PROXY header that was not expected
    method: _Text
    path: _Text
    version: _Text
    fields: Annotated[dict[_Text, _Text], Meta(max_length=32)]  # those that proxies change
    peer: _Text
    is_trusted: bool
    source: _Text | None  # that a PROXY header names
    is_tls: bool
    status: int | None  # of the answer; None without one
    causes: Annotated[list[_Text], Meta(max_length=32)]  # as in the counts of a report


class CauseReport(TypedDict):
    """What a process noticed while the doctor looked."""

    cause: _Text
    count: _Count
    message: _Text


# From a process.


class Ready(Struct, tag_field="say", tag="ready"):
    """The process serves, with the policy of the script that it has loaded."""

    policy: Policy
    # Those by ACME, as gateman.acme.options has them.
    certificates: Annotated[list[dict[str, Any]], Meta(max_length=1000)] = field(
        default_factory=list
    )


class Starting(Struct, tag_field="say", tag="starting"):
    """The process does not serve yet, and is not stuck; sent each second."""

    waits_for: Annotated[str, Meta(max_length=1024, pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z")]


class Heartbeat(Struct, tag_field="say", tag="beat"):
    """Sent each second."""

    report: Report


class Signalled(Struct, tag_field="say", tag="signalled"):
    """The process got SIGTERM, or SIGQUIT to drain, and waits for the master's decision."""

    is_graceful: bool


class StillDraining(Struct, tag_field="say", tag="stays"):
    """The process has drained, and cannot deliver its results yet; sent each second."""


class ReportAnswer(Struct, tag_field="say", tag="report"):
    to: int
    report: Report


class ConnectionsAnswer(Struct, tag_field="say", tag="connections"):
    to: int
    connections: list[ConnectionReport]
    total: _Count


class ArrivalsAnswer(Struct, tag_field="say", tag="arrivals"):
    to: int
    arrivals: Annotated[list[ArrivalReport], Meta(max_length=64)]
    causes: Annotated[list[CauseReport], Meta(max_length=64)]


AT_END = -1
"""What nobody has asked for: a process reports its metrics when it ends."""


class MetricsAnswer(Struct, tag_field="say", tag="metrics"):
    """
    What a process has measured; ``to`` may be ``AT_END``.

    The families are those of :mod:`gateman.metrics.families`, which only a service that shows
    metrics loads.
    """

    to: int
    families: msgspec.Raw


Answer = ReportAnswer | ConnectionsAnswer | ArrivalsAnswer | MetricsAnswer
FromProcess = Ready | Starting | Heartbeat | Signalled | StillDraining | Answer


# From the master.


class Accept(Struct, tag_field="do", tag="accept"):
    """Accept for exactly these slots of the worker."""

    numbers: list[int]


class Drain(Struct, tag_field="do", tag="drain"):
    """Drain and end; ``keeps_accepting`` serves health checks meanwhile."""

    keeps_accepting: bool = False


class Stop(Struct, tag_field="do", tag="stop"):
    """Close everything and end."""


class GetReport(Struct, tag_field="do", tag="report"):
    number: int


class GetConnections(Struct, tag_field="do", tag="list"):
    number: int
    limit: Annotated[int, Meta(ge=1)]


class GetArrivals(Struct, tag_field="do", tag="arrivals"):
    """Remember what arrives with this nonce, from the first time on, and report it."""

    number: int
    nonce: Nonce


class GetMetrics(Struct, tag_field="do", tag="metrics"):
    number: int


FromMaster = Accept | Drain | Stop | GetReport | GetConnections | GetArrivals | GetMetrics

from_process: msgspec.json.Decoder[FromProcess] = msgspec.json.Decoder(FromProcess)
from_master: msgspec.json.Decoder[FromMaster] = msgspec.json.Decoder(FromMaster)


_KINDS = {one.__struct_config__.tag for one in (*get_args(FromProcess), *get_args(FromMaster))}


class _Kind(Struct):
    say: str = ""
    do: str = ""


_kinds = msgspec.json.Decoder(_Kind)


class Lines:
    """Splits received bytes into lines, in linear time."""

    def __init__(self, max_size: int = MAX_LINE_SIZE) -> None:
        self._unfinished = bytearray()
        self._max_size = max_size

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that are complete now; raises ``ValueError`` if one is too long."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = bytes(self._unfinished + lines[0])
            self._unfinished.clear()
        self._unfinished += rest
        if max(map(len, (self._unfinished, *lines))) > self._max_size:
            raise ValueError(f"a line has more than {self._max_size} bytes")
        return lines


def decode(decoder: "msgspec.json.Decoder[T]", data: bytes) -> T:
    """Decode a line from another process; raises ``ValueError`` if it is not a valid message."""
    try:
        return decoder.decode(data)
    except RecursionError:
        raise ValueError("a line is nested too deeply") from None


def read(decoder: "msgspec.json.Decoder[T]", lines: Iterable[bytes]) -> list[T]:
    """Decode lines of the channel; ``ValueError`` if one is not a valid message."""
    messages: list[T] = []
    for one in lines:
        try:
            messages.append(decode(decoder, one))
        # A reload may load a newer version of gateman: messages that only that version knows are
        # skipped.
        except msgspec.ValidationError:
            kind = decode(_kinds, one)
            if (kind.say or kind.do) in {"", *_KINDS}:
                raise
    return messages


def line(message: Struct | dict[str, Any]) -> bytes:
    """Encode a message; characters that UTF-8 cannot encode become question marks."""
    if isinstance(message, MetricsAnswer):
        return msgspec.json.encode(message) + b"\n"
    text = json.dumps(msgspec.to_builtins(message), ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="replace") + b"\n"
