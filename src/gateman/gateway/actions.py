"""What a gateway's dispatch decides; the shell around it does it. PURE."""

from dataclasses import dataclass

from ..cluster.names import ClientId, NodeId
from .protocol import AnyEvent, HandshakeAnswer, Packet


@dataclass(frozen=True, slots=True)
class Send:
    """Send a parcel to a process; to all if there is none."""

    node: NodeId | None
    packet: Packet


@dataclass(frozen=True, slots=True)
class Resume:
    """Read from a client again; that it is not to be read from is told at once."""

    client: ClientId


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a handshake."""

    client: ClientId
    answer: HandshakeAnswer


@dataclass(frozen=True, slots=True)
class StoreSession:
    """Keep what a handler made of a client's session."""

    client: ClientId
    session: bytes


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask the bus whether a process is still there, and tell :meth:`Dispatch.probed`."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Say that an event is not handled, because it has killed two processes."""

    client: ClientId
    event: AnyEvent


@dataclass(frozen=True, slots=True)
class Log:
    """Write a line to the log."""

    level: str
    text: str


DispatchAction = Send | Resume | Reply | StoreSession | Probe | Quarantine | Log
