"""What the probes of the network saw. PURE."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from ...tls.certificate_chain import Chain
from ...tls.certificate_findings import Trust
from ..target import Route

Family = Literal["A", "AAAA"]


class Resolution(Enum):
    """What became of one question to the resolver."""

    FOUND = "found"
    NO_SUCH_NAME = "no such name"
    NO_ADDRESS = "no address of this kind"
    TIMED_OUT = "no answer in time"
    FAILED = "the resolver failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class LookupSeen:
    """One question to the resolver; ``addresses`` are in its order."""

    family: Family
    resolution: Resolution
    addresses: tuple[str, ...] = ()
    # Whether this machine's hosts file has the name, so that the DNS was not asked.
    is_local: bool = False
    evidence: str = ""
    duration: float = 0.0


class Reach(Enum):
    """What became of one TCP connection."""

    OPEN = "open"
    REFUSED = "refused"
    """A reset in answer: nothing listens, or a firewall rejects like that."""
    DROPPED = "no answer"
    """No answer in time."""
    REJECTED = "rejected"
    """An ICMP message: a firewall's, or a router's that knows no way."""
    NO_ROUTE = "no route"
    """This machine itself has no way to such addresses."""
    FAILED = "failed"


class End(Enum):
    """How an answer ended."""

    OPEN = "open"
    """Enough was read, or nothing more came."""
    CLOSED = "closed"
    RESET = "reset"


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerSeen:
    """The first bytes of what a server says, to a request or by itself."""

    data: bytes = b""
    end: End = End.OPEN
    duration: float = 0.0


class Tls(Enum):
    """What became of one TLS handshake."""

    AGREED = "agreed"
    ALERT = "alert"
    """The server refused, with an alert."""
    NOT_TLS = "not TLS"
    """The server answered with something else."""
    CLOSED = "closed"
    RESET = "reset"
    TIMED_OUT = "no answer"
    FAILED = "failed"
    """This side refused what the server offered."""
    NOT_CONNECTED = "not connected"
    """TCP did not open again."""


SILENT = frozenset({Tls.CLOSED, Tls.RESET, Tls.TIMED_OUT})
"""The server says not one byte of TLS."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HandshakeSeen:
    """One TLS handshake."""

    outcome: Tls
    reason: str = ""  # OpenSSL's name of the failure, such as ``"UNSUPPORTED_PROTOCOL"``
    # The alert of the server (RFC 8446, section 6), also after the handshake.
    alert: int | None = None
    version: str = ""  # such as ``"TLSv1.3"``
    cipher: str = ""
    alpn: str = ""  # what the server selected; empty for nothing
    # DER, as the server showed them; its own first.
    certificates: tuple[bytes, ...] = field(default=(), repr=False)
    asks_client: bool = False  # whether it asked for the client's certificate
    answer: bytes = b""  # the first bytes of what is not TLS
    received: int = 0  # how many bytes came, up to 2048
    duration: float = 0.0

    @property
    def is_agreed(self) -> bool:
        return self.outcome is Tls.AGREED


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainSeen:
    """The certificates of a server, and whether clients trust them."""

    chain: Chain
    trust: Trust = Trust()  # noqa: RUF009 - it is frozen
    fingerprint: str = ""  # SHA-256 of all of them; tells chains apart
    refusal: str = ""  # why OpenSSL does not verify them; empty if it does, or was not asked


@dataclass(frozen=True, kw_only=True, slots=True)
class AddressSeen:
    """One address of the name: TCP, then TLS in several ways, or what the port speaks instead."""

    address: str
    port: int
    reach: Reach
    evidence: str = ""
    duration: float = 0.0
    server_name: str | None = None
    # The loopback address on which the port is open, if it is refused on this one and this one
    # belongs to the same machine.
    loopback: str = ""
    is_usable: bool = False  # whether the next probes can send HTTP
    # The handshake that clients make; for ws://, one that is made if plain HTTP fails.
    tls: HandshakeSeen | None = None
    chain: ChainSeen | None = None
    default_chain: ChainSeen | None = None
    inside: AnswerSeen | None = None  # the answer to plain HTTP inside that TLS
    inner: HandshakeSeen | None = None  # a second handshake inside the first
    tls_12: HandshakeSeen | None = None  # one that offers nothing newer; ``tls_13`` nothing older
    tls_13: HandshakeSeen | None = None
    old: HandshakeSeen | None = None  # one that offers versions below 1.2 only, and all ciphers
    lenient: HandshakeSeen | None = None  # one that offers all ciphers, from 1.2 on
    without_name: HandshakeSeen | None = None  # one without SNI
    without_alpn: HandshakeSeen | None = None  # one without ALPN, and ``with_h2`` with h2 only
    with_h2: HandshakeSeen | None = None
    plain: AnswerSeen | None = None  # the answer to plain HTTP
    # The handshake, or for ws:// the answer to HTTP, after a PROXY header.
    after_proxy_header: HandshakeSeen | AnswerSeen | None = None

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.address


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkSeen:
    """What all probes of the network saw."""

    lookups: tuple[LookupSeen, ...] = ()
    addresses: tuple[AddressSeen, ...] = ()
    untried: tuple[str, ...] = ()  # addresses beyond those that are looked at
    duration: float = 0.0
    looked_at: float = 0.0  # wall-clock seconds since 1970

    @property
    def usable(self) -> tuple[Route, ...]:
        """The ways on which the next probes can send HTTP."""
        return tuple(
            Route(
                address=one.address,
                port=one.port,
                is_tls=one.tls is not None and one.tls.is_agreed,
                server_name=one.server_name,
            )
            for one in self.addresses
            if one.is_usable
        )
