"""What comes in place of an answer, and that each kind of finding is tested."""

import re
from pathlib import Path

import pytest

from gateman.doctor.upgrade.observations import Answer, Attempt, Kind, Silence, UpgradeSeen
from gateman.doctor.upgrade.rows import agreed, attempt_evidence, rows
from gateman.findings import handshakes

from .cases import WS, WSS, answer, attempt, exchanged, found, opening, told

NGINX_PAGE = "<center><h1>400 Bad Request</h1></center><hr><center>nginx</center>"

# They are what the service's log tells, or remain as candidates.
NOT_FROM_OUTSIDE = {
    *("PEER_SPOKE_PLAIN", "CREDENTIALS_WITHHELD", "PROXY_NOT_TRUSTED", "UPSTREAM_DOWN"),
    *("UPSTREAM_WRONG_PORT", "UPSTREAM_SOCKET_DENIED", "UPSTREAM_ANSWERS_NOT_HTTP"),
}


def test_each_kind_of_finding_is_judged_by_a_test() -> None:
    written = " ".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    tested = set(re.findall(r'"([A-Z0-9_]{6,})"', written))

    assert {one.code for one in handshakes.DECLARATIONS} - tested == set()


@pytest.mark.parametrize(
    ("attempts", "code", "problem"),
    [
        (
            [attempt(silence=Silence.NOT_HTTP, garbage=b"\0\0\x12\4\0\0\0\0\0\0\3")],
            "HTTP2_ONLY",
            "the server speaks only HTTP/2 on this port, and clients open a WebSocket over"
            " HTTP/1.1",
        ),
        (
            [attempt(silence=Silence.UNREACHABLE, error="TLSV1_ALERT_NO_APPLICATION_PROTOCOL")],
            "HTTP2_ONLY",
            "the server speaks only HTTP/2 on this port, and clients open a WebSocket over"
            " HTTP/1.1",
        ),
        (
            [attempt(silence=Silence.NOT_HTTP, garbage=b"\x15\3\1\0\2\2\x28")],
            "TLS_TWICE",
            "behind the TLS of port 443, the server at 192.0.2.1 expects TLS once more: a proxy"
            " already ends it",
        ),
        (
            [attempt(silence=Silence.NOT_HTTP, garbage=b"SSH-2.0-OpenSSH_9.2\r\n")],
            "WRONG_SERVICE",
            "another service answers there: SSH",
        ),
        (
            [attempt(silence=Silence.NOT_HTTP, garbage=b"hello")],
            "NOT_HTTP",
            "the answer to the handshake is not HTTP",
        ),
        (
            [
                attempt(silence=Silence.TIMED_OUT, duration=4.0),
                attempt(answer(426), Kind.PLAIN),
            ],
            "APPLICATION_UNDECIDED",
            "the application does not decide about the handshake within 4 s, while plain requests"
            " are answered",
        ),
        (
            [
                attempt(silence=Silence.TIMED_OUT, duration=4.0),
                attempt(None, Kind.PLAIN, silence=Silence.TIMED_OUT),
                attempt(answer(400, NGINX_PAGE), Kind.MALFORMED),
            ],
            "UPSTREAM_HANGS",
            "nginx answers, and the service behind it does not, within 4 s",
        ),
        (
            [
                attempt(silence=Silence.TIMED_OUT, duration=4.0),
                attempt(None, Kind.PLAIN, silence=Silence.TIMED_OUT),
                attempt(None, Kind.MALFORMED, silence=Silence.TIMED_OUT),
            ],
            "APPLICATION_BLOCKS",
            "the service does not answer, as one whose event loop is blocked: neither a handshake"
            " nor a plain request gets an answer within 4 s",
        ),
        (
            [attempt(silence=Silence.RESET)],
            "CLOSED_UNANSWERED",
            "the server closes the connection without an answer to the handshake",
        ),
    ],
)
def test_no_answer(attempts: list[Attempt], code: str, problem: str) -> None:
    assert told(*attempts) == [(code, problem)]


def test_a_tls_alert_on_a_plain_url() -> None:
    garbage = attempt(silence=Silence.NOT_HTTP, garbage=b"\x15\3\1\0\2\2\x28")

    assert [one.code for one in found(garbage, target=WS)] == ["PLAIN_ON_TLS_PORT"]


@pytest.mark.parametrize(
    ("plain", "candidates"),
    [
        (
            attempt(answer(200), Kind.PLAIN),
            ("FIREWALL_REFUSED", "FORBIDDEN", "APPLICATION_FAILED"),
        ),
        (
            attempt(None, Kind.PLAIN, silence=Silence.CLOSED),
            ("PROXY_HEADER_EXPECTED", "UPSTREAM_DOWN", "SERVER_FULL"),
        ),
    ],
)
def test_a_close_without_an_answer(plain: Attempt, candidates: tuple[str, ...]) -> None:
    (finding,) = found(attempt(silence=Silence.CLOSED), plain)

    assert finding.candidates == candidates


def test_what_the_network_tells_is_not_told_again() -> None:
    assert found(attempt(silence=Silence.UNREACHABLE, error="refused")) == []
    assert found() == []


def test_rows_and_what_was_agreed() -> None:
    answered = opening(
        Sec_WebSocket_Extensions="permessage-deflate", Sec_WebSocket_Protocol="chat", Server="nginx"
    )
    seen = UpgradeSeen(
        attempts=(
            attempt(answered, exchange=exchanged()),
            attempt(answer(403, "no\x1b"), Kind.FOREIGN),
        )
    )

    assert [(row.probe, row.outcome.value, row.evidence) for row in rows(seen)] == [
        ("upgrade", "ok", "101, Server: nginx"),
        ("ping", "ok", "pong after 20 ms"),
        ("foreign origin", "skipped", "403, 'no\\x1b'"),
    ]
    assert agreed(seen) == {
        "compression": "permessage-deflate",
        "subprotocol": "chat",
        "ping": "20 ms",
        "server": "nginx",
    }
    assert agreed(UpgradeSeen(attempts=(attempt(answer(404)),))) == {}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (attempt(silence=Silence.CLOSED), "the end of the connection after 0.1 s"),
        (
            attempt(silence=Silence.NOT_HTTP, garbage=b"SSH-2.0\r\n"),
            "something that is not HTTP b'SSH-2.0\\r\\n' (SSH) after 0.1 s",
        ),
        (
            attempt(Answer(status=301, reason="Moved", fields=(("location", "/a"),))),
            "301 Moved, Location: /a",
        ),
    ],
)
def test_evidence(seen: Attempt, expected: str) -> None:
    assert attempt_evidence(seen) == expected


def test_the_first_address_is_the_main_one() -> None:
    first, second = attempt(answer(404)), attempt(opening(), exchange=exchanged())

    seen = UpgradeSeen(attempts=(first, second))

    assert seen.main == first
    assert seen.is_open
    assert found(first, second, target=WSS)[0].code == "PATH_NOT_FOUND"
