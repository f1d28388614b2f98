"""Clients without a network: connections that a process's part of the hub can hold."""

from gateman.cluster.fanout import Key
from gateman.connection import Connection, State
from gateman.connection_interfaces import SendResult
from gateman.websocket.encoding import as_payload


class FakeSendBuffer:
    """
    The way out to one client, which takes note of what goes there.

    Attributes:
        connection: Whose; known once it is made.
        messages: What was written: 1 for text or 2 for binary, and the payload.
        takes_frames: Never: so that messages come one by one.
        key: None that is shared.
    """

    connection: Connection
    has_channels = False
    as_payload = staticmethod(as_payload)

    def __init__(self) -> None:
        self.messages: list[tuple[int, bytes]] = []
        self.is_closed = False
        self.dropped = 0
        self.takes_frames = False
        self.key: Key | None = None

    def carries(self, _kind: int) -> bool:
        """Take every kind of message."""
        return True

    def encode(self, opcode: int, payload: bytes) -> bytes:
        """Make no frame: nobody asks for one."""
        raise NotImplementedError

    def write_frames(self, frames: bytes) -> None:
        """Write none: there are none."""
        raise NotImplementedError

    def send(self, opcode: int, payload: str | bytes) -> SendResult:
        """Take note of what goes out."""
        self.messages.append((opcode, payload.encode() if isinstance(payload, str) else payload))
        return SendResult.SENT

    @property
    def is_direct(self) -> bool:
        """Tell that the client reads."""
        return True

    @property
    def unsent_size(self) -> int:
        """Tell that nothing waits."""
        return 0

    async def drain(self) -> None:
        """Wait for nothing."""

    def detach(self) -> None:
        """Keep the connection: tests look at it."""


class FakeLink:
    """
    What is below a connection.

    Attributes:
        send_buffer: Its send buffer.
        closed: With which codes and reasons it was closed.
    """

    def __init__(self) -> None:
        self.send_buffer = FakeSendBuffer()
        self.closed: list[tuple[int, str]] = []

    def close(self, code: int, reason: str) -> None:
        """Take note of it."""
        self.closed.append((code, reason))

    def abort(self, code: int, reason: str) -> None:
        """Take note of it."""
        self.closed.append((code, reason))

    def pause(self, reason: int) -> None:
        """Nothing comes from here."""

    def resume(self, reason: int) -> None:
        """Nothing comes from here."""

    message_count = 0
    socket = None


def connection(number: int, link: FakeLink, state: State = State.OPEN) -> Connection:
    """
    Make a connection.

    Args:
        number: Its id.
        link: What is below it.
        state: Where it is in its life.

    Returns:
        The connection.
    """
    peer = ("127.0.0.1", 50000)
    made = Connection(
        number,
        None,
        link,
        link.send_buffer,
        peer=peer,
        remote=peer,
        local_address="",
        is_secure=False,
    )
    made.state = state
    return made
