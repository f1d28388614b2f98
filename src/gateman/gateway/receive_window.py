"""
The events that a business process has received from one gateway, and the results to report. PURE.

The bus may lose packets in both directions. Events are numbered, so a gap is noticed and reported.
Results are reported again until the gateway has acknowledged them.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import count, islice
from operator import attrgetter

from ..cluster.names import ClientId
from .protocol import MAX_RESULT_COUNT, AnyEvent, Done, Events, Released, Result
from .send_window import MAX_BATCH_SIZE, WINDOW, size_of

_OVERHEAD = 24  # bytes

_client_of = attrgetter("client")

# After so many received bytes a report is sent without results, so that the gateway continues to
# send while handlers are slow.
_MAX_UNREPORTED_SIZE = WINDOW // 4  # bytes


class ReceiveWindow:
    """The counterpart of a gateway's :class:`~.send_window.SendWindow`."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        # All events up to this number have been received.
        self.received = 0
        self._released: Released | None = None
        # Clients of the events whose results are not acknowledged, by the events' numbers.
        self._open: dict[int, ClientId] = {}
        # Results that are not acknowledged: all but the first `_acknowledged` ones.
        self._results: deque[Result] = deque()
        self._acknowledged = 0
        # The last result, if it is not reported and the next empty one may join it.
        self._run: Result | None = None
        # Results that were reported; and that existed at the last heartbeat.
        self._reported = 0
        self._reported_at_beat = 0
        self._has_gap = False
        self._gap_reported_at = -1
        self._unreported_size = 0

    def accept(self, packet: Events) -> Iterable[tuple[int, AnyEvent]]:
        """Take a packet; return its new events with their numbers."""
        clients = self._open
        while self._acknowledged < min(packet.result_count, self._reported):
            self._acknowledged += 1
            result = self._results.popleft()
            for number in range(result.number, result.number + result.count):
                clients.pop(number, None)
        first = self.received + 1
        self._has_gap = packet.first > first
        if self._has_gap:
            return ()
        new = packet.items[first - packet.first :]
        clients.update(zip(count(first), map(_client_of, new)))
        self.received += len(new)
        self._unreported_size += sum(map(size_of, new))
        return enumerate(new, first)

    def done(self, result: Result) -> None:
        """Add a result to the next report."""
        self._results.append(result)
        self._run = None

    def handled(self, number: int) -> None:
        """Add an empty result to the next report, which is shared with those before it."""
        run = self._run
        if run is not None and run.number + run.count == number and run.count < MAX_RESULT_COUNT:
            run.count += 1
        else:
            self._run = Result(number)
            self._results.append(self._run)

    def release(self, released: Released) -> None:
        """Take note that the gateway sends no more events, as this process leaves."""
        self._released = released

    @property
    def is_idle(self) -> bool:
        """Whether every event is handled and acknowledged, so that this process may end."""
        return self._has_all and not self._open

    @property
    def has_unacknowledged(self) -> bool:
        """Whether the gateway has not acknowledged a result."""
        return bool(self._results)

    @property
    def _has_all(self) -> bool:
        return self._released is not None and self.received >= self._released.last

    def handed_over(self, clients: Iterable[ClientId]) -> list[ClientId]:
        """Return which of the gateway's clients another process has taken over."""
        if self._released is None or not self._released.has_successor or not self._has_all:
            return []
        kept = set(self._open.values())
        return [client for client in clients if client not in kept]

    @property
    def _done_count(self) -> int:
        return self._acknowledged + len(self._results)

    def report(self) -> Iterator[Done]:
        """Yield reports if there is something new."""
        has_gap = self._has_gap and self._gap_reported_at != self.received
        is_much = self._unreported_size > _MAX_UNREPORTED_SIZE
        if self._reported < self._done_count or has_gap or is_much:
            yield from self._report_from(self._reported, has_gap=has_gap)

    def heartbeat(self) -> Iterator[Done]:
        """Yield reports in any case, with results that were not acknowledged for a second."""
        # The gateway had a second to acknowledge them.
        is_unacknowledged = self._acknowledged < self._reported_at_beat
        self._reported_at_beat = self._done_count
        yield from self._report_from(
            self._acknowledged if is_unacknowledged else self._reported, has_gap=self._has_gap
        )

    def _report_from(self, known: int, *, has_gap: bool) -> Iterator[Done]:
        """Yield reports of all results after the first ``known`` ones."""
        if has_gap:
            # Only once, and with each heartbeat: each report makes the gateway send again.
            self._gap_reported_at = self.received
        self._unreported_size = 0
        self._run = None
        results = list(islice(self._results, known - self._acknowledged, None))
        self._reported = self._done_count
        batch: list[Result] = []
        size = 0
        for result in results:
            result_size = _size_of(result)
            if batch and size + result_size > MAX_BATCH_SIZE:
                yield Done(self.epoch, self.received, has_gap, known + 1, batch)
                known += len(batch)
                batch, size = [], 0
            batch.append(result)
            size += result_size
        yield Done(self.epoch, self.received, has_gap, known + 1, batch)


def _size_of(result: Result) -> int:
    size = _OVERHEAD
    if result.session is not None:
        size += len(result.session)
    if result.answer is not None:
        # UTF-8 takes four bytes for a character at most.
        size += 4 * len(result.answer.text)
        size += sum(4 * len(text) for pair in result.answer.headers.items() for text in pair)
    if result.reply is not None:
        size += len(result.reply)
    return size
