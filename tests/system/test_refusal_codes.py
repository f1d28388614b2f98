"""Why a handshake was refused, for programs: the field Gateman-Refused, and reasons of closes."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import gateman
from gateman import Connection, Refuse, Request
from gateman.findings.catalogue import CATALOGUE
from tests.support.loop import on_loop
from tests.support.raw import handshake, request
from tests.support.server import serve

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text()

HOST, KEY = "Host: localhost", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE, CONNECTION = "Upgrade: websocket", "Connection: Upgrade"
VERSION = "Sec-WebSocket-Version: 13"
ALL = (HOST, UPGRADE, CONNECTION, KEY, VERSION)


def without(*lines: str, more: tuple[str, ...] = (), version: str = "1.1") -> bytes:
    return request(f"GET / HTTP/{version}", *[one for one in ALL if one not in lines], *more)


def refuse(_connection: Connection, _request: Request) -> None:
    raise Refuse(402, "no")


def fail(_connection: Connection, _request: Request) -> None:
    raise ValueError


CASES: dict[str, tuple[bytes, int, dict[str, Any]]] = {
    "UPGRADE_LOST": (without(UPGRADE), 400, {}),
    "HANDSHAKE_FIELD_LOST": (without(KEY), 400, {}),
    "CLIENT_HTTP2": (without(UPGRADE, more=("Via: 2.0 proxy",)), 400, {}),
    "UPGRADE_HTTP_1_0": (without(version="1.0"), 505, {}),
    "WEBSOCKET_VERSION": (without(VERSION, more=("Sec-WebSocket-Version: 8",)), 426, {}),
    "REQUEST_REFUSED": (without(HOST), 400, {}),
    "HEAD_TOO_LARGE": (without(more=(f"A: {'a' * 20_000}",)), 431, {}),
    "PROXY_HEADER_UNEXPECTED": (b"PROXY UNKNOWN\r\n" + handshake(), 400, {}),
    "ORIGIN_REFUSED": (
        without(more=("Origin: https://b.example",)),
        403,
        {"allowed_origins": ["https://a.example"]},
    ),
    "APPLICATION_REFUSED": (without(), 402, {"on_websocket_connect": refuse}),
    "APPLICATION_FAILED": (
        without(),
        500,
        {"on_websocket_connect": fail},
    ),
    "SERVER_FULL": (without(), 503, {"limits": {"max_connections": 1}}),
    "HANDSHAKE_RATE": (without(), 503, {"limits": {"max_handshakes_per_second": 1}}),
    "ADDRESS_LIMIT": (
        without(),
        429,
        {"limits": {"max_connections_per_ip": 1}, "trusted_proxies": []},
    ),
}


@pytest.mark.parametrize("code", CASES)
@on_loop
async def test_refusals_have_codes(code: str) -> None:
    head, status, declared = CASES[code]
    async with serve(**declared) as server:
        if "limits" in declared:
            await server.open()
        answer = await server.ask(head)
        # The application's own fault is logged; here it is wanted.
        server.lines(logging.ERROR)

    assert (answer.status, answer.headers["gateman-refused"]) == (status, code)


@on_loop
async def test_plain_on_a_tls_port_has_a_code() -> None:
    async with serve(secure=True) as server:
        client = await server.connect(tls=False)
        await client.send(handshake())
        answer = await client.read_response()
        await client.close()

    assert answer.headers["gateman-refused"] == "PLAIN_ON_TLS_PORT"


@on_loop
async def test_a_plain_request_is_told_that_an_upgrade_is_missing() -> None:
    async with serve() as server:
        answer = await server.ask(request("GET / HTTP/1.1", HOST))

    assert (answer.status, answer.headers["gateman-refused"]) == (426, "UPGRADE_LOST")


def test_the_page_on_clients_lists_the_codes() -> None:
    section = PAGE.partition("## Why a handshake was refused")[2].partition("\n## ")[0]
    table = section.partition("An open connection")[0]
    listed = set(re.findall(r"`([A-Z][A-Z0-9_]{5,})`", table))

    assert listed == {*CASES, "PLAIN_ON_TLS_PORT", "SERVER_DRAINING"}
    assert listed <= set(CATALOGUE)


def test_the_page_on_clients_lists_the_reasons_of_closes() -> None:
    """Each reason on the page is written in the source, with its code."""
    table = PAGE.partition("An open connection is closed")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d{4}) \| (.*?) \|", table, re.MULTILINE)
    source = "".join(path.read_text() for path in Path(gateman.__file__).parent.rglob("*.py"))
    reasons: Mapping[str, str] = {
        reason: code for code, cell in rows for reason in re.findall(r"`([^`]+)`", cell)
    }

    assert len(reasons) >= 8
    for reason in reasons:
        assert reason.replace("…", "{max_message_size}") in source
