"""
The declaration of an outgoing connection, and what callbacks hold of it.

:mod:`gateman.runtime.outgoing` opens it, in each process or in one of the service.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import SplitResult, urlsplit

from ..connection_interfaces import SendResult
from ..errors import ConfigError
from ..http.response import is_token
from ..options import is_positive
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
        url: str,
        *,
        once: bool,
        headers: Headers | None,
        subprotocols: tuple[str, ...],
        tls: "SSLContext | bool",
        uses_proxy: bool,
        max_message_size: int,
        max_send_buffer_size: int,
        open_timeout: float,
        max_delay: float,
    ) -> None:
        self.url = url
        self.once = once
        self.reconnects = 0
        self.callbacks: dict[str, Callable[..., Any]] = {}
        # For gateman's own modules.
        self.headers = headers
        self.subprotocols = subprotocols
        self.tls = tls
        self.uses_proxy = uses_proxy
        self.max_message_size = max_message_size
        self.max_send_buffer_size = max_send_buffer_size
        self.open_timeout = open_timeout
        self.max_delay = max_delay
        self.link: OutgoingLink | None = None

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
        """
        return SendResult.CLOSED if self.link is None else self.link.send(message)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """
        End the connection; it is made again, after a pause.

        Args:
            code: The close code of a WebSocket.
            reason: Its reason.
        """
        if self.link is not None:
            self.link.close(code, reason)

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


def declare(
    url: object,
    callbacks: Mapping[str, Callable[..., Any] | None],
    *,
    once: bool,
    headers: Headers | None,
    subprotocols: Sequence[str],
    ssl: "SSLContext | bool | None",
    uses_proxy: bool,
    max_message_size: int,
    max_send_buffer_size: int,
    open_timeout: float,
    max_delay: float,
) -> OutgoingConnection:
    """Check what :meth:`gateman.Worker.connect` got."""
    parts = parse(url)
    is_websocket = parts.scheme in WEBSOCKET_SCHEMES
    if not is_websocket and (headers or subprotocols):
        raise ConfigError(
            f"connect({parts.geturl()!r}): headers and subprotocols are for ws:// and wss://",
            "leave them out",
        )
    _check_headers(headers)
    if isinstance(subprotocols, str) or not all(map(_is_name, subprotocols)):
        raise ConfigError(
            f"subprotocols={subprotocols!r} are not names of subprotocols",
            'write a list of names: ["v2.feed", "v1.feed"]',
        )
    for name, is_on in {"once": once, "proxy": uses_proxy}.items():
        if not isinstance(is_on, bool):
            raise ConfigError(f"{name}={is_on!r} is neither True nor False", "write one of them")
    if is_websocket and find_spec("websockets") is None:
        raise ConfigError(
            f"connect({parts.geturl()!r}) needs the package websockets",
            'install it: pip install "gateman[client]"',
        )
    if parts.scheme == "ws" and ssl:
        raise ConfigError(f"connect({parts.geturl()!r}) has ssl", "write wss:// for TLS")
    for name, value in {
        "max_message_size": max_message_size,
        "max_send_buffer_size": max_send_buffer_size,
        "open_timeout": open_timeout,
        "max_delay": max_delay,
    }.items():
        if not is_positive(value, 1e10):
            raise ConfigError(
                f"connect({parts.geturl()!r}): {name}={value!r} is not a positive number",
                "correct it, or leave it out",
            )
        if name.endswith("_size") and not isinstance(value, int):
            raise ConfigError(
                f"connect({parts.geturl()!r}): {name}={value!r} is not a whole number of bytes",
                "correct it, or leave it out",
            )
    made = OutgoingConnection(
        parts.geturl(),
        once=once,
        headers=headers,
        subprotocols=tuple(subprotocols),
        tls=_tls(ssl, is_wanted=parts.scheme == "wss"),
        uses_proxy=uses_proxy,
        max_message_size=max_message_size,
        max_send_buffer_size=max_send_buffer_size,
        open_timeout=open_timeout,
        max_delay=max_delay,
    )
    for name, function in callbacks.items():
        if function is not None:
            getattr(made, name)(function)
    return made


def _is_name(value: object) -> bool:
    return isinstance(value, str) and is_token(value)


def _check_headers(headers: object) -> None:
    if headers is None or (callable(headers) and unsuitable_signature(headers, ()) is None):
        return
    is_valid = isinstance(headers, Mapping) and all(
        _is_name(name) and isinstance(value, str) and not set(value) & set("\r\n\0")
        for name, value in headers.items()
    )
    if not is_valid:
        # Without the values: they may be secrets.
        raise ConfigError(
            "the headers of connect are not a mapping of names to texts of one line,"
            " nor a function without arguments that returns one",
            'write headers={"Authorization": TOKEN}',
        )


def parse(url: object) -> SplitResult:
    """Check the URL of another server."""
    known = (*WEBSOCKET_SCHEMES, *STREAM_SCHEMES)
    try:
        if not isinstance(url, str):
            raise ValueError  # noqa: TRY004 - told as what it is below
        parts = urlsplit(url)
        port = parts.port
        if port == 0 or any(letter.isspace() for letter in url):
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"connect({url!r}) is not the address of a server", "write wss://feed.example/prices"
        ) from None
    if parts.scheme not in known:
        raise ConfigError.unknown("scheme to connect to", parts.scheme, known)
    if not parts.hostname:
        raise ConfigError(f"connect({url!r}) has no host", "write wss://feed.example/prices")
    if parts.fragment:
        raise ConfigError(f"connect({redacted(url)!r}) has a fragment", "leave out what # begins")
    if parts.scheme in WEBSOCKET_SCHEMES and parts.username is not None and not parts.password:
        raise ConfigError(
            f"connect({redacted(url)!r}) has a user without a password",
            "write wss://user:password@feed.example/",
        )
    if parts.scheme in STREAM_SCHEMES:
        if parts.username is not None:
            raise ConfigError(
                f"connect({redacted(url)!r}) has a user", "only ws:// and wss:// send one"
            )
        if port is None:
            raise ConfigError(f"connect({url!r}) has no port", "write tcp://feed.example:9000")
        if parts.path.strip("/") or parts.query:
            raise ConfigError(f"connect({url!r}) has a path", "write host and port only")
    return parts


def _tls(ssl: "SSLContext | bool | None", *, is_wanted: bool) -> "SSLContext | bool":
    """Return the context, or whether there is to be one that verifies with the system's roots."""
    if ssl is False and is_wanted:
        raise ConfigError("ssl=False does not go with wss://", "write ws:// for no TLS")
    if ssl is None or isinstance(ssl, bool):
        return bool(ssl) or is_wanted
    # Imported here: the master needs it for nothing else.
    from ssl import SSLContext

    if not isinstance(ssl, SSLContext):
        raise ConfigError(
            f"ssl={ssl!r} is not an ssl.SSLContext", "write ssl=True to verify as browsers do"
        )
    return ssl


def redacted(url: str) -> str:
    """Return a URL without its user, password and query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl()
