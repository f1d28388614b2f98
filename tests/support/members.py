"""Clients without a network: connections that a process's part of the hub can hold."""

from gateman.cluster.fanout import Member
from gateman.connection import Connection, State


class WayOut:
    """
    The way out to one client, which takes note of what goes there.

    Attributes:
        messages: What was written: 1 for text or 2 for binary, and the payload.
        is_direct: Never: so that messages come one by one.
    """

    def __init__(self) -> None:
        self.messages: list[tuple[int, bytes]] = []
        self.is_direct = False
        self._held: Member | None = None

    def hold(self, held: Member) -> bool:
        """Let it wait."""
        self._held = held
        return True

    def release(self) -> bool:
        """Take note of what has waited."""
        held, self._held = self._held, None
        if held is None:
            return False
        self.messages += held.take_messages()
        return True

    def send(self, opcode: int, payload: bytes) -> None:
        """Take note of what goes out at once."""
        self.messages.append((opcode, payload))


class Engine:
    """
    What is below a connection.

    Attributes:
        outbox: The way out.
        closed: With which codes and reasons it was closed.
    """

    def __init__(self) -> None:
        self.outbox = WayOut()
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

    def unsent_size(self) -> int:
        """Tell that nothing waits."""
        return 0

    async def drain(self) -> None:
        """Wait for nothing."""


def connection(number: int, engine: Engine, state: State = State.OPEN) -> Connection:
    """
    Make a connection.

    Args:
        number: Its id.
        engine: What is below it.
        state: Where it is in its life.

    Returns:
        The connection.
    """
    peer = ("127.0.0.1", 50000)
    made = Connection(
        number, None, engine, peer=peer, remote=peer, local_address="", is_secure=False
    )
    made.state = state
    return made
