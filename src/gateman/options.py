"""
Limits and timeouts: options that are numbers, each declared once.

``docs/options.md`` is generated from the fields and their reasons. Sizes are in bytes, durations in
seconds; ``None`` means no limit, where the field's type allows it.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from functools import wraps
from typing import Any, NoReturn, Self, TypeVar

from .errors import ConfigError

# Larger values are mistakes, and could overflow sizes in C, and timers of the kernel, which count
# milliseconds in 31 bits.
_MAX_SECONDS = 1_000_000
_MAX_COUNT = 1 << 53

C = TypeVar("C", bound=type)


def option(
    default: Any = MISSING,
    unit: str = "",
    reason: str = "",
    *,
    check: Callable[[Any, Any], Any] | None = None,
    kw_only: bool = True,
) -> Any:
    """Declare an option: a field of a dataclass, or of a worker."""
    # ``reason`` says what it does, and why it has this default. ``check`` takes a
    # config.schema.Option and a value, and returns the value to keep; a dataclass checks its
    # options itself.
    return field(
        default=default,
        kw_only=kw_only,
        metadata={"unit": unit, "reason": reason, "check": check},
    )


def fixed(owner: str, assignment: str) -> Callable[[C], C]:
    """Make a frozen dataclass tell unknown options, and that ``assignment`` sets a value."""

    def decorate(kind: C) -> C:
        known = {declared.name for declared in fields(kind)}
        set_all = kind.__init__  # type: ignore[misc]

        @wraps(set_all)
        def make(self: object, *positional: object, **named: object) -> None:
            if positional:
                first = fields(kind)[0].name
                raise ConfigError(
                    # Without the value, which may be a secret.
                    f"{kind.__name__} got a value without the name of an option",
                    f"write {kind.__name__}({first}=…)",
                )
            check_names(f"option of {owner}", named, known)
            set_all(self, **named)

        def refuse(_self: object, name: str, value: object) -> NoReturn:
            check_names(f"option of {owner}", [name], known)
            raise ConfigError(
                f"{owner}.{name} cannot be changed by itself",
                f"write {assignment.format(name=name, value=repr(value))}",
            )

        kind.__init__ = make  # type: ignore[misc]
        kind.__setattr__ = refuse  # type: ignore[assignment, method-assign]
        return kind

    return decorate


def is_positive(value: object, most: float) -> bool:
    """Return whether a value is a number above 0 and up to ``most``; a bool is not a number."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 < value <= most  # type: ignore[operator]


def check_flag(name: str, value: object) -> bool:
    """Return a value that is true or false; 0 and 1 are neither."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name}={value!r} is neither True nor False", "write one of them")
    return value


def check_names(kind: str, given: Iterable[object], known: Collection[str]) -> None:
    """Refuse the first name that is not known, with the nearest one."""
    for name in given:
        if name not in known:
            raise ConfigError.unknown(kind, name, known)


def is_path(value: object) -> bool:
    """Return whether the system accepts a value as a path."""
    if not isinstance(value, str) and not hasattr(type(value), "__fspath__"):
        return False
    try:
        encoded = str(value).encode("utf-8", "surrogateescape")
        return bool(encoded) and b"\0" not in encoded
    except UnicodeEncodeError:
        return False


class Numbers:
    """``Limits`` and its like are made from mappings, and checked."""

    __slots__ = ()

    @classmethod
    def of(cls, value: "Self | Mapping[str, float | None] | None") -> Self:
        """Return the options: an instance, or made from a mapping, or the defaults for ``None``."""
        if value is None:
            return cls()
        if isinstance(value, cls):
            return value
        kind = cls._kind()
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"{kind}={value!r} is neither {cls.__name__} nor a mapping",
                f"write {kind}={{'{fields(cls)[0].name}': …}}",  # type: ignore[arg-type]
            )
        known = {declared.name for declared in fields(cls)}  # type: ignore[arg-type]
        check_names(f"option of {kind}", value, known)
        return cls(**value)

    @classmethod
    def _kind(cls) -> str:
        """Return the worker's option that has them: ``client_limits`` for ``ClientLimits``."""
        words = re.findall("[A-Z][a-z]+", cls.__name__)
        return "_".join(words).lower()

    def __post_init__(self) -> None:
        kind = self._kind()
        for declared in fields(self):  # type: ignore[arg-type]
            value = getattr(self, declared.name)
            if value is None and "None" in str(declared.type):
                continue
            name, unit = f"{kind}.{declared.name}", declared.metadata["unit"]
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not 0 < value < math.inf:
                raise ConfigError(
                    f"{name}={value!r} is not a positive number", f"give it in {unit}"
                )
            highest = _MAX_SECONDS if unit == "seconds" else _MAX_COUNT
            if value > highest:
                raise ConfigError(f"{name} is too large", f"use {highest} or less")
            if "int" in str(declared.type) and not isinstance(value, int):
                raise ConfigError(f"{name}={value!r} is not a whole number", f"give it in {unit}")


@fixed("limits", "worker.limits = {{'{name}': {value}}}")
@dataclass(frozen=True, kw_only=True, slots=True)
class Limits(Numbers):
    """What one client, and all clients together, may make a process hold."""

    max_message_size: int = option(
        1 << 20,
        "bytes",
        "The size of a message, all fragments together, after decompression. A larger one closes"
        " the connection with 1009. Precedent: websockets, 1 MiB.",
    )
    max_send_buffer_size: int = option(
        1 << 20,
        "bytes",
        "The data that waits for one slow client. Further messages are dropped and counted; see"
        " slow_consumer. Precedent: Workerman, 1 MiB.",
    )
    max_head_size: int = option(
        16 << 10,
        "bytes",
        "The request line and all header fields of a handshake. Larger heads get 431, longer lines"
        " 414. Precedent: h11, 16 KiB, and nginx, 32 KiB.",
    )
    max_header_count: int = option(
        100,
        "fields",
        "The header fields of a handshake; more than these get 431. Precedent: Apache, 100.",
    )
    max_messages_per_second: int = option(
        100_000,
        "messages per second",
        "The messages of one connection; more than these close it with 1008. Real clients send far"
        " fewer: the limit ends floods of tiny messages, which cost time and not bytes. Fragments,"
        " pings and pongs count too.",
    )
    max_connections: int | None = option(
        None,
        "connections",
        "In one process. Further clients get 503; on a TLS port they are closed before TLS. None"
        " means the limit on open files (ulimit -n) less 64.",
    )
    max_connections_per_ip: int | None = option(
        1000,
        "connections",
        "In one process, from one IPv4 address or one IPv6 /64. Further clients get 429; on a TLS"
        " port they are closed before TLS. A carrier's NAT may hide hundreds of users. Connections"
        " through a trusted proxy count for the client's address, and always get 429.",
    )
    max_handshakes_per_second: int | None = option(
        5000,
        "handshakes per second",
        "In one process. Further clients get 503 with Retry-After before on_websocket_connect runs;"
        " on a TLS port they are closed before TLS. The default is more than a process can do"
        " with TLS: set it to what the database behind on_websocket_connect can do.",
    )
    max_body_size: int = option(
        1 << 20,
        "bytes",
        "The body of a request to the HTTP application (http), or to the HTTP API. A larger one"
        " gets 413. Applications often hold it as a whole. Precedent: nginx, 1 MiB.",
    )
    max_requests: int | None = option(
        1000,
        "requests",
        "In one process, at the same time, to the HTTP application (http). Further requests get 503"
        " with Retry-After. A stream of events counts until it ends. None means no limit.",
    )
    max_queued_messages: int = option(
        16,
        "messages",
        "The messages that wait for an async handler of one connection; at this number, or at 64"
        " KiB of memory including the message in the handler, reading from the connection pauses.",
    )


@fixed("timeouts", "worker.timeouts = {{'{name}': {value}}}")
@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts(Numbers):
    """How long each step may take."""

    handshake: float = option(
        10.0,
        "seconds",
        "From accept to the 101, including TLS; received bytes do not extend it. Precedent:"
        " websockets and Centrifugo, 10 s.",
    )
    login: float | None = option(
        None,
        "seconds",
        "From the 101 until the application has bound a uid to the client (bind). A client without"
        " a uid is then closed with 1008. With a gateway, a reload of the code does not restart the"
        " time. None means no deadline.",
    )
    ping_interval: float | None = option(
        25.0,
        "seconds",
        "Between two pings to a client; None sends none. nginx closes an idle connection after 60"
        " s, and some mobile networks after 30 s.",
    )
    pong: float = option(
        20.0,
        "seconds",
        "How long a client may take to answer a ping with a pong or a message. Otherwise the"
        " connection is closed.",
    )
    idle: float | None = option(
        300.0,
        "seconds",
        "How long a client of tcp://, text:// or frame:// may send no whole message, and take"
        " nothing that is sent to it; then it is closed. There are no pings: below it, TCP itself"
        " asks every ping_interval whether the client is there. None means no limit. Precedent:"
        " nginx's stream, 600 s.",
    )
    keep_alive: float = option(
        75.0,
        "seconds",
        "How long a connection to the HTTP application (http) waits for its next request. It is"
        " longer than proxies keep their connections, or they would use one that just ends."
        " Precedent: nginx, 75 s.",
    )
    transfer: float = option(
        30.0,
        "seconds",
        "How long a client may send nothing of a body that the HTTP application (http) waits for,"
        " or take nothing of a response. A body has to arrive with 500 bytes a second. Precedent:"
        " Apache's mod_reqtimeout, 20 s and 500 bytes a second.",
    )
    close: float = option(
        5.0,
        "seconds",
        "For the client's part of the closing handshake, and for the end of its connection. A"
        " connection that is still open then is aborted.",
    )
    shutdown: float = option(
        10.0,
        "seconds",
        "From the signal to the exit of the process. Connections that are still open then are"
        " aborted.",
    )
    start: float = option(
        60.0,
        "seconds",
        "From the start of a process until it serves, including on_worker_start. A process that"
        " does not serve then is killed. Precedent: systemd, 90 s.",
    )
    stall: float = option(
        30.0,
        "seconds",
        "A process that is stuck in one callback for so long is reported as busy, with its stack"
        " in the log. Precedent: gunicorn, 30 s.",
    )
    health_interval: float = option(
        5.0,
        "seconds",
        "Between the end of one on_health and the next; health checks get its last result."
        " Kubernetes checks every 10 s.",
    )
    health: float = option(
        2.0,
        "seconds",
        "How long on_health may take; the process is not ready if it takes longer.",
    )


class SlowConsumer(Enum):
    """What happens to a message if ``limits.max_send_buffer_size`` bytes are waiting already."""

    DROP_NEWEST = "drop_newest"
    """The message is dropped, as in Workerman; waiting messages are delivered."""
    DROP_OLDEST = "drop_oldest"
    """The oldest waiting messages are dropped; for values that replace earlier ones."""
    CLOSE = "close"
    """The connection is closed with 1013; the client reconnects, and starts again."""
