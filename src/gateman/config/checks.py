"""
The checks of a worker's options.

Each takes the option and a user's value, and returns the value to keep, or raises a
:class:`ConfigError` that names the option.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..bus import Bus, open_bus
from ..errors import ConfigError
from ..http.origins import parse_origin
from ..http.response import is_token
from ..listen import ListenAddress
from ..options import Limits, SlowConsumer, Timeouts, check_flag
from ..websocket.deflate import Deflate
from .callbacks import is_async, label, unsuitable_signature
from .schema import Option

# Processes of one worker; no machine has more cores.
_MAX_COUNT = 1024

# Exact as a float, and far below any overflow.
_MAX_NUMBER = 1 << 53

# The number of a user or group; the system reads -1 as "unchanged".
_MAX_ACCOUNT = (1 << 32) - 2

_APPLICATION_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")

# The functions of a protocol on a byte stream, and the argument of each.
_PROTOCOL_FUNCTIONS = {"packet_size": "data", "decode": "packet", "encode": "message"}

# Characters that end the path in a request's target.
_BEYOND_PATH = frozenset(" ?#")

# Characters; the name is in each line of the log, in tables, and in the names of processes.
_MAX_NAME_SIZE = 64


def count(_option: Option, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"count={value!r} is not a number of processes", "use 1 or more")
    if value > _MAX_COUNT:
        raise ConfigError("count is too large", f"use {_MAX_COUNT} or less")
    return value


def name(_option: Option, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ConfigError(
            f"name={value!r} is not a name", "write a short text, such as name='chat'"
        )
    if len(value) > _MAX_NAME_SIZE:
        raise ConfigError("name is too long", f"use {_MAX_NAME_SIZE} characters or less")
    return value


def context(_option: Option, value: object) -> Mapping[str, Any] | None:
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"context={value!r} is not a mapping", "write {'ssl': {'local_cert': …}}")
    return value


def acme(_option: Option, value: Any) -> Any:
    if value is not None:
        # Imported here: only a worker with acme needs it.
        from ..acme.options import parse

        parse(value, folder=Path(), default_storage=Path())
    return value


def listen(_option: Option, value: object) -> str:
    ListenAddress.parse(value)
    return str(value)


def limits(_option: Option, value: Any) -> Limits:
    return Limits.of(value)


def timeouts(_option: Option, value: Any) -> Timeouts:
    return Timeouts.of(value)


def trusted_proxies(option: Option, value: Any) -> list[str] | None:
    if value is None:
        return None
    # Imported here: the master needs it only if a worker names its proxies.
    from ..http.client_address import TrustedProxies

    proxies = value if isinstance(value, str) else _strings(option.name, value)
    TrustedProxies(proxies)
    return list(proxies)


def allowed_origins(option: Option, value: Any) -> frozenset[str] | None:
    return None if value is None else frozenset(map(parse_origin, _strings(option.name, value)))


def subprotocols(option: Option, value: Any) -> tuple[str, ...]:
    names = tuple(_strings(option.name, value))
    for one in names:
        if not is_token(one):
            raise ConfigError(
                f"{one!r} in subprotocols is not a name that a client could send",
                "use letters, digits, '.' and '-', such as 'chat.v1'",
            )
    return names


def _strings(option: str, value: object) -> list[str]:
    """Return a list of texts; a single text is refused, as it would be a list of its letters."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise ConfigError(f"{option}={value!r} is not a list", f"write {option}=['…']")
    strings = list(value)
    for string in strings:
        if not isinstance(string, str):
            raise ConfigError(f"{string!r} in {option} is not a text", f"write {option}=['…']")
    return strings


def path(option: Option, value: object) -> str | None:
    if value is None:
        return None
    if not (isinstance(value, str) and value.startswith("/")):
        raise ConfigError(f"{option.name}={value!r} is not a path", "begin it with '/'")
    if not value.isascii() or not value.isprintable() or not _BEYOND_PATH.isdisjoint(value):
        raise ConfigError(
            f"{option.name}={value!r} cannot be the path of a request",
            "remove spaces, '?' and '#'",
        )
    return value


def root_path(option: Option, value: object) -> str:
    if value == "":
        return ""
    checked = path(option, value)
    if checked is None or checked.endswith("/"):
        raise ConfigError(f"{option.name}={value!r} cannot be a prefix", "write it as '/api'")
    return checked


def application(_option: Option, value: Any) -> Any:
    """Check an ASGI application, or the name of one."""
    if value is None:
        return None
    if isinstance(value, str):
        if not _APPLICATION_NAME.fullmatch(value):
            raise ConfigError(
                f"http={value!r} does not name an application",
                "write 'module:attribute', such as 'site.asgi:application'",
            )
        return value
    return asgi_application(value)


class Secret(str):
    """A text that no log shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


# Characters: 16 of base64 have 96 bits, which no attacker guesses over a network.
_MIN_KEY_LENGTH = 16


def api_key(option: Option, value: object) -> Secret | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise ConfigError(
            f"{option.name} is not a text that an HTTP header can carry", "use letters and digits"
        )
    if len(value) < _MIN_KEY_LENGTH or " " in value:
        raise ConfigError(
            f"{option.name} has {len(value)} characters, or a space: it could be guessed",
            f"use at least {_MIN_KEY_LENGTH} without spaces, such as `openssl rand -hex 32` prints",
        )
    return Secret(value)


def asgi_application(value: Any) -> Any:
    """Check that a value can be called as ASGI 3 says."""
    if isinstance(value, type):
        raise ConfigError(
            f"http={value.__name__} is a class", f"pass an application: {value.__name__}()"
        )
    if not callable(value):
        raise ConfigError(f"http={value!r} is not an application", "pass an ASGI application")
    signature = unsuitable_signature(value, ("scope", "receive", "send"))
    if signature is not None:
        is_wsgi = unsuitable_signature(value, ("environ", "start_response")) is None
        raise ConfigError(
            f"http is not an ASGI application: {label(value)} takes {signature} instead of"
            " (scope, receive, send)",
            "wrap a WSGI application (a2wsgi's WSGIMiddleware does)"
            if is_wsgi
            else "pass an ASGI application; of a function that makes one, pass its result",
        )
    return value


def protocol(_option: Option, value: Any) -> Any:
    """Check a user's protocol; of a class, keep an instance."""
    if value is None:
        return None
    example = "write class MyProtocol with packet_size(self, data), decode(self, packet) and"
    example += " encode(self, message), and protocol=MyProtocol"
    if isinstance(value, type):
        signature = unsuitable_signature(value, ())
        if signature is not None:
            raise ConfigError(
                f"protocol={value.__name__} cannot be made without arguments: it takes {signature}",
                f"pass an instance: protocol={value.__name__}(…)",
            )
        value = value()
    for name, argument in _PROTOCOL_FUNCTIONS.items():
        function = getattr(value, name, None)
        if not callable(function):
            raise ConfigError(f"protocol={value!r} has no function {name}", example)
        if is_async(function):
            raise ConfigError(f"protocol: {name} is async", "write it as a plain function")
        signature = unsuitable_signature(function, (argument,))
        if signature is not None:
            raise ConfigError(
                f"protocol: {name} is called with ({argument}), but takes {signature}", example
            )
    return value


def slow_consumer(_option: Option, value: object) -> SlowConsumer:
    try:
        return SlowConsumer(value)
    except (ValueError, TypeError):
        names = [policy.value for policy in SlowConsumer]
        raise ConfigError.unknown("policy for slow consumers", value, names) from None


def client_protocol(option: Option, value: object) -> str | None:
    return None if value is None else one_of("centrifuge")(option, value)


def channels(_option: Option, value: Any) -> Any:
    if value is None:
        return {}
    # Imported here: a worker without channels does not need it.
    from ..clients.channel import check_patterns

    return check_patterns(value)


def tokens(_option: Option, value: Any) -> Any:
    if value is None:
        return None
    # Imported here, as most services have none.
    from ..clients.limits import ClientLimits
    from ..clients.tokens import Tokens, Verifier

    made = Tokens.of(value)
    if made is not None:
        # Reports a wrong key here.
        Verifier(made, ClientLimits().max_token_size)
    return made


def client_limits(_option: Option, value: Any) -> Any:
    if value is None:
        return None
    # Imported here: a worker with plain clients does not need it.
    from ..clients.limits import ClientLimits

    return ClientLimits.of(value)


def compression(_option: Option, value: object) -> Deflate | None:
    if value is None or isinstance(value, Deflate):
        return value
    raise ConfigError(f"compression={value!r} is not a Deflate", "write compression=Deflate()")


def yes_or_no(option: Option, value: object) -> bool:
    return check_flag(option.name, value)


def one_of(*choices: str) -> Callable[[Option, object], str]:
    def check(option: Option, value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ConfigError.unknown(f"value of {option.name}", value, choices)
        return value

    return check


def whole_number(option: Option, value: object) -> Any:
    return _number(option, value, "whole positive", int)


def number(option: Option, value: object) -> Any:
    return _number(option, value, "positive", int, float)


def _number(option: Option, value: object, kind: str, *types: type) -> Any:
    """Check a positive number; ``None`` is allowed where it is the default."""
    if value is None and option.default is None:
        return None
    if value is None:
        raise ConfigError(f"{option.name} cannot be None", "leave it out for its default")
    is_number = isinstance(value, types) and not isinstance(value, bool)
    if not is_number or not 0 < value < float("inf"):  # type: ignore[operator]
        raise ConfigError(
            f"{option.name}={value!r} is not a {kind} number",
            f"give it in {option.unit}, or leave it out",
        )
    if value > _MAX_NUMBER:  # type: ignore[operator]
        raise ConfigError(f"{option.name} is too large", f"give it in {option.unit}")
    return value


def account(option: Option, value: object) -> str | int | None:
    """Check the name or number of a user or group; :mod:`gateman.master.privileges` finds it."""
    if value is None:
        return None
    if isinstance(value, str) and value and value.isprintable():
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_ACCOUNT:
        return value
    raise ConfigError(
        f"{option.name}={value!r} is not the name of a {option.name}",
        f"write {option.name}='www-data'",
    )


def bus(_option: Option, value: Any) -> str | Mapping[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, (str, Mapping)):
        raise ConfigError(f"bus={value!r} is not a URL", "write bus='nats://host:4222?name=chat'")
    make_bus(value)
    return value


def make_bus(value: str | Mapping[str, Any]) -> Bus:
    """Return the bus that the option ``bus`` describes."""
    if isinstance(value, str):
        return open_bus(value)
    options = dict(value)
    url = options.pop("url", None)
    if not isinstance(url, str):
        raise ConfigError(
            "bus has no URL", "write bus={'url': 'nats://host:4222', 'name': 'chat', …}"
        )
    return open_bus(url, **options)
