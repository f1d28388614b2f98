"""What the application's callbacks raise: counted, and logged with its traceback."""

import asyncio
from collections import Counter

from ..log import RateLimitedLogger, logger, source_location


class CallbackErrors:
    """Those of one worker in one process."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._rate_limited = RateLimitedLogger()

    def take(self, name: str, whom: object, error: Exception) -> None:
        """Take note of one."""
        self._counts["callback_failed"] += 1
        # By place: one bug in a hot handler fills no disk, and hides no other bug.
        line = self._rate_limited.line(
            source_location(error) if error.__traceback__ else f"{name} {type(error).__name__}",
            f"{name} raised {type(error).__name__} for {whom}, which is closed for it"
            if error.__traceback__
            else f"{whom} is closed: {error}",
            asyncio.get_running_loop().time(),
        )
        if line is not None:
            logger.error(line, exc_info=error if error.__traceback__ else None)
