"""
A service in a child process: a script that makes a worker and runs it.

The script gets two arguments: the address to listen on, and the context as JSON.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from .ports import free_port
from .proxies import running

DOMAIN = "example.test"
"""What the certificates of services are made for, beside ``localhost``."""


@dataclass(frozen=True, slots=True)
class Service:
    """
    A running service.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        authority: A file with the authority of its certificate; ``None`` without TLS.
    """

    port: int
    authority: Path | None


@contextmanager
def serve(
    script: str, folder: Path, *, authority: trustme.CA | None = None, port: int | None = None
) -> Iterator[Service]:
    """
    Run a service from when it listens to the end of the block.

    Args:
        script: The program.
        folder: Where its files go; an empty one.
        authority: Who issues its certificate; ``None`` for a service without TLS.
        port: The port; ``None`` for a free one.

    Yields:
        The service.
    """
    port = port or free_port()
    context: dict[str, dict[str, str]] = {}
    trusted: Path | None = None
    if authority is not None:
        certificate = authority.issue_cert(DOMAIN, "localhost")
        (folder / "cert.pem").write_bytes(
            b"".join(part.bytes() for part in certificate.cert_chain_pems)
        )
        certificate.private_key_pem.write_to_path(folder / "key.pem")
        trusted = folder / "authority.pem"
        authority.cert_pem.write_to_path(trusted)
        context["ssl"] = {
            "local_cert": str(folder / "cert.pem"),
            "local_pk": str(folder / "key.pem"),
        }
    (folder / "server.py").write_text(script)
    address = f"{'wss' if authority else 'websocket'}://127.0.0.1:{port}"
    command = [sys.executable, str(folder / "server.py"), address, json.dumps(context)]
    with running(command, port=port, log=folder / "none"):
        yield Service(port, trusted)
