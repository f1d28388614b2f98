"""
The declaration of an outgoing connection, and what callbacks hold of it.

:mod:`gateman.runtime.outgoing` opens it, in each process or in one of the service.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.util import find_spec
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import SplitResult, urlsplit

from ..connection_interfaces import SendResult
from ..errors import ConfigError, WrongThread
from ..http.response import is_token
from ..options import check_flag, is_positive
from ..websocket.close import check_close
from .callbacks import check, label, unsuitable_signature

if TYPE_CHECKING:
    from ssl import SSLContext

# The callbacks of an outgoing connection, and their arguments.
SIGNATURES = {
    "on_open": ("connection",),
    "on_message": ("connection", "message"),
    "on_close": ("connection", "code", "reason"),
}

WEBSOCKET_SCHEMES = ("ws", "wss")
STREAM_SCHEMES = ("tcp", "text", "frame")

# The client of WebSockets sends these itself; twice, they are an error of most servers.
_OWN_HEADERS = frozenset(
    {
        "connection",
        "host",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "upgrade",
    }
)
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")

Headers = Mapping[str, str] | Callable[[], Mapping[str, str] | Awaitable[Mapping[str, str]]]


class OutgoingLink(Protocol):
    """What an open connection does with its messages."""

    def send(self, message: Any) -> SendResult: ...
    def close(self, code: int, reason: str) -> None: ...


class OutgoingConnection:
    """
    A connection that this service makes to another server, and makes again when it ends.

    :meth:`gateman.Worker.connect` declares it.

    Attributes:
        url: The other server.
        once: Whether one process of the service has it, and not each process of the worker.
        reconnects: How often it was opened again in this process.
    """

    def __init__(
        self,
        url: object,
        *,
        callbacks: Mapping[str, Callable[..., Any] | None],
        once: bool,
        headers: Headers | None,
        subprotocols: Sequence[str],
        ssl: "SSLContext | bool | None",
        uses_proxy: bool,
        max_message_size: int,
        max_send_buffer_size: int,
        open_timeout: float,
        max_delay: float,
    ) -> None:
        parts = parse(url)
        self.url = parts.geturl()
        self.once = once
        self.reconnects = 0
        self.callbacks: dict[str, Callable[..., Any]] = {}
        # For gateman's own modules.
        self.headers = headers
        self.subprotocols = subprotocols
        self.uses_proxy = uses_proxy
        self.max_message_size = max_message_size
        self.max_send_buffer_size = max_send_buffer_size
        self.open_timeout = open_timeout
        self.max_delay = max_delay
        self.link: OutgoingLink | None = None
        self.thread = 0  # of the link
        self._check(parts.scheme, ssl)
        self.tls = _tls(ssl, is_wanted=parts.scheme == "wss")
        for name, function in callbacks.items():
            if function is not None:
                setattr(self, name, function)

    def _check(self, scheme: str, ssl: object) -> None:
        named = f"connect({redacted(self.url)!r})"
        is_websocket = scheme in WEBSOCKET_SCHEMES
        if not is_websocket and (self.headers or self.subprotocols):
            raise ConfigError(
                f"{named}: headers and subprotocols are for ws:// and wss://", "leave them out"
            )
        if not (callable(self.headers) and unsuitable_signature(self.headers, ()) is None):
            check_headers(self.headers)
        offered = self.subprotocols
        if not isinstance(offered, (list, tuple)) or not all(map(_is_name, offered)):
            raise ConfigError(
                f"subprotocols={offered!r} are not names of subprotocols",
                'write a list of names: ["v2.feed", "v1.feed"]',
            )
        check_flag("once", self.once)
        check_flag("proxy", self.uses_proxy)
        if is_websocket and find_spec("websockets") is None:
            raise ConfigError(
                f"{named} needs the package websockets",
                'install it: pip install "gateman[client]"',
            )
        if scheme == "ws" and ssl:
            raise ConfigError(f"{named} has ssl", "write wss:// for TLS")
        for name in ("max_message_size", "max_send_buffer_size", "open_timeout", "max_delay"):
            value = getattr(self, name)
            is_size = name.endswith("_size")
            if not is_positive(value, 1e10) or (is_size and not isinstance(value, int)):
                kind = "whole number of bytes" if is_size else "positive number"
                raise ConfigError(
                    f"{named}: {name}={value!r} is not a {kind}", "correct it, or leave it out"
                )

    def __setattr__(self, name: str, value: Any) -> None:
        """Declare a callback by assignment, as of a worker; this replaces the function."""
        if not name.startswith("on_"):
            super().__setattr__(name, value)
            return
        if name not in SIGNATURES:
            raise ConfigError.unknown("callback of an outgoing connection", name, SIGNATURES)
        check(name, value, SIGNATURES)
        self.callbacks[name] = value

    def __repr__(self) -> str:
        return f"<OutgoingConnection {self}{'' if self.is_open else ', closed'}>"

    def __str__(self) -> str:
        """Name it for a log line: without what may be a secret."""
        return redacted(self.url)

    @property
    def is_open(self) -> bool:
        """Whether this process has it now."""
        return self.link is not None

    def send(self, message: Any) -> SendResult:
        """
        Send a message.

        Args:
            message: ``str`` or ``bytes``: text and binary messages of a WebSocket, lines of
                ``text://``, packets of ``frame://``, bytes of ``tcp://``.

        Returns:
            What became of it. ``CLOSED``: the connection is not open in this process; nothing is
            kept for later. ``DROPPED``: more than ``max_send_buffer_size`` would be waiting.

        Raises:
            ValueError: The protocol cannot carry the message.
            WrongThread: It was called outside the event loop's thread.
        """
        if self.link is None:
            return SendResult.CLOSED
        self._check_thread("send")
        return self.link.send(message)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """
        End the connection; it is made again, after a pause.

        Args:
            code: The close code of a WebSocket: 1000 to 1003, 1007 to 1014, or 3000 to 4999.
            reason: Its reason; at most 123 bytes of UTF-8.

        Raises:
            ConfigError: The code or the reason cannot be sent.
            WrongThread: It was called outside the event loop's thread.
        """
        check_close(code, reason)
        if self.link is not None:
            self._check_thread("close")
            self.link.close(code, reason)

    def _check_thread(self, verb: str) -> None:
        if get_ident() != self.thread:
            raise WrongThread(verb)

    def on_open(self, function: Callable[["OutgoingConnection"], Any]) -> Any:
        """
        Call a function each time that the connection is open.

        Args:
            function: Takes ``(connection)``; plain or ``async``.
        """
        return self._declare("on_open", function)

    def on_message(self, function: Callable[["OutgoingConnection", Any], Any]) -> Any:
        """
        Call a function for each message, one after the other: nothing is read meanwhile.

        Args:
            function: Takes ``(connection, message)``; plain or ``async``.
        """
        return self._declare("on_message", function)

    def on_close(self, function: Callable[["OutgoingConnection", int, str], Any]) -> Any:
        """
        Call a function each time that the open connection has ended.

        Args:
            function: Takes ``(connection, code, reason)``; plain or ``async``. The code is 1006
                if the connection broke, and 1000 if a peer without close codes ended it.
        """
        return self._declare("on_close", function)

    def _declare(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        check(name, function, SIGNATURES)
        known = self.callbacks.get(name)
        if known is not None:
            raise ConfigError(
                f"{name} of {self} is declared already: {label(known)} would not be called",
                "call both from one function",
            )
        self.callbacks[name] = function
        return function


def _is_name(value: object) -> bool:
    return isinstance(value, str) and is_token(value)


def check_headers(headers: object) -> None:
    """Check the headers of a handshake, or what a function for them has returned."""
    # Without the values: they may be secrets.
    if headers is None:
        return
    is_valid = isinstance(headers, Mapping) and all(
        _is_name(name) and isinstance(value, str) and _HEADER_VALUE.fullmatch(value)
        for name, value in headers.items()
    )
    if not is_valid:
        raise ConfigError(
            "the headers of connect are not a mapping of names to texts of one line in ASCII,"
            " nor a function without arguments that returns one",
            'write headers={"Authorization": TOKEN}',
        )
    own = sorted(name for name in headers if name.lower() in _OWN_HEADERS)  # type: ignore[attr-defined]
    if own:
        raise ConfigError(
            f"the header {own[0]} of connect is sent anyway, and must not be sent twice",
            "write subprotocols=[…]"
            if own[0].lower() == "sec-websocket-protocol"
            else "leave it out",
        )


def parse(url: object) -> SplitResult:
    """Check the URL of another server."""
    parts = _split(url)
    if not parts.scheme:
        raise ConfigError(f"connect({url!r}) has no scheme", "write wss://feed.example/prices")
    known = (*WEBSOCKET_SCHEMES, *STREAM_SCHEMES)
    if parts.scheme not in known:
        raise ConfigError.unknown("scheme to connect to", parts.scheme, known)
    if not parts.hostname:
        raise ConfigError(f"connect({url!r}) has no host", "write wss://feed.example/prices")
    if parts.fragment:
        raise ConfigError(
            f"connect({redacted(parts.geturl())!r}) has a fragment", "leave out what # begins"
        )
    if parts.scheme in WEBSOCKET_SCHEMES and parts.username is not None and not parts.password:
        raise ConfigError(
            f"connect({redacted(parts.geturl())!r}) has a user without a password",
            "write wss://user:password@feed.example/",
        )
    if parts.scheme in STREAM_SCHEMES:
        if parts.username is not None:
            raise ConfigError(
                f"connect({redacted(parts.geturl())!r}) has a user",
                "only ws:// and wss:// send one",
            )
        if parts.port is None:
            raise ConfigError(f"connect({url!r}) has no port", "write tcp://feed.example:9000")
        if parts.path.strip("/") or parts.query:
            raise ConfigError(f"connect({url!r}) has a path", "write host and port only")
    return parts


def _split(url: object) -> SplitResult:
    try:
        if not isinstance(url, str) or not url.isprintable() or " " in url:
            raise ValueError
        parts = urlsplit(url)
        if parts.port == 0:
            raise ValueError
        if parts.hostname:
            parts.hostname.encode("idna")  # UnicodeError is a ValueError.
    except ValueError:
        raise ConfigError(
            f"connect({url!r}) is not the address of a server", "write wss://feed.example/prices"
        ) from None
    return parts


def _tls(ssl: "SSLContext | bool | None", *, is_wanted: bool) -> "SSLContext | bool":
    """Return the context, or whether there is to be one that verifies with the system's roots."""
    if ssl is False and is_wanted:
        raise ConfigError("ssl=False does not go with wss://", "write ws:// for no TLS")
    if ssl is None or isinstance(ssl, bool):
        return bool(ssl) or is_wanted
    # Imported here: the master needs it for nothing else.
    from ssl import PROTOCOL_TLS_SERVER, SSLContext

    if not isinstance(ssl, SSLContext):
        raise ConfigError(
            f"ssl={ssl!r} is not an ssl.SSLContext", "write ssl=True to verify as browsers do"
        )
    if ssl.protocol is PROTOCOL_TLS_SERVER:
        raise ConfigError(
            "ssl is a context for servers", "make it with ssl.create_default_context()"
        )
    return ssl


def redacted(url: str) -> str:
    """Return a URL without its user, password and query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl()
