"""The decisions of a gateway's dispatch, which the gateway service carries out. PURE."""

from dataclasses import dataclass

from ..cluster.names import ClientId, NodeId
from .protocol import AnyEvent, HandshakeAnswer, Packet


@dataclass(frozen=True, slots=True)
class Send:
    """Send a packet to a business process; to all of them if ``node`` is ``None``."""

    node: NodeId | None
    packet: Packet


@dataclass(frozen=True, slots=True)
class Resume:
    """Read from a client again. There is no Pause: ``GatewayClient.is_paused`` is set at once."""

    client: ClientId


@dataclass(frozen=True, slots=True)
class Reply:
    client: ClientId
    answer: HandshakeAnswer


@dataclass(frozen=True, slots=True)
class StoreSession:
    """Store the session that a handler has changed."""

    client: ClientId
    session: bytes


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask the bus whether a process is connected; the answer goes to :meth:`Dispatch.probed`."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Log and count an event that is not handled because it has killed two processes."""

    client: ClientId
    event: AnyEvent


@dataclass(frozen=True, slots=True)
class Log:
    level: str
    text: str


DispatchAction = Send | Resume | Reply | StoreSession | Probe | Quarantine | Log
