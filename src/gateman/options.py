"""
The options that are numbers: limits and timeouts, each declared once.

A field carries its unit and its reason. ``docs/options.md`` is generated from them, and
unknown names are errors. Sizes are bytes, durations are seconds; ``None`` is "off" and
only where the field's type allows it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from typing import Any, NoReturn, Self, TypeVar

from .errors import ConfigError

# What is more is a mistake, and somewhere below an overflow: of the kernel's timers, which count
# milliseconds in 31 bits, and of sizes in C.
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
    """
    Declare an option that a user may set: a field of a dataclass, or of a worker.

    Args:
        default: Its default value; an option without one has to be given.
        unit: What it counts: ``"bytes"``, ``"seconds"``, ``"connections"``…
        reason: What it does and why the default is what it is.
        check: Takes a :class:`gateman.config.schema.Option` and a value, returns what is kept of
            the value, or raises :class:`ConfigError`. A dataclass checks its options itself.
        kw_only: Whether it can be given by its name only.
    """
    return field(
        default=default,
        kw_only=kw_only,
        metadata={"unit": unit, "reason": reason, "check": check},
    )


def fixed(owner: str, assignment: str) -> Callable[[C], C]:
    """
    Let instances of a frozen class say what to write in place of changing one of their options.

    Args:
        owner: How a sentence calls an instance, such as ``"limits"``.
        assignment: What to write, with ``{name}`` and ``{value}`` for the option and its value.

    Returns:
        The decorator.
    """

    def decorate(kind: C) -> C:
        def refuse(_self: object, name: str, value: object) -> NoReturn:
            known = {declared.name for declared in fields(kind)}
            if name not in known:
                raise ConfigError.unknown(f"option of {owner}", name, known)
            raise ConfigError(
                f"{owner}.{name} cannot be changed by itself",
                f"write {assignment.format(name=name, value=repr(value))}",
            )

        kind.__setattr__ = refuse  # type: ignore[assignment, method-assign]
        return kind

    return decorate


def is_positive(value: object, most: float) -> bool:
    """Tell whether a value is a number above 0, and not above ``most``; a bool is not a number."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 < value <= most  # type: ignore[operator]


def is_path(value: object) -> bool:
    """Tell whether a value is a path that the system would take."""
    if not isinstance(value, str) and not hasattr(type(value), "__fspath__"):
        return False
    try:
        encoded = str(value).encode("utf-8", "surrogateescape")
        return bool(encoded) and b"\0" not in encoded
    except UnicodeEncodeError:
        return False


class _Numbers:
    """What ``Limits`` and ``Timeouts`` share: they are made from mappings, and checked."""

    __slots__ = ()

    @classmethod
    def of(cls, value: "Self | Mapping[str, float | None] | None") -> Self:
        """
        Make the options from what a user wrote.

        Args:
            value: An instance, a mapping of field names to numbers, or ``None`` for the
                defaults.

        Returns:
            The options.

        Raises:
            ConfigError: An unknown name, or a value that is not such a number.
        """
        if value is None:
            return cls()
        if isinstance(value, cls):
            return value
        kind = cls.__name__.lower()
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"{kind}={value!r} is neither {cls.__name__} nor a mapping",
                f"write {kind}={{'{fields(cls)[0].name}': …}}",  # type: ignore[arg-type]
            )
        known = {declared.name for declared in fields(cls)}  # type: ignore[arg-type]
        for name in value:
            if name not in known:
                raise ConfigError.unknown(f"option of {kind}", name, known)
        return cls(**value)

    def __post_init__(self) -> None:
        kind = type(self).__name__.lower()
        for declared in fields(self):  # type: ignore[arg-type]
            value = getattr(self, declared.name)
            if value is None and "None" in str(declared.type):
                continue
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not 0 < value < math.inf:
                raise ConfigError(
                    f"{kind}.{declared.name}={value!r} is not a positive number",
                    f"give it in {declared.metadata['unit']}",
                )
            unit = declared.metadata["unit"]
            highest = _MAX_SECONDS if unit == "seconds" else _MAX_COUNT
            if value > highest:
                raise ConfigError(
                    f"{kind}.{declared.name} is more than it can be", f"use {highest} or less"
                )
            if "int" in str(declared.type) and not isinstance(value, int):
                raise ConfigError(
                    f"{kind}.{declared.name}={value!r} is not a whole number",
                    f"give it in {declared.metadata['unit']}",
                )


@fixed("limits", "worker.limits = {{'{name}': {value}}}")
@dataclass(frozen=True, kw_only=True, slots=True)
class Limits(_Numbers):
    """What one peer, and all of them, may make a process hold."""

    max_message_size: int = option(
        1 << 20,
        "bytes",
        "One message, all its fragments together, after decompression. Larger ones close the"
        " connection with 1009. Precedent: websockets, 1 MiB.",
    )
    max_send_buffer_size: int = option(
        1 << 20,
        "bytes",
        "What may wait for one slow peer. Beyond it, messages are dropped and counted."
        " Precedent: Workerman, 1 MiB.",
    )
    max_head_size: int = option(
        16 << 10,
        "bytes",
        "The request line and all header fields of a handshake; a larger one gets 431, or 414 if"
        " it is the line. Precedent: h11 and nginx, 16 and 32 KiB.",
    )
    max_header_count: int = option(
        100,
        "fields",
        "The header fields of a handshake; more get 431. Precedent: Apache, 100.",
    )
    max_messages_per_second: int = option(
        100_000,
        "messages per second",
        "From one connection; more close it with 1008. Far above what one client means to send:"
        " it ends floods of tiny messages, which cost time and not bytes. Fragments, pings and"
        " pongs count too.",
    )
    max_connections: int | None = option(
        None,
        "connections",
        "In one process; more get 503, or on a TLS port the end of the connection before TLS. None"
        " is what the limit on open files leaves (ulimit -n), less 64 for everything else.",
    )
    max_connections_per_ip: int | None = option(
        1000,
        "connections",
        "In one process, from one IPv4 address or one IPv6 /64; more get 429, or on a TLS port the"
        " end of the connection before TLS. A carrier's NAT may hide hundreds of people. Proxies"
        " that are trusted count by their clients, who get 429 in any case.",
    )
    max_handshakes_per_second: int | None = option(
        5000,
        "handshakes per second",
        "In one process; more get 503 with Retry-After, before the application is asked; on a"
        " TLS port the connection is closed before TLS. Above what a process can do with TLS: lower"
        " it to what on_websocket_connect's database can take.",
    )
    max_queued_messages: int = option(
        16,
        "messages",
        "What may wait for an async handler of one connection before reading from it pauses; 64 KiB"
        " of memory pause it too, the message that is being handled among them.",
    )


@fixed("timeouts", "worker.timeouts = {{'{name}': {value}}}")
@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts(_Numbers):
    """How long anything may take; every wait has a deadline."""

    handshake: float = option(
        10.0,
        "seconds",
        "From accept to the 101, TLS included, never extended by a byte that arrives."
        " Precedent: websockets and Centrifugo, 10 s.",
    )
    login: float | None = option(
        None,
        "seconds",
        "From the 101 until somebody says who the client is (bind); one without a uid is closed"
        " with 1008 then. With a gateway it survives a reload of the code. None means no deadline.",
    )
    ping_interval: float | None = option(
        25.0,
        "seconds",
        "Between two pings to a client; None sends none. Under the 60 s after which nginx, and"
        " the 30 s after which some mobile networks, cut an idle connection.",
    )
    pong: float = option(
        20.0,
        "seconds",
        "What a client has for the answer to a ping; only a pong or a message counts as life.",
    )
    close: float = option(
        5.0,
        "seconds",
        "What a peer has for its half of the closing handshake and for ending the connection;"
        " then it is aborted.",
    )
    shutdown: float = option(
        10.0,
        "seconds",
        "From the signal to the exit of the process; what is still open then is aborted.",
    )
    start: float = option(
        60.0,
        "seconds",
        "From the start of a process until it serves, on_worker_start included; then it is killed."
        " Precedent: systemd, 90 s.",
    )
    stall: float = option(
        30.0,
        "seconds",
        "A process that gives no sign of life for so long, stuck in one callback, is reported as"
        " busy, with its stack in the log. Precedent: gunicorn, 30 s.",
    )


class SlowConsumer(Enum):
    """What happens to a message when ``limits.max_send_buffer_size`` is waiting already."""

    DROP_NEWEST = "drop_newest"
    """It is dropped, as Workerman does: what waits is delivered, with a hole after it."""
    DROP_OLDEST = "drop_oldest"
    """The oldest waiting ones make room for it: for values that replace one another."""
    CLOSE = "close"
    """The connection is closed with 1013: the client comes back, and starts afresh."""
