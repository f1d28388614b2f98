"""What a 101, and what comes behind it, amounts to."""

from dataclasses import replace

import pytest

from gateman.doctor.target import Settings
from gateman.doctor.upgrade.observations import Answer, Attempt, End, Exchange, Kind, Silence
from gateman.doctor.upgrade.openings import judge_opening
from gateman.findings import Client

from .cases import answer, attempt, exchanged, found, opening, told


def test_it_is_what_the_judgement_uses() -> None:
    assert judge_opening.__module__ == "gateman.doctor.upgrade.openings"


@pytest.mark.parametrize(
    "answered",
    [
        opening(),
        opening(Sec_WebSocket_Extensions="permessage-deflate"),
        opening(
            Sec_WebSocket_Extensions="permessage-deflate; server_max_window_bits=10;"
            " client_no_context_takeover"
        ),
        opening(Age="0", X_Cache="MISS"),
        opening(Server="cloudflare", CF_RAY="1-FRA", CF_Cache_Status="DYNAMIC"),
        opening(Via="1.1 varnish, 1.1 cloudfront", X_Cache="Miss from cloudfront"),
        opening(Upgrade="WebSocket", Connection="Keep-Alive, Upgrade"),
        opening(Content_Length="0"),
    ],
)
def test_healthy_ones(answered: Answer) -> None:
    native = attempt(opening(), Kind.NATIVE, offers_compression=False)

    assert told(attempt(answered, exchange=exchanged()), native) == []


@pytest.mark.parametrize(
    ("answered", "code", "problem"),
    [
        (
            opening("b3RoZXI="),
            "ACCEPT_WRONG",
            "Sec-WebSocket-Accept of the 101 does not answer the key of the request",
        ),
        (opening("b3RoZXI=", Age="7"), "ANSWER_CACHED", "a cache answers the handshake (Age: 7)"),
        (
            opening("b3RoZXI=", X_Cache="HIT from cdn"),
            "ANSWER_CACHED",
            "a cache answers the handshake (X-Cache: HIT from cdn)",
        ),
        (opening(Upgrade=""), "ANSWER_FIELD_LOST", "the 101 comes without 'Upgrade: websocket'"),
        (
            opening(Connection="close"),
            "ANSWER_FIELD_LOST",
            "the 101 comes without 'Connection: Upgrade'",
        ),
        (opening(""), "ANSWER_FIELD_LOST", "the 101 comes without 'Sec-WebSocket-Accept'"),
        (
            opening(Sec_WebSocket_Extensions="x-webkit-deflate-frame"),
            "EXTENSION_UNOFFERED",
            "the 101 agrees to an extension that was not offered: x-webkit-deflate-frame",
        ),
        (
            opening(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits"),
            "EXTENSION_UNOFFERED",
            "the 101 agrees to an extension that was not offered: permessage-deflate with"
            " client_max_window_bits",
        ),
        (
            opening(Sec_WebSocket_Extensions="permessage-deflate; server_max_window_bits=7"),
            "EXTENSION_UNOFFERED",
            "the 101 agrees to an extension that was not offered: permessage-deflate with"
            " server_max_window_bits=7",
        ),
        (
            opening(Sec_WebSocket_Extensions=";"),
            "EXTENSION_UNOFFERED",
            "the 101 agrees to an extension that was not offered: ';', which is malformed",
        ),
        (
            opening(Sec_WebSocket_Extensions="permessage-deflate, permessage-deflate"),
            "EXTENSION_UNOFFERED",
            "the 101 agrees to an extension that was not offered: permessage-deflate twice",
        ),
        (
            opening(Sec_WebSocket_Protocol="mqtt"),
            "SUBPROTOCOL_UNOFFERED",
            "the 101 selects the subprotocol 'mqtt', which was not offered",
        ),
        (
            opening(Content_Length="5"),
            "ANSWER_HAS_BODY",
            "text follows the 101 where frames begin",
        ),
    ],
)
def test_faults_of_the_101(answered: Answer, code: str, problem: str) -> None:
    assert told(attempt(answered, exchange=exchanged())) == [(code, problem)]


def test_a_101_of_http_1_0() -> None:
    old = replace(opening(), version="1.0")

    assert told(attempt(old, exchange=exchanged())) == [
        ("ANSWER_HTTP_1_0", "the 101 comes as HTTP/1.0")
    ]


def test_an_extension_that_a_proxy_adds() -> None:
    answered = opening(Sec_WebSocket_Extensions="permessage-deflate")
    native = attempt(answered, Kind.NATIVE, offers_compression=False)

    assert told(attempt(answered, exchange=exchanged()), native) == [
        (
            "EXTENSION_UNOFFERED",
            "the 101 agrees to an extension that was not offered: permessage-deflate, to a client"
            " that offers none",
        )
    ]


@pytest.mark.parametrize(
    ("selected", "expected"),
    [
        ("", ["SUBPROTOCOL_NOT_SELECTED"]),
        ("chat.v2", []),
        ("mqtt", ["SUBPROTOCOL_UNOFFERED"]),
    ],
)
def test_subprotocols(selected: str, expected: list[str]) -> None:
    answered = opening(Sec_WebSocket_Protocol=selected) if selected else opening()
    settings = Settings(subprotocols=("chat.v1", "chat.v2"))

    findings = found(attempt(answered, exchange=exchanged()), settings=settings)

    assert [one.code for one in findings] == expected
    if not selected:
        assert findings[0].problem == (
            "the server selects none of the subprotocols chat.v1, chat.v2"
        )
        assert findings[0].fails_for == {Client.BROWSERS, Client.NODE}


@pytest.mark.parametrize(
    ("exchange", "code", "problem"),
    [
        (
            exchanged(End.CLOSE, close=(1011, "oh")),
            "APPLICATION_FAILED",
            "the application raises an error: it closes the connection with 1011 'oh' right after"
            " it opened",
        ),
        (
            exchanged(End.CLOSE, close=(1008, "no token")),
            "APPLICATION_REFUSED",
            "the application refuses the client: it closes the connection with 1008 'no token'"
            " right after it opened",
        ),
        (
            exchanged(End.CLOSE, close=(4401, "")),
            "APPLICATION_REFUSED",
            "the application refuses the client: it closes the connection with 4401 '' right after"
            " it opened",
        ),
        (
            exchanged(End.CLOSE, close=(1008, "bad origin")),
            "ORIGIN_REFUSED",
            "the service refuses pages of the origin https://a.example",
        ),
        (
            exchanged(End.CLOSE, close=(1012, "")),
            "SERVER_DRAINING",
            "the service is shutting down, or restarting",
        ),
        (
            exchanged(End.CLOSE, close=(1013, "later")),
            "SERVER_OVERLOADED",
            "the server closes the connection with 1013 'later': it is overloaded",
        ),
        (
            exchanged(End.CLOSE, close=(1000, "")),
            "CLOSED_AT_ONCE",
            "the server closes the connection right after it opened, with 1000 ''",
        ),
        (
            exchanged(End.EOF),
            "BROKEN_AT_ONCE",
            "the connection ends right after the 101 without a Close, which clients report as 1006",
        ),
        (
            exchanged(End.FAULT, fault="a masked frame, as only clients send"),
            "FRAMES_INVALID",
            "what follows the 101 is not a WebSocket frame of a server: a masked frame, as only"
            " clients send",
        ),
        (
            exchanged(End.FAULT, fault="reserved bits 011", first=b"<html>hello"),
            "ANSWER_HAS_BODY",
            "text follows the 101 where frames begin",
        ),
        (
            exchanged(is_compressed=True),
            "COMPRESSION_NOT_AGREED",
            "the service compresses its messages, and the 101 does not say so",
        ),
        (
            exchanged(pong_time=None, has_wrong_pong=True),
            "PONG_WRONG",
            "the pong does not have the payload of the ping",
        ),
        (
            exchanged(pong_time=None),
            "PONG_MISSING",
            "the 101 comes, and a ping gets no pong within 2 s",
        ),
    ],
)
def test_what_follows_the_101(exchange: Exchange, code: str, problem: str) -> None:
    assert told(attempt(opening(), exchange=exchange)) == [(code, problem)]


@pytest.mark.parametrize(
    ("other", "code"),
    [
        (attempt(None, Kind.SECOND, silence=Silence.TIMED_OUT), "APPLICATION_BLOCKS"),
        (attempt(opening(), Kind.SECOND), "PONG_MISSING"),
    ],
)
def test_a_second_handshake_tells_a_blocked_loop(other: Attempt, code: str) -> None:
    silent = attempt(opening(), exchange=exchanged(pong_time=None))

    assert [one.code for one in found(silent, other)] == [code]


def test_a_close_that_only_pages_get_is_about_their_origin() -> None:
    closed = attempt(opening(), exchange=exchanged(End.CLOSE, close=(4003, "")))
    native = attempt(opening(), Kind.NATIVE, exchange=exchanged())

    assert [one.code for one in found(closed, native)] == ["ORIGIN_REFUSED"]


@pytest.mark.parametrize(
    ("status", "fields"),
    [(429, {}), (503, {}), (403, {"Gateman_Refused": "HANDSHAKE_RATE"}), (500, {})],
)
def test_a_limit_on_handshakes_is_not_about_origins(status: int, fields: dict[str, str]) -> None:
    """The doctor sends several at once."""
    native = attempt(answer(status, **fields), Kind.NATIVE)

    assert found(attempt(opening(), exchange=exchanged()), native) == []


def test_a_limit_is_not_about_the_origin() -> None:
    native = attempt(answer(429), Kind.NATIVE)

    assert found(attempt(opening(), exchange=exchanged()), native) == []


def test_clients_without_an_origin_may_be_refused() -> None:
    native = attempt(answer(403, "", "Forbidden"), Kind.NATIVE)

    (finding,) = found(attempt(opening(), exchange=exchanged()), native)

    assert (finding.code, finding.problem) == (
        "ORIGIN_REQUIRED",
        "the service refuses clients that send no Origin: it answers 403 Forbidden",
    )
    assert Client.BROWSERS not in finding.fails_for
