"""What a gateway's dispatch decides; the shell around it does it. PURE."""

from dataclasses import dataclass

from ..cluster.names import ClientId, NodeId
from .parcels import Answer, AnyEvent, Parcel


@dataclass(frozen=True, slots=True)
class Send:
    """Send a parcel to a process; to all if there is none."""

    node: NodeId | None
    parcel: Parcel


@dataclass(frozen=True, slots=True)
class Resume:
    """Read from a client again; that it is not to be read from is told at once."""

    client: ClientId


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a handshake."""

    client: ClientId
    answer: Answer


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep what a handler made of a client's session."""

    client: ClientId
    session: bytes


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask the bus whether a process is still there, and tell :meth:`Dispatch.probed`."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class SetAside:
    """Say that an event is not handled, because it has killed two processes."""

    client: ClientId
    event: AnyEvent


@dataclass(frozen=True, slots=True)
class Say:
    """Write a line to the log."""

    level: str
    text: str


Action = Send | Resume | Reply | Keep | Probe | SetAside | Say
