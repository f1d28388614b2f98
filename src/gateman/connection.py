"""
What handlers hold: one client, from its TCP connection to the end of its WebSocket.

A connection does not know its socket. Below it is a ``ConnectionLink``
(:mod:`gateman.connection_interfaces`): the handshake until the 101, then the WebSocket protocol.
"""

from collections.abc import Awaitable, Callable, Sized
from contextvars import Context
from enum import Enum
from typing import Any

from .connection_interfaces import (
    GONE,
    PAUSED_BY_USER,
    ConnectionLink,
    Membership,
    MessageSender,
    Schedule,
    SendResult,
)
from .errors import HubError
from .request import Request
from .session import OfSessionRead, S_co
from .websocket.close import LOGGED_IN_ELSEWHERE, NO_CLOSE, check_close
from .websocket.encoding import not_utf8


class State(Enum):
    """Where a connection is in its life; it only ever moves down this list."""

    CONNECTING = "connecting"
    """TCP (and TLS) are up; the handshake is not done."""
    OPEN = "open"
    """Messages go both ways."""
    CLOSING = "closing"
    """Our Close is sent and the peer's awaited; nothing more is sent or delivered."""
    CLOSED = "closed"
    """``on_close`` is due or done."""


class Connection(OfSessionRead[S_co]):
    """
    One client.

    It belongs to the thread of its event loop: what changes it raises
    :class:`gateman.WrongThread` in any other. Hashable by identity, so that it can be kept in
    sets. Attributes of the application's own go into ``session``.

    Attributes:
        id: A number, unique in this process, counting from 1.
        worker: The worker that it belongs to.
        request: The handshake's request; set before ``on_websocket_connect``.
        remote_ip: The client's address: behind a trusted proxy the one that the proxy
            names, otherwise ``peer_ip``.
        remote_port: The client's port; 0 when it is not known.
        peer_ip: The other end of the TCP connection: the client or the proxy;
            ``"unix"`` on a unix socket.
        local_address: Our end: ``"127.0.0.1:8282"``, ``"[::1]:8282"`` or a path.
        is_secure: Whether this process did the TLS. Behind a proxy that did it, this is
            ``False``; look at the proxy's ``X-Forwarded-Proto``.
        state: Where it is in its life.
        subprotocol: What was agreed, or ``None``. ``on_websocket_connect`` may set it to
            one of ``request.subprotocols``.
        response_headers: Header fields for the 101, for ``on_websocket_connect`` to fill.
        opened_at: When the 101 was sent, by the event loop's clock; 0 before that.
    """

    __slots__ = (
        "__weakref__",
        "_fanout_turns",
        "_membership",
        "_schedule",
        "callback_context",
        "id",
        "is_secure",
        "link",
        "local_address",
        "needs_on_close",
        "opened_at",
        "peer_ip",
        "permit",
        "remote_ip",
        "remote_port",
        "request",
        "response_headers",
        "send_buffer",
        "state",
        "stored_session",
        "subprotocol",
        "worker",
    )

    # For gateman's own modules, and not part of the public API: the attributes below that the
    # docstring does not list, `attach`, `detach` and `flush_fanout`.

    def __init__(
        self,
        number: int,
        worker: Any,
        link: ConnectionLink,
        send_buffer: MessageSender,
        *,
        peer: tuple[str, int],
        remote: tuple[str, int],
        local_address: str,
        is_secure: bool,
    ) -> None:
        """Make the connection of a client that has just arrived; the handshake does."""
        # `peer` is the other end's address and port, `remote` the client's, which a PROXY header
        # may have told; on a unix socket, `("unix", 0)`.
        self.id = number
        self.worker = worker
        self.request: Request | None = None
        self.peer_ip = peer[0]
        self.remote_ip, self.remote_port = remote
        self.local_address = local_address
        self.is_secure = is_secure
        self.state = State.CONNECTING
        self.subprotocol: str | None = None
        self.response_headers: dict[str, str] = {}
        self.opened_at = 0.0
        # Counts it for the limits on connections; left when the TCP connection is over.
        self.permit: Any = None
        self.stored_session: dict[str, Any] | None = None
        # Whether a callback was called for it, or it was open.
        self.needs_on_close = False
        # Of its async callbacks; made for the first of them.
        self.callback_context: Context | None = None
        self._membership: Membership | None = None
        self._fanout_turns: Sized = ()
        self._schedule: Schedule | None = None
        self.link = link
        self.send_buffer = send_buffer
        send_buffer.connection = self

    def attach(self, membership: Membership | None, schedule: Schedule) -> None:
        """Give it the hub and the timers of its process, before its first callback."""
        self._membership = membership
        self._schedule = schedule
        if membership is not None:
            self._fanout_turns = membership.fanout_turns

    def detach(self) -> None:
        """Release what is below it: its TCP connection is over."""
        self.link = GONE
        self.send_buffer.detach()

    def send(
        self, message: str | bytes | bytearray | memoryview | dict[str, Any] | list[Any]
    ) -> SendResult:
        """
        Send one message.

        Never blocks, and never raises for a peer that is slow or gone. Before the handshake is
        done, a message waits for the 101, within ``limits.max_send_buffer_size``; it is thrown
        away if the client is refused.

        Args:
            message: ``str`` goes out as text, anything bytes-like as binary; to an SDK
                client also a JSON value. It is copied before this returns.

        Returns:
            What became of it. :attr:`SendResult.SENT` and :attr:`SendResult.QUEUED` are true.

        Raises:
            WrongThread: From another thread than the event loop's, as from all that changes it.
            TypeError: It is neither.
            ValueError: A ``str`` that has no UTF-8 form (lone surrogates).

        Guarantees:
            Messages to one connection arrive in the order of their ``send`` calls.
        """
        if self._fanout_turns:
            return self._send_behind(message)
        if type(message) is str:
            try:
                return self.send_buffer.send(1, message)
            except UnicodeEncodeError as error:
                raise ValueError(not_utf8(error)) from None
        if type(message) is bytes:
            return self.send_buffer.send(2, message)
        return self.send_buffer.send(*self.send_buffer.as_payload(message))

    def _send_behind(self, message: object) -> SendResult:
        """Send while something is collected, that may be for this connection too."""
        self._check_thread("send")
        opcode, payload = self.send_buffer.as_payload(message)
        membership = self._membership
        if membership is not None:
            if membership.put(self, opcode, payload):
                return SendResult.QUEUED
            membership.settle(self)
        return self.send_buffer.send(opcode, payload)

    def flush_fanout(self) -> None:
        """Send what is collected for it, before something that has to come behind it."""
        if self._fanout_turns and self._membership is not None:
            self._membership.settle(self)

    def close(self, code: int = 1000, reason: str = "", message: str | bytes | None = None) -> None:
        """
        Close with a closing handshake, within ``timeouts.close``; then the peer is cut off.

        What was sent before still goes out first. Before the handshake is done the TCP
        connection just ends. Closing twice does nothing.

        Args:
            code: The close code: 1000 to 1003, 1007 to 1014, or 3000 to 4999; use 4000 and
                up for codes of your own (RFC 6455, section 7.4.2).
            reason: For the peer; at most 123 bytes of UTF-8.
            message: A last message, sent before the Close.

        Raises:
            ConfigError: The code or the reason cannot be sent.
        """
        self._check_thread("close")
        check_close(code, reason)
        if message is not None:
            self.send(message)
        self.link.close(code, reason)

    def destroy(self) -> None:
        """Cut the peer off at once: what is unsent is lost, and ``on_close`` gets 1006."""
        self._check_thread("destroy")
        self.link.abort(*NO_CLOSE)

    def pause_recv(self) -> None:
        """
        Stop reading, so that TCP makes the client wait; pings are not answered either.

        No message is delivered until :meth:`resume_recv`, except those that already wait for an
        ``async`` handler. What was read by then, at most one read of 256 KiB, stays as it came,
        compressed if it was.
        """
        self._check_thread("pause_recv")
        self.link.pause(PAUSED_BY_USER)

    def resume_recv(self) -> None:
        """Read again."""
        self._check_thread("resume_recv")
        self.link.resume(PAUSED_BY_USER)

    async def drain(self) -> None:
        """
        Wait until everything sent has been handed to the operating system.

        Returns at once when nothing is waiting, and when the connection closes. Await it
        between large sends to never lose one to ``limits.max_send_buffer_size``.
        """
        self._check_thread("drain")
        await self.send_buffer.drain()

    def after(self, seconds: float, function: Callable[..., Any], *args: Any) -> int:
        """
        Run a function once, later, unless the connection has closed by then.

            connection.after(10, connection.close, 4401, "no login in time")

        It runs also while the process drains, and does not wait for what the connection's
        callbacks do. What it raises is logged, and closes nothing. Where the process that has the
        connection may be renewed before, as with a gateway, see ``timeouts.login``.

        Args:
            seconds: How much later.
            function: A plain function, for which everybody waits, or an ``async def``.
            args: Its arguments.

        Returns:
            An id for :meth:`gateman.Timer.delete`.

        Raises:
            ConfigError: Never can it run so.
            HubError: Its ``on_connect`` was not called yet.
        """
        if self._schedule is None:
            raise HubError("a connection has timers from its on_connect on")
        self._check_thread("after")
        return self._schedule.after(self, seconds, function, args)

    # What the hub knows of it. All may be called from a plain function, or awaited: then they
    # return when it holds everywhere.

    @property
    def client_id(self) -> str:
        """Its name for the hub: unique in the cluster, and never used again."""
        return self._known.client_id(self)

    def join(self, group: str) -> Awaitable[None]:
        """
        Put it into a group, to which :meth:`gateman.Hub.send_to_group` sends.

        Before the handshake is done, this takes effect with it.

        Args:
            group: 1 to 255 bytes of UTF-8.

        Returns:
            May be awaited: until what any process sends to the group comes here.

        Raises:
            ConfigError: The name cannot be one.
        """
        self._check_thread("join")
        return self._known.join(self, group)

    def leave(self, group: str) -> Awaitable[None]:
        """
        Take it out of a group.

        Args:
            group: Which.

        Returns:
            May be awaited.

        Raises:
            ConfigError: The name cannot be one.
        """
        self._check_thread("leave")
        return self._known.leave(self, group)

    def bind(
        self,
        uid: str,
        *,
        only: bool = False,
        code: int = LOGGED_IN_ELSEWHERE[0],
        reason: str = LOGGED_IN_ELSEWHERE[1],
    ) -> Awaitable[None]:
        """
        Say who it is, for :meth:`gateman.Hub.send_to_uid`; another uid of it ends.

        Before the handshake is done, this takes effect with it.

        Args:
            uid: 1 to 255 bytes of UTF-8.
            only: Close all other clients of this user, in all processes. Of several that log in
                so at once exactly one stays, the newest. One that is bound later without
                ``only`` stays beside it.
            code: The close code for the others; see :meth:`close`.
            reason: The close reason for the others.

        Returns:
            May be awaited: until what any process sends to the uid comes here, and with ``only``
            until every process has closed the others. If a newer login has come meanwhile, it is
            this one that is closed.

        Raises:
            ConfigError: The uid cannot be one, or the code or the reason cannot be sent.
        """
        self._check_thread("bind")
        return self._known.bind(self, uid, only=only, code=code, reason=reason)

    def unbind(self) -> Awaitable[None]:
        """
        Take its uid from it.

        Returns:
            May be awaited.
        """
        self._check_thread("unbind")
        return self._known.unbind(self)

    def _check_thread(self, verb: str) -> None:
        """Raise ``WrongThread`` anywhere but in the event loop's thread."""
        if self._membership is not None:
            self._membership.check_thread(f"connection.{verb}")

    @property
    def _known(self) -> Membership:
        if self._membership is None:
            raise HubError("the hub knows a connection from its on_connect to its on_close")
        return self._membership

    @property
    def send_buffer_size(self) -> int:
        """Bytes that wait in this process because the peer reads slowly."""
        return self.send_buffer.unsent_size

    @property
    def dropped(self) -> int:
        """How many messages were dropped because the peer reads too slowly."""
        return self.send_buffer.dropped

    @property
    def session(self) -> S_co:
        """
        The application's own data about this client: a dict, empty at first.

        ``Connection[Session]`` gives it a type, such as a ``TypedDict``.
        """
        if self.stored_session is None:
            self.stored_session = {}
        return self.stored_session  # type: ignore[return-value] # S_co describes what it holds

    @property
    def remote_address(self) -> str:
        """``remote_ip`` and ``remote_port`` as one: ``"203.0.113.7:50312"``."""
        return join_address(self.remote_ip, self.remote_port)

    def __repr__(self) -> str:
        """Name it for a log line."""
        return f"<Connection {self.id} {self.remote_address} {self.state.value}>"


def join_address(host: str, port: int) -> str:
    """Write ``host:port`` as URLs do, an IPv6 address in brackets; just the host for port 0."""
    bracketed = f"[{host}]" if ":" in host else host
    return f"{bracketed}:{port}" if port else bracketed
