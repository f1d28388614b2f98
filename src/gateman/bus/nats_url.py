"""
The servers of NATS and the login, read from a URL. Pure.

    nats://host                                     port 4222
    nats://user:password@host:4222                  % escapes special characters
    nats://token@host
    nats://one:4222,two:4222,three:4222             several servers of a cluster
    tls://host                                      TLS is required
    nats://host?name=chat                           the service, if several use this NATS

Error messages do not quote the URL: it may contain a password.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from ..errors import ConfigError

_PORT = 4222

_REMEDY = (
    "write nats://[user:password@]host[:port][,host[:port]…]?name=chat, or tls:// in its place"
)

# The name is a token of every subject, and is used in the permissions of a NATS server.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Server:
    """The address of one server."""

    host: str
    port: int

    @property
    def is_here(self) -> bool:
        """Whether the address is a loopback address, which other machines cannot reach."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsUrl:
    """A parsed URL; parts that it lacks are empty."""

    servers: tuple[Server, ...]
    is_tls: bool
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    name: str = ""

    def __str__(self) -> str:
        """Format the URL without secrets."""
        scheme = "tls" if self.is_tls else "nats"
        query = f"?name={self.name}" if self.name else ""
        return f"{scheme}://{','.join(map(str, self.servers))}{query}"

    @classmethod
    def parse(cls, url: str) -> "NatsUrl":
        """Parse a URL; raises ConfigError."""
        scheme, separator, rest = url.partition("://")
        if scheme not in {"nats", "tls"} or not separator:
            raise ConfigError("the bus's URL is not one of NATS", _REMEDY)
        before, at, place = rest.rpartition("@")
        place, _, query = place.partition("?")
        name = _name_in(query)
        servers: list[Server] = []
        found: set[tuple[str, str | None]] = set()
        for part in f"{before}{at}{place}".split(","):
            # Other NATS clients accept a whole URL for each server.
            userinfo, at, place = part.removeprefix(f"{scheme}://").rpartition("@")
            servers.append(_server(place))
            if at:
                user, colon, password = userinfo.partition(":")
                found.add((unquote(user), unquote(password) if colon else None))
        if len(found) > 1:
            raise ConfigError(
                "the bus's URL has several users", "give the one that all servers know"
            )
        user, secret = found.pop() if found else ("", "")
        is_tls = scheme == "tls"
        if secret is None:
            return cls(servers=tuple(servers), is_tls=is_tls, token=user, name=name)
        return cls(servers=tuple(servers), is_tls=is_tls, user=user, password=secret, name=name)


def check_name(name: object) -> str:
    """Check the name under which a service uses NATS."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise ConfigError(
        "the bus's name cannot be used", "give it 1 to 64 letters, digits, '-' and '_'"
    )


def _name_in(query: str) -> str:
    options = dict(parse_qsl(query, keep_blank_values=True))
    name = options.pop("name", None)
    if options or (query and name is None):
        raise ConfigError(
            "the bus's URL has options that are not known",
            "only ?name=chat may follow the servers; the others go into bus={'url': …}",
        )
    return "" if name is None else check_name(name)


def _server(place: str) -> Server:
    try:
        parts = urlsplit(f"//{place}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    is_odd = host is None or place != place.strip() or any(mark in place for mark in "/?# \t\r\n")
    if host is None or is_odd or port == 0:
        raise ConfigError("the bus's URL has an invalid server", _REMEDY)
    return Server(host, port or _PORT)
