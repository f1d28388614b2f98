r"""
What is said to JetStream, and what it says. Pure.

One stream of a service has a subject for each channel. Its messages are published again for
followers, with the number before them in their subject. Each message has a header with the limits
of its channel::

    Gateman-Kept: <size> <ttl>

A *marker* is a message without a payload that no client gets. It keeps the place where a channel
begins, or, with the number of the last message before it, where its messages were removed::

    Gateman-Marker: 1
    Gateman-Until: <number>

So nothing is missing after a position as long as the message, or marker, of its number is in the
stream, or a marker with that number or a lower one: messages are dropped from the front alone.

Source:
    https://docs.nats.io/reference/reference-protocols/nats_api_reference
    https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-31.md (direct get)
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from ..history.base import HistoryLimits
from ..history.wire import MAX_PAGE_SIZE, Live

# The first subject of the messages of channels, behind the prefix of a service; that of followers
# is "history". No escaped name equals it.
_LOG = "=log"

# Seconds; how long a position is known in a channel without messages. Their age is checked by us.
_MAX_AGE = 86_400.0

# Seconds; idempotency keys, as in a router.
_KEY_TIME = 300

# Two markers beside the messages of a channel.
_MARKER_COUNT = 2

# A century, which fits the 64 bits of nanoseconds.
_MAX_SECONDS = 3.1e9

# A token of the stream follows.
_DESCRIPTION = "The history of a gateman service: "

_NO_RESPONDERS = 503
_STREAM_NOT_FOUND, _MESSAGE_NOT_FOUND, _WRONG_LAST, _NAME_IN_USE = 10059, 10037, 10071, 10058
_UNREADABLE = "JetStream's answer cannot be read"

_HEADER = re.compile(
    rb"\r\n(Gateman-(?:Kept|Marker|Until)|Nats-(?:Sequence|Last-Sequence|Time-Stamp)): *([^\r]*)"
)
_STATUS = re.compile(rb"NATS/1\.0 (\d{3})")


class JetStreamError(Exception):
    """What JetStream refuses; its text is for people."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    @property
    def is_missing_stream(self) -> bool:
        return self.code == _STREAM_NOT_FOUND

    @property
    def is_without_answer(self) -> bool:
        """Whether nobody serves the subject: the stream is gone, or has no leader."""
        return self.code == _NO_RESPONDERS

    @property
    def is_name_in_use(self) -> bool:
        """Whether another process made the stream first, with other limits."""
        return self.code == _NAME_IN_USE

    @property
    def is_missing_message(self) -> bool:
        return self.code == _MESSAGE_NOT_FOUND

    @property
    def is_wrong_last(self) -> bool:
        """Whether another message came first."""
        return self.code == _WRONG_LAST


class LogMessage(Struct, frozen=True):
    """A message of a stream."""

    number: int
    time: float
    payload: bytes
    limits: HistoryLimits  # of no use in a marker
    is_marker: bool
    until: int | None

    def proves(self, number: int) -> bool:
        """Whether nothing between a number and this message, the first after it, is missing."""
        return self.number == number or (self.until is not None and self.until <= number)


class StreamNames:
    """The names of the stream of a service, and of its channels."""

    def __init__(self, name: str) -> None:
        self.stream = f"gateman-{name}"
        self.prefix = f"gateman.{name}."
        self.leader_elected = f"$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.{self.stream}"

    def log(self, subject: str) -> str:
        """Return the subject of a channel's messages; that of its followers is given."""
        return f"{self.prefix}{_LOG}.{subject.removeprefix('history.')}"

    def api(self, verb: str) -> bytes:
        """Return the subject of a request, such as ``STREAM.INFO``."""
        return f"$JS.API.{verb}.{self.stream}".encode("ascii")

    def config(
        self, limits: HistoryLimits, token: str, *, replicas: int, max_bytes: int
    ) -> dict[str, Any]:
        """Make the configuration of the stream, with a token that no other stream has."""
        return {
            "name": self.stream,
            "description": f"{_DESCRIPTION}{token}",
            "subjects": [f"{self.prefix}{_LOG}.*"],
            "retention": "limits",
            "discard": "old",
            "storage": "file",
            "num_replicas": replicas,
            # Not max_msgs, with which dropping by subject becomes slow (nats-server#4043).
            "max_bytes": max_bytes,
            "max_msgs": -1,
            "max_msgs_per_subject": limits.size + _MARKER_COUNT,
            "max_age": _nanoseconds(max(_MAX_AGE, 2 * limits.ttl)),
            "duplicate_window": _nanoseconds(_KEY_TIME),
            "allow_direct": True,
            "allow_rollup_hdrs": True,
            "republish": self._republish,
        }

    def is_ours(self, config: Mapping[str, Any]) -> bool:
        """Whether a stream does what we rely on; the rest is an operator's choice."""
        republish = config.get("republish")
        return (
            config.get("subjects") == [f"{self.prefix}{_LOG}.*"]
            and isinstance(republish, dict)
            and self._republish.items() <= republish.items()
            and bool(config.get("allow_direct"))
            and bool(config.get("allow_rollup_hdrs"))
        )

    @property
    def _republish(self) -> dict[str, str]:
        return {
            "src": f"{self.prefix}{_LOG}.*",
            "dest": f"{self.prefix}history.{{{{wildcard(1)}}}}",
        }


def grown(config: Mapping[str, Any], limits: HistoryLimits) -> dict[str, Any] | None:
    """Return a configuration that is enough for a channel; ``None`` if it is."""
    wanted = {
        "max_msgs_per_subject": limits.size + _MARKER_COUNT,
        "max_age": _nanoseconds(max(_MAX_AGE, 2 * limits.ttl)),
    }
    more = {name: value for name, value in wanted.items() if value > config.get(name, 0) > 0}
    return {**config, **more} if more else None


def _head(**headers: str) -> bytes:
    """Write headers; an underscore stands for a hyphen."""
    lines = (f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items() if value)
    return f"NATS/1.0\r\n{''.join(lines)}\r\n".encode()


def message_head(limits: HistoryLimits, log: str, key: str) -> bytes:
    """Write the headers of a message in a channel's subject."""
    named = hashlib.sha256(f"{log} {key}".encode()).hexdigest() if key else ""
    return _head(Gateman_Kept=f"{limits.size} {limits.ttl!r}", Nats_Msg_Id=named)


def beginning_head() -> bytes:
    """Write the headers of the marker of a channel that has no messages."""
    return _head(Gateman_Marker="1", Nats_Expected_Last_Subject_Sequence="0")


def removal_head(until: int) -> bytes:
    """Write the headers of a marker that replaces all messages, if this is the last one."""
    return _head(
        Gateman_Marker="1",
        Gateman_Until=str(until),
        Nats_Rollup="sub",
        Nats_Expected_Last_Subject_Sequence=str(until),
    )


def get_last(log: str) -> bytes:
    """Ask for the last message of a subject."""
    return json.dumps({"last_by_subj": log}).encode()


def get_by_number(log: str, number: int) -> bytes:
    """Ask for the first message of a subject from a number on."""
    return json.dumps({"seq": number, "next_by_subj": log}).encode()


def page_request(log: str, number: int, count: int) -> bytes:
    """Ask for the first messages of a subject from a number on."""
    # Servers before 2.11 ignore what they do not know, and send one message.
    request = {"seq": number, "next_by_subj": log, "batch": count, "max_bytes": MAX_PAGE_SIZE}
    return json.dumps(request).encode()


def is_last_of_page(data: bytes) -> bool:
    """Whether a reply is the last one to a page request."""
    return b"\r\nNats-Num-Pending:" not in data or data.startswith(b"NATS/1.0 204")


def read_answer(data: bytes) -> dict[str, Any]:
    """Read an answer in JSON; raises JetStreamError."""
    check_status(data)
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        answer = None
    match answer:
        case {"error": {"err_code": int(code), "description": str(text)}}:
            raise JetStreamError(code, f"JetStream refuses: {text}")
        case {"error": _} | None:
            raise JetStreamError(0, _UNREADABLE)
        case dict():
            return answer
    raise JetStreamError(0, _UNREADABLE)


def check_status(data: bytes) -> None:
    """Raise JetStreamError if an answer is only a status."""
    found = _STATUS.match(data)
    if found is None:
        return
    code = int(found[1])
    if code == _NO_RESPONDERS:
        raise JetStreamError(
            code,
            "JetStream does not answer: it is not enabled for us (`jetstream {}` in the servers'"
            " configuration), or has no leader at the moment",
        )
    raise JetStreamError(code, f"JetStream refuses: {found[0].decode('ascii')}")


def sequence(data: bytes) -> int:
    """Read the number that a message got; raises JetStreamError."""
    match read_answer(data):
        case {"seq": int(number)} if number > 0:
            return number
    raise JetStreamError(0, _UNREADABLE)


def epoch_of(info: Mapping[str, Any]) -> str:
    """Make the epoch of a stream, which is another one after it was made anew."""
    # Not of its time, which is not the same on all servers (2.9.10).
    description = str(info["config"].get("description", ""))
    made = description if description.startswith(_DESCRIPTION) else info.get("created")
    return hashlib.sha256(str(made).encode()).hexdigest()[:16]


def read_message(answer: Mapping[str, Any]) -> LogMessage:
    """Read the message of an answer in JSON; raises JetStreamError."""
    match answer:
        case {"message": {"seq": int(number), "time": str(time), **more}}:
            headers = _headers(_decoded(more.get("hdrs", "")))
            return _message(number, time, headers, _decoded(more.get("data", "")))
    raise JetStreamError(0, _UNREADABLE)


def read_direct(data: bytes) -> LogMessage | None:
    """Read one reply to a page request; ``None`` at its end; raises JetStreamError."""
    if _STATUS.match(data) and not data.startswith((b"NATS/1.0 204", b"NATS/1.0 404")):
        check_status(data)
    head_, _, payload = data.partition(b"\r\n\r\n")
    headers = _headers(head_)
    if b"Nats-Sequence" not in headers:
        return None
    try:
        number = int(headers[b"Nats-Sequence"])
        time = headers.get(b"Nats-Time-Stamp", b"").decode("latin-1")
        return _message(number, time, headers, payload)
    except ValueError:
        raise JetStreamError(0, _UNREADABLE) from None


def read_live(data: bytes) -> Live:
    """Read what followers receive; raises ValueError."""
    head_, separator, payload = data.partition(b"\r\n\r\n")
    headers = _headers(head_)
    if not separator or b"Nats-Sequence" not in headers:
        raise ValueError("it is not a message of a stream")
    return Live(
        b"Gateman-Marker" in headers,
        int(headers.get(b"Nats-Last-Sequence", b"0")),
        int(headers[b"Nats-Sequence"]),
        payload,
    )


def _message(number: int, time: str, headers: Mapping[bytes, bytes], payload: bytes) -> LogMessage:
    try:
        seconds = datetime.fromisoformat(time).timestamp()
        until = int(headers[b"Gateman-Until"]) if b"Gateman-Until" in headers else None
        size, _, ttl = headers.get(b"Gateman-Kept", b"1 0").partition(b" ")
        limits = HistoryLimits(int(size), float(ttl))
    except ValueError:
        raise JetStreamError(0, _UNREADABLE) from None
    return LogMessage(number, seconds, payload, limits, b"Gateman-Marker" in headers, until)


def _headers(data: bytes) -> dict[bytes, bytes]:
    """Read the headers that matter; the last one of a name counts, which is the server's."""
    return dict(_HEADER.findall(data))


def _decoded(text: object) -> bytes:
    try:
        return base64.b64decode(text) if isinstance(text, str) else b""
    except binascii.Error:
        raise JetStreamError(0, _UNREADABLE) from None


def _nanoseconds(seconds: float) -> int:
    return int(min(seconds, _MAX_SECONDS) * 1e9)
