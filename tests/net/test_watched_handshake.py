"""What a service remembers of the doctor's handshakes: only those, and what became of them."""

from typing import Any

import pytest

from gateman import Connection, Refuse, Request
from gateman.net.arrivals import NONCE_FIELD, key_of
from tests.support.hellos import openssl_hello
from tests.support.loop import on_loop
from tests.support.raw import handshake, request
from tests.support.server import serve

NONCE = "0123456789abcdef0123456789abcdef"
CARRIED = (f"{NONCE_FIELD}: {NONCE}",)
EMPTY: dict[str, Any] = {"arrivals": [], "causes": []}

ARRIVED = {
    "carriers": ["field"],
    "begins_with": "http",
    "method": "GET",
    "path": "/chat",
    "version": "1.1",
    "peer": "127.0.0.1",
    "is_trusted": True,
    "source": None,
    "is_tls": False,
}
FIELDS = {
    "host": "localhost",
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@on_loop
async def test_a_handshake_with_the_nonce_is_remembered_from_the_first_question_on() -> None:
    async with serve() as server:
        assert server.service.arrivals(NONCE) == EMPTY

        client = await server.connect()
        await client.send(handshake("/chat?token=secret", CARRIED))
        assert (await client.read_head()).status == 101

        [arrival] = server.service.arrivals(NONCE)["arrivals"]
        assert arrival == {**ARRIVED, "fields": FIELDS, "status": 101, "causes": []}
        await client.close()


@on_loop
async def test_a_connection_that_is_closed_when_it_opens_has_arrived() -> None:
    async with serve(on_open=lambda connection: connection.close(4001, "log in")) as server:
        server.service.arrivals(NONCE)
        client = await server.connect()
        await client.send(handshake("/", CARRIED))
        assert (await client.read_head()).status == 101

        [arrival] = server.service.arrivals(NONCE)["arrivals"]
        assert arrival["status"] == 101
        await client.close()


@on_loop
async def test_a_handshake_before_the_question_or_without_the_nonce_is_not() -> None:
    async with serve() as server:
        await server.ask(request("NONSENSE", *CARRIED))
        server.service.arrivals(NONCE)
        await server.ask(request("GET / HTTP/1.1", "Host: localhost"))

        assert server.service.arrivals(NONCE) == EMPTY


@pytest.mark.parametrize(
    ("head", "carrier"),
    [
        (handshake("/", (f"GATEMAN-doctor: {NONCE}",)), "field"),
        (handshake(f"/?gateman-doctor={NONCE}"), "query"),
        (handshake("/", (f"X-Copy: {key_of(NONCE)}",)), "key"),
    ],
)
@on_loop
async def test_the_nonce_has_three_carriers(head: bytes, carrier: str) -> None:
    async with serve() as server:
        server.service.arrivals(NONCE)
        client = await server.connect()
        await client.send(head)
        await client.read_head()

        [arrival] = server.service.arrivals(NONCE)["arrivals"]
        assert arrival["carriers"] == [carrier]
        await client.close()


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (
            request("GET /chat HTTP/1.0", "Host: a", "Upgrade: websocket", *CARRIED),
            {"version": "1.0", "status": 400, "fields": {"host": "a", "upgrade": "websocket"}},
        ),
        (
            request("GET /chat HTTP/1.1", "Host: a", "Sec-WebSocket-Key: x", *CARRIED),
            {"version": "1.1", "fields": {"host": "a", "sec-websocket-key": "x"}},
        ),
        (request("NONSENSE", *CARRIED), {"method": "NONSENSE", "path": "", "status": 400}),
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + handshake("/", CARRIED),
            {
                "begins_with": "proxy",
                "status": 400,
                "path": "/",
                "causes": ["unexpected_proxy_header"],
            },
        ),
    ],
)
@on_loop
async def test_what_cannot_be_answered_is_remembered_as_far_as_it_can_be_read(
    head: bytes, expected: dict[str, object]
) -> None:
    async with serve() as server:
        server.service.arrivals(NONCE)
        await server.ask(head)

        [arrival] = server.service.arrivals(NONCE)["arrivals"]
        assert {name: arrival[name] for name in expected} == expected


@on_loop
async def test_the_check_that_refuses_is_named() -> None:
    async with serve(allowed_origins=["https://example.com"]) as server:
        server.service.arrivals(NONCE)
        await server.ask(handshake("/", (*CARRIED, "Origin: https://example.org")))

        [arrival] = server.service.arrivals(NONCE)["arrivals"]
        assert arrival["status"] == 403
        assert arrival["causes"] == ["origin_refused", "refused_403"]


@on_loop
async def test_the_refusal_of_the_application_has_no_cause() -> None:
    def refuse(_connection: Connection, _request: Request) -> None:
        raise Refuse(401)

    async with serve(on_websocket_connect=refuse) as server:
        server.service.arrivals(NONCE)
        await server.ask(handshake("/", CARRIED))

        [arrival] = server.service.arrivals(NONCE)["arrivals"]
        assert (arrival["status"], arrival["causes"]) == (401, [])


@on_loop
async def test_what_goes_wrong_without_the_nonce_is_counted() -> None:
    async with serve() as server:
        server.service.arrivals(NONCE)
        for _ in range(2):
            client = await server.connect()
            await client.send(openssl_hello(None, []))
            await client.read_end()

        report = server.service.arrivals(NONCE)
        assert report["arrivals"] == []
        assert [(one["cause"], one["count"]) for one in report["causes"]] == [
            ("tls_on_plain_port", 2)
        ]


@on_loop
async def test_another_nonce_begins_anew() -> None:
    async with serve() as server:
        server.service.arrivals(NONCE)
        await server.ask(request("NONSENSE", *CARRIED))

        assert server.service.arrivals("f" * 32) == EMPTY
        assert server.service.arrivals(NONCE) == EMPTY
