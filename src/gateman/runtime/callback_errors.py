"""Counts what the application's callbacks raise, and logs it with its traceback."""

import asyncio
from collections import Counter

from ..errors import UnknownClient
from ..log import RateLimitedLogger


def has_left(client_id: str, error: Exception) -> bool:
    """Return whether a callback only found that its own client is gone, which is not a failure."""
    return isinstance(error, UnknownClient) and error.client_id == client_id


class CallbackErrors:
    """The errors of one worker in one process."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._rate_limited = RateLimitedLogger()

    def add(self, name: str, client: object, error: Exception, *, is_closed: bool = True) -> None:
        self._counts["callback_failed"] += 1
        # One line for each place: a bug in a busy handler neither fills the disk nor hides another.
        now = asyncio.get_running_loop().time()
        kind = type(error).__name__
        if error.__traceback__:
            consequence = "is closed for it" if is_closed else "gets an error for it"
            self._rate_limited.error(
                f"{name} raised {kind} for {client}, which {consequence}", error, now
            )
        else:
            consequence = "is closed" if is_closed else "gets an error"
            self._rate_limited.error(f"{client} {consequence}: {error}", f"{name} {kind}", now)
