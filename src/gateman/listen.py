"""
Listen addresses, as users write them. PURE.

    websocket://0.0.0.0:8282        every IPv4 interface
    websocket://[::]:8282           every interface, IPv4 included
    websocket+unix:///run/chat.sock a unix socket
    ws://…                          the same as websocket://
    wss://…                         the same with transport="ssl"
    text://0.0.0.0:8283             lines; frame:// and tcp:// likewise, and text+unix:// …
"""

import re
from ipaddress import IPv6Address

from msgspec import Struct

from .errors import ConfigError

WEBSOCKET = "websocket"
STREAMS = ("tcp", "text", "frame")
"""The protocols on a byte stream; :mod:`gateman.protocols` has them."""

# Each scheme's protocol.
_SCHEMES = {
    "websocket": WEBSOCKET,
    "ws": WEBSOCKET,
    "wss": WEBSOCKET,
    "websocket+unix": WEBSOCKET,
    **{name: name for name in STREAMS},
    **{f"{name}+unix": name for name in STREAMS},
}
# Other schemes that users write, and the right ones.
_MEANT = {
    "http": "websocket://",
    "https": "wss://",
    "ssl": "wss://",
    "tls": "wss://",
    "unix": "websocket+unix://",
}
_TLS = ("https", "ssl", "tls")
_WITH_TLS = " and give a certificate, or websocket:// if a proxy does the TLS"
_UNIX_EXAMPLE = "websocket+unix:///run/chat.sock"
_EXAMPLE = "write websocket://0.0.0.0:8282"
_MAX_PORT = 65535

# Letters of any language: the system's resolver decides about names.
_HOST = re.compile(r"[\w.-]+")


class ListenAddress(Struct, frozen=True):
    host: str  # an IP address, or a name that the system resolves; empty with a path
    port: int  # 0: the system chooses
    path: str  # of a unix socket; empty for TCP
    is_secure: bool  # TLS
    protocol: str = WEBSOCKET  # or one of STREAMS

    @classmethod
    def parse(cls, text: object) -> "ListenAddress":
        if not isinstance(text, str):
            raise ConfigError(f"{text!r} is not an address to listen on", _EXAMPLE)
        scheme, separator, rest = text.partition("://")
        if not separator:
            raise ConfigError(f"{text!r} is not an address to listen on", _EXAMPLE)
        if scheme not in _SCHEMES:
            if scheme in _MEANT:
                meant = f"{_MEANT[scheme]}{rest}"
                if scheme == "unix" and not rest.startswith("/"):
                    meant = _UNIX_EXAMPLE
                raise ConfigError(
                    f"{text!r} is not the address of a WebSocket service",
                    f"write {meant}{_WITH_TLS * (scheme in _TLS)}",
                )
            if scheme == "udp":
                raise ConfigError(
                    f"{text!r}: gateman does not speak udp",
                    "create a datagram endpoint in on_worker_start, or listen on tcp://",
                )
            raise ConfigError.unknown("scheme to listen on", scheme, _SCHEMES)
        protocol, is_secure = _SCHEMES[scheme], scheme == "wss"
        if scheme.endswith("+unix"):
            if not rest.startswith("/") or "\0" in rest:
                raise ConfigError(
                    f"{text!r} has no absolute path", f"write {scheme}:///run/chat.sock"
                )
            return cls("", 0, rest, is_secure, protocol)
        if "/" in rest.rstrip("/") or rest.endswith("//"):
            if protocol != WEBSOCKET:
                raise ConfigError(
                    f"{text!r} has a path, which {protocol}:// does not know", "remove it"
                )
            raise ConfigError(
                f"{text!r} has a path, but a worker takes every path",
                "remove it, and check request.path in on_websocket_connect",
            )
        host, port = _host_and_port(text, rest.rstrip("/"), protocol)
        return cls(host, port, "", is_secure, protocol)

    @property
    def is_websocket(self) -> bool:
        return self.protocol == WEBSOCKET

    def __str__(self) -> str:
        if self.path:
            return f"{self.protocol}+unix://{self.path}"
        scheme = "wss" if self.is_secure and self.is_websocket else self.protocol
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"


def _host_and_port(text: str, rest: str, protocol: str) -> tuple[str, int]:
    example = _EXAMPLE.replace(WEBSOCKET, protocol)
    host, separator, port = rest.rpartition(":")
    if not separator or not port or rest.endswith("]"):
        raise ConfigError(f"{text!r} has no port", example)
    # int() refuses more than 4300 digits with an error of its own.
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= _MAX_PORT):
        raise ConfigError(f"{text!r}: {port!r} is not a port", "use 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        return _ipv6(text, host[1:-1], protocol), int(port)
    if ":" in host:
        raise ConfigError(
            f"{text!r}: an IPv6 address needs brackets",
            f"write {protocol}://[{host.strip('[]')}]:{port}",
        )
    if not host:
        raise ConfigError(f"{text!r} has no host", example)
    if not _HOST.fullmatch(host):
        raise ConfigError(f"{text!r}: {host!r} is not a host", example)
    return host, int(port)


def _ipv6(text: str, address: str, protocol: str) -> str:
    try:
        return str(IPv6Address(address))
    except ValueError:
        raise ConfigError(
            f"{text!r}: {address!r} is not an IPv6 address", f"write {protocol}://[::]:8282"
        ) from None
