"""Certificates by themselves, the whole way: a service, a real authority, and clients that wait."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support.deadlines import TIMEOUT
from tests.support.master import master
from tests.support.pebble import Pebble, pebble

SERVICE = """
from gateman import Worker

worker = Worker("wss://127.0.0.1:{port}", {context!r}, name="chat", count=2, {options})

@worker.on_message
def answer(connection, message):
    connection.send(message)

Worker.run_all()
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    with pebble(tmp_path_factory.mktemp("pebble")) as server:
        yield server


def acme(authority: Pebble, folder: Path, *domains: str, **more: Any) -> dict[str, Any]:
    """The options of one certificate of this authority."""
    return {
        "domains": domains,
        "directory": authority.directory,
        "directory_cafile": str(authority.cafile),
        "storage": str(folder / "acme"),
        **more,
    }


def service(port: int, *acme: dict[str, Any], options: str = "", **ssl_options: Any) -> str:
    context = {"ssl": {"acme": list(acme), **ssl_options}}
    return SERVICE.format(port=port, context=context, options=options)


def trusting(authority: Pebble) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.root())


def client(port: int, authority: Pebble, name: str) -> ClientConnection:
    """Connect by a name of the certificate, which a client that trusts the authority verifies."""
    return connect(
        f"wss://{name}:{port}/",
        sock=socket.create_connection(("127.0.0.1", port)),
        ssl=trusting(authority),
        open_timeout=TIMEOUT,
    )


def test_the_first_client_waits_for_the_certificate(authority: Pebble, tmp_path: Path) -> None:
    options = acme(authority, tmp_path, "a.test", "b.test")
    with (
        master(service(authority.tls_port, options), tmp_path),
        client(authority.tls_port, authority, "b.test") as first,
    ):
        first.send("hello")
        assert first.recv() == "hello"
