"""
A real ACME server, Pebble, with name servers whose zone the test writes.

It rejects a share of all nonces, reuses some authorizations and is strict about what may break in
future; it validates on the ports that the test names, on loopback.
"""

import json
import socket
import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .certificates import Authority
from .child import Child, answers
from .deadlines import TIMEOUT
from .ports import free_port
from .proxies import program

# A name for which it signs no certificate.
BLOCKED = "blocked.test"


class Pebble:
    """
    One certificate authority.

    Attributes:
        directory: The URL of its directory.
        cafile: PEM of the authority that signed the directory's own certificate.
        tls_port: Where it validates by TLS-ALPN-01.
        http_port: Where it validates by HTTP-01.
        log: What it printed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tls_port: int | None = None,
        http_port: int | None = None,
        eab: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        lifetime: int | None = None,
    ) -> None:
        """
        Write its configuration.

        Args:
            folder: Where its files go.
            tls_port: Where it validates by TLS-ALPN-01; a free port by default.
            http_port: Where it validates by HTTP-01; a free port by default.
            eab: Keys of external accounts, in base64url, by their ids; ``None`` takes anybody.
            environment: How often it is contrary: ``PEBBLE_WFE_NONCEREJECT`` and the like.
            lifetime: Seconds of its certificates; five years by default.
        """
        self.tls_port, self.http_port = tls_port or free_port(), http_port or free_port()
        port, management, dns, dns_management = (free_port() for _ in range(4))
        self.directory = f"https://127.0.0.1:{port}/dir"
        self._management = f"https://127.0.0.1:{management}"
        self._dns_management = f"http://127.0.0.1:{dns_management}"
        issued = Authority().issue(folder, "127.0.0.1", stem="pebble")
        self.cafile = issued.authority
        config = folder / "pebble.json"
        config.write_text(
            json.dumps(
                {
                    "pebble": {
                        "listenAddress": f"127.0.0.1:{port}",
                        "managementListenAddress": f"127.0.0.1:{management}",
                        "certificate": str(issued.certificate),
                        "privateKey": str(issued.key),
                        "httpPort": self.http_port,
                        "tlsPort": self.tls_port,
                        "ocspResponderURL": "",
                        "externalAccountBindingRequired": eab is not None,
                        "externalAccountMACKeys": dict(eab or {}),
                        "domainBlocklist": [BLOCKED],
                        **({"certificateValidityPeriod": lifetime} if lifetime else {}),
                    }
                }
            )
        )
        self.log = folder / "pebble.log"
        settings = {
            "PEBBLE_VA_NOSLEEP": "1",
            "PEBBLE_WFE_NONCEREJECT": "20",
            "PEBBLE_AUTHZREUSE": "50",
            **(environment or {}),
        }
        self._children = [
            Child(
                [
                    program("pebble-challtestsrv"),
                    "-dns01",
                    f"127.0.0.1:{dns}",
                    "-management",
                    f"127.0.0.1:{dns_management}",
                    "-defaultIPv6",
                    "",
                    *("-http01", "", "-https01", "", "-tlsalpn01", ""),
                ],
                log=folder / "challtestsrv.log",
                is_up=lambda: answers(socket.AF_INET, ("127.0.0.1", dns_management)),
            ),
            Child(
                [
                    "env",
                    *(f"{name}={value}" for name, value in settings.items()),
                    program("pebble"),
                    "-strict",
                    "-config",
                    str(config),
                    "-dnsserver",
                    f"127.0.0.1:{dns}",
                ],
                log=self.log,
                is_up=lambda: answers(socket.AF_INET, ("127.0.0.1", port)),
            ),
        ]

    def start(self) -> None:
        for child in self._children:
            child.start()

    def stop(self) -> None:
        for child in reversed(self._children):
            child.stop()

    def root(self) -> str:
        """Return its root in PEM; it is a new one after each start."""
        return self._manage("/roots/0").decode()

    def certificate_status(self, serial: int) -> str:
        """Return ``"Valid"`` or ``"Revoked"``."""
        answer = json.loads(self._manage(f"/cert-status-by-serial/{serial:x}"))
        return str(answer["Status"])

    def set_record(self, kind: str, **record: Any) -> None:
        """Change the zone: ``set_record("set-txt", host="_acme-challenge.a.test.", value="x")``."""
        request = urllib.request.Request(  # noqa: S310 - http on loopback
            f"{self._dns_management}/{kind}", data=json.dumps(record).encode(), method="POST"
        )
        urllib.request.urlopen(request, timeout=TIMEOUT).close()  # noqa: S310 - as above

    @property
    def dns_management(self) -> str:
        """Where commands of DNS-01 set and clear records."""
        return self._dns_management

    def _manage(self, path: str) -> bytes:
        context = ssl.create_default_context(cafile=self.cafile)
        url = self._management + path
        with urllib.request.urlopen(url, timeout=TIMEOUT, context=context) as answer:  # noqa: S310
            return bytes(answer.read())


@contextmanager
def pebble(folder: Path, **options: Any) -> Iterator[Pebble]:
    """Run an authority to the end of the block; the options are those of :class:`Pebble`."""
    authority = Pebble(folder, **options)
    try:
        authority.start()
        yield authority
    finally:
        authority.stop()
