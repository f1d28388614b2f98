"""
Reads what follows on a message of a channel in JetStream, and proves that nothing is missing.

A page of any server is used if it begins with the message up to which all are known: servers drop
messages from the front alone, and so have all behind one that they have. Messages that come one by
one are the leader's. What was read is kept for a while (:mod:`.recent_messages`), for the other
clients that come back to the channel.
"""

import asyncio
from weakref import WeakValueDictionary

from .jetstream_stream import Stream
from .jetstream_wire import JetStreamError, LogMessage
from .recent_messages import RecentMessages

# Messages that are asked for at once; a page ends before, by its size.
_MAX_PAGE = 1000


class StreamReader:
    """Reads the channels of a stream."""

    def __init__(self, stream: Stream) -> None:
        self.recent = RecentMessages()
        self._stream = stream
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def missed(
        self, channel: str, number: int, last: LogMessage, limit: int
    ) -> list[LogMessage] | None:
        """Return all that follows on a number, with markers; ``None`` if that is not complete."""
        if number == last.number:
            return []
        # Clients that come back together wait for the first of them.
        async with self._reading.setdefault(channel, asyncio.Lock()):
            end = self.recent.end(channel, number)
            if end is not None:
                known = self.recent.after(channel, number)
                if end.number >= last.number:
                    return known
                run = await self._read_run(channel, end.number, last, limit + 2)
                if run is not None and run[0].number == end.number:
                    self.recent.put(channel, run)
                    return known + run[1:]
            # The message of this number, and one too many.
            run = await self._read_run(channel, number, last, limit + 2)
            if run is None:
                return None
            self.recent.put(channel, run)
        return [one for one in run if one.number > number]

    async def _read_run(
        self, channel: str, number: int, last: LogMessage, count: int
    ) -> list[LogMessage] | None:
        """Return the messages from a number to the last one; ``None`` if one may be missing."""
        elections = self._stream.elections
        found = await self.read(channel, number, last, count)
        if not found or found[-1].number != last.number or not found[0].proves(number):
            return None
        # As long as the first is there, no message behind it was dropped while it was read.
        first = await self._stream.first_from(channel, found[0].number)
        if elections != self._stream.elections:
            raise JetStreamError(0, "the stream got another leader while it was read")
        return found if first is not None and first.number == found[0].number else None

    async def read(
        self, channel: str, number: int, last: LogMessage, count: int | None = None
    ) -> list[LogMessage]:
        """Return the messages from a number to the last one, or more than a count of them."""
        found: list[LogMessage] = []
        more = await self._one(channel, number)
        has_pages = True
        while more and more[0].number <= last.number:
            found += [one for one in more if one.number <= last.number]
            known = found[-1].number
            if known == last.number or (count is not None and len(found) >= count):
                break
            more = []
            if has_pages:
                wanted = _MAX_PAGE if count is None else min(count - len(found) + 1, _MAX_PAGE)
                page = await self._stream.page(channel, known, wanted)
                if page and page[0].number == known:
                    more = page[1:]
                    # It lags behind the leader, or is older than 2.11 and gives one message.
                    has_pages = bool(more)
            if not more:
                more = await self._one(channel, known + 1)
        return found

    async def _one(self, channel: str, number: int) -> list[LogMessage]:
        message = await self._stream.first_from(channel, number)
        return [] if message is None else [message]
