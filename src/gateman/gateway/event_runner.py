"""
Runs a business worker's handlers: for each client one at a time and in order.

A plain function runs at once, an ``async def`` in a task of its client, for which later events wait
(:mod:`gateman.runtime.callback_queue`). The gateway bounds what waits. An exception of a handler is
logged with its traceback and closes that client.
"""

import asyncio
import contextlib
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from ..cluster.names import ClientId
from ..config.callbacks import BUSINESS_CLIENT_SIGNATURES, Function, is_async, wrong_result
from ..errors import EnvelopeError, Refuse
from ..request import parse_request
from ..runtime.callback_errors import CallbackErrors, has_left
from ..runtime.callback_queue import CallbackQueues
from ..runtime.callback_tasks import cancellation_error
from .client_context import CALLBACK_NAMES, GONE, ClientContext, Origin, Work
from .protocol import (
    FAILED,
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

# The gateway has applied its own limit already.
_MAX_HEADER_COUNT = 1 << 16

# A packet is queued in one turn of the loop, published in the next, and written at its end.
_TURNS_UNTIL_SENT = 3

# Seconds for which an event of suspicion 1 holds back other suspected events. Suspicion 2 has no
# limit; for all suspected events that would be too slow where handlers are slow.
_TURN = 1.0

_WELCOME = HandshakeAnswer(0)

_encoder = msgspec.msgpack.Encoder()
_answers = msgspec.msgpack.Decoder(HandshakeAnswer)

# What handling a piece of a message returns, and a command that was answered without a callback.
_NO_RESULT = object()


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
        names = {name for name, function in functions.items() if is_async(function)}
        self._async = {kind for kind, name in CALLBACK_NAMES.items() if name in names}
        self._has_async_commands = not names.isdisjoint(BUSINESS_CLIENT_SIGNATURES)
        # None if it is an `async def`.
        self._on_message: Function | None = functions.get("on_message", _ignore)
        if MessageEvent in self._async:
            self._on_message = None
        self._queues: CallbackQueues[ClientContext, Work] = CallbackQueues(
            self._call,
            self._returned,
            self._raised,
            context_of=lambda client: client.callback_context,
            staying=self._staying,
        )
        self._one_by_one = asyncio.Lock()
        self._is_over = False

    def handle(self, events: Iterable[tuple[int, AnyEvent]], origin: Origin) -> None:
        """Handle a gateway's events, each at once or behind its client's earlier events."""
        clients, queues = self.clients, self._queues
        queued, deliver = queues.by_owner, queues.deliver
        function, handled = self._on_message, origin.handled
        for number, event in events:
            client = clients.get(event.client)
            if (
                client is None
                or client.origin is not origin
                or type(event) is not MessageEvent
                or event.is_command
                or self._is_over
            ):
                if event.client.startswith(origin.prefix):
                    self._handle(Work(number, event, origin))
                else:
                    origin.complete(Result(number))  # Forged: the client is not the sender's.
                continue
            if function is None:
                deliver(client, Work(number, event, origin))
                continue
            if client in queued or event.suspicion or not event.is_last or client.parts:
                self._handle(Work(number, event, origin))
                continue
            # Mostly without a `Work`, whose result would be empty.
            if event.session is not None:
                client.renew(event.session)
            payload = event.payload
            message = str(payload, "utf-8") if event.is_text else payload
            try:
                result = client.callback_context.run(function, client.name, message)
            except Exception as error:  # noqa: BLE001 - an application's fault is its own
                self._raised(client, Work(number, event, origin), error)
            else:
                if result is None and client.used_session is None:
                    self.count += 1
                    handled(number)
                else:
                    self._take_result(client, Work(number, event, origin), result)

    def leave(self, name: ClientId, code: int, reason: str) -> None:
        """Run ``on_close`` for a client whose gateway is gone."""
        client = self.clients.get(name)
        # Also after `finish`: nobody will handle the events that were cancelled.
        if client is not None:
            self._run(client, Work(0, CloseEvent(name, 0, None, code, reason), GONE))

    def forget(self, name: ClientId) -> None:
        """Forget a client that another process has taken over, and its waiting events."""
        client = self.clients.get(name)
        if client is not None:
            self._remove(client)

    async def finish(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound, not a scope
        """Wait for running handlers; cancel the rest, whose events stay unhandled."""
        if not await self._queues.finish(timeout):
            self._is_over = True
            await self._queues.cancel()

    def _handle(self, work: Work) -> None:
        if self._is_over:
            # It would overtake events that were cancelled.
            return
        event = work.event
        client = self.clients.get(event.client)
        if client is None:
            if not isinstance(event, (AdoptEvent, ConnectEvent)):
                # The client was refused, or its gateway is gone.
                work.origin.complete(Result(work.number))
                return
            client = ClientContext(event.client, work.origin, event.remote_ip, event.remote_port)
            self.clients[event.client] = client
        self._run(client, work)

    def _run(self, client: ClientContext, work: Work) -> None:
        event = work.event
        if event.suspicion or self._is_async(event):
            self._queues.deliver(client, work)
        elif self._queues.is_busy(client):
            self._queues.put(client, work)
        else:
            try:
                result = client.callback_context.run(self._call, client, work)
            except Exception as error:  # noqa: BLE001 - an application's fault is its own
                self._raised(client, work, error)
            else:
                self._take_result(client, work, result)

    def _is_async(self, event: AnyEvent) -> bool:
        if type(event) is MessageEvent and event.is_command:
            return self._has_async_commands
        return type(event) in self._async

    def _take_result(self, client: ClientContext, work: Work, result: object) -> None:
        """Take what a plain function has returned, which may have to be awaited."""
        # Mostly None, for which `isawaitable` is slowest.
        if result is not None and inspect.isawaitable(result):
            work.running = result
            self._queues.put(client, work)
        else:
            self._returned(client, work, result)

    def _remove(self, client: ClientContext) -> list[Work]:
        """Forget a client; return its events that wait."""
        if self.clients.get(client.name) is client:
            del self.clients[client.name]
            # It refers to the client.
            del client.callback_context
        waiting = self._queues.drop(client, lambda _work: True)
        self._queues.dismiss(client)
        return waiting

    def _staying(
        self, client: ClientContext, unbegun: list[Work], waiting: list[Work]
    ) -> list[Work]:
        """Fail only what was to run when the application cancels a task."""
        for work in unbegun:
            if inspect.iscoroutine(work.running):
                work.running.close()
            self._raised(client, work, asyncio.CancelledError())
        is_gone = self.clients.get(client.name) is not client
        return [] if is_gone or self._is_over else waiting

    async def _call_carefully(self, client: ClientContext, work: Work) -> object:
        """Hold back other suspected events, so that it is known which one kills this process."""
        with contextlib.ExitStack() as has_turn:
            await self._one_by_one.acquire()
            has_turn.callback(self._one_by_one.release)
            if work.event.suspicion == 1:
                timer = asyncio.get_running_loop().call_later(_TURN, has_turn.close)
                has_turn.callback(timer.cancel)
            # The gateway must know of it before the handler begins.
            work.origin.announce(work.number)
            for _ in range(_TURNS_UNTIL_SENT):
                await asyncio.sleep(0)
            result = self._call_handler(client, work)
            return await result if inspect.isawaitable(result) else result

    def _call(self, client: ClientContext, work: Work) -> object:
        if work.running is not None:
            return work.running
        event = work.event
        if event.suspicion and not _is_piece(event):
            return self._call_carefully(client, work)
        return self._call_handler(client, work)

    def _call_handler(self, client: ClientContext, work: Work) -> object:
        """Call the handler of an event; return what it returns."""
        event = work.event
        if event.session is not None:
            client.renew(event.session)
        if _is_piece(event):
            client.parts.append(work)
            return _NO_RESULT
        arguments = _arguments(client, event)
        if isinstance(event, MessageEvent) and event.is_command:
            question = self._question(client, work, arguments[0])
            if question is None:
                return _NO_RESULT
            arguments = question
        function = self._functions.get(work.name)
        return None if function is None else function(client.name, *arguments)

    def _question(
        self, client: ClientContext, work: Work, payload: bytes
    ) -> tuple[Any, ...] | None:
        """Return the arguments of a command's callback; ``None`` if it was answered already."""
        # Imported here: plain clients send no commands.
        from .commands import decode_question, encode_not_declared

        try:
            number, callback, arguments = decode_question(payload)
        except EnvelopeError as error:
            self._complain(client, work, error)
            self._done(client, work)
            return None
        work.command = (number, callback)
        if callback not in self._functions:
            self._done(client, work, reply=encode_not_declared(number))
            return None
        return tuple(arguments)

    def _reply(self, client: ClientContext, work: Work, result: object) -> None:
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
            self._callback_errors.add(name, client.name, error, is_closed=False)
            reply = encode_result(number, INTERNAL)
        self._done(client, work, reply=reply)

    def _returned(self, client: ClientContext, work: Work, result: object) -> None:
        if result is _NO_RESULT:
            return
        if work.command is not None:
            self._reply(client, work, result)
            return
        kind = type(work.event)
        mistake = None
        if result is not None and kind in {ConnectEvent, OpenEvent}:
            mistake = wrong_result(CALLBACK_NAMES[kind], result, decides=kind is ConnectEvent)
        if mistake is None:
            self._done(client, work)
        else:
            self._failed(client, work, mistake)

    def _done(
        self,
        client: ClientContext,
        work: Work,
        answer: HandshakeAnswer | None = None,
        *,
        reply: bytes | None = None,
    ) -> None:
        self.count += 1
        kind = type(work.event)
        try:
            session = client.save()
        except ValueError as error:
            session = None
            # Without a traceback, which would show no line of the application.
            self._complain(client, work, ValueError(f"after {work.name}, {error}"))
        if kind is ConnectEvent and answer is None:
            answer = _WELCOME
        for part in client.parts:
            part.origin.complete(Result(part.number))
        client.parts = []
        if kind is CloseEvent or (answer is not None and answer.status):
            # A refused client gets no on_close.
            for late in self._remove(client):
                late.origin.complete(Result(late.number))
        work.origin.complete(Result(work.number, session, answer, reply=reply))

    def _raised(self, client: ClientContext, work: Work, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            if self._is_over:
                return
            error = cancellation_error(error, "it was cancelled")
        if isinstance(error, Exception):
            self._failed(client, work, error)

    def _failed(self, client: ClientContext, work: Work, error: Exception) -> None:
        if work.command is not None:
            self._reply(client, work, error)
            return
        kind = type(work.event)
        answer: HandshakeAnswer | None = None
        if kind is ConnectEvent and isinstance(error, Refuse):
            answer = _refusal(error)
            self._counts["refused_by_application"] += answer is not None
        if answer is None:
            answer = FAILED if kind is ConnectEvent else None
            self._complain(client, work, error)
        self._done(client, work, answer)

    def _complain(self, client: ClientContext, work: Work, error: Exception) -> None:
        """Log a handler's error, and close its client."""
        if has_left(client.name, error):
            return
        kind = type(work.event)
        self._callback_errors.add(work.name, client.name, error)
        if kind not in {CloseEvent, ConnectEvent}:
            self._close(client.name)


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


def _arguments(client: ClientContext, event: AnyEvent) -> tuple[Any, ...]:
    match event:
        case MessageEvent():
            payload = event.payload
            if client.parts:
                pieces = (part.event for part in client.parts)
                whole = [one.payload for one in pieces if isinstance(one, MessageEvent)]
                payload = b"".join([*whole, payload])
            return (str(payload, "utf-8") if event.is_text else payload,)
        case ConnectEvent():
            return (parse_request(event.head, max_header_count=_MAX_HEADER_COUNT),)
        case CloseEvent():
            return (event.code, event.reason)
        case _:
            return ()


def _ignore(*_args: object) -> None:
    """Replace a callback that is not declared."""
