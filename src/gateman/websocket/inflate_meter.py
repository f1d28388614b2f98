"""
How much one client may have inflated: a token bucket, and what tells a flood from hard work.

Honest clients send data that compresses well, so being over the budget is not an error: the
client has to wait. What stays over it for long, with more bytes out per byte in than data
has, is a flood of bombs. Time is passed in.
"""

from ..errors import ProtocolError
from .close import CloseCode
from .deflate import Deflate

FRAME_COST = 512
"""
Bytes as which a frame counts at least. An empty compressed frame takes 3 to 5 µs, as long as zlib
needs for so much JSON; without this, tiny frames would be free.
"""

# A client that has inflated no more than this in the last second goes before those that have.
_LIGHT_SIZE = 1 << 20  # bytes


class InflateMeter:
    """What one client has left to inflate: at first, and refilled, what is allowed in a second."""

    __slots__ = (
        "_flood_ratio",
        "_flood_seconds",
        "_left",
        "_over_since",
        "_rate",
        "_refilled_at",
        "_size_in",
        "_size_out",
    )

    def __init__(self, options: Deflate, now: float) -> None:
        self._rate = options.max_inflated_per_second
        self._flood_ratio = options.flood_ratio
        self._flood_seconds = options.flood_seconds
        self._left = float(self._rate)
        self._refilled_at = now
        # Since when it is at the limit, and what came in and out of the inflater since.
        self._over_since: float | None = None
        self._size_in = 0
        self._size_out = 0

    def spend(self, size_in: int, size_out: int) -> int:
        """Count a frame; the result is what it counts as, in bytes."""
        cost = max(size_out, FRAME_COST)
        self._left -= cost
        self._size_in += size_in
        self._size_out += size_out
        return cost

    def delay(self, now: float) -> float:
        """Tell for how many seconds the next frame has to wait; raise 1008 if the client floods."""
        rate = self._rate
        self._left = min(self._left + (now - self._refilled_at) * rate, rate)
        self._refilled_at = now
        if self._left >= 0:
            # One at the limit goes below 0 with each message; half a budget takes half a second.
            if self._left > rate / 2:
                self._over_since = None
            return 0
        if self._over_since is None:
            self._over_since = now
            self._size_in = self._size_out = 0
        elif self._is_flood(now - self._over_since):
            raise ProtocolError(
                CloseCode.POLICY_VIOLATION,
                "too much compressed data",
                cause="inflate_flood",
                limit="Deflate.flood_ratio",
            )
        return -self._left / rate

    def _is_flood(self, seconds: float) -> bool:
        ratio = self._flood_ratio
        return (
            ratio is not None
            and seconds >= self._flood_seconds
            and self._size_out > ratio * self._size_in
        )

    @property
    def is_light(self) -> bool:
        """Whether the client has inflated little lately; as of the last :meth:`delay`."""
        return self._left >= self._rate - _LIGHT_SIZE
