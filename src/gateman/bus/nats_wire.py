r"""
The bytes between a process and a NATS server. Pure.

Wire format:
    Lines of text, and payloads by their size::

        INFO {"server_id": …}\r\n                   ←  first of all, and when something changes
        CONNECT {"verbose": false, …}\r\n           →
        PING\r\n  PONG\r\n                          ↔
        SUB <subject> <sid>\r\n                     →
        UNSUB <sid>\r\n                             →
        PUB <subject> <size>\r\n<payload>\r\n       →
        MSG <subject> <sid> <size>\r\n<payload>\r\n ←
        -ERR '<text>'\r\n                           ←

    Headers and replies are not asked for, hence HMSG and reply subjects do not come.

Source:
    https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

import json
from collections.abc import Mapping

from .subjects import Subject
from .wire import Broken, Event, Hello, Refused, Sign

_LINE_END = b"\r\n"

# bytes; the longest line is an INFO that lists a cluster's servers.
_MAX_LINE_SIZE = 1024 * 1024

# bytes; NATS refuses to be configured for more.
_MAX_PAYLOAD_SIZE = 64 * 1024 * 1024


def connect(options: Mapping[str, object]) -> bytes:
    """
    Write what the server asks for in the beginning.

    Args:
        options: Who we are, as :mod:`.credentials` makes it.

    Returns:
        The line.
    """
    fixed = {
        "verbose": False,
        "pedantic": False,
        "protocol": 1,
        "echo": False,
        "headers": False,
        "no_responders": False,
        "lang": "python",
        "name": "gateman",
        "version": "1",
    }
    return b"CONNECT " + json.dumps({**fixed, **options}).encode() + _LINE_END


class NatsWire:
    """A client's side; see :class:`~.wire.Wire`."""

    ping = b"PING\r\n"
    pong = b"PONG\r\n"

    def __init__(self) -> None:
        self._sids: dict[str, int] = {}
        self._last_sid = 0
        self._rest = bytearray()
        self._missing = 0

    def publish(self, subject: Subject, payload: bytes) -> bytes:
        """See :meth:`.wire.Wire.publish`."""
        return b"PUB %b %d\r\n%b\r\n" % (subject.encode("ascii"), len(payload), payload)

    def subscribe(self, subject: Subject) -> bytes:
        """See :meth:`.wire.Wire.subscribe`."""
        self._last_sid += 1
        self._sids[subject] = self._last_sid
        return b"SUB %b %d\r\n" % (subject.encode("ascii"), self._last_sid)

    def unsubscribe(self, subject: Subject) -> bytes:
        """See :meth:`.wire.Wire.unsubscribe`."""
        return b"UNSUB %d\r\n" % self._sids.pop(subject)

    def feed(self, data: bytes) -> list[Event]:
        """See :meth:`.wire.Wire.feed`."""
        if self._rest:
            self._rest += data
            self._missing -= len(data)
            if self._missing > 0:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        events: list[Event] = []
        start = 0
        while (line_end := data.find(_LINE_END, start)) >= 0:
            stop = line_end + 2
            if data.startswith(b"MSG ", start):
                words = data[start:line_end].split()
                size = _size(words)
                if size is None:
                    events.append(Broken("a message has no size that makes sense"))
                    return events
                payload_end = stop + size
                if payload_end + 2 > len(data):
                    self._keep(data, start, payload_end + 2)
                    return events
                events.append((str(words[1], "latin-1"), data[stop:payload_end]))
                stop = payload_end + 2
            else:
                event = _line(data[start:line_end])
                if event is not None:
                    events.append(event)
                if isinstance(event, Broken):
                    return events
            start = stop
        if len(data) - start > _MAX_LINE_SIZE:
            events.append(Broken("a line is too long"))
            return events
        self._keep(data, start, 0)
        return events

    def _keep(self, data: bytes, start: int, until: int) -> None:
        self._rest += memoryview(data)[start:]
        self._missing = until - len(data)


def _size(words: list[bytes]) -> int | None:
    # Four words, or five with a subject for replies, which we have no use for.
    if len(words) in {4, 5} and words[-1].isdigit() and len(words[-1]) <= 8:
        size = int(words[-1])
        return size if size <= _MAX_PAYLOAD_SIZE else None
    return None


def _line(line: bytes) -> Event | None:
    word, _, rest = line.partition(b" ")
    match word.upper():
        case b"PING":
            return Sign.PING
        case b"PONG":
            return Sign.PONG
        case b"+OK":
            return None
        case b"-ERR":
            return Refused(rest.decode("utf-8", "replace").strip().strip("'"))
        case b"INFO":
            return _hello(rest)
        case _:
            return Broken("it does not speak NATS")


def _hello(text: bytes) -> Event:
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):
        about = None
    return Hello(about) if isinstance(about, dict) else Broken("its INFO cannot be read")
