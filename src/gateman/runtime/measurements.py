"""
What a worker measures only while its service shows metrics.

The other numbers are counted anyway, for ``gateman status``.
"""

import functools
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

from ..config.callbacks import Function, is_async
from ..metrics.catalogue import CATALOGUE
from ..net.traffic import Traffic, size_of

# They run once.
_NOT_MEASURED = frozenset({"on_worker_start", "on_worker_stop"})

_SWITCHED = 101

# RFC 6455, section 7.4.1, and its registry: applications and clients choose the others.
_NAMED_CODES = range(1000, 1016)
_CLASSES = {3: "3xxx", 4: "4xxx"}

# Messages that are measured in an interval of the event loop's lag, before one of 16 is.
_EXACT = 20
_INTERVAL = 16

Deliver = Callable[[Any, str | bytes], object]


class Distribution:
    """The values of a histogram: how many are in each bucket, and their sum."""

    __slots__ = ("bounds", "numbers")

    def __init__(self, name: str) -> None:
        self.bounds = CATALOGUE[name].bounds
        self.numbers = [0.0] * (len(self.bounds) + 2)

    def observe(self, value: float, weight: int = 1) -> None:
        self.numbers[bisect_left(self.bounds, value)] += weight
        self.numbers[-1] += value * weight


class Measurements:
    """The measurements of one worker in this process."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self.sampling = Sampling()
        self._sizes: list[Callable[[], int]] = []
        self.handshakes = Distribution("gateman_handshake_duration_seconds")
        self.lag = Distribution("gateman_event_loop_lag_seconds")
        self.callbacks: dict[str, Distribution] = {}
        self.accepted_count = 0
        # By status code, by class of the status, and by close code.
        self.refused: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.closed: Counter[str] = Counter()

    def handshake_ended(self, status: int, seconds: float) -> None:
        """Count a handshake that got an answer."""
        if status == _SWITCHED:
            self.accepted_count += 1
            self.handshakes.observe(seconds)
        else:
            self.refused[str(status)] += 1

    def request_answered(self, status: int) -> None:
        """Count the answer to a plain HTTP request."""
        self.answered[f"{status // 100}xx"] += 1

    def websocket_closed(self, code: int) -> None:
        self.closed[str(code) if code in _NAMED_CODES else _CLASSES.get(code // 1000, "other")] += 1

    def measured(
        self, functions: Mapping[str, Function], *, has_sizes: bool = True
    ) -> dict[str, Function]:
        """Return callbacks that measure how long they take, and the sizes of messages."""
        return {
            name: function
            if name in _NOT_MEASURED
            else self._measured(name, function, is_sized=has_sizes and name == "on_message")
            for name, function in functions.items()
        }

    def _measured(self, name: str, function: Function, *, is_sized: bool) -> Function:
        kept = self.callbacks[name] = Distribution("gateman_callback_duration_seconds")
        timed = (_timed_async if is_async(function) else _timed_plain)(function, kept)
        measured = self._of_messages(function, timed) if is_sized else timed
        return functools.wraps(function, updated=())(measured)

    def _of_messages(self, function: Function, timed: Function) -> Function:
        # This runs for each message. Variables take a third of the time of attributes.
        sampling = self.sampling
        size = left = 0

        def call(client: Any, message: str | bytes) -> Any:
            nonlocal size, left
            # As `size_of`, without a call.
            size += (
                len(message)
                if message.__class__ is bytes or message.isascii()
                else len(message.encode())  # type: ignore[union-attr] # it is not bytes
            )
            if left:
                left -= 1
                return function(client, message)
            weight = sampling.next()
            left = weight - 1
            return timed(client, message, weight=weight)

        self._sizes.append(lambda: size)
        return call

    @property
    def received_size(self) -> int:
        """Bytes of the messages of clients."""
        return self.traffic.received_size + sum(size() for size in self._sizes)

    def counting(self, deliver: Deliver) -> Deliver:
        """Return a function that counts the bytes of messages before it delivers them."""
        traffic = self.traffic

        def count(connection: Any, message: str | bytes) -> object:
            traffic.received_size += size_of(message)
            return deliver(connection, message)

        return count

    def loop_was_late(self, seconds: float) -> None:
        """Take a measurement of the event loop's lag; it is made several times a second."""
        self.lag.observe(seconds)
        self.sampling.begin()


class Sampling:
    """
    Which messages are measured.

    In each interval, the first ones are, so that a quiet service measures all; and after these one
    of 16, which counts for all 16: to read the clock twice takes as long as to echo a message.
    """

    __slots__ = ("_exact_left",)

    def __init__(self) -> None:
        self._exact_left = _EXACT

    def begin(self) -> None:
        """Begin an interval."""
        self._exact_left = _EXACT

    def next(self) -> int:
        """Return for how many messages the one that is measured now counts."""
        if self._exact_left:
            self._exact_left -= 1
            return 1
        return _INTERVAL


def _timed_plain(function: Function, kept: Distribution) -> Function:
    def call(*args: Any, weight: int = 1) -> Any:
        began_at = perf_counter()
        try:
            return function(*args)
        finally:
            kept.observe(perf_counter() - began_at, weight)

    return call


def _timed_async(function: Function, kept: Distribution) -> Function:
    async def call(*args: Any, weight: int = 1) -> Any:
        began_at = perf_counter()
        try:
            return await function(*args)
        finally:
            kept.observe(perf_counter() - began_at, weight)

    return call
