"""
One request of a probe, and one open WebSocket.

Nothing is judged here, and nothing that a server does raises.
"""

import asyncio
import os
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from ...errors import ProtocolError
from ...websocket.close import parse_close
from ...websocket.encoding import Opcode
from ..stream import follow
from ..target import Route, Settings, Target
from .frames import Frame, FrameReader, client_frame
from .observations import Answer, Attempt, End, Exchange, Kind, Silence, parse_answer

# A site may let only browsers in; the end of it tells the operator who it was.
_USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (gateman doctor)"

_MAX_HEAD = 64 << 10  # bytes
_MAX_BODY = 8 << 10  # bytes
_BODY_TIME = 0.7  # seconds
_READ_SIZE = 64 << 10  # bytes
_FIRST = 200  # bytes of what follows a 101
_EXTENSIONS = "Sec-WebSocket-Extensions"
_COMPRESSION = "permessage-deflate; client_max_window_bits"


def default_origin(target: Target) -> str:
    return f"{'https' if target.is_tls else 'http'}://{target.authority}"


class Client:
    """Sends requests to a target on a route."""

    def __init__(self, target: Target, settings: Settings, route: Route, origin: str) -> None:
        self._target = target
        self._settings = settings
        self._route = route
        self._origin = origin

    async def ask(
        self,
        kind: Kind,
        seconds: float,
        *,
        path: str | None = None,
        key: str | None = None,
        watch: float = 0.0,
    ) -> Attempt:
        """Send one request; ``watch`` is for how many seconds a pong is waited for."""
        async with AsyncExitStack() as stack:
            attempt, conversation = await self._send(stack, kind, seconds, path=path, key=key)
            if conversation is not None and watch:
                return replace(attempt, exchange=await _exchange(conversation, watch))
            if conversation is not None:
                await conversation.finish()
        return attempt

    @asynccontextmanager
    async def conversation(self, seconds: float) -> AsyncIterator["Conversation | Attempt"]:
        """Open a WebSocket, or give what came in its place; the caller has all the time then."""
        async with AsyncExitStack() as stack:
            attempt, conversation = await self._send(stack, Kind.HANDSHAKE, seconds)
            yield conversation or attempt

    async def _send(
        self,
        stack: AsyncExitStack,
        kind: Kind,
        seconds: float,
        *,
        path: str | None = None,
        key: str | None = None,
    ) -> "tuple[Attempt, Conversation | None]":
        """Send one request on a connection of its own, which the stack ends."""
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        is_handshake = kind not in {Kind.PLAIN, Kind.MALFORMED}
        origin = None
        if is_handshake and kind is not Kind.NATIVE:
            origin = "https://other-site.example" if kind is Kind.FOREIGN else self._origin
        attempt = Attempt(
            kind=kind,
            address=self._route.address,
            port=self._route.port,
            path=path or self._target.path,
            origin=origin,
            key=(key or b64encode(os.urandom(16)).decode()) if is_handshake else "",
            subprotocols=self._settings.subprotocols if is_handshake else (),
            offers_compression=is_handshake and kind is not Kind.NATIVE,
        )
        received, silence, error = b"", Silence.CLOSED, ""
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await stack.enter_async_context(follow(self._route))
                writer.write(self._request(attempt))
                received = await _read_head(reader)
        except TimeoutError:
            silence = Silence.TIMED_OUT
        except ssl.SSLError as failure:
            silence, error = Silence.UNREACHABLE, failure.reason or str(failure)
        except (BrokenPipeError, ConnectionAbortedError, ConnectionResetError):
            silence = Silence.RESET
        except OSError as failure:
            silence, error = Silence.UNREACHABLE, str(failure)
        attempt = replace(attempt, duration=loop.time() - begun_at)
        head, end, rest = received.partition(b"\r\n\r\n")
        answer = parse_answer(head + end) if end else None
        if answer is None:
            silence = Silence.NOT_HTTP if received else silence
            return replace(attempt, silence=silence, garbage=received[:200], error=error), None
        if answer.status == 101 and is_handshake:
            conversation = Conversation(reader, writer, rest, answer.get(_EXTENSIONS))
            return replace(attempt, answer=answer), conversation
        body = await _read_body(reader, rest, answer)
        return replace(attempt, answer=parse_answer(head + end, body)), None

    def _request(self, attempt: Attempt) -> bytes:
        path, origin = attempt.path, attempt.origin
        if attempt.kind is Kind.MALFORMED:
            # Not a method (RFC 9110, section 5.6.2): what is in front answers by itself.
            return f"G@T {path} HTTP/1.1\r\nHost: {self._target.authority}\r\n\r\n".encode()
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {self._target.authority}",
            f"User-Agent: {_USER_AGENT}",
        ]
        if attempt.key:
            lines += [
                "Connection: Upgrade",
                "Pragma: no-cache",
                "Cache-Control: no-cache",
                "Upgrade: websocket",
                *([f"Origin: {origin}"] if origin is not None else ()),
                "Sec-WebSocket-Version: 13",
                f"Sec-WebSocket-Key: {attempt.key}",
            ]
            if attempt.offers_compression:
                lines.append(f"{_EXTENSIONS}: {_COMPRESSION}")
            if attempt.subprotocols:
                lines.append(f"Sec-WebSocket-Protocol: {', '.join(attempt.subprotocols)}")
        else:
            lines += ["Accept: text/html,*/*;q=0.8", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self._settings.headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Conversation:
    """An open WebSocket: answers pings, and notes what comes."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, early: bytes, agreed: str
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader()
        self._loop = asyncio.get_running_loop()
        self._opened_at = self._loop.time()
        self._ping: tuple[bytes, float] | None = None
        self._agreed = agreed
        self.seen = Exchange(end=End.OPEN)
        self._take(early)

    @property
    def is_open(self) -> bool:
        return self.seen.end is End.OPEN

    @property
    def has_pong(self) -> bool:
        return self.seen.pong_time is not None

    def send(self, opcode: int, payload: bytes) -> None:
        if self.is_open:
            self._writer.write(client_frame(opcode, payload, os.urandom(4)))

    def ping(self) -> None:
        """Send a ping; the time of its pong is noted."""
        payload = os.urandom(8)
        self._ping = payload, self._loop.time()
        self.send(Opcode.PING, payload)

    async def finish(self) -> Exchange:
        """Close it, without waiting for the answer, and give what came."""
        seen = self.seen
        self.send(Opcode.CLOSE, (1000).to_bytes(2))
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(0.5):
                await self._writer.drain()
        return seen

    async def listen(self, seconds: float, until: Callable[[], bool] = bool) -> None:
        """Read until the time is over, the connection has ended, or ``until`` is true."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.is_open and not until():
                    try:
                        data = await self._reader.read(_READ_SIZE)
                    except OSError:
                        self._ended(End.RESET)
                        return
                    if not data:
                        self._ended(End.EOF)
                        return
                    self._take(data)

    def _note(self, **what: Any) -> None:
        self.seen = replace(self.seen, **what)

    def _take(self, data: bytes) -> None:
        self._note(first=(self.seen.first + data)[:_FIRST])
        for frame in self._frames.feed(data):
            if self.is_open:
                self._handle(frame)

    def _handle(self, frame: Frame) -> None:
        if frame.fault:
            self._note(fault=frame.fault)
            self._ended(End.FAULT)
            return
        if frame.rsv and not self._agreed:
            self._note(is_compressed=True)
        match frame.opcode:
            case Opcode.PING:
                self._note(pings=(*self.seen.pings, self._loop.time() - self._opened_at))
                self.send(Opcode.PONG, frame.payload)
            case Opcode.PONG if self._ping is not None:
                payload, sent_at = self._ping
                if frame.payload == payload:
                    self._note(pong_time=self._loop.time() - sent_at)
                else:
                    self._note(has_wrong_pong=True)
            case Opcode.CLOSE:
                try:
                    self._note(close=parse_close(frame.payload))
                except ProtocolError as error:
                    self._note(fault=error.reason)
                self.send(Opcode.CLOSE, frame.payload)
                self._ended(End.CLOSE)
            case _:
                self._note(messages=self.seen.messages + frame.fin)

    def _ended(self, end: End) -> None:
        self._note(end=end, ended_at=self._loop.time() - self._opened_at)


async def _exchange(conversation: Conversation, watch: float) -> Exchange:
    """Ping, and look whether the server closes at once."""
    conversation.ping()
    await conversation.listen(watch, lambda: conversation.has_pong)
    if conversation.is_open and conversation.has_pong:
        await conversation.listen(min(0.4, watch))
    return await conversation.finish()


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received and len(received) < _MAX_HEAD:
        if received and not (received.startswith(b"HTTP/1") or b"HTTP/1".startswith(received)):
            # Another protocol may keep the connection open.
            return received
        data = await reader.read(_MAX_HEAD)
        if not data:
            return received
        received += data
    return received


async def read_answer(reader: asyncio.StreamReader, *, max_body: int) -> Answer | None:
    """Read a whole answer; the caller has a deadline."""
    received = await _read_head(reader)
    head, end, rest = received.partition(b"\r\n\r\n")
    answer = parse_answer(head + end) if end else None
    if answer is None:
        return None
    body = await _read_body(reader, rest, answer, max_size=max_body)
    return parse_answer(head + end, body)


async def _read_body(
    reader: asyncio.StreamReader, body: bytes, answer: Answer, *, max_size: int = _MAX_BODY
) -> bytes:
    length = answer.get("Content-Length")
    wanted = min(int(length), max_size) if length.isdigit() else max_size
    if answer.status in {204, 304}:
        wanted = 0
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(_BODY_TIME):
            while len(body) < wanted and (data := await reader.read(_READ_SIZE)):
                body += data
                if answer.has_token("Transfer-Encoding", "chunked") and b"\r\n0\r\n\r\n" in body:
                    break
    return body[:max_size]
