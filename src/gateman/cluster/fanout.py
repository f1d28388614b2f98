"""
One message to many: encoded once, and written once per member and turn of the event loop.

    send(members, a)  ─►  run: a b c      every member reads along in one run at a time:
    send(members, b)        ▲ ▲ ▲         a share of it is what lies between two places
    send(others, x)         │ │ └─ Ann's place
    send(members, c)        │ └─── Bob's: was sent x in between, so he has [a b] [x] [c]
                            └───── Eve's: excluded from b, so she has [a] [c]

Messages to the same members, which are the same tuple, go into one run. Nothing is done for a
member while they do; only to send it something else costs a step. So a turn in which a thousand
clients write to all costs a thousand small steps and a thousand writes of the same bytes, and
not a million of either (``bench/fanout.py``).

A member whose share is open gets its direct messages put into it: everything comes out in the
order in which it was sent. Slow members are no concern of this module: their outbox takes what
is theirs by its own rules, message by message.
"""

from collections.abc import Callable, Collection
from typing import Protocol

Key = tuple[int, ...]
"""Equal for all members whose frames are equal."""

Encode = Callable[[int, bytes], bytes]
"""Makes a frame of an opcode and a payload."""

# bytes of payload; then the turn is not waited for. Under the default of
# limits.max_send_buffer_size, so that a quick member loses nothing of it.
_MAX_SIZE = 256 << 10


class Member(Protocol):
    """The way out to one client; :class:`~gateman.net.outbox.Outbox` is one."""

    @property
    def is_direct(self) -> bool:
        """Whether the client has taken everything so far."""

    def hold(self, held: "_Share") -> bool:
        """Let messages wait until :meth:`release`; ``False`` if the client is not open."""

    def release(self) -> None:
        """Send what is held."""

    def send(self, opcode: int, payload: bytes) -> None:
        """Send at once."""


class Fanout:
    """Collects what is to be sent in this turn of the loop."""

    __slots__ = ("_call_soon", "_is_due", "_runs", "_shares", "_size")

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
        self._shares: dict[Member, _Share] = {}
        self._size = 0

    def send(
        self,
        members: tuple[Member, ...],
        opcode: int,
        payload: bytes,
        exclude: Collection[Member] = (),
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
            if members[0] not in exclude and (share := self._share(members[0])) is not None:
                share.put(opcode, payload)
            return
        run = self._runs.get(id(members))
        if run is None:
            run = self._runs[id(members)] = _Run(members)
            self._schedule()
        if run.absent:
            absent, run.absent = run.absent, []
            for member in absent:
                if (share := self._share(member)) is not None:
                    share.enter(run)
        place = len(run.messages)
        run.messages.append((opcode, payload))
        for member in exclude:
            share = self._shares.get(member)
            if share is not None and share.run is run:
                share.skip(place)
        self.grow(len(payload))

    def flush(self) -> None:
        """Write everything now."""
        self._is_due = False
        self._size = 0
        # What is sent from within, because somebody's buffer is full, goes into new runs: those
        # who have been served get it with the next turn, the others with this.
        self._runs.clear()
        for member, share in list(self._shares.items()):
            member.release()
            # Still there if the member was closed.
            if self._shares.get(member) is share:
                del self._shares[member]

    def _share(self, member: Member) -> "_Share | None":
        share = self._shares.get(member)
        if share is None:
            share = _Share(self, member)
            if not member.hold(share):
                return None
            self._shares[member] = share
            self._schedule()
        return share

    def _schedule(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._call_soon(self.flush)

    # What shares tell.

    def grow(self, size: int) -> None:
        """Count what is kept, and write everything if that is too much."""
        self._size += size
        if self._size > _MAX_SIZE:
            self.flush()

    def ended(self, member: Member) -> None:
        """Forget the share of a member that was released."""
        self._shares.pop(member, None)


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
        joined, places = self._joined.get(key, (b"", []))
        if len(places) != len(self.messages) + 1:
            frames = [encode(*message) for message in self.messages]
            joined, places = b"".join(frames), [0]
            for frame in frames:
                places.append(places[-1] + len(frame))
            self._joined[key] = joined, places
        # The whole is the same object for everybody.
        return joined[places[start] : places[end]]


class _Run(_Messages):
    """Messages of this turn to one set of members."""

    __slots__ = ("absent", "members")

    def __init__(self, members: tuple[Member, ...]) -> None:
        super().__init__()
        # Not only to be read: while it is here, nothing else has its identity.
        self.members = members
        # Who does not read along: to be fetched before the next message.
        self.absent = list(members)


class _Share:
    """What one member gets in this turn; see :class:`~gateman.net.outbox.Held`."""

    __slots__ = ("_alone", "_fanout", "_member", "_pieces", "_start", "run")

    def __init__(self, fanout: Fanout, member: Member) -> None:
        self._fanout = fanout
        self._member = member
        self._pieces: list[tuple[_Messages, int, int]] = []
        self._alone: _Messages | None = None
        self.run: _Run | None = None
        self._start = 0

    def __call__(self, opcode: int, payload: str | bytes) -> None:
        data = payload.encode() if isinstance(payload, str) else payload
        if self._member.is_direct:
            self.put(opcode, data)
        else:
            # The client reads slowly: who sends is told at once what became of the message.
            self._member.release()
            self._member.send(opcode, data)

    def put(self, opcode: int, payload: bytes) -> None:
        """Put a message for this member alone behind the others."""
        self._close_piece()
        if self._alone is None:
            self._alone = _Messages()
        place = len(self._alone.messages)
        self._alone.messages.append((opcode, payload))
        self._pieces.append((self._alone, place, place + 1))
        self._fanout.grow(len(payload))

    def enter(self, run: _Run) -> None:
        """Read along in another run from here on."""
        self._leave()
        self.run = run
        self._start = len(run.messages)

    def skip(self, place: int) -> None:
        """Leave out the message that has just been put into the run."""
        self._close_piece(place)
        self._start = place + 1

    def end(self) -> None:
        """Take nothing any more."""
        self._leave()
        self._fanout.ended(self._member)

    def frames(self, key: Key | None, encode: Encode) -> bytes:
        """Give all as frames."""
        frames = [part.frames(start, end, key, encode) for part, start, end in self._pieces]
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def messages(self) -> list[tuple[int, bytes]]:
        """Give all as messages."""
        return [
            message for part, start, end in self._pieces for message in part.messages[start:end]
        ]

    def _leave(self) -> None:
        if self.run is not None:
            self._close_piece()
            self.run.absent.append(self._member)
            self.run = None

    def _close_piece(self, end: int | None = None) -> None:
        run = self.run
        if run is not None:
            end = len(run.messages) if end is None else end
            if end > self._start:
                self._pieces.append((run, self._start, end))
                self._start = end
