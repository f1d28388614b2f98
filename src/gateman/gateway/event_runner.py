"""
Runs a business worker's handlers: for each client one at a time and in order.

A plain function runs at once, an ``async def`` in a task of its client, whose later events wait
until the task ends. An exception of a handler is logged with its traceback and closes that client.

It shares tasks and error reports with :mod:`gateman.runtime.callback_runner`, and not the queue:
the gateway bounds what waits here and needs a result for it, suspected events run one at a time in
the whole process, and there is no connection whose reading could pause.
"""

import asyncio
import contextlib
import inspect
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

import msgspec

from ..cluster.envelope import unsendable
from ..cluster.names import ClientId
from ..config.callbacks import Function, wrong_result
from ..errors import EnvelopeError, Refuse
from ..request import parse_request
from ..runtime.callback_errors import CallbackErrors, has_left
from ..runtime.callback_tasks import (
    CallbackTasks,
    Task,
    cancellation_error,
    take_back_cancellation,
)
from . import current
from .protocol import (
    AdoptEvent,
    AnyEvent,
    CloseEvent,
    ConnectEvent,
    HandshakeAnswer,
    MessageEvent,
    OpenEvent,
    Result,
)
from .send_window import MAX_BATCH_SIZE

_NAMES: dict[type, str] = {
    ConnectEvent: "on_websocket_connect",
    OpenEvent: "on_open",
    MessageEvent: "on_message",
    CloseEvent: "on_close",
}

# The gateway has applied its own limit already.
_MAX_HEADER_COUNT = 1 << 16

# A packet is queued in one turn of the loop, published in the next, and written at its end.
_TURNS_UNTIL_SENT = 3

# Seconds for which an event of suspicion 1 holds back other suspected events. Suspicion 2 has no
# limit; for all suspected events that would be too slow where handlers are slow.
_TURN = 1.0

_WELCOME = HandshakeAnswer(0)
_FAILED = HandshakeAnswer(500, "internal error")

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, Any])
_answers = msgspec.msgpack.Decoder(HandshakeAnswer)

Running = Awaitable[object]


class ClientContext:
    """A client whose events go to this process."""

    __slots__ = ("name", "parts", "remote_ip", "remote_port", "saved", "used_session", "waiting")

    def __init__(self, name: ClientId, remote_ip: str, remote_port: int) -> None:
        self.name = name
        self.remote_ip = remote_ip
        self.remote_port = remote_port
        # The session that the gateway has, as MessagePack; empty for an empty session.
        self.saved = b""
        # Events that wait while a handler runs; None if no handler runs.
        self.waiting: deque[Work] | None = None
        # The pieces of a message that is not complete.
        self.parts: list[Work] = []
        # The session, if a handler has used it since `save`.
        self.used_session: dict[str, Any] | None = None

    @property
    def session(self) -> dict[str, Any]:
        """Its session."""
        if self.used_session is None:
            self.used_session = _decoder.decode(self.saved) if self.saved else {}
        return self.used_session

    def renew(self, saved: bytes) -> None:
        """Take the session that the gateway has sent."""
        self.saved = saved
        # A task of an earlier handler may have decoded the old one.
        self.used_session = None

    def save(self) -> bytes | None:
        """Return the encoded session if a handler has changed it; ValueError if it cannot be."""
        session, self.used_session = self.used_session, None
        if session is None:
            return None
        problem = ""
        try:
            saved = _encoder.encode(session) if session else b""
        except (TypeError, ValueError, OverflowError, RecursionError):
            problem = unsendable(session) or "it is nested too deeply"
        keys: Iterable[object] = session
        if problem or not all(isinstance(key, str) for key in keys):
            raise ValueError(f"its session cannot be kept: {problem or unsendable(session)}")
        if len(saved) > MAX_BATCH_SIZE:
            raise ValueError(f"its session has more than {MAX_BATCH_SIZE} bytes")
        if saved == self.saved:
            return None
        self.saved = saved
        return saved


class Work(msgspec.Struct):
    """An event to handle."""

    number: int  # its number in its receive window
    event: AnyEvent
    complete: Callable[[Result], None]
    # Called with `number` before a handler begins a suspected event.
    announce: Callable[[int], None]
    # The number of its question and the callback, if it is a command.
    command: tuple[int, str] | None = None

    @property
    def name(self) -> str:
        """The callback that it is for."""
        return self.command[1] if self.command else _NAMES.get(type(self.event), "a handler")


class EventRunner:
    """The handlers of one business process."""

    def __init__(
        self,
        functions: Mapping[str, Function],
        counts: Counter[str],
        close: Callable[[ClientId], object],
    ) -> None:
        self.clients: dict[ClientId, ClientContext] = {}
        self.count = 0
        self._functions = functions
        self._counts = counts
        self._callback_errors = CallbackErrors(counts)
        self._close = close
        self._tasks = CallbackTasks()
        self._one_by_one = asyncio.Lock()
        self._is_over = False

    def handle(self, work: Work) -> None:
        """Handle an event at once, or queue it behind the client's earlier events."""
        if self._is_over:
            # It would overtake events that were cancelled.
            return
        event = work.event
        context = self.clients.get(event.client)
        if context is None:
            if not isinstance(event, (AdoptEvent, ConnectEvent)):
                # The client was refused, or its gateway is gone.
                work.complete(Result(work.number))
                return
            context = ClientContext(event.client, event.remote_ip, event.remote_port)
            self.clients[event.client] = context
        if context.waiting is not None:
            context.waiting.append(work)
        elif event.suspicion:
            self._begin(context, work, None)
        else:
            running = self._call(context, work)
            if running is not None:
                self._begin(context, work, running)

    def handle_event(
        self,
        number: int,
        event: AnyEvent,
        complete: Callable[[Result], None],
        announce: Callable[[int], None],
    ) -> bool:
        """Handle an event, mostly without a :class:`Work`; True if the result is empty."""
        context = self.clients.get(event.client)
        if (
            context is None
            or context.waiting is not None
            or context.parts
            or type(event) is not MessageEvent
            or event.suspicion
            or not event.is_last
            or event.is_command
            or self._is_over
        ):
            self.handle(Work(number, event, complete, announce))
            return False
        if event.session is not None:
            context.renew(event.session)
        function = self._functions.get("on_message")
        result: object = None
        if function is not None:
            token = current.current_context.set(context)
            try:
                payload = event.payload
                result = function(context.name, str(payload, "utf-8") if event.is_text else payload)
            except Exception as error:  # noqa: BLE001 - an application's fault is its own
                self._failed(context, Work(number, event, complete, announce), error)
                return False
            finally:
                current.current_context.reset(token)
        if result is None and context.used_session is None:
            self.count += 1
            return True
        work = Work(number, event, complete, announce)
        if result is not None and inspect.isawaitable(result):
            self._begin(context, work, result)
        else:
            self._returned(context, work, result)
        return False

    def leave(self, name: ClientId, code: int, reason: str) -> None:
        """Run ``on_close`` for a client whose gateway is gone."""
        self.handle(Work(0, CloseEvent(name, 0, None, code, reason), _ignore, _ignore))

    def forget(self, name: ClientId) -> None:
        """Forget a client that another process has taken over, and its waiting events."""
        context = self.clients.pop(name, None)
        if context is not None and context.waiting:
            context.waiting.clear()

    async def finish(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound, not a scope
        """Wait for running handlers; cancel the rest, whose events stay unhandled."""
        if self._tasks:
            await self._tasks.wait(timeout)
            self._is_over = True
            await self._tasks.cancel()

    def _begin(self, context: ClientContext, work: Work, running: Running | None) -> None:
        waiting: deque[Work] = deque()
        context.waiting = waiting
        self._tasks.start(
            self._work(context, waiting, work, running),
            awaits=running,
            ended=partial(self._ended, context, waiting, work),
        )

    def _ended(self, context: ClientContext, waiting: deque[Work], work: Work, _task: Task) -> None:
        if context.waiting is waiting and not self._is_over:
            # The application has cancelled it before its first step.
            context.waiting = None
            self._failed(context, work, RuntimeError("it was cancelled"))
            for late in waiting:
                self.handle(late)

    async def _work(
        self, context: ClientContext, waiting: deque[Work], work: Work, running: Running | None
    ) -> None:
        """Handle an event and the client's events that arrive meanwhile."""
        current.current_context.set(context)
        try:
            await self._handle_one(context, work, running)
            while waiting:
                await self._handle_one(context, waiting.popleft(), None)
        finally:
            context.waiting = None

    @contextlib.asynccontextmanager
    async def _announced(self, work: Work) -> AsyncIterator[None]:
        """Hold back other suspected events, so that it is known which one kills this process."""
        has_turn = contextlib.ExitStack()
        await self._one_by_one.acquire()
        has_turn.callback(self._one_by_one.release)
        timer = asyncio.get_running_loop().call_later(_TURN, has_turn.close)
        if work.event.suspicion > 1:
            timer.cancel()
        try:
            # The gateway must know of it before the handler begins.
            work.announce(work.number)
            for _ in range(_TURNS_UNTIL_SENT):
                await asyncio.sleep(0)
            yield
        finally:
            timer.cancel()
            has_turn.close()

    async def _handle_one(
        self, context: ClientContext, work: Work, running: Running | None
    ) -> None:
        is_careful = bool(work.event.suspicion) and not _is_piece(work.event)
        try:
            async with self._announced(work) if is_careful else contextlib.nullcontext():
                if running is None:
                    running = self._call(context, work)
                result = None if running is None else await running
        except asyncio.CancelledError as error:
            if self._is_over:
                raise
            # The application has cancelled this task, or what it awaits.
            take_back_cancellation(asyncio.current_task())
            self._failed(context, work, cancellation_error(error, "it was cancelled"))
        except Exception as error:  # noqa: BLE001 - an application's fault is its own
            self._failed(context, work, error)
        else:
            if running is not None:
                self._returned(context, work, result)

    def _call(self, context: ClientContext, work: Work) -> Running | None:
        """Call the handler of an event; return its awaitable if it has not ended."""
        event = work.event
        if event.session is not None:
            context.renew(event.session)
        if _is_piece(event):
            context.parts.append(work)
            return None
        arguments = _arguments(context, event)
        if isinstance(event, MessageEvent) and event.is_command:
            question = self._question(context, work, arguments[0])
            if question is None:
                return None
            arguments = question
        function = self._functions.get(work.name)
        if function is None:
            self._done(context, work)
            return None
        token = current.current_context.set(context)
        try:
            result = function(context.name, *arguments)
        except Exception as error:  # noqa: BLE001 - an application's fault is its own
            self._failed(context, work, error)
        else:
            # Mostly None, for which `isawaitable` is slowest.
            if result is not None and inspect.isawaitable(result):
                return result
            self._returned(context, work, result)
        finally:
            current.current_context.reset(token)
        return None

    def _question(
        self, context: ClientContext, work: Work, payload: bytes
    ) -> tuple[Any, ...] | None:
        """Return the arguments of a command's callback; ``None`` if it was answered already."""
        # Imported here: plain clients send no commands.
        from .commands import decode_question, encode_not_declared

        try:
            number, callback, arguments = decode_question(payload)
        except EnvelopeError as error:
            self._complain(context, work, error)
            self._done(context, work)
            return None
        work.command = (number, callback)
        if callback not in self._functions:
            self._done(context, work, reply=encode_not_declared(number))
            return None
        return tuple(arguments)

    def _reply(self, context: ClientContext, work: Work, result: object) -> None:
        """Answer a command with what its callback returned or raised."""
        from ..runtime.client_callbacks import INTERNAL, refusal_of
        from .commands import encode_result

        assert work.command is not None
        number, name = work.command
        error = result if isinstance(result, Exception) else None
        if error is not None:
            result = refusal_of(error)
            error = error if result is None else None
        reply = b""
        if error is None:
            try:
                reply = encode_result(number, result)
                if len(reply) > MAX_BATCH_SIZE:
                    error = ValueError(f"its answer has more than {MAX_BATCH_SIZE} bytes")
            except (TypeError, ValueError) as mistake:
                error = mistake
        if error is not None:
            # The client has an error, and stays connected.
            self._callback_errors.add(name, context.name, error, is_closed=False)
            reply = encode_result(number, INTERNAL)
        self._done(context, work, reply=reply)

    def _returned(self, context: ClientContext, work: Work, result: object) -> None:
        if work.command is not None:
            self._reply(context, work, result)
            return
        kind = type(work.event)
        mistake = None
        if result is not None and kind in {ConnectEvent, OpenEvent}:
            mistake = wrong_result(_NAMES[kind], result, decides=kind is ConnectEvent)
        if mistake is None:
            self._done(context, work)
        else:
            self._failed(context, work, mistake)

    def _done(
        self,
        context: ClientContext,
        work: Work,
        answer: HandshakeAnswer | None = None,
        *,
        reply: bytes | None = None,
    ) -> None:
        self.count += 1
        kind = type(work.event)
        try:
            session = context.save()
        except ValueError as error:
            session = None
            # Without a traceback, which would show no line of the application.
            self._complain(context, work, ValueError(f"after {work.name}, {error}"))
        if kind is ConnectEvent and answer is None:
            answer = _WELCOME
        for part in context.parts:
            part.complete(Result(part.number))
        context.parts = []
        if kind is CloseEvent or (answer is not None and answer.status):
            self.clients.pop(context.name, None)
            # A refused client gets no on_close.
            while context.waiting:
                late = context.waiting.popleft()
                late.complete(Result(late.number))
        work.complete(Result(work.number, session, answer, reply=reply))

    def _failed(self, context: ClientContext, work: Work, error: Exception) -> None:
        if work.command is not None:
            self._reply(context, work, error)
            return
        kind = type(work.event)
        answer: HandshakeAnswer | None = None
        if kind is ConnectEvent and isinstance(error, Refuse):
            answer = _refusal(error)
            self._counts["refused_by_application"] += answer is not None
        if answer is None:
            answer = _FAILED if kind is ConnectEvent else None
            self._complain(context, work, error)
        self._done(context, work, answer)

    def _complain(self, context: ClientContext, work: Work, error: Exception) -> None:
        """Log a handler's error, and close its client."""
        if has_left(context.name, error):
            return
        kind = type(work.event)
        self._callback_errors.add(work.name, context.name, error)
        if kind not in {CloseEvent, ConnectEvent}:
            self._close(context.name)


def _refusal(error: Refuse) -> HandshakeAnswer | None:
    """Make the answer of a refusal; ``None`` if the gateway could not decode it."""
    try:
        packed = _encoder.encode(HandshakeAnswer(error.status, error.text, dict(error.headers)))
        return _answers.decode(packed) if len(packed) <= MAX_BATCH_SIZE else None
    except (msgspec.MsgspecError, TypeError, ValueError):
        return None


def _is_piece(event: AnyEvent) -> bool:
    """Tell whether more pieces of the same message follow."""
    return isinstance(event, MessageEvent) and not event.is_last


def _arguments(context: ClientContext, event: AnyEvent) -> tuple[Any, ...]:
    match event:
        case MessageEvent():
            payload = event.payload
            if context.parts:
                pieces = (part.event for part in context.parts)
                whole = [one.payload for one in pieces if isinstance(one, MessageEvent)]
                payload = b"".join([*whole, payload])
            return (str(payload, "utf-8") if event.is_text else payload,)
        case ConnectEvent():
            return (parse_request(event.head, max_header_count=_MAX_HEADER_COUNT),)
        case CloseEvent():
            return (event.code, event.reason)
        case _:
            return ()


def _ignore(_: object) -> None:
    """Replace the callbacks of a gateway that is gone."""
