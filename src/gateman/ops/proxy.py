"""
The configuration of the proxy in front of a worker: Nginx and Apache.

A :class:`Site` refuses values that could end their place in a configuration file. No file is
written, and no server configured. Both texts guarantee, and the tests check with real servers:

- ``X-Real-IP``, ``X-Forwarded-For`` and ``Forwarded`` of a client never reach the worker, which
  trusts its proxy (``http/client_address.py``);
- the proxy forwards the upgrade only if the client asks for a WebSocket, and opens the tunnel
  only after the worker's 101; plain requests get the worker's plain answers;
- the worker's pings are enough to keep a connection open;
- the rest of the site is served over HTTP/2.
"""

import ipaddress
import math
import re
import shutil
import subprocess
from dataclasses import dataclass

from ..errors import ConfigError
from .template import fill_in

# One ping may be late, and the worker gives up a dead client before the proxy does.
_PINGS_PER_TIMEOUT = 3
# Nginx's own default. With less, a worker with a short ping interval that is busy for a moment
# would lose all its clients at once.
_MIN_TIMEOUT = 60  # seconds

# The first nginx that knows ``http2 on;``, and warns about ``listen … http2``.
_HTTP2_DIRECTIVE = (1, 25, 1)

# Mozilla's "intermediate" profile for TLS 1.2, without the DHE suites, which are slow and need
# a file with parameters. TLS 1.3 has its own suites.
_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
    ":ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
    ":ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_PORT = re.compile(r"[0-9]{1,5}")
# RFC 3986's unreserved characters and the slash. They have no special meaning in a URL, in a
# regular expression that escapes the dot, and in both configuration languages.
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")
_FILE_PUNCTUATION = frozenset("/._-+=,@~")


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A domain that a proxy serves, and the path of it that leads to a worker."""

    domain: str
    upstream: str  # host:port, or unix:/file
    certificate: str
    key: str
    path: str = "/wss"
    listen: str = "443"  # port, or address:port
    root: str = "/var/www/html"
    ping_interval: float = 25.0  # seconds

    def __post_init__(self) -> None:
        _check_domain(self.domain)
        _check_upstream(self.upstream)
        _check_file("certificate", self.certificate)
        _check_file("key", self.key)
        _check_path(self.path)
        _check_listen(self.listen)
        _check_file("folder", self.root)
        # No service waits longer than an hour to detect a dead peer.
        if not 0 < self.ping_interval <= 3600:
            raise ConfigError(
                f"a ping interval of {self.ping_interval:g} is not between 0 and 3600",
                "give the worker's timeouts.ping_interval, in seconds",
            )

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    @property
    def url(self) -> str:
        """The URL for clients, such as ``"wss://example.com/wss"``."""
        port = "" if self.port == 443 else f":{self.port}"
        return f"wss://{self.domain}{port}{self.path}"

    @property
    def timeout(self) -> int:
        """The seconds without data after which the proxy ends a connection."""
        return max(_MIN_TIMEOUT, math.ceil(_PINGS_PER_TIMEOUT * self.ping_interval))


def nginx(site: Site, *, version: str | None = None) -> str:
    """Return the configuration; without a version, one that every Nginx reads."""
    if version is not None and _version(version) >= _HTTP2_DIRECTIVE:
        flags, http2 = "ssl", "    http2 on;\n"
    else:
        flags, http2 = "ssl http2", ""
    listen = f"    listen {site.listen} {flags};\n"
    if ":" not in site.listen:
        listen += (
            "    # Remove this line on a machine without IPv6.\n"
            f"    listen [::]:{site.listen} {flags};\n"
        )
    if site.path == "/":
        location, rest = "/", ""
    else:
        below = "" if site.path.endswith("/") else "(/|$)"
        location = f"~ ^{site.path.replace('.', '[.]')}{below}"
        rest = (
            f"\n    # The rest of the site.\n    location / {{\n        root {site.root};\n    }}\n"
        )
    values = _common_values(site)
    values["listen"] = listen + http2
    values["location"] = location
    values["backend"] = f"http://{site.upstream}"
    values["rest"] = rest
    return fill_in("nginx.conf", values)


def apache(site: Site) -> str:
    """Return the configuration for Apache 2.4.47 or later."""
    # Apache cannot bind a port that two Listen lines name, and Debian's ports.conf names 443.
    listen = "" if site.listen == "443" else f"Listen {site.listen} https\n\n"
    backend = f"http://{site.upstream}{site.path}"
    if site.upstream.startswith("unix:"):
        # The URL after the bar is only the name of a connection pool.
        backend = f"{site.upstream}|http://{site.domain}{site.path}"
    rest = ""
    if site.path != "/":
        rest = (
            "\n    # The rest of the site.\n"
            f"    DocumentRoot {site.root}\n"
            f'    <Directory "{site.root}">\n'
            "        Require all granted\n"
            "    </Directory>\n"
        )
    values = _common_values(site)
    values["listen"] = listen
    values["address"] = site.listen if ":" in site.listen else f"*:{site.listen}"
    values["backend"] = backend
    values["rest"] = rest
    return fill_in("apache.conf", values)


def installed_nginx() -> str | None:
    """Return the version of the installed Nginx, or ``None``."""
    # Debian installs it into a folder that is in root's PATH only.
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    try:
        answer = subprocess.run(  # noqa: S603 (no shell, and an argument of our own)
            [program, "-v"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"nginx/([0-9]+(\.[0-9]+)+)", answer.stderr)
    return None if found is None else found[1]


def _version(text: str) -> tuple[int, ...]:
    if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){1,2}", text) is None:
        raise ConfigError(f"{text!r} is not a version of nginx", "write it as in 1.22 or 1.27.3")
    return tuple(int(number) for number in text.split("."))


def _check_domain(domain: str) -> None:
    if not domain.isascii():
        raise ConfigError(
            f"the domain {domain!r} is not ASCII", "write its xn-- form, as in the certificate"
        )
    labels = domain.split(".")
    if len(domain) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ConfigError(f"{domain!r} is not a domain", "write it as in example.com")
    if labels[-1].isdigit():
        raise ConfigError(
            f"{domain!r} is an address, not a domain", "certificates belong to domains: name one"
        )


def _check_upstream(upstream: str) -> None:
    if upstream.startswith("unix:"):
        _check_file("unix socket", upstream.removeprefix("unix:"))
        return
    host, _, port = upstream.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        is_host = _is_address(host[1:-1], 6)
    else:
        is_host = all(_LABEL.fullmatch(label) for label in host.split("."))
    if not is_host or not _is_port(port):
        raise ConfigError(
            f"{upstream!r} is not an address that a worker listens on",
            "write 127.0.0.1:8282, [::1]:8282 or unix:/run/gateman.sock",
        )


def _check_listen(listen: str) -> None:
    host, colon, port = listen.rpartition(":")
    is_host = not colon or _is_address(host, 4)
    if host.startswith("[") and host.endswith("]"):
        is_host = _is_address(host[1:-1], 6)
    if not is_host or not _is_port(port):
        raise ConfigError(
            f"{listen!r} is not a port to listen on",
            "write 443, 192.0.2.1:443 or [2001:db8::1]:443",
        )


def _check_path(path: str) -> None:
    segments = path.split("/")
    # A proxy resolves dots before it compares paths, so it would never find such a path.
    if path[:1] != "/" or not _PATH.fullmatch(path) or "." in segments or ".." in segments:
        raise ConfigError(
            f"{path!r} is not a path for a WebSocket",
            "begin it with a slash and use letters, digits and . _ ~ -, as in /wss",
        )


def _check_file(kind: str, name: str) -> None:
    if not name.startswith("/"):
        raise ConfigError(f"the {kind} {name!r} is not an absolute path", "begin it with a slash")
    strange = next((c for c in name if not c.isalnum() and c not in _FILE_PUNCTUATION), None)
    if strange is not None:
        raise ConfigError(
            f"the {kind} {name!r} has a {strange!r} in it, which a configuration could misread",
            "rename it, or make a link with a plain name",
        )


def _is_port(text: str) -> bool:
    return _PORT.fullmatch(text) is not None and 0 < int(text) < 65536


def _is_address(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version and "%" not in text
    except ValueError:
        return False


def _common_values(site: Site) -> dict[str, object]:
    if site.upstream.startswith("unix:"):
        file = site.upstream.removeprefix("unix:")
        worker = f"websocket+unix://{file}"
        access_note = f"and this server's user may write to {file}"
    else:
        worker = f"websocket://{site.upstream}"
        access_note = "the worker's own port is not"
    return {
        "domain": site.domain,
        "url": site.url,
        "port": site.port,
        "path": site.path,
        "certificate": site.certificate,
        "key": site.key,
        "worker": worker,
        "access_note": access_note,
        "timeout": site.timeout,
        "ping_interval": f"{site.ping_interval:g}",
        "ciphers": _CIPHERS,
    }
