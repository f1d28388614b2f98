"""
What a business process has got from one gateway, and what it has still to say about it. PURE.

The bus may lose envelopes in both directions. Events are numbered, so what is missing is found out
and asked for; what was said about events is said again until the gateway shows that it has heard.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

from ..cluster.names import ClientId
from .protocol import AnyEvent, Done, Events, Released, Result
from .send_window import MAX_BATCH_SIZE, WINDOW, size_of

# What a result takes beside what is in it.
_OVERHEAD = 24  # bytes

# When so much has come since it was said how far this process is, it is said again, so that the
# gateway goes on while slow handlers have nothing to say.
_MAX_UNREPORTED_SIZE = WINDOW // 4  # bytes


class ReceiveWindow:
    """
    One link to one gateway.

    Attributes:
        epoch: Which of the gateway's links.
        received: The number up to which all events have come.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.received = 0
        self._released: Released | None = None
        # Whose the events are that the gateway does not know to be done, by their numbers.
        self._open: dict[int, ClientId] = {}
        # What the gateway may not have heard yet: all but the first `heard` ones.
        self._results: deque[Result] = deque()
        self._acknowledged = 0
        # How many were said; and with the last sign of life, or before.
        self._reported = 0
        self._reported_at_beat = 0
        self._has_gap = False
        self._gap_reported_at = -1
        self._unreported_size = 0

    def accept(self, packet: Events) -> Iterator[tuple[int, AnyEvent]]:
        """Take what a gateway sends."""
        while self._acknowledged < min(packet.result_count, self._reported):
            self._acknowledged += 1
            self._open.pop(self._results.popleft().number, None)
        self._has_gap = packet.first > self.received + 1
        if self._has_gap:
            return
        for number, event in enumerate(packet.items, packet.first):
            if number > self.received:
                self.received = number
                self._open[number] = event.client
                self._unreported_size += size_of(event)
                yield number, event

    def done(self, result: Result) -> None:
        """Take note that an event was handled."""
        self._results.append(result)

    def release(self, released: Released) -> None:
        """Take note that no more events come: the gateway knows that this process leaves."""
        self._released = released

    @property
    def is_idle(self) -> bool:
        """Whether this process can go: all was handled, and the gateway has heard of it."""
        return self._has_all and self._acknowledged >= self.received

    @property
    def has_unacknowledged(self) -> bool:
        """Whether something was handled of which the gateway has not heard."""
        return bool(self._results)

    @property
    def _has_all(self) -> bool:
        return self._released is not None and self.received >= self._released.last

    def handed_over(self, clients: Iterable[ClientId]) -> list[ClientId]:
        """Tell which of the gateway's clients another process has by now."""
        if self._released is None or not self._released.has_successor or not self._has_all:
            return []
        kept = set(self._open.values())
        return [client for client in clients if client not in kept]

    @property
    def _done_count(self) -> int:
        return self._acknowledged + len(self._results)

    def report(self) -> Iterator[Done]:
        """Say what is new."""
        has_gap = self._has_gap and self._gap_reported_at != self.received
        is_much = self._unreported_size > _MAX_UNREPORTED_SIZE
        if self._reported < self._done_count or has_gap or is_much:
            yield from self._report_from(self._reported, has_gap=has_gap)

    def heartbeat(self) -> Iterator[Done]:
        """Say how far this process is, and again what the gateway may not have heard."""
        # There was a second to show that it was heard.
        is_unacknowledged = self._acknowledged < self._reported_at_beat
        self._reported_at_beat = self._done_count
        yield from self._report_from(
            self._acknowledged if is_unacknowledged else self._reported, has_gap=self._has_gap
        )

    def _report_from(self, known: int, *, has_gap: bool) -> Iterator[Done]:
        """Say all results but for so many."""
        if has_gap:
            # Once, and then each second: what is under way already would be sent again for each.
            self._gap_reported_at = self.received
        self._unreported_size = 0
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
    return size
