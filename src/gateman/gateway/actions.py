"""The decisions of a gateway's dispatch, which the gateway service carries out. PURE."""

from msgspec import Struct

from ..cluster.names import ClientId, NodeId
from .protocol import AnyEvent, HandshakeAnswer, Packet


class Send(Struct, frozen=True):
    """Send a packet to a business process; to all of them if ``node`` is ``None``."""

    node: NodeId | None
    packet: Packet


class Resume(Struct, frozen=True):
    """Read from a client again. There is no Pause: ``GatewayClient.is_paused`` is set at once."""

    client: ClientId


class Reply(Struct, frozen=True):
    client: ClientId
    answer: HandshakeAnswer


class ReplyToCommand(Struct, frozen=True):
    client: ClientId
    reply: bytes  # of `commands`


class StoreSession(Struct, frozen=True):
    """Store the session that a handler has changed."""

    client: ClientId
    session: bytes


class Probe(Struct, frozen=True):
    """Ask the bus whether a process is connected; the answer goes to :meth:`Dispatch.probed`."""

    node: NodeId


class Quarantine(Struct, frozen=True):
    """Log and count an event that is not handled because it has killed two processes."""

    client: ClientId
    event: AnyEvent


class Log(Struct, frozen=True):
    level: str
    text: str


DispatchAction = Send | Resume | Reply | ReplyToCommand | StoreSession | Probe | Quarantine | Log
