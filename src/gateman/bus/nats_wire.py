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
        HPUB <subject> <reply> <head's size> <whole size>\r\n<head>\r\n                    →
        HMSG <subject> <sid> [reply] <head's size> <whole size>\r\n<head><payload>\r\n      ←
        -ERR '<text>'\r\n                           ←

    A query is a message with headers and no payload, which its receivers recognise and discard. If
    there is no receiver, the server sends headers with the status 503 to its reply subject.

Source:
    https://docs.nats.io/reference/reference-protocols/nats-protocol
    https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-4.md (headers)
"""

import json
from collections.abc import Mapping

from .subjects import Subject
from .wire import Broken, BrokerEvent, BrokerHello, BrokerRefusal, Control, NoSubscribers

_LINE_END = b"\r\n"

# bytes; the longest line is an INFO that lists a cluster's servers.
_MAX_LINE_SIZE = 1024 * 1024

# bytes; NATS refuses to be configured for more.
_MAX_PAYLOAD_SIZE = 64 * 1024 * 1024

# The number of a query is the longest; it grows by far less than one a microsecond.
_MAX_DIGITS = 18

# The reply subject of queries. All processes use the same: the server sends a 503 only to the
# connection that asked. No escaped name equals these tokens.
_ANSWERS = b"=answers."
_NOWHERE = b"=nowhere"

# The reply subject of requests about history, with a token of the connection, and a number. What
# arrives there, and for followers of a history, is passed on with its headers before it.
_REPLIES = "=replies"
_HISTORY = b"history."

_QUESTION = b"NATS/1.0\r\nGateman-Question: 1\r\n\r\n"
_QUESTION_NAME = b"\r\nGateman-Question:"
_NO_RESPONDERS = b"NATS/1.0 503"

# The beginning of the error for a subscription without permission; the connection stays open.
_OF_SUBSCRIBING = "permissions violation for subscription"


def connect(options: Mapping[str, object], *, has_headers: bool) -> bytes:
    """Write the CONNECT that answers the server's INFO."""
    fixed = {
        "verbose": False,
        "pedantic": False,
        "protocol": 1,
        "echo": False,
        "headers": has_headers,
        "no_responders": has_headers,
        "lang": "python",
        "name": "gateman",
        "version": "1",
    }
    return b"CONNECT " + json.dumps({**fixed, **options}).encode() + _LINE_END


class NatsWire:
    """The client's side of a connection; see :class:`~.wire.Wire`. Queries need headers."""

    ping = b"PING\r\n"
    pong = b"PONG\r\n"

    def __init__(self, prefix: bytes = b"", token: str = "") -> None:
        self._prefix = prefix
        self._answers = prefix + _ANSWERS
        self._replies = f"{_REPLIES}.{token}."
        self._is_replied_to = False
        self.has_headers = False
        self.can_confirm = False
        self._is_listening = False
        self._sids: dict[str, int] = {}
        self._last_sid = 0
        self._rest = bytearray()
        self._missing = 0

    def publish(self, subject: Subject, payload: bytes) -> bytes:
        name = subject.encode("ascii")
        return b"PUB %b%b %d\r\n%b\r\n" % (self._prefix, name, len(payload), payload)

    def subscribe(self, subject: Subject) -> bytes:
        self._last_sid += 1
        self._sids[subject] = self._last_sid
        return b"SUB %b%b %d\r\n" % (self._prefix, subject.encode("ascii"), self._last_sid)

    def unsubscribe(self, subject: Subject) -> bytes:
        return b"UNSUB %d\r\n" % self._sids.pop(subject)

    def ask(self, subject: Subject, number: int) -> bytes:
        """See :meth:`.wire.Wire.ask`; writes nothing if the server has no headers."""
        if not self.has_headers:
            return b""
        question = self._question(subject.encode("ascii"), number)
        if self.can_confirm:
            return question
        # No answer means a subscriber only after a query for a subject that has none was answered:
        # our reply subscription may be refused, and a wildcard subscriber matches everything.
        question = self._question(_NOWHERE, 0) + question
        if not self._is_listening:
            self._is_listening = True
            self._last_sid += 1
            question = b"SUB %b* %d\r\n" % (self._answers, self._last_sid) + question
        return question

    def request(
        self, subject: bytes, number: int, payload: bytes, head: bytes | None = None
    ) -> bytes:
        """Write a message to a subject of NATS itself, to be answered."""
        replies = self._prefix + self._replies.encode("ascii")
        size = len(payload)
        if head is None:
            written = b"PUB %b %b%d %d\r\n%b\r\n" % (subject, replies, number, size, payload)
        else:
            sizes = len(head), len(head) + size
            written = b"HPUB %b %b%d %d %d\r\n%b%b\r\n" % (
                *(subject, replies, number),
                *sizes,
                *(head, payload),
            )
        if self._is_replied_to:
            return written
        self._is_replied_to = True
        return self.listen(replies + b"*") + written

    def listen(self, subject: bytes) -> bytes:
        """Write a subscription to a subject of NATS itself."""
        self._last_sid += 1
        return b"SUB %b %d\r\n" % (subject, self._last_sid)

    def reply_number(self, subject: str) -> int:
        """Return the number of the request that a message answers; 0 for another message."""
        number = subject.removeprefix(self._replies)
        return int(number) if number != subject and _is_number(number.encode()) else 0

    def feed(self, data: bytes) -> list[BrokerEvent]:
        if self._rest:
            self._rest += data
            self._missing -= len(data)
            if self._missing > 0:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        events: list[BrokerEvent] = []
        start, skipped = 0, len(self._prefix)
        while (line_end := data.find(_LINE_END, start)) >= 0:
            if data.startswith(b"MSG ", start):
                stop = line_end + 2
                words = data[start:line_end].split()
                size = _size(words)
                if size is None:
                    events.append(Broken("a message has an invalid size"))
                    return events
                payload_end = stop + size
                if payload_end + 2 > len(data):
                    self._keep(data, start, payload_end + 2)
                    return events
                events.append((str(words[1][skipped:], "latin-1"), data[stop:payload_end]))
                stop = payload_end + 2
            else:
                event, stop = self._read(data, start, line_end)
                if stop > len(data):
                    self._keep(data, start, stop)
                    return events
                if event is not None:
                    events.append(event)
                if isinstance(event, Broken):
                    return events
            start = stop
        if len(data) - start > _MAX_LINE_SIZE:
            events.append(Broken("a line is too long"))
        else:
            self._keep(data, start, 0)
        return events

    def _read(self, data: bytes, start: int, line_end: int) -> tuple[BrokerEvent | None, int]:
        """Return the event of a line, if it is complete, and where it ends."""
        stop = line_end + 2
        if not data.startswith(b"HMSG ", start):
            return _line(data[start:line_end]), stop
        words = data[start:line_end].split()
        sizes = _sizes(words)
        if sizes is None:
            return Broken("a message has invalid sizes"), stop
        middle, end = stop + sizes[0], stop + sizes[1]
        if end + 2 > len(data):
            return None, end + 2
        return self._headed(words[1], data[stop:middle], data[middle:end]), end + 2

    def _headed(self, subject: bytes, head: bytes, payload: bytes) -> BrokerEvent | None:
        number = subject.removeprefix(self._answers)
        if number != subject:
            if not head.startswith(_NO_RESPONDERS) or not _is_number(number):
                return None
            self.can_confirm = True
            return NoSubscribers(int(number)) if int(number) else None
        if _QUESTION_NAME in head:
            return None
        name = subject[len(self._prefix) :]
        if name.startswith((_HISTORY, self._replies.encode("ascii"))):
            payload = head + payload
        return str(name, "latin-1"), payload

    def _question(self, subject: bytes, number: int) -> bytes:
        size = len(_QUESTION)
        return b"HPUB %b%b %b%d %d %d\r\n%b\r\n" % (
            self._prefix,
            subject,
            self._answers,
            number,
            size,
            size,
            _QUESTION,
        )

    def _keep(self, data: bytes, start: int, until: int) -> None:
        self._rest += memoryview(data)[start:]
        self._missing = until - len(data)


def _size(words: list[bytes]) -> int | None:
    # Four words, or five with a reply subject, which is not used.
    if len(words) in {4, 5} and words[-1].isdigit() and len(words[-1]) <= 8:
        size = int(words[-1])
        return size if size <= _MAX_PAYLOAD_SIZE else None
    return None


def _sizes(words: list[bytes]) -> tuple[int, int] | None:
    """Get the size of the head, and that of head and payload."""
    whole = _size(words[:-2] + words[-1:])
    if whole is None or not _is_number(words[-2]) or int(words[-2]) > whole:
        return None
    return int(words[-2]), whole


def _is_number(word: bytes) -> bool:
    return word.isdigit() and len(word) <= _MAX_DIGITS


def _line(line: bytes) -> BrokerEvent | None:
    word, _, rest = line.partition(b" ")
    match word.upper():
        case b"PING":
            return Control.PING
        case b"PONG":
            return Control.PONG
        case b"+OK":
            return None
        case b"-ERR":
            return _refused(rest)
        case b"INFO":
            return _hello(rest)
        case _:
            return Broken("it does not speak NATS")


def _refused(rest: bytes) -> BrokerEvent:
    text = rest.decode("utf-8", "replace").strip().strip("'")
    # Requests of ours, which are answered in their own way.
    is_ours = any(mark in rest for mark in (_ANSWERS, _REPLIES.encode("ascii"), b"$JS."))
    return BrokerRefusal(text, is_of_subscribing=_OF_SUBSCRIBING in text.lower() and not is_ours)


def _hello(text: bytes) -> BrokerEvent:
    try:
        info = json.loads(text)
    except (ValueError, RecursionError):
        info = None
    return BrokerHello(info) if isinstance(info, dict) else Broken("its INFO cannot be read")
