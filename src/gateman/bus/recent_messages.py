"""
What was read from the streams of channels lately, for clients that come back together. Pure.

Of each channel it is a run of messages without a gap: what was between two messages of a stream
stays true, whatever is dropped later. Where a run ends has to be compared with the stream.
"""

from bisect import bisect_left
from collections import OrderedDict

from .jetstream_wire import LogMessage

# bytes, of all runs; and messages of one.
_MAX_SIZE = 16 * 1024 * 1024
_MAX_LENGTH = 1000

# bytes; what a message takes beside its payload.
_OVERHEAD = 400


class RecentMessages:
    """The runs, of which the one that was used least recently is dropped first."""

    def __init__(self, max_size: int = _MAX_SIZE) -> None:
        self._max_size = max_size
        self._size = 0
        self._runs: OrderedDict[str, list[LogMessage]] = OrderedDict()

    def end(self, channel: str, number: int) -> LogMessage | None:
        """Return the last message of the run that has a message with this number."""
        run = self._runs.get(channel, [])
        index = bisect_left(run, number, key=_number)
        if index == len(run) or run[index].number != number:
            return None
        self._runs.move_to_end(channel)
        return run[-1]

    def after(self, channel: str, number: int) -> list[LogMessage]:
        """Return what follows on a message of a run."""
        run = self._runs[channel]
        return run[bisect_left(run, number + 1, key=_number) :]

    def put(self, channel: str, run: list[LogMessage]) -> None:
        """Keep a run, or what continues the one that is kept."""
        known = self._runs.pop(channel, [])
        self._size -= sum(map(_size, known))
        if known and known[-1].number == run[0].number:
            run = known + run[1:]
        run = run[-_MAX_LENGTH:]
        self._runs[channel] = run
        self._size += sum(map(_size, run))
        while self._size > self._max_size:
            _, dropped = self._runs.popitem(last=False)
            self._size -= sum(map(_size, dropped))

    def clear(self) -> None:
        """Forget all: the stream may be another one."""
        self._runs.clear()
        self._size = 0


def _number(message: LogMessage) -> int:
    return message.number


def _size(message: LogMessage) -> int:
    return len(message.payload) + _OVERHEAD
