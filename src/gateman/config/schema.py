"""What may be assigned to a worker: the names of its options, and what each of them takes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..bus import Bus, open_bus
from ..errors import ConfigError
from ..http.origins import parse_origin
from ..http.response import is_token
from ..listen import ListenAddress
from ..options import Limits, SlowConsumer, Timeouts
from ..websocket.deflate import Deflate

# Processes of one worker: more than any machine has cores for.
_MAX_COUNT = 1024

# Exact as a float, and far below what overflows.
_MAX_NUMBER = 1 << 53

# Of a user and a group; -1 means "unchanged" to the system.
_MAX_ACCOUNT = (1 << 32) - 2

# What ends the path in a request's target.
_BEYOND_PATH = frozenset(" ?#")

# Characters: of what stands in each line of the log, in tables and in the names of processes.
_MAX_NAME_SIZE = 64


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"count={value!r} is no number of processes", "use 1 or more")
    if value > _MAX_COUNT:
        raise ConfigError("count is more processes than can be", f"use {_MAX_COUNT} or less")
    return value


def _name(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ConfigError(
            f"name={value!r} is not a name", "write a short text, such as name='chat'"
        )
    if len(value) > _MAX_NAME_SIZE:
        raise ConfigError("name is too long", f"use {_MAX_NAME_SIZE} characters or less")
    return value


def _context(value: object) -> Mapping[str, Any] | None:
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"context={value!r} is no mapping", "write {'ssl': {'local_cert': …}}")
    return value


def _trusted_proxies(value: Iterable[str] | None) -> list[str] | None:
    if value is None:
        return None
    # Imported here: only who names proxies needs it in the master.
    from ..http.client_address import TrustedProxies

    proxies = value if isinstance(value, str) else _strings("trusted_proxies", value)
    TrustedProxies(proxies)
    return list(proxies)


def _listen(value: object) -> str:
    ListenAddress.parse(value)
    return str(value)


def origins(value: Iterable[str] | None) -> frozenset[str] | None:
    """
    Read ``allowed_origins``.

    Raises:
        ConfigError: It is no list, or something in it is no origin.
    """
    if value is None:
        return None
    return frozenset(map(parse_origin, _strings("allowed_origins", value)))


def subprotocols(value: Iterable[str]) -> tuple[str, ...]:
    """
    Read ``subprotocols``.

    Raises:
        ConfigError: It is no list of names.
    """
    names = tuple(_strings("subprotocols", value))
    for name in names:
        if not is_token(name):
            raise ConfigError(
                f"{name!r} in subprotocols is no name that a client could send",
                "use letters, digits, '.' and '-', such as 'chat.v1'",
            )
    return names


def _strings(name: str, value: Iterable[str]) -> list[str]:
    """Read a list of texts; one text alone would be a list of its letters."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise ConfigError(f"{name}={value!r} is no list", f"write {name}=['…']")
    strings = list(value)
    for string in strings:
        if not isinstance(string, str):
            raise ConfigError(f"{string!r} in {name} is no text", f"write {name}=['…']")
    return strings


def _path(value: object) -> str | None:
    if value is None:
        return None
    if not (isinstance(value, str) and value.startswith("/")):
        raise ConfigError(f"health_path={value!r} is no path", "begin it with '/'")
    if not value.isascii() or not value.isprintable() or not _BEYOND_PATH.isdisjoint(value):
        raise ConfigError(
            f"health_path={value!r} can be no request's path", "leave out spaces, '?' and '#'"
        )
    return value


def _slow_consumer(value: object) -> SlowConsumer:
    try:
        return SlowConsumer(value)
    except (ValueError, TypeError):
        names = [policy.value for policy in SlowConsumer]
        raise ConfigError.unknown("policy for slow consumers", value, names) from None


def _compression(value: object) -> Deflate | None:
    if value is None or isinstance(value, Deflate):
        return value
    raise ConfigError(f"compression={value!r} is no Deflate", "write compression=Deflate()")


def _yes_or_no(name: str) -> Callable[[object], bool]:
    """Make the check of an option that is on or off."""

    def check(value: object) -> bool:
        if not isinstance(value, bool):
            raise ConfigError(f"{name}={value!r} is neither True nor False", "write one of them")
        return value

    return check


def _one_of(name: str, *choices: str) -> Callable[[object], str]:
    """Make the check of an option that is one of some words."""

    def check(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ConfigError.unknown(name, value, choices)
        return value

    return check


def _number(name: str, unit: str, *, is_whole: bool = True) -> Callable[[object], Any]:
    """Make the check of an option that is a positive number, or ``None`` for never."""

    def check(value: object) -> Any:
        if value is None:
            return None
        kinds = (int,) if is_whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < float("inf"):
            raise ConfigError(
                f"{name}={value!r} is no {'whole ' if is_whole else ''}positive number",
                f"give it in {unit}, or leave it out",
            )
        if value > _MAX_NUMBER:
            raise ConfigError(f"{name} is more than it can be", f"give it in {unit}")
        return value

    return check


def _given(check: Callable[[object], Any], name: str) -> Callable[[object], Any]:
    """Make a check that refuses ``None``."""

    def checked(value: object) -> Any:
        if value is None:
            raise ConfigError(f"{name} has to have a value", "leave it out for its default")
        return check(value)

    return checked


def _account(name: str) -> Callable[[object], Any]:
    """Make the check of a user's or group's name or number; whether it exists is seen later."""

    def check(value: object) -> Any:
        if value is None:
            return value
        if isinstance(value, str) and value and value.isprintable():
            return value
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_ACCOUNT:
            return value
        raise ConfigError(f"{name}={value!r} is no name of a {name}", f"write {name}='www-data'")

    return check


def _bus(value: str | Mapping[str, Any] | None) -> str | Mapping[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, (str, Mapping)):
        raise ConfigError(f"bus={value!r} is no URL", "write bus='nats://host:4222?name=chat'")
    make_bus(value)
    return value


def make_bus(value: str | Mapping[str, Any]) -> Bus:
    """
    Make the bus that ``bus`` names.

    Raises:
        ConfigError: There is no such bus, or no such option.
    """
    if isinstance(value, str):
        return open_bus(value)
    options = dict(value)
    url = options.pop("url", None)
    if not isinstance(url, str):
        raise ConfigError(
            "bus has no URL", "write bus={'url': 'nats://host:4222', 'name': 'chat', …}"
        )
    return open_bus(url, **options)


CHECKS: dict[str, Callable[[Any], Any]] = {
    "listen": _listen,
    "context": _context,
    "name": _name,
    "count": _count,
    "transport": _one_of("transport", "ssl", "tcp"),
    "limits": Limits.of,
    "timeouts": Timeouts.of,
    "trusted_proxies": _trusted_proxies,
    "allowed_origins": origins,
    "subprotocols": subprotocols,
    "health_path": _path,
    "slow_consumer": _slow_consumer,
    "compression": _compression,
    "test_page": _yes_or_no("test_page"),
    "proxy_protocol": _one_of("proxy_protocol", "off", "required"),
    "restart_stalled": _yes_or_no("restart_stalled"),
    "reloadable": _yes_or_no("reloadable"),
    "without_business": _one_of("without_business", "refuse", "wait"),
    "drain_window": _given(_number("drain_window", "seconds", is_whole=False), "drain_window"),
    "max_crashes": _given(_number("max_crashes", "crashes"), "max_crashes"),
    "max_messages": _number("max_messages", "messages"),
    "max_lifetime": _number("max_lifetime", "seconds", is_whole=False),
    "max_memory": _number("max_memory", "bytes"),
    "user": _account("user"),
    "group": _account("group"),
    "bus": _bus,
}

DECLARED = frozenset(
    {
        "name",
        "count",
        "timeouts",
        "drain_window",
        "restart_stalled",
        "reloadable",
        "max_crashes",
        "max_messages",
        "max_lifetime",
        "max_memory",
        "user",
        "group",
        "bus",
        "id",
        "callbacks",
        "schedule",
        "event_handlers",
    }
)
"""What may be assigned to everything that is declared."""

OWN = frozenset({"id", "callbacks", "schedule", "event_handlers", "connections"})
"""What gateman assigns itself, and nobody is told to."""

NAMES = DECLARED | {
    "listen",
    "context",
    "transport",
    "limits",
    "trusted_proxies",
    "allowed_origins",
    "subprotocols",
    "health_path",
    "test_page",
    "slow_consumer",
    "compression",
    "proxy_protocol",
    "connections",
}
"""What may be assigned to a worker."""
