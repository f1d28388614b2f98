"""
Serves one declared worker in this process: its sockets, connections, callbacks and counters.

The network layer reports to it through :class:`~gateman.net.connection_events.ConnectionEvents`.
"""

import asyncio
import resource
import socket
import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from .. import at_fork
from ..cluster.events import EventHandler
from ..cluster.membership import ConnectionMembership
from ..config.callbacks import Function
from ..config.schedule import check_function, check_interval
from ..config.settings import WorkerSettings
from ..connection import Connection, State
from ..errors import ProtocolError
from ..log import RateLimitedLogger
from ..net.acceptor import Acceptor
from ..net.admission import Admission
from ..net.connection_events import Decide
from ..websocket.close import NO_LOGIN
from .arrival_watch import ArrivalWatch
from .callback_runner import CallbackRunner
from .callback_tasks import error_of
from .connection_maker import ConnectionMaker
from .connection_report import describe
from .drain import Drain
from .lifecycle import last_share, started, stopped
from .plain_answers import PlainAnswers
from .timer import process_timers

if TYPE_CHECKING:
    from ..net.http_application import ServedConnection
    from ..tls.contexts import TlsContexts
    from .asgi import ServedApplication
    from .health import Health
    from .measurements import Measurements

# For listening sockets, logs, and files that the application opens.
_RESERVED_DESCRIPTORS = 64


class WorkerService:
    """Serves one worker."""

    has_text_messages = True
    """Whether ``on_message`` gets text and bytes, and nothing else."""

    def __init__(
        self,
        settings: WorkerSettings,
        functions: dict[str, Function],
        worker: object,
        connections: dict[int, Connection],
        measurements: "Measurements | None" = None,
    ) -> None:
        self.settings = settings
        self.measurements = measurements
        if measurements is not None:
            # Messages of other protocols may be anything: their links count the bytes.
            has_sizes = self.has_text_messages and settings.listen.is_websocket
            functions = measurements.measured(functions, has_sizes=has_sizes)
        self.connections = connections
        # How often each cause in ``gateman status`` has happened.
        self.counts: Counter[str] = Counter()
        self._worker = worker
        self._functions = functions
        self._callback_runner = CallbackRunner(functions, settings.limits, self.counts)
        self.deliver = self._callback_runner.deliver()
        if "on_message" not in functions:
            self.deliver = self._counted(self.deliver)
        self._loop = asyncio.get_running_loop()
        self._timers = process_timers()
        self._rate_limited = RateLimitedLogger()
        self._present: set[Connection] = set()
        self._emptied: asyncio.Future[None] | None = None
        self._acceptors: dict[socket.socket, Acceptor] = {}
        self._event_handlers: list[EventHandler] = []
        self._maker: ConnectionMaker | None = None
        self._membership: ConnectionMembership | None = None
        self._past_messages = 0
        self._admission = Admission(
            settings.limits, settings.limits.max_connections or _descriptors_left()
        )
        at_fork.give_up_all(self, WorkerService._descriptors)
        self._is_draining = False
        self._served: ServedApplication | None = None
        self._health: Health | None = None
        self._arrival_watch = ArrivalWatch(self._loop)
        self._plain_answers = PlainAnswers(
            settings,
            problem=lambda: self.problem,
            answered=None if measurements is None else measurements.request_answered,
        )

    def _descriptors(self) -> list[int]:
        return [file.fileno() for file in self._admission.files]

    def _counted(self, deliver: Function) -> Function:
        if self.measurements is None or not self.settings.listen.is_websocket:
            return deliver
        return self.measurements.counting(deliver)

    async def start(
        self, sockets: Sequence[socket.socket], membership: ConnectionMembership
    ) -> None:
        """Run ``on_worker_start``, and then accept."""
        self._membership = membership
        await started(self._functions, self._worker)
        self._callback_runner.begin()
        if self.settings.http is not None or self.settings.api_key is not None:
            # Imported here, as most services have no HTTP application.
            from .asgi import ServedApplication

            self._served = ServedApplication(self.settings, self, self.counts)
            await self._served.start(
                membership.local_node, self._plain_answers.answer_before_application
            )
        if "on_health" in self._functions:
            # Imported here, as most services have none.
            from .health import Health

            self._health = Health(
                self._functions["on_health"],
                self._worker,
                name=self,
                timeouts=self.settings.timeouts,
                counts=self.counts,
            )
            await self._health.start()
        self._event_handlers = [
            membership.local_node.events.add(topic, function)
            for topic, function in getattr(self._worker, "event_handlers", ())
        ]
        settings = self.settings
        if settings.acme:
            # Imported here: only a worker with acme needs it.
            from ..acme import readiness

            membership.local_node.local_clients.check_challenges = lambda text: readiness.answer(
                settings.acme, text
            )
        self._maker = ConnectionMaker(
            settings,
            self._worker,
            self,
            admission=self._admission,
            arrival_watch=self._arrival_watch,
            plain_answers=self._plain_answers,
            application=None if self._served is None else self._served.http,
            measurements=self.measurements,
            of_connections=self._of_connections(),
            of_handshakes=self._of_handshakes(),
        )
        self.accept(sockets)

    def _of_connections(self) -> dict[str, Any]:
        """Return what a subclass adds to the context of connections."""
        return {}

    def _of_handshakes(self) -> dict[str, Any]:
        return {} if self.measurements is None else self._measuring(self.measurements)

    def _measuring(self, measurements: "Measurements") -> dict[str, Any]:
        # Imported here: a service without metrics does not need it.
        from ..net.traffic import MeasuredSendBuffer

        def report(status: int, deadline_at: float) -> None:
            accepted_at = deadline_at - self.settings.timeouts.handshake
            measurements.handshake_ended(status, self._loop.time() - accepted_at)

        return {
            "make_send_buffer": partial(MeasuredSendBuffer, traffic=measurements.traffic),
            "report": report,
        }

    def accept(self, sockets: Collection[socket.socket]) -> None:
        """Accept on exactly these sockets from now on; connections accepted on others continue."""
        if self._maker is None:
            raise RuntimeError(f"{self} was not started")
        for sock in sockets:
            if sock not in self._acceptors:
                self._acceptors[sock] = Acceptor(sock, self._maker.accept_config, self._admission)
        for sock, acceptor in self._acceptors.items():
            if sock in sockets:
                acceptor.start()
            else:
                acceptor.stop()

    async def drain(
        self, code: int, reason: str, *, window: float, may_stay: Callable[[], bool] = bool
    ) -> None:
        """Answer health checks with 503, refuse handshakes, and close the connections in steps."""
        del may_stay
        self._is_draining = self._admission.is_draining = True
        application = None if self._served is None else self._served.http
        if application is not None:
            application.drain()

        def close(connection: "Connection | ServedConnection") -> None:
            if self.settings.listen.is_websocket or not isinstance(connection, Connection):
                connection.close(code, reason)
            else:
                # Its client cannot know which of its messages were handled: all that have
                # arrived are.
                self._callback_runner.call_behind(connection, connection.close, code, reason)

        drain = Drain(
            self._present,
            self.connections,
            self._acceptors.values(),
            application,
            close=close,
            wait_until_empty=self._wait_until_empty,
        )
        await drain.run(window, max(window, self.settings.timeouts.handshake))

    async def stop(self, code: int, reason: str) -> None:
        """Close all connections, then run ``on_worker_stop``, all within ``timeouts.shutdown``."""
        shutdown = self.settings.timeouts.shutdown
        deadline = self._loop.time() + shutdown
        clients_until = deadline - last_share(
            self._functions, shutdown, has_application=self._served is not None
        )
        self._is_draining = True
        for acceptor in self._acceptors.values():
            acceptor.stop()
            acceptor.abort_early()
        for connection in list(self._present):
            connection.close(code, reason)
        await self._wait_until_empty(clients_until - self._loop.time())
        for connection in list(self._present):
            connection.destroy()
        if self._maker is not None:
            self._maker.close_rejected(code, reason)
        await self._wait_until_empty(1.0)
        if self._served is not None:
            await self._served.finish(clients_until - self._loop.time())
        await self._callback_runner.finish(clients_until - self._loop.time())
        if self._maker is not None:
            self._maker.stop()
        self._arrival_watch.stop()
        if self._health is not None:
            await self._health.stop()
        await self._finish_events(clients_until)
        if self._served is not None:
            await self._served.stop(deadline)
        await stopped(self._functions, self._worker, self, deadline)

    async def _finish_events(self, deadline: float) -> None:
        if self._membership is not None:
            events = self._membership.local_node.events
            await events.remove(self._event_handlers, deadline=deadline)

    async def _wait_until_empty(self, seconds: float) -> None:
        if self._present:
            self._emptied = self._loop.create_future()
            await asyncio.wait([self._emptied], timeout=max(seconds, 0))

    # Reports of the network layer.

    def connected(self, connection: Connection) -> None:
        """Count a connection, and call ``on_connect``."""
        self._present.add(connection)
        self.counts["connections"] += 1
        connection.attach(self._membership, self)
        if self._membership is not None:
            self._membership.arrive(connection)
        self._callback_runner.call("on_connect", connection)

    def requested(self, connection: Connection, answer: Decide) -> None:
        """Call ``on_websocket_connect``."""
        self._callback_runner.ask(connection, answer)

    def opened(self, connection: Connection) -> None:
        """Call ``on_open``, and wait for a login."""
        self.connections[connection.id] = connection
        connection.opened_at = self._loop.time()
        connection.needs_on_close = True
        self._add_member(connection)
        login = self.settings.timeouts.login
        if login is not None:
            self._timers.add_for(connection, login, self._check_login, (connection,))
        self._callback_runner.call("on_open", connection)

    def _add_member(self, connection: Connection) -> None:
        if self._membership is not None:
            self._membership.add(connection)

    def handler_failed(
        self,
        connection: Connection,
        error: Exception | asyncio.CancelledError,
        name: str = "on_message",
    ) -> None:
        """Close a connection for which ``on_message`` or a protocol has raised."""
        self._callback_runner.failed(connection, error_of(error), name)

    def peer_failed(self, connection: Connection, error: ProtocolError) -> None:
        """Count and log the peer's error, and call ``on_error``."""
        limit = f"; {error.limit} sets the limit" if error.limit else ""
        self.noticed(
            error.cause,
            f"{connection!r} is closed with {error.close_code}: {error.reason}{limit}",
        )
        self._callback_runner.call("on_error", connection, error)

    def dropped(self, connection: Connection, size: int) -> None:
        """Count a message that was dropped for a slow peer."""
        self.counts["dropped_slow_peer"] += 1
        self.noticed(
            "slow_peer",
            f"a message of {size} bytes to {connection!r} was dropped: the client reads too"
            " slowly, and limits.max_send_buffer_size is waiting for it already",
        )

    def buffer_full(self, connection: Connection) -> None:
        if self.measurements is not None:
            self.measurements.traffic.buffer_full_count += 1
        self._callback_runner.call("on_buffer_full", connection)

    def buffer_drained(self, connection: Connection) -> None:
        self._callback_runner.call("on_buffer_drain", connection)

    def half_closed(self, connection: Connection, finish: Callable[[], None]) -> None:
        """End the connection when the messages that have arrived are handled."""
        self._callback_runner.call_behind(connection, finish)

    def closing(self, connection: Connection) -> None:
        """Deliver no more messages, not even those that wait for an async ``on_message``."""
        if self._membership is not None:
            self._membership.remove(connection)
        self._callback_runner.forget_messages(connection)

    def closed(self, connection: Connection, code: int, reason: str) -> None:
        """Remove an open connection, and call ``on_close``."""
        self._timers.end(connection)
        if self._membership is not None:
            self._membership.remove(connection)
        if self.connections.pop(connection.id, None) is not None:
            self._past_messages += connection.link.message_count
            if self.measurements is not None:
                self.measurements.websocket_closed(code)
        self._callback_runner.call("on_close", connection, code, reason)

    def lost(self, connection: Connection) -> None:
        """Remove a connection that has no transport any more."""
        self._present.discard(connection)
        if connection.permit is not None:
            connection.permit.release()
        if not self._present and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def noticed(self, cause: str, message: str, detail: str = "") -> None:
        """Count a cause, and log its message at a limited rate."""
        self.counts[cause] += 1
        if self._arrival_watch.arrivals is not None:
            self._arrival_watch.arrivals.noticed(cause, message)
        if message:
            self._rate_limited.warning(cause + detail, f"{self}: {message}", self._loop.time())

    def arrivals(self, nonce: str) -> dict[str, Any]:
        """Report what arrives with the doctor's nonce."""
        return self._arrival_watch.report(nonce)

    def after(
        self,
        connection: Connection,
        seconds: float,
        function: Callable[..., Any],
        args: tuple[Any, ...],
    ) -> int:
        """See :meth:`gateman.Connection.after`."""
        check_interval(seconds)
        check_function(function, args)
        if connection.state is State.CLOSED:
            return self._timers.new_id()
        return self._timers.add_for(connection, seconds, function, args)

    def _check_login(self, connection: Connection) -> None:
        if connection.state is State.OPEN and (
            self._membership is None or self._membership.uid_of(connection) is None
        ):
            self.noticed("login_timeout", "")
            connection.close(*NO_LOGIN)

    @property
    def problem(self) -> str:
        """Why load balancers should send no clients here; empty while this process serves."""
        if self._is_draining:
            return "draining"
        return "" if self._health is None else self._health.problem

    @property
    def contexts(self) -> "TlsContexts | None":
        return self.settings.contexts

    @property
    def present_count(self) -> int:
        """Connections that have a transport, open or not."""
        return len(self._present)

    @property
    def message_count(self) -> int:
        """Messages received by all connections since the start."""
        return self._past_messages + sum(
            connection.link.message_count for connection in self.connections.values()
        )

    def describe(self, limit: int) -> list[dict[str, Any]]:
        """List connections for an operator."""
        by_age = sorted(self._present, key=lambda connection: connection.id)
        return [self._describe(connection) for connection in islice(by_age, limit)]

    def _describe(self, connection: Connection) -> dict[str, Any]:
        membership = self._membership
        return describe(
            connection,
            uid=None if membership is None else membership.uid_of(connection),
            now=self._loop.time() if connection.id in self.connections else None,
        )

    def __str__(self) -> str:
        """Name it for a log line."""
        return self.settings.name


def _descriptors_left() -> int:
    """Count the connections for which the limit on open files leaves room."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(limit - _RESERVED_DESCRIPTORS, 1)
