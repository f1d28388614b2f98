"""What the probes of the network saw. PURE."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from ...tls.certificate_chain import Chain
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
    evidence: str = ""
    duration: float = 0.0


class Reach(Enum):
    """What became of one TCP connection."""

    OPEN = "open"
    REFUSED = "refused"
    """A reset in answer: nothing listens, or a firewall rejects like that."""
    DROPPED = "dropped"
    """No answer in time."""
    REJECTED = "rejected"
    """An ICMP message: a firewall's, or a router's that knows no way."""
    NO_ROUTE = "no route"
    """This machine itself has no way to such addresses."""
    FAILED = "failed"


class Tls(Enum):
    """What became of one TLS handshake."""

    AGREED = "agreed"
    ALERT = "alert"
    """The server refused, with an alert."""
    NOT_TLS = "not TLS"
    """The server answered with something else."""
    CLOSED = "closed"
    RESET = "reset"
    TIMED_OUT = "no answer in time"
    FAILED = "failed"
    """This side refused what the server offered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HandshakeSeen:
    """
    One TLS handshake.

    Attributes:
        reason: OpenSSL's name of the failure, such as ``"TLSV1_ALERT_PROTOCOL_VERSION"``.
        version: Such as ``"TLSv1.3"``.
        alpn: What the server selected; empty for nothing.
        chain: The certificates that the server showed; its own first.
        asks_client: Whether it asked for the client's certificate.
    """

    outcome: Tls
    reason: str = ""
    version: str = ""
    cipher: str = ""
    alpn: str = ""
    chain: Chain = ()
    asks_client: bool = False
    duration: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class AddressSeen:
    """One address of the name: TCP, then TLS in several ways, or what the port speaks instead."""

    address: str
    port: int
    reach: Reach
    evidence: str = ""
    duration: float = 0.0
    tls: HandshakeSeen | None = None
    server_name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkSeen:
    """What all probes of the network saw."""

    lookups: tuple[LookupSeen, ...] = ()
    addresses: tuple[AddressSeen, ...] = ()
    duration: float = 0.0

    @property
    def usable(self) -> tuple[Route, ...]:
        """The ways on which the next probes can send HTTP; the client's preference first."""
        return tuple(
            Route(
                address=one.address,
                port=one.port,
                is_tls=one.tls is not None,
                server_name=one.server_name,
            )
            for one in self.addresses
            if one.reach is Reach.OPEN and (one.tls is None or one.tls.outcome is Tls.AGREED)
        )
