"""What probes saw of a healthy server, to be changed by each test."""

from dataclasses import replace
from typing import Any

from gateman.doctor.network.judgement import judge
from gateman.doctor.network.observations import (
    AddressSeen,
    AnswerSeen,
    ChainSeen,
    HandshakeSeen,
    LookupSeen,
    NetworkSeen,
    Reach,
    Resolution,
    Tls,
)
from gateman.doctor.network.url import parse
from gateman.doctor.target import Settings
from gateman.findings import Finding
from gateman.tls.certificate_chain import CertificateFacts
from gateman.tls.certificate_findings import Trust

NOW = 1_780_000_000.0
DAY = 86_400.0
WSS, WS = "wss://a.example.com/chat", "ws://a.test:8282/"

LEAF = CertificateFacts(
    subject="a.example.com",
    issuer="R11",
    starts_at=NOW - 30 * DAY,
    expires_at=NOW + 60 * DAY,
    names=("a.example.com", "*.b.example.com"),
    is_public=True,
    has_issuer_url=True,
    issuers=(1,),
)
MIDDLE = replace(LEAF, subject="R11", issuer="X1", names=(), is_public=False, issuers=())
CHAIN = ChainSeen(
    chain=(LEAF, MIDDLE), trust=Trust(anchors=frozenset({1}), is_public=True), fingerprint="a"
)

AGREED = HandshakeSeen(outcome=Tls.AGREED, version="TLSv1.3", cipher="TLS_AES_128_GCM_SHA256")
OLD = replace(AGREED, version="TLSv1.1")
NGINX = AnswerSeen(data=b"HTTP/1.1 426 x\r\nServer: nginx\r\n\r\n")
OPEN = AddressSeen(
    address="192.0.2.1",
    port=443,
    reach=Reach.OPEN,
    server_name="a.example.com",
    is_usable=True,
    tls=AGREED,
    chain=CHAIN,
    inside=NGINX,
)
PLAIN = replace(OPEN, address="127.0.0.1", port=8282, tls=None, chain=None, inside=None)
A = LookupSeen(family="A", resolution=Resolution.FOUND, addresses=("192.0.2.1",))
AAAA = LookupSeen(family="AAAA", resolution=Resolution.NO_ADDRESS)


def alert(number: int, **more: Any) -> HandshakeSeen:
    return HandshakeSeen(outcome=Tls.ALERT, alert=number, **more)


def failed(tls: HandshakeSeen, **more: Any) -> AddressSeen:
    return replace(OPEN, tls=tls, chain=None, inside=None, is_usable=False, **more)


def dead(reach: Reach, evidence: str, **more: Any) -> AddressSeen:
    return AddressSeen(
        address=more.pop("address", "192.0.2.1"), port=443, reach=reach, evidence=evidence, **more
    )


def shown(*chain: CertificateFacts, trust: Trust = CHAIN.trust, **more: Any) -> AddressSeen:
    return replace(OPEN, chain=ChainSeen(chain=chain, trust=trust, fingerprint="b", **more))


CLOSED = HandshakeSeen(outcome=Tls.CLOSED)
SILENT = HandshakeSeen(outcome=Tls.TIMED_OUT)
DROPPED_6 = dead(Reach.DROPPED, "no answer in 3.0 s", address="2001:db8::1")


def look(url: str, *addresses: AddressSeen) -> list[Finding]:
    seen = NetworkSeen(addresses=addresses)
    return judge(parse(url), Settings(address="192.0.2.1"), seen, now=NOW)
