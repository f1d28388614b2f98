"""
Fan-out: encodes a message once for all members, and writes once per member and turn of the loop.

    send(members, a) ─► run: a b c     a run: what the same members are sent in one turn
    send(members, b)
    send(others, x)  ─► run: x
    send(members, c)                   x came between b and c: a member of both gets a b x c

Members are not touched before the turn ends: touching each of 5000 in memory twice takes longer
than encrypting for it (``bench/fanout.py``). What is sent to a single member meanwhile is queued
behind (:attr:`Fanout.turns`), so that everything leaves in the order in which it was sent.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator
from copy import copy
from typing import Protocol

Key = tuple[int, ...]
"""Equal for all members whose frames are equal."""

_HEADER_SIZE = 10  # bytes; the largest of a server's frames

# bytes; above this size a turn is flushed at once. Below the default of
# limits.max_send_buffer_size, so that a fast member loses nothing.
MAX_TURN_SIZE = 64 << 10


class Member(Protocol):
    """The send buffer of one client; see :class:`gateman.net.send_buffer.SendBuffer`."""

    takes_frames: bool
    key: Key | None

    def encode(self, opcode: int, payload: bytes) -> bytes:
        """Make a frame."""

    def write_frames(self, frames: bytes) -> None:
        """Write frames that were made for it."""

    def send(self, opcode: int, payload: bytes) -> object:
        """Send one message, whatever becomes of it."""


class Fanout:
    """Collects the messages of this turn of the loop."""

    __slots__ = ("_call_soon", "_is_due", "turns")

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._is_due = False
        # The last one collects messages. One that is being written is before it: messages that a
        # callback sends meanwhile (on_buffer_full) belong behind it.
        # Always the same list, whose emptiness connections test.
        self.turns: list[_Turn] = []

    def send(
        self,
        members: tuple[Member, ...],
        opcode: int,
        payload: bytes,
        exclude: Collection[Member] = (),
    ) -> None:
        """Send a message to many members, at the end of this turn of the loop."""
        if len(members) == 1:
            if members[0] not in exclude:
                self.send_one(members[0], opcode, payload)
        elif members:
            turn = self._turn()
            turn.add(members, opcode, payload, exclude)
            self._flush_if_full(turn)

    def send_one(self, member: Member, opcode: int, payload: bytes) -> None:
        """Send a message to one member, at the end of this turn of the loop."""
        turn = self.turns[-1] if self._is_due else self._turn()
        own = turn.own.get(member)
        if own is None:
            turn.own[member] = [(turn.count, opcode, payload)]
        else:
            own.append((turn.count, opcode, payload))
        turn.count += 1
        turn.size += len(payload) + _HEADER_SIZE
        if turn.size > MAX_TURN_SIZE:
            self._flush_if_full(turn)

    def put(self, member: Member, opcode: int, payload: bytes) -> bool:
        """Queue a message to one member behind pending ones; return whether there are any."""
        if not self.turns:
            return False
        self.send_one(member, opcode, payload)
        return True

    def settle(self, member: Member) -> None:
        """Write the pending messages of one member now."""
        for turn in self.turns:
            turn.settle(member)

    def flush(self) -> None:
        """Write everything now."""
        if not self._is_due:
            return
        self._is_due = False
        turn = self.turns[-1]
        try:
            turn.write()
        finally:
            self.turns.remove(turn)

    def _turn(self) -> "_Turn":
        if not self._is_due:
            self._is_due = True
            self.turns.append(_Turn())
            self._call_soon(self.flush)
        return self.turns[-1]

    def _flush_if_full(self, turn: "_Turn") -> None:
        # Not while another turn is being written, which comes first.
        if turn.size > MAX_TURN_SIZE and turn is self.turns[0]:
            self.flush()


class _Messages:
    """Messages in order, and their encoded frames."""

    __slots__ = ("_joined", "messages", "numbers")

    def __init__(self) -> None:
        self.messages: list[tuple[int, bytes]] = []
        # For each message, the number of messages before it in the whole turn.
        self.numbers: list[int] = []
        # By key: the joined frames, and the offset of each.
        self._joined: dict[Key, tuple[bytes, list[int]]] = {}

    def frames(self, start: int, end: int, member: Member) -> bytes:
        """Encode and join a range of the messages."""
        key = member.key
        if key is None:
            return b"".join([member.encode(*message) for message in self.messages[start:end]])
        joined, offsets = self._joined.get(key, (b"", ()))
        if len(offsets) != len(self.messages) + 1:
            joined, offsets = self._join(key, member)
        # A slice of everything is the same object for all members.
        return joined[offsets[start] : offsets[end]]

    def _join(self, key: Key, member: Member) -> tuple[bytes, list[int]]:
        frames = [member.encode(*message) for message in self.messages]
        offsets = [0]
        for frame in frames:
            offsets.append(offsets[-1] + len(frame))
        self._joined[key] = made = b"".join(frames), offsets
        return made


class _Run(_Messages):
    """What the same members are sent in one turn."""

    __slots__ = ("_known", "members", "skipped")

    def __init__(self, members: tuple[Member, ...]) -> None:
        super().__init__()
        # Keeps the tuple alive, because its id is the key of the run.
        self.members = members
        # For each excluded member, the indexes of the messages that it does not get.
        self.skipped: dict[Member, list[int]] = {}
        self._known: frozenset[Member] | None = None

    def has(self, member: Member) -> bool:
        if self._known is None:
            self._known = frozenset(self.members)
        return member in self._known


_Piece = tuple[_Messages, int, int]


class _Turn:
    """What is sent in one turn of the loop."""

    __slots__ = ("_rest", "_runs", "_settled", "count", "own", "size")

    def __init__(self) -> None:
        # Bytes.
        self.size = 0
        self.count = 0
        # By the identity of the tuple of members, which the run keeps alive.
        self._runs: dict[int, _Run] = {}
        # The messages to single members, with the number of messages before each in the turn.
        self.own: dict[Member, list[tuple[int, int, bytes]]] = {}
        # Members that were written to early, and the number of messages until then.
        self._settled: dict[Member, int] = {}
        # The members that are still to be written to, once writing has begun.
        self._rest: Iterator[Member] | None = None

    def add(
        self,
        members: tuple[Member, ...],
        opcode: int,
        payload: bytes,
        exclude: Collection[Member],
    ) -> None:
        run = self._runs.get(id(members))
        if run is None:
            run = self._runs[id(members)] = _Run(members)
        for member in exclude:
            run.skipped.setdefault(member, []).append(len(run.messages))
        run.messages.append((opcode, payload))
        run.numbers.append(self.count)
        self.count += 1
        self.size += len(payload) + _HEADER_SIZE

    def settle(self, member: Member) -> None:
        """Write what is pending for one member, unless that was done before."""
        if self._rest is None or member in copy(self._rest):
            runs = [run for run in self._runs.values() if run.has(member)]
            pieces = list(self._pieces(member, runs))
            self._settled[member] = self.count
            _write(member, pieces)

    def write(self) -> None:
        """Write what is pending for all members."""
        runs = list(self._runs.values())
        if len(runs) == 1:
            self._write_run(runs[0])
        else:
            self._write_runs(runs)

    def _write_run(self, run: _Run) -> None:
        """Write when all messages to several members went to the same members."""
        count = len(run.messages)
        own, settled, skipped = self.own, self._settled, run.skipped
        key: Key | None = None
        frames = b""
        self._rest = iter(run.members)
        for member in self._rest:
            if (
                (own and member in own)
                or (settled and member in settled)
                or (skipped and member in skipped)
            ):
                _write(member, self._pieces(member, [run]))
            elif member.takes_frames:
                if member.key is not key or key is None:
                    key = member.key
                    frames = run.frames(0, count, member)
                member.write_frames(frames)
            else:
                _write(member, [(run, 0, count)])
        self._write_own(run.has)

    def _write_runs(self, runs: Iterable[_Run]) -> None:
        runs_of_member: dict[Member, list[_Run]] = {}
        for run in runs:
            for member in run.members:
                runs_of_member.setdefault(member, []).append(run)
        self._rest = iter(list(runs_of_member))
        for member in self._rest:
            _write(member, self._pieces(member, runs_of_member[member]))
        self._write_own(runs_of_member.__contains__)

    def _write_own(self, is_written: Callable[[Member], bool]) -> None:
        """Write to members that were only sent messages of their own."""
        if self.own:
            self._rest = iter([member for member in self.own if not is_written(member)])
            for member in self._rest:
                if member in self._settled:
                    _write(member, self._pieces(member, []))
                else:
                    _write_all(member, self.own[member])

    def _pieces(self, member: Member, runs: list[_Run]) -> Iterator[_Piece]:
        """Merge what one member gets, in the order in which it was sent."""
        sources: list[_Messages] = [*runs]
        if (own := self.own.get(member)) is not None:
            messages = _Messages()
            messages.numbers = [number for number, _, _ in own]
            messages.messages = [(opcode, payload) for _, opcode, payload in own]
            sources.append(messages)
        for source, start, end in _interleaved(sources, self._settled.get(member, 0)):
            at = start
            if isinstance(source, _Run):
                for place in source.skipped.get(member, ()):
                    if at <= place < end:
                        yield source, at, place
                        at = place + 1
            yield source, at, end


def _interleaved(sources: Iterable[_Messages], first: int) -> Iterator[_Piece]:
    """Merge messages by their numbers, from one number on, in the longest possible pieces."""
    heads = [(source, bisect_left(source.numbers, first)) for source in sources]
    heads = [head for head in heads if head[1] < len(head[0].numbers)]
    while heads:
        heads.sort(key=lambda head: head[0].numbers[head[1]])
        source, start = heads[0]
        end = len(source.numbers)
        if len(heads) > 1:
            other, place = heads[1]
            end = bisect_left(source.numbers, other.numbers[place], start)
        yield source, start, end
        if end < len(source.numbers):
            heads[0] = source, end
        else:
            del heads[0]


def _write_all(member: Member, messages: list[tuple[int, int, bytes]]) -> None:
    if len(messages) > 1 and member.takes_frames:
        frames = [member.encode(opcode, payload) for _, opcode, payload in messages]
        member.write_frames(b"".join(frames))
    else:
        for _, opcode, payload in messages:
            member.send(opcode, payload)


def _write(member: Member, pieces: Iterable[_Piece]) -> None:
    if member.takes_frames:
        frames = b"".join([part.frames(start, end, member) for part, start, end in pieces])
        if frames:
            member.write_frames(frames)
    else:
        for part, start, end in pieces:
            for message in part.messages[start:end]:
                member.send(*message)
