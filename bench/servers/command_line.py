"""What each server here is told: where to listen, and with which certificate."""

import argparse
import ssl
from typing import Any


def parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser for ``--port`` and ``--certificate``, to which a server may add its own."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--port", type=int, required=True)
    made.add_argument("--certificate", help="PEM with the key in it; without, plain ws")
    return made


def context_of(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    """Make a TLS context as its own documentation tells a user to; ``None`` for plain ws."""
    if not arguments.certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(arguments.certificate)
    return context


def listening(arguments: argparse.Namespace, scheme: str = "websocket") -> dict[str, Any]:
    """Give what gateman's workers and gateways take for that."""
    pem = arguments.certificate
    return {
        "listen": f"{scheme}://127.0.0.1:{arguments.port}",
        "context": {"ssl": {"local_cert": pem, "local_pk": pem}} if pem else None,
        "transport": "ssl" if pem else "tcp",
    }
