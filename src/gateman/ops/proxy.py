"""
The configuration of the proxy in front of a worker: Nginx and Apache.

A :class:`Site` says what is wanted and refuses whatever could mean something else inside a
configuration file; :func:`nginx` and :func:`apache` are pure functions from it to the whole
text, which ``nginx.conf`` and ``apache.conf`` beside this module are the templates of. Nothing
is written and no server is touched here.

Both texts keep four promises, and the tests hold them against real servers:

- what a client writes into ``X-Real-IP``, ``X-Forwarded-For`` or ``Forwarded`` never
  reaches the worker, which believes its proxy (``http/client_address.py``);
- the upgrade is passed on only when the client asks for a WebSocket, and the tunnel opens
  only after the worker's 101, so plain requests get the worker's plain answers;
- a connection that only the worker's pings keep alive is never cut by the proxy;
- the rest of the site is served as before, over HTTP/2.
"""

import ipaddress
import math
import re
import shutil
import string
import subprocess
from dataclasses import dataclass
from importlib.resources import files

from ..errors import ConfigError

# One ping may be late, and the worker's own verdict on a dead client falls first.
_PINGS_PER_TIMEOUT = 3
# Nginx's own default. Below it, a short ping interval would make a worker that is busy for a
# moment look dead, and lose all its clients at once.
_MIN_TIMEOUT = 60  # seconds

# The first nginx that knows ``http2 on;``, and warns about ``listen … http2``.
_HTTP2_DIRECTIVE = (1, 25, 1)

# Mozilla's "intermediate" profile for TLS 1.2 without the DHE suites, which are slow and need
# a file of their own; TLS 1.3 brings its own suites.
_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
    ":ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
    ":ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_PORT = re.compile(r"[0-9]{1,5}")
# What RFC 3986 calls unreserved, and the slash: these mean themselves in a URL, in a regular
# expression that escapes the dot, and in both configuration languages.
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")
_FILE_PUNCTUATION = frozenset("/._-+=,@~")


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """
    What a proxy serves: one domain, and one path of it that leads to a worker.

    Raises:
        ConfigError: A value is no such thing, or has a character that could end the place
            in the configuration that it is written to.
    """

    domain: str
    upstream: str
    certificate: str
    key: str
    path: str = "/wss"
    listen: str = "443"
    root: str = "/var/www/html"
    ping_interval: float = 25.0

    def __post_init__(self) -> None:
        _check_domain(self.domain)
        _check_upstream(self.upstream)
        _check_file("certificate", self.certificate)
        _check_file("key", self.key)
        _check_path(self.path)
        _check_listen(self.listen)
        _check_file("folder", self.root)
        # An hour: nobody waits longer to learn that a peer is gone.
        if not 0 < self.ping_interval <= 3600:
            raise ConfigError(
                f"a ping interval of {self.ping_interval:g} is not between 0 and 3600",
                "give the worker's timeouts.ping_interval, in seconds",
            )

    @property
    def port(self) -> int:
        """The port that clients connect to."""
        return int(self.listen.rpartition(":")[2])

    @property
    def url(self) -> str:
        """What a client opens, such as ``"wss://example.com/wss"``."""
        port = "" if self.port == 443 else f":{self.port}"
        return f"wss://{self.domain}{port}{self.path}"

    @property
    def timeout(self) -> int:
        """Seconds of silence after which the proxy ends a connection."""
        return max(_MIN_TIMEOUT, math.ceil(_PINGS_PER_TIMEOUT * self.ping_interval))


class _Template(string.Template):
    """A text with ``@{name}`` in it: ``$`` and bare braces belong to the servers."""

    delimiter = "@"


def _template(name: str) -> _Template:
    return _Template(files(__package__).joinpath(name).read_text("utf-8"))


def nginx(site: Site, *, version: str | None = None) -> str:
    """
    Write the configuration for Nginx.

    Raises:
        ConfigError: ``version`` is none.
    """
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
    return _template("nginx.conf").substitute(
        _placeholders(site),
        listen=listen + http2,
        location=location,
        backend=f"http://{site.upstream}",
        rest=rest,
    )


def apache(site: Site) -> str:
    """Write the configuration for Apache 2.4.47 or later."""
    # A port that two Listen lines name cannot be bound, and Debian's ports.conf names 443.
    listen = "" if site.listen == "443" else f"Listen {site.listen} https\n\n"
    backend = f"http://{site.upstream}{site.path}"
    if site.upstream.startswith("unix:"):
        # What stands behind the bar is only the name of a pool of connections.
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
    return _template("apache.conf").substitute(
        _placeholders(site),
        listen=listen,
        address=site.listen if ":" in site.listen else f"*:{site.listen}",
        backend=backend,
        rest=rest,
    )


def installed_nginx() -> str | None:
    """Ask the installed Nginx for its version."""
    # Debian keeps it where only root's PATH looks.
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
        file = upstream.removeprefix("unix:")
        _check_file("unix socket", file)
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
    # A proxy resolves dots before it compares: such a path would never be found.
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


def _placeholders(site: Site) -> dict[str, str]:
    """Return what both texts say about a site."""
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
        "port": str(site.port),
        "path": site.path,
        "certificate": site.certificate,
        "key": site.key,
        "worker": worker,
        "access_note": access_note,
        "timeout": str(site.timeout),
        "ping_interval": f"{site.ping_interval:g}",
        "ciphers": _CIPHERS,
    }
