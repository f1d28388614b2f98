"""Checks that gateways and business workers share one bus, and that it is not open to others."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..bus.nats_url import NatsUrl
from ..config.base import BaseWorker
from ..errors import ConfigError
from .business import BusinessWorker
from .gateway import Gateway

# With any of these options the NATS server authenticates its clients.
_CREDENTIALS = ("user", "password", "token", "creds", "nkey", "cert")


def check_buses(workers: Sequence[BaseWorker]) -> None:
    """Refuse buses that differ, or that anyone on the network could use; skip plain workers."""
    found = [one for one in workers if isinstance(one, (Gateway, BusinessWorker))]
    for one in found:
        first = found[0]
        if _comparable(_options(one)) != _comparable(_options(first)):
            raise ConfigError(
                f"{first.name!r} and {one.name!r} have different buses and would not"
                " find each other",
                "give all gateways and business workers the same bus=, or none",
            )
    if found:
        _check(_options(found[0]))


def _options(declared: BaseWorker) -> dict[str, Any]:
    value = declared.bus
    if isinstance(value, Mapping):
        return dict(value)
    return {} if value is None else {"url": value}


def _comparable(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with the service's name as an option, as it may also be in the URL."""
    url, mark, query = options.get("url", "").partition("?")
    return {"name": query.removeprefix("name="), **options, "url": url} if mark else {**options}


def _check(options: Mapping[str, Any]) -> None:
    url = options.get("url", "local://")
    # Not urlsplit: the newest Pythons refuse a list of servers with an IPv6 address in it.
    scheme = url.partition(":")[0]
    if scheme == "memory":
        raise ConfigError(
            "the bus memory:// ends with its process: gateways and business workers would not find"
            " each other",
            "leave bus= out for one machine, or write bus='nats://…?name=…' for several",
        )
    if scheme not in {"nats", "tls"} or any(map(options.get, _CREDENTIALS)):
        return
    where = NatsUrl.parse(url)
    if where.user or where.password or where.token:
        return
    for server in where.servers:
        if not server.is_here:
            raise ConfigError(
                f"the bus {where} has no credentials, and {server} is another machine: any"
                " program that reaches it could act as any client",
                "let the server require a user and password, a token, an nkey or a certificate,"
                " and write them into bus=",
            )
