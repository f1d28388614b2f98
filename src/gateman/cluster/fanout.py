"""
One message to many: encoded once, and written once per member and turn of the event loop.

    send(members, a)  ─►  run: a b c      every member reads along in one run at a time, and what
    send(members, b)        ▲ ▲ ▲         it is to get is what lies between two places of it:
    send(others, x)         │ │ └─ Ann's place
    send(members, c)        │ └─── Bob's: was sent x in between, so he gets [a b] [x] [c]
                            └───── Eve's: excluded from b, so she gets [a] [c]

Messages to the same members, which are the same tuple, go into one run. Nothing is done for a
member while they do; only to send it something else costs a step. So a turn in which a thousand
clients write to all costs a thousand small steps and a thousand writes of the same bytes, and
not a million of either (``bench/fanout.py``).

While it reads along, a member gets its direct messages too, so that everything comes out in the
order in which it was sent. Slow members are no concern of this module: their outbox takes what
is theirs by its own rules, message by message.
"""

from collections.abc import Callable, Collection
from typing import Protocol

from ..connection import Connection
from ..net.outbox import MAX_HELD_SIZE

Key = tuple[int, ...]
"""Equal for all members whose frames are equal."""

Encode = Callable[[int, bytes], bytes]
"""Makes a frame of an opcode and a payload."""

_HEADER_SIZE = 10  # bytes; the largest of a server's frames


class Outbox(Protocol):
    """The way out to one client: :class:`gateman.net.outbox.Outbox`."""

    @property
    def is_direct(self) -> bool:
        """Whether the client has taken everything so far."""

    def hold(self, held: "Member") -> bool:
        """Let messages wait until :meth:`release`; ``False`` if the client is not open."""

    def release(self) -> bool:
        """Send what is held; ``False`` if nothing is."""

    def send(self, opcode: int, payload: bytes) -> None:
        """Send at once."""


class Fanout:
    """Collects what is to be sent in this turn of the loop."""

    __slots__ = ("_call_soon", "_held", "_is_due", "_runs", "_size")

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        """
        Begin with nothing to send.

        Args:
            call_soon: The event loop's.
        """
        self._call_soon = call_soon
        self._is_due = False
        # By the identity of the tuple of members, which the run keeps alive.
        self._runs: dict[int, _Run] = {}
        self._held: list[Member] = []
        self._size = 0

    def send(
        self,
        members: tuple["Member", ...],
        opcode: int,
        payload: bytes,
        exclude: Collection["Member"] = (),
    ) -> None:
        """
        Send a message to many, at the end of this turn of the loop.

        Args:
            members: To whom; each once. For one set of members pass the same tuple each time.
            opcode: 1 for text, 2 for binary.
            payload: The message.
            exclude: Who does not get it.

        Cost:
            One step for each member with the first message of a turn, and for each that was
            sent something else since the last; otherwise none.
        """
        if len(members) == 1:
            if members[0] not in exclude:
                members[0].put(opcode, payload)
            return
        run = self._runs.get(id(members))
        if run is None:
            run = self._runs[id(members)] = _Run(members)
            self._schedule()
        if run.absent:
            absent, run.absent = run.absent, []
            for member in absent:
                member.enter(run)
        place = len(run.messages)
        run.messages.append((opcode, payload))
        for member in exclude:
            member.skip(run, place)
        self.grow(len(payload))

    def flush(self) -> None:
        """Write everything now."""
        self._is_due = False
        self._size = 0
        # What is sent from within, because somebody's buffer is full, goes into new runs: those
        # who have been served get it with the next turn, the others with this.
        self._runs.clear()
        held, self._held = self._held, []
        for member in held:
            if not member.outbox.release():
                # It was closed meanwhile, and its outbox has forgotten it.
                member.end()

    def _schedule(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._call_soon(self.flush)

    # What members tell.

    def keep(self, member: "Member") -> None:
        """Take note of a member that is held until the end of the turn."""
        self._held.append(member)
        self._schedule()

    def grow(self, size: int) -> None:
        """Count a message that is kept, and write everything if that is too much."""
        self._size += size + _HEADER_SIZE
        if self._size > MAX_HELD_SIZE:
            self.flush()


class _Messages:
    """Messages in order, and the frames that they make."""

    __slots__ = ("_joined", "messages")

    def __init__(self) -> None:
        self.messages: list[tuple[int, bytes]] = []
        # By key: the frames joined, and where each of them begins.
        self._joined: dict[Key, tuple[bytes, list[int]]] = {}

    def frames(self, start: int, end: int, key: Key | None, encode: Encode) -> bytes:
        if key is None:
            return b"".join([encode(*message) for message in self.messages[start:end]])
        joined, places = self._joined.get(key, (b"", ()))
        if len(places) != len(self.messages) + 1:
            joined, places = self._join(key, encode)
        # The whole is the same object for everybody.
        return joined[places[start] : places[end]]

    def _join(self, key: Key, encode: Encode) -> tuple[bytes, list[int]]:
        frames = [encode(*message) for message in self.messages]
        places = [0]
        for frame in frames:
            places.append(places[-1] + len(frame))
        self._joined[key] = made = b"".join(frames), places
        return made


class _Run(_Messages):
    """Messages of this turn to one set of members."""

    __slots__ = ("absent", "members")

    def __init__(self, members: tuple["Member", ...]) -> None:
        super().__init__()
        # Not only to be read: while it is here, nothing else has its identity.
        self.members = members
        # Who does not read along: to be fetched before the next message.
        self.absent = list(members)


class Member:
    """
    A client, for those who send to many; what the outbox holds in a turn in which somebody does.

    Kept for as long as the client is connected: one made for each turn would be what most of the
    time of a broadcast goes to, by way of the garbage collector (``bench/fanout.py``).

    Attributes:
        connection: The client.
        outbox: The way out to it.
        is_held: Whether something is kept for it until the end of this turn.
    """

    __slots__ = (
        "_alone",
        "_fanout",
        "_pieces",
        "_run",
        "_start",
        "connection",
        "is_held",
        "outbox",
    )

    def __init__(self, fanout: Fanout, connection: Connection, outbox: Outbox) -> None:
        """
        Make a client somebody to send to.

        Args:
            fanout: What is sent with.
            connection: The client.
            outbox: The way out to it.
        """
        self.connection = connection
        self.outbox = outbox
        self._fanout = fanout
        self.is_held = False
        self._run: _Run | None = None
        self._start = 0
        # What there is beside the run: most turns have nothing.
        self._pieces: list[tuple[_Messages, int, int]] | None = None
        self._alone: _Messages | None = None

    # What the fan-out calls.

    def enter(self, run: _Run) -> None:
        """Read along in a run from here on."""
        if self.is_held:
            self._leave()
        elif not self._hold():
            return
        self._run = run
        self._start = len(run.messages)

    def skip(self, run: _Run, place: int) -> None:
        """Leave out the message that has just been put into a run, if it is this one's."""
        if self._run is run:
            self._cut(run, place)
            self._start = place + 1

    def put(self, opcode: int, payload: bytes) -> None:
        """Put a message for this member alone behind the others."""
        if not self.is_held and not self._hold():
            return
        if self._run is not None:
            self._cut(self._run, len(self._run.messages))
        if self._alone is None:
            self._alone = _Messages()
        place = len(self._alone.messages)
        self._alone.messages.append((opcode, payload))
        self._add_piece(self._alone, place, place + 1)
        self._fanout.grow(len(payload))

    # What the outbox calls.

    def __call__(self, opcode: int, payload: str | bytes) -> None:
        """Take a message that the application sends to this client, behind the others."""
        data = payload.encode() if isinstance(payload, str) else payload
        if self.outbox.is_direct:
            self.put(opcode, data)
        else:
            # The client reads slowly: who sends is told at once what became of the message.
            self.outbox.release()
            self.outbox.send(opcode, data)

    def take(self, key: Key | None, encode: Encode) -> bytes:
        """Give all as frames, joined; those of an equal key, but ``None``, may be shared."""
        run, start = self._run, self._start
        if run is not None and self._pieces is None:
            # What most are: nothing was sent to this one that was not sent to the others.
            self._run = None
            self.is_held = False
            run.absent.append(self)
            return run.frames(start, len(run.messages), key, encode)
        pieces = self.end()
        return b"".join([part.frames(start, end, key, encode) for part, start, end in pieces])

    def take_messages(self) -> list[tuple[int, bytes]]:
        """Give all as opcodes and payloads."""
        return [message for part, start, end in self.end() for message in part.messages[start:end]]

    def end(self) -> list[tuple[_Messages, int, int]]:
        """Be held no more; returns what there was."""
        self._leave()
        pieces, self._pieces = self._pieces or [], None
        self._alone = None
        self.is_held = False
        return pieces

    # Where it is.

    def _hold(self) -> bool:
        if not self.outbox.hold(self):
            return False
        self.is_held = True
        self._fanout.keep(self)
        return True

    def _leave(self) -> None:
        run = self._run
        if run is not None:
            self._cut(run, len(run.messages))
            run.absent.append(self)
            self._run = None

    def _cut(self, run: _Run, end: int) -> None:
        if end > self._start:
            self._add_piece(run, self._start, end)
            self._start = end

    def _add_piece(self, part: _Messages, start: int, end: int) -> None:
        if self._pieces is None:
            self._pieces = []
        self._pieces.append((part, start, end))
