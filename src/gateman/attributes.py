"""What may be assigned to a worker: the names of its options, and what each of them takes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .bus import Bus, open_bus
from .errors import ConfigError
from .listen import ListenAddress
from .net.origins import parse_origin
from .net.response import is_token
from .options import Limits, SlowConsumer, Timeouts
from .websocket.deflate import Deflate

_TRANSPORTS = ("tcp", "ssl")


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"count={value!r} is no number of processes", "use 1 or more")
    return value


def _transport(value: object) -> str:
    if value not in _TRANSPORTS:
        raise ConfigError.unknown("transport", value, _TRANSPORTS)
    return str(value)


def _listen(value: object) -> str:
    ListenAddress.parse(value)
    return str(value)


def origins(value: Iterable[str] | None) -> frozenset[str] | None:
    """
    Read ``allowed_origins``.

    Args:
        value: What was assigned.

    Returns:
        Entries as :mod:`gateman.net.origins` has them; ``None`` for any.

    Raises:
        ConfigError: It is no list, or something in it is no origin.
    """
    if value is None:
        return None
    return frozenset(map(parse_origin, _strings("allowed_origins", value)))


def subprotocols(value: Iterable[str]) -> tuple[str, ...]:
    """
    Read ``subprotocols``.

    Args:
        value: What was assigned.

    Returns:
        The names, in order of preference.

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
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(f"{name}={value!r} is no list", f"write {name}=['…']")
    strings = list(value)
    for string in strings:
        if not isinstance(string, str):
            raise ConfigError(f"{string!r} in {name} is no text", f"write {name}=['…']")
    return strings


def _path(value: object) -> str | None:
    if value is not None and not (isinstance(value, str) and value.startswith("/")):
        raise ConfigError(f"health_path={value!r} is no path", "begin it with '/'")
    return value


def _slow_consumer(value: object) -> SlowConsumer:
    try:
        return SlowConsumer(value)
    except ValueError:
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


def _without_business(value: object) -> str:
    if value not in {"wait", "refuse"}:
        raise ConfigError.unknown("without_business", value, ["refuse", "wait"])
    return str(value)


def _proxy_protocol(value: object) -> str:
    if value not in {"off", "required"}:
        raise ConfigError.unknown("proxy_protocol", value, ["off", "required"])
    return str(value)


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
        if value is None or (isinstance(value, (str, int)) and value != "" and value is not True):
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

    Args:
        value: A URL, or a mapping with a ``url`` and options of that kind of bus.

    Returns:
        The bus, not started.

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
    "count": _count,
    "transport": _transport,
    "limits": Limits.of,
    "timeouts": Timeouts.of,
    "allowed_origins": origins,
    "subprotocols": subprotocols,
    "health_path": _path,
    "slow_consumer": _slow_consumer,
    "compression": _compression,
    "proxy_protocol": _proxy_protocol,
    "reloadable": _yes_or_no("reloadable"),
    "without_business": _without_business,
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
    }
)
"""What may be assigned to everything that is declared."""

OWN = frozenset({"id", "callbacks", "schedule", "connections"})
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
