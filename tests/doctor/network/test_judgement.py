"""What the probes saw goes in, findings come out: each code, by equality."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from gateman.doctor.network.judgement import judge
from gateman.doctor.network.observations import (
    AddressSeen,
    AnswerSeen,
    End,
    HandshakeSeen,
    NetworkSeen,
    Reach,
    Resolution,
    Tls,
)
from gateman.doctor.network.url import parse
from gateman.doctor.target import Route, Settings
from gateman.findings import ALL_CLIENTS, Client, Finding, Severity, certificates, network
from gateman.tls.certificate_findings import Trust

from .seen import (
    AAAA,
    AGREED,
    CHAIN,
    CLOSED,
    DAY,
    DROPPED_6,
    LEAF,
    MIDDLE,
    NGINX,
    NOW,
    OLD,
    OPEN,
    PLAIN,
    SILENT,
    WS,
    WSS,
    A,
    alert,
    dead,
    failed,
    look,
    shown,
)

_PHONES = {Client.ANDROID, Client.WECHAT}
CAUSE, WARNING, NOTE = Severity.CAUSE, Severity.WARNING, Severity.NOTE
Expected = tuple[str, Severity, set[Client] | frozenset[Client]]

# What was seen, and the only finding.
ADDRESSES: list[tuple[str, AddressSeen, Expected]] = [
    (WSS, dead(Reach.REFUSED, "refused"), ("TCP_REFUSED", CAUSE, ALL_CLIENTS)),
    (
        WSS,
        dead(Reach.REFUSED, "refused", loopback="127.0.0.1"),
        ("LISTENS_ON_LOOPBACK", CAUSE, ALL_CLIENTS),
    ),
    (WSS, dead(Reach.DROPPED, "no answer"), ("TCP_DROPPED", CAUSE, ALL_CLIENTS)),
    (WSS, dead(Reach.REJECTED, "No route to host"), ("TCP_REJECTED", CAUSE, ALL_CLIENTS)),
    (WSS, dead(Reach.FAILED, "x"), ("TCP_FAILED", Severity.UNDECIDED, ALL_CLIENTS)),
    (WSS, dead(Reach.NO_ROUTE, "no route"), ("NO_ROUTE", Severity.UNDECIDED, ALL_CLIENTS)),
    (
        "wss://a.example.com:8282/",
        dead(Reach.DROPPED, "no answer", address="104.16.0.1"),
        ("CDN_PORT", CAUSE, ALL_CLIENTS),
    ),
    (
        WSS,
        failed(HandshakeSeen(outcome=Tls.NOT_TLS, answer=b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("TLS_ON_PLAIN_PORT", CAUSE, ALL_CLIENTS),
    ),
    (WSS, failed(CLOSED, plain=NGINX), ("TLS_ON_PLAIN_PORT", CAUSE, ALL_CLIENTS)),
    (WSS, failed(alert(10), plain=NGINX), ("TLS_ON_PLAIN_PORT", CAUSE, ALL_CLIENTS)),
    (
        WSS,
        failed(HandshakeSeen(outcome=Tls.NOT_TLS, answer=b"SSH-2.0-x\r\n")),
        ("OTHER_PROTOCOL", CAUSE, ALL_CLIENTS),
    ),
    (WSS, failed(SILENT), ("SERVER_SILENT", CAUSE, ALL_CLIENTS)),
    (WSS, failed(replace(SILENT, received=1400)), ("TLS_STALLED", CAUSE, ALL_CLIENTS)),
    (WSS, failed(CLOSED), ("TLS_CLOSED", Severity.UNDECIDED, ALL_CLIENTS)),
    (
        WSS,
        failed(CLOSED, after_proxy_header=AGREED),
        ("PROXY_HEADER_EXPECTED", CAUSE, ALL_CLIENTS),
    ),
    (WSS, failed(CLOSED, without_name=AGREED), ("SNI_CUT", CAUSE, ALL_CLIENTS)),
    (WSS, failed(CLOSED, old=OLD), ("TLS_OLD", CAUSE, ALL_CLIENTS)),
    (WSS, failed(alert(70), old=OLD), ("TLS_OLD", CAUSE, ALL_CLIENTS)),
    (WSS, failed(alert(112)), ("SNI_UNKNOWN", CAUSE, ALL_CLIENTS)),
    (WSS, failed(alert(40), without_name=AGREED), ("SNI_UNKNOWN", CAUSE, ALL_CLIENTS)),
    (
        WSS,
        failed(alert(40), lenient=replace(AGREED, cipher="AES128-SHA")),
        ("TLS_CIPHERS", CAUSE, ALL_CLIENTS),
    ),
    (
        WSS,
        failed(alert(40), lenient=replace(AGREED, cipher="DHE-RSA-AES128-SHA")),
        ("TLS_CIPHERS", CAUSE, {Client.BROWSERS, Client.IOS, *_PHONES}),
    ),
    (WSS, failed(alert(40)), ("TLS_ALERT", Severity.UNDECIDED, ALL_CLIENTS)),
    (
        WSS,
        failed(HandshakeSeen(outcome=Tls.FAILED, reason="BAD_SIGNATURE")),
        ("TLS_FAILED", Severity.UNDECIDED, ALL_CLIENTS),
    ),
    (
        WSS,
        failed(alert(40, asks_client=True)),
        ("CLIENT_CERTIFICATE_REQUIRED", CAUSE, ALL_CLIENTS),
    ),
    (
        WSS,
        replace(OPEN, tls=replace(AGREED, asks_client=True, alert=116)),
        ("CLIENT_CERTIFICATE_REQUIRED", CAUSE, ALL_CLIENTS),
    ),
    (
        WSS,
        replace(OPEN, tls=replace(AGREED, asks_client=True), tls_12=alert(40, asks_client=True)),
        ("CLIENT_CERTIFICATE_REQUIRED", CAUSE, ALL_CLIENTS),
    ),
    (
        WSS,
        replace(OPEN, tls=replace(AGREED, asks_client=True)),
        ("CLIENT_CERTIFICATE_ASKED", WARNING, ALL_CLIENTS),
    ),
    (
        WSS,
        failed(alert(120), with_h2=replace(AGREED, alpn="h2")),
        ("ALPN_REFUSED", CAUSE, ALL_CLIENTS),
    ),
    (
        WSS,
        replace(OPEN, tls_12=alert(70), tls_13=AGREED),
        ("TLS_13_ONLY", CAUSE, {Client.JAVA, *_PHONES}),
    ),
    (WSS, replace(OPEN, inner=AGREED), ("TLS_TWICE", CAUSE, ALL_CLIENTS)),
    (WS, replace(PLAIN, tls=AGREED), ("PLAIN_ON_TLS_PORT", CAUSE, ALL_CLIENTS)),
    (
        WS,
        replace(PLAIN, plain=AnswerSeen(data=b"\x15\x03\x03\0\x02\x02\x0a")),
        ("PLAIN_ON_TLS_PORT", CAUSE, ALL_CLIENTS),
    ),
    (
        WS,
        replace(PLAIN, plain=AnswerSeen(end=End.CLOSED), after_proxy_header=NGINX),
        ("PROXY_HEADER_EXPECTED", CAUSE, ALL_CLIENTS),
    ),
    # Certificates.
    (
        WSS,
        shown(replace(LEAF, expires_at=NOW - 1), MIDDLE),
        ("CERTIFICATE_EXPIRED", CAUSE, ALL_CLIENTS),
    ),
    (
        WSS,
        shown(replace(LEAF, starts_at=NOW + 1), MIDDLE),
        ("CERTIFICATE_NOT_VALID_YET", CAUSE, ALL_CLIENTS),
    ),
    (
        WSS,
        shown(replace(LEAF, expires_at=NOW + DAY), MIDDLE),
        ("CERTIFICATE_EXPIRES_SOON", WARNING, set()),
    ),
    (
        WSS,
        replace(
            shown(replace(LEAF, expires_at=NOW - DAY), MIDDLE),
            inside=AnswerSeen(
                data=b"HTTP/1.1 200 OK\r\nDate: Thu, 21 May 2026 00:00:00 GMT\r\n\r\n"
            ),
        ),
        ("CLOCK_DIFFERS", CAUSE, ALL_CLIENTS),
    ),
    (
        "wss://other.example.com/",
        shown(LEAF, MIDDLE),
        ("CERTIFICATE_NAME", CAUSE, ALL_CLIENTS),
    ),
    (
        WSS,
        shown(replace(LEAF, names=()), MIDDLE),
        ("CERTIFICATE_WITHOUT_NAMES", CAUSE, {Client.BROWSERS, Client.IOS, *_PHONES}),
    ),
    (
        WSS,
        shown(replace(LEAF, issuers=(0,), is_public=False), trust=Trust()),
        ("CERTIFICATE_SELF_SIGNED", CAUSE, ALL_CLIENTS),
    ),
    (
        WSS,
        shown(replace(LEAF, is_public=False), replace(MIDDLE, issuers=(1,)), trust=Trust()),
        ("CERTIFICATE_PRIVATE", CAUSE, ALL_CLIENTS),
    ),
    (
        WSS,
        shown(replace(LEAF, key="Ed25519"), MIDDLE),
        ("CERTIFICATE_KEY", CAUSE, {Client.BROWSERS, Client.IOS, *_PHONES}),
    ),
    (
        WSS,
        shown(LEAF, replace(MIDDLE, digest="sha1")),
        ("CERTIFICATE_DIGEST", CAUSE, ALL_CLIENTS),
    ),
    (
        WSS,
        shown(replace(LEAF, is_for_servers=False), MIDDLE),
        ("CERTIFICATE_USAGE", CAUSE, ALL_CLIENTS),
    ),
    (
        WSS,
        shown(replace(LEAF, expires_at=NOW + 500 * DAY), MIDDLE),
        ("CERTIFICATE_LIFE", CAUSE, {Client.BROWSERS, Client.IOS}),
    ),
    (
        WSS,
        shown(
            replace(LEAF, expires_at=NOW + 900 * DAY, is_public=False),
            MIDDLE,
            trust=Trust(anchors=frozenset({1}), has_own_roots=True),
        ),
        ("CERTIFICATE_LIFE", CAUSE, {Client.IOS}),
    ),
    (
        WSS,
        shown(
            replace(LEAF, expires_at=NOW + 500 * DAY, is_public=False),
            MIDDLE,
            trust=Trust(anchors=frozenset({1}), has_own_roots=True),
        ),
        ("CERTIFICATE_LIFE", NOTE, set()),
    ),
    (
        WSS,
        shown(replace(LEAF, unreadable=("its policies",)), MIDDLE),
        ("CERTIFICATE_MALFORMED", WARNING, set()),
    ),
    (
        WSS,
        shown(LEAF, MIDDLE, refusal="invalid CA certificate"),
        ("CERTIFICATE_REFUSED", CAUSE, ALL_CLIENTS),
    ),
    (
        WSS,
        shown(replace(LEAF, issuers=()), trust=Trust()),
        ("CHAIN_INCOMPLETE", CAUSE, set(Client) - {Client.BROWSERS, Client.IOS}),
    ),
    (
        WSS,
        shown(replace(LEAF, issuers=(), has_issuer_url=False), trust=Trust()),
        ("CHAIN_INCOMPLETE", CAUSE, ALL_CLIENTS),
    ),
    (
        WSS,
        shown(LEAF, replace(MIDDLE, expires_at=NOW - 1)),
        ("CHAIN_EXPIRED", CAUSE, ALL_CLIENTS),
    ),
    (
        WSS,
        shown(
            LEAF,
            replace(MIDDLE, issuers=(2,)),
            replace(MIDDLE, subject="X1", expires_at=NOW - 1),
            trust=CHAIN.trust,
        ),
        ("CHAIN_EXPIRED", WARNING, ALL_CLIENTS),
    ),
    (WSS, shown(LEAF, MIDDLE, replace(MIDDLE, subject="Y")), ("CHAIN_FOREIGN", NOTE, set())),
    (
        WSS,
        shown(
            replace(LEAF, issuers=(2,)),
            replace(MIDDLE, subject="X1", issuers=()),
            replace(MIDDLE, issuers=(1,)),
            trust=Trust(anchors=frozenset({2}), is_public=True),
        ),
        ("CHAIN_ORDER", WARNING, set()),
    ),
    (
        WSS,
        shown(LEAF, replace(MIDDLE, issuers=(2,)), replace(MIDDLE, subject="X1", issuers=(2,))),
        ("CHAIN_ROOT", NOTE, set()),
    ),
]

NAMES: list[tuple[NetworkSeen, list[Expected]]] = [
    (
        NetworkSeen(
            lookups=(AAAA, replace(A, resolution=Resolution.NO_SUCH_NAME, addresses=())),
        ),
        [("NAME_WITHOUT_ADDRESS", CAUSE, ALL_CLIENTS)],
    ),
    (
        NetworkSeen(
            lookups=(
                replace(AAAA, resolution=Resolution.NO_SUCH_NAME),
                replace(A, resolution=Resolution.NO_SUCH_NAME, addresses=()),
            ),
        ),
        [("NAME_UNKNOWN", CAUSE, ALL_CLIENTS)],
    ),
    (
        NetworkSeen(
            lookups=(AAAA, replace(A, resolution=Resolution.TIMED_OUT, addresses=())),
        ),
        [("NAME_TIMEOUT", Severity.UNDECIDED, ALL_CLIENTS)],
    ),
    (
        NetworkSeen(lookups=(replace(AAAA, resolution=Resolution.TIMED_OUT), A), addresses=(OPEN,)),
        [("NAME_QUERY_UNANSWERED", WARNING, ALL_CLIENTS)],
    ),
    (
        NetworkSeen(lookups=(AAAA, A), addresses=(replace(OPEN, address="10.0.0.1"),)),
        [("ADDRESS_PRIVATE", NOTE, ALL_CLIENTS)],
    ),
    (
        NetworkSeen(lookups=(AAAA, A), addresses=(replace(OPEN, address="127.0.0.1"),)),
        [("ADDRESS_PRIVATE", WARNING, ALL_CLIENTS)],
    ),
    (
        NetworkSeen(
            lookups=(
                replace(AAAA, resolution=Resolution.FOUND),
                replace(A, resolution=Resolution.NO_ADDRESS),
            ),
            addresses=(replace(OPEN, address="2001:db8::1"),),
        ),
        [("IPV6_ONLY", WARNING, ALL_CLIENTS)],
    ),
    (
        NetworkSeen(lookups=(AAAA, A), addresses=(DROPPED_6, OPEN)),
        [("IPV6_DEAD", CAUSE, {Client.NODE, Client.PYTHON, *_PHONES})],
    ),
    (
        NetworkSeen(lookups=(AAAA, A), addresses=(replace(DROPPED_6, reach=Reach.REFUSED), OPEN)),
        [("IPV6_DEAD", CAUSE, {Client.NODE})],
    ),
    (
        NetworkSeen(
            lookups=(AAAA, A), addresses=(OPEN, dead(Reach.DROPPED, "x", address="192.0.2.2"))
        ),
        [("ADDRESS_DEAD", CAUSE, ALL_CLIENTS)],
    ),
    (
        NetworkSeen(lookups=(AAAA, A), addresses=(replace(DROPPED_6, reach=Reach.NO_ROUTE), OPEN)),
        [],
    ),
    (NetworkSeen(lookups=(AAAA, A), addresses=(OPEN,)), []),
    # The hosts file of this machine tells nothing of what other clients see.
    (
        NetworkSeen(
            lookups=(replace(AAAA, resolution=Resolution.TIMED_OUT), replace(A, is_local=True)),
            addresses=(replace(OPEN, address="127.0.0.1"),),
        ),
        [],
    ),
]


def brief(found: list[Finding]) -> list[Expected]:
    return [(one.code, one.severity, one.fails_for) for one in found]


@pytest.mark.parametrize(
    ("url", "seen", "expected"), ADDRESSES, ids=[one[2][0] for one in ADDRESSES]
)
def test_one_address(url: str, seen: AddressSeen, expected: Expected) -> None:
    assert brief(look(url, seen)) == [expected]


@pytest.mark.parametrize(("seen", "expected"), NAMES)
def test_names(seen: NetworkSeen, expected: list[Expected]) -> None:
    assert brief(judge(parse(WSS), Settings(), seen, now=NOW)) == expected


@pytest.mark.parametrize(
    "seen",
    [
        OPEN,
        replace(OPEN, tls_12=replace(AGREED, version="TLSv1.2"), tls_13=AGREED),
        replace(OPEN, tls_12=AGREED, tls_13=alert(70)),
        # An overloaded server is not one that refuses a version.
        replace(OPEN, tls_12=SILENT, tls_13=AGREED),
        replace(OPEN, tls_12=HandshakeSeen(outcome=Tls.NOT_CONNECTED), tls_13=AGREED),
        replace(OPEN, inside=AnswerSeen(end=End.CLOSED), inner=SILENT),
        replace(OPEN, default_chain=replace(CHAIN, fingerprint="other")),
    ],
)
def test_what_is_well(seen: AddressSeen) -> None:
    assert look(WSS, seen) == []


def test_every_code_is_judged() -> None:
    judged = {expected[0] for _, _, expected in ADDRESSES}
    judged |= {one[0] for _, expected in NAMES for one in expected}
    # Of URLs: test_url.py. CHAIN_WITHOUT_ISSUER is of files: a doctor knows whom clients trust.
    # CERTIFICATE_NOT_ISSUED is logged by a service that orders.
    others = {"URL_SPACES", "URL_FRAGMENT", "URL_USER_INFO", "PORT_BLOCKED", "URL_PLAIN"}
    others |= {"URL_ADDRESS", "CHAIN_WITHOUT_ISSUER", "CERTIFICATE_NOT_ISSUED"}

    declared = {one.code for one in (*network.DECLARATIONS, *certificates.DECLARATIONS)}
    assert declared - judged == others


def test_the_next_probes_go_on_behind_a_faulty_certificate() -> None:
    seen = NetworkSeen(
        addresses=(
            replace(OPEN, chain=replace(CHAIN, refusal="x")),
            failed(CLOSED),
            DROPPED_6,
            PLAIN,
        )
    )

    assert seen.usable == (
        Route(address="192.0.2.1", port=443, is_tls=True, server_name="a.example.com"),
        Route(address="127.0.0.1", port=8282, is_tls=False, server_name="a.example.com"),
    )


def test_localhost_listens_on_one_loopback_address() -> None:
    refused = dead(Reach.REFUSED, "refused", address="::1")
    seen = NetworkSeen(lookups=(A,), addresses=(refused, PLAIN))

    assert judge(parse("ws://localhost:8282/"), Settings(), seen, now=NOW) == []


def test_no_secret_of_the_url_is_in_a_finding() -> None:
    calls: list[Callable[[], list[Finding]]] = [
        lambda url=url, seen=seen: look(f"{url}?token=SECRET", seen)  # type: ignore[misc]
        for url, seen, _ in ADDRESSES
    ]
    texts = [f"{one} {one.evidence}" for call in calls for one in call()]

    assert [one for one in texts if "SECRET" in one] == []
