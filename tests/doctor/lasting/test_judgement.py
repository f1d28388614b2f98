"""What silence, size and number show, and what a page does to its WebSocket."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from gateman.doctor.lasting.judgement import judge
from gateman.doctor.lasting.observations import (
    ConnectionsSeen,
    IdleSeen,
    LastingSeen,
    PageSeen,
    SizeSeen,
)
from gateman.doctor.lasting.rows import rows
from gateman.doctor.upgrade.observations import End, Exchange, Silence
from gateman.findings import Client, Software, lasting
from tests.doctor.upgrade.cases import WS, WSS, answer, attempt, exchanged

PAGE = PageSeen(url="https://a.example/chat", answer=answer(200))


def told(seen: LastingSeen, front: Software | None = None) -> list[tuple[str, str]]:
    found = judge(WSS, seen, front=front)
    return [(one.code, one.problem) for one in found]


def test_each_kind_of_finding_is_judged_by_a_test() -> None:
    written = " ".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    tested = set(re.findall(r'"([A-Z0-9_]{6,})"', written))

    # "IDLE_CUTS" is what the log of a service tells.
    assert {one.code for one in lasting.DECLARATIONS} - tested == {"IDLE_CUTS"} - tested


@pytest.mark.parametrize(
    ("exchange", "front", "code", "problem"),
    [
        (
            exchanged(End.EOF, ended_at=60.02),
            Software.NGINX,
            "IDLE_CUT",
            "a connection on which nothing is sent is cut after 60 s, without a Close; this is the"
            " default of nginx (proxy_read_timeout), Apache (Timeout) and AWS",
        ),
        (
            exchanged(End.RESET, ended_at=17.0),
            Software.HAPROXY,
            "IDLE_CUT",
            "a connection on which nothing is sent is cut after 17 s, without a Close; HAProxy is"
            " in front, and has such a time",
        ),
        (
            exchanged(End.EOF, ended_at=17.0),
            None,
            "IDLE_CUT",
            "a connection on which nothing is sent is cut after 17 s, without a Close; a proxy, a"
            " firewall or a router on the way has such a time",
        ),
        (
            exchanged(End.EOF, ended_at=35.0, pings=(25.0,)),
            None,
            "PONGS_LOST",
            "the service pings, the client answers, and the service ends the connection after 35 s"
            " all the same: the pongs do not arrive",
        ),
        (
            exchanged(
                End.CLOSE, ended_at=40.0, pings=(20.0,), close=(1011, "keepalive ping timeout")
            ),
            None,
            "PONGS_LOST",
            "the service pings, the client answers, and the service ends the connection after 40 s"
            " all the same: the pongs do not arrive",
        ),
        (
            exchanged(End.CLOSE, ended_at=10.0, close=(1008, "no login in time")),
            None,
            "IDLE_CLOSED",
            "the service closes a connection on which nothing is sent after 10 s, with 1008 'no"
            " login in time'",
        ),
        (exchanged(), None, "NO_PINGS", "the service sends no ping within 70 s"),
    ],
)
def test_silence(exchange: Exchange, front: Software | None, code: str, problem: str) -> None:
    seen = LastingSeen(idle=IdleSeen(asked=70, exchange=exchange))

    assert told(seen, front) == [(code, problem)]


@pytest.mark.parametrize(
    ("asked", "exchange"),
    [(70, exchanged(pings=(25.0, 50.0))), (20, exchanged()), (70, exchanged(messages=2))],
)
def test_silence_that_is_well(asked: float, exchange: Exchange) -> None:
    assert told(LastingSeen(idle=IdleSeen(asked=asked, exchange=exchange))) == []


def test_the_fix_is_in_the_words_of_the_proxy() -> None:
    seen = LastingSeen(idle=IdleSeen(asked=70, exchange=exchanged(End.EOF, ended_at=60.0)))

    (finding,) = judge(WSS, seen, front=Software.NGINX)

    assert finding.fix.startswith("write `proxy_read_timeout 3600s;")


@pytest.mark.parametrize(
    ("exchange", "code", "problem"),
    [
        (
            exchanged(End.CLOSE, close=(1009, "a message may have 1 bytes")),
            "MESSAGE_TOO_BIG",
            "the service takes no message of 5 bytes: it closes with 1009 'a message may have 1"
            " bytes'",
        ),
        (
            exchanged(End.CLOSE, close=(1003, "json")),
            "MESSAGE_REFUSED",
            "the service answers a message of 5 bytes with a Close, 1003 'json'",
        ),
        (
            exchanged(End.RESET),
            "MESSAGE_CUT",
            "a message of 5 bytes ends the connection without a Close",
        ),
        (
            exchanged(pong_time=None),
            "MESSAGE_UNREAD",
            "after a message of 5 bytes, a ping gets no pong within 10 s",
        ),
        (
            exchanged(is_compressed=True),
            "COMPRESSION_NOT_AGREED",
            "the service compresses its messages, and the 101 does not say so",
        ),
        (
            exchanged(End.FAULT, fault="reserved bits 010"),
            "FRAMES_INVALID",
            "what follows the 101 is not a WebSocket frame of a server: reserved bits 010",
        ),
    ],
)
def test_size(exchange: Exchange, code: str, problem: str) -> None:
    seen = LastingSeen(size=SizeSeen(size=5, exchange=exchange, waited=10.0))

    assert told(seen) == [(code, problem)]


def test_size_that_is_well() -> None:
    assert told(LastingSeen(size=SizeSeen(size=5, exchange=exchanged()))) == []


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, []),
        (
            {"failures": (attempt(answer(503, "", "Busy")),)},
            [
                (
                    "CONNECTIONS_LIMITED",
                    "7 connections open at the same time, and the next gets 503 Busy",
                )
            ],
        ),
        (
            {"failures": (attempt(silence=Silence.CLOSED),)},
            [
                (
                    "CONNECTIONS_LIMITED",
                    "7 connections open at the same time, and the next gets the end of the"
                    " connection",
                )
            ],
        ),
        (
            {"failures": (attempt(answer(429, Gateman_Refused="ADDRESS_LIMIT")),)},
            [
                (
                    "ADDRESS_LIMIT",
                    "one address has as many connections as the service takes from one",
                )
            ],
        ),
        (
            {"lost": 3},
            [
                (
                    "CONNECTIONS_LOST",
                    "of 7 connections that opened, 3 ended while others were opened",
                )
            ],
        ),
        (
            {"local_error": "too many open files"},
            [
                (
                    "CONNECTIONS_OF_THIS_MACHINE",
                    "this machine lets the doctor open 7 connections only: too many open files",
                )
            ],
        ),
    ],
)
def test_number(more: dict[str, object], expected: list[tuple[str, str]]) -> None:
    many = replace(ConnectionsSeen(asked=9, opened=7), **more)  # type: ignore[arg-type]

    assert told(LastingSeen(connections=many)) == expected


def test_what_did_not_open_is_the_handshakes() -> None:
    refused = attempt(answer(404))
    seen = LastingSeen(
        idle=IdleSeen(asked=9, failure=refused),
        size=SizeSeen(size=5, failure=refused),
        connections=ConnectionsSeen(asked=9, opened=0, failures=(refused,)),
    )

    assert told(seen) == []
    assert [(row.probe, row.outcome.value, row.evidence) for row in rows(seen)] == [
        ("idle", "failed", "404"),
        ("size", "failed", "404"),
        ("connections", "failed", "0 opened, then: 404"),
    ]


def test_rows() -> None:
    seen = LastingSeen(
        page=replace(PAGE, answer=answer(200, Content_Security_Policy="default-src 'self'")),
        idle=IdleSeen(asked=9, exchange=exchanged(End.EOF, ended_at=6.0, pings=(2.0, 4.0))),
        size=SizeSeen(size=5, exchange=exchanged()),
        connections=ConnectionsSeen(asked=9, opened=9),
    )

    assert [(row.probe, row.outcome.value, row.evidence) for row in rows(seen)] == [
        ("page", "ok", "200, policy: default-src 'self'"),
        (
            "idle",
            "failed",
            "2 pings, the first after 2.0 s, the end of the connection without a Close after 6.0 s",
        ),
        ("size", "ok", "pong after 20 ms"),
        ("connections", "ok", "9 opened"),
    ]


def test_a_page_of_https_and_a_plain_url() -> None:
    found = list(judge(WS, LastingSeen(page=PAGE)))

    assert [(one.code, one.problem, one.fix) for one in found] == [
        (
            "MIXED_CONTENT",
            "the page https://a.example/chat comes over https, and a browser opens no ws:// from"
            " it",
            "write wss://a.example/ws in the page, and let the service be reached with TLS",
        )
    ]


def test_only_safari_refuses_loopback() -> None:
    local = replace(WS, host="localhost")

    (finding,) = judge(local, LastingSeen(page=PAGE))

    assert (finding.code, finding.fails_for) == (
        "MIXED_CONTENT",
        frozenset({Client.IOS, Client.WECHAT}),
    )


@pytest.mark.parametrize(
    ("page", "code", "problem"),
    [
        (
            replace(PAGE, answer=answer(200, Content_Security_Policy="connect-src 'none'")),
            "CSP_BLOCKS",
            "the Content-Security-Policy of the page https://a.example/chat does not allow"
            " wss://a.example/ws: connect-src 'none'",
        ),
        (
            replace(PAGE, answer=None, error="no answer in time"),
            "PAGE_UNREACHABLE",
            "the page https://a.example/chat cannot be read: no answer in time",
        ),
        (
            replace(PAGE, answer=answer(404)),
            "PAGE_UNREACHABLE",
            "the page https://a.example/chat cannot be read: it answers 404",
        ),
    ],
)
def test_pages(page: PageSeen, code: str, problem: str) -> None:
    assert told(LastingSeen(page=page)) == [(code, problem)]


def test_a_page_that_upgrades() -> None:
    page = PageSeen(
        url="http://a.example/",
        answer=answer(200, Content_Security_Policy="upgrade-insecure-requests"),
    )

    (finding,) = judge(WS, LastingSeen(page=page))

    assert (finding.code, finding.problem) == (
        "PAGE_UPGRADES",
        "the policy of the page http://a.example/ has upgrade-insecure-requests, so that the"
        " browser opens wss://a.example/ws and not ws://",
    )
