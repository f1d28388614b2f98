"""When functions run: checks of intervals, cron expressions and functions."""

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from ..errors import ConfigError
from ..options import is_positive
from .callbacks import is_generator, label, unsuitable_signature

# An interval of 300 years overflows nothing.
_MAX_SECONDS = 1e10

# Numbers of shorter intervals since 1970 are not exact.
_MIN_ONCE = 0.001  # seconds


def check_interval(seconds: object, *, is_once: bool = False) -> None:
    if not is_positive(seconds, _MAX_SECONDS):
        raise ConfigError(
            f"a timer of {seconds!r} seconds would never run", "give it a positive number"
        )
    if is_once and seconds < _MIN_ONCE:  # type: ignore[operator]
        raise ConfigError(
            f"a job of the whole service cannot run every {seconds!r} seconds",
            f"give it {_MIN_ONCE:g} seconds or more",
        )


def check_function(function: object, args: tuple[Any, ...] = ()) -> None:
    """Check that a timer can call a function with the arguments, more than once."""
    if inspect.iscoroutine(function):
        name = function.__qualname__
        function.close()
        raise ConfigError(
            f"a timer runs its function more than once, but {name}() is called already",
            f"give it the function: Timer.add(seconds, {name})",
        )
    if not callable(function):
        raise ConfigError(
            f"a timer cannot call {function!r}", "give it a function, and its arguments after it"
        )
    if is_generator(function):
        raise ConfigError(
            f"a timer would never run {function!r}: it is a generator", "remove the yield"
        )
    signature = unsuitable_signature(function, args)
    if signature is not None:
        given = ", ".join(map(repr, args)) or "nothing"
        alone = "" if args else "let it take no arguments, or "
        raise ConfigError(
            f"a timer would call a function that takes {signature} with {given}",
            f"{alone}pass its arguments after it: Timer.add(seconds, function, 1, 2)",
        )


class Schedule(Protocol):
    """Times by the clock on the wall, the same in all processes."""

    def following(self, after: float) -> float:
        """Return the first time after another; in seconds since 1970."""


class Interval(Struct, frozen=True):
    """Whole intervals since 1970."""

    seconds: float

    def following(self, after: float) -> float:
        number = after // self.seconds + 1
        # Rounding may give the time that was passed.
        while number * self.seconds <= after:
            number += 1
        return number * self.seconds

    def __str__(self) -> str:
        return f"{self.seconds:g} s"


class Cron(Struct, frozen=True):
    """A cron expression in a time zone, read as Debian's cron reads it."""

    expression: str
    timezone: str

    def following(self, after: float) -> float:
        # Imported here: only a service with such a schedule needs it.
        from datetime import datetime
        from zoneinfo import ZoneInfo

        from cronsim import CronSim

        moments = CronSim(self.expression, datetime.fromtimestamp(after, ZoneInfo(self.timezone)))
        # In the hour that a clock repeats, it may return a time of the first one.
        return next(found for one in moments if (found := one.timestamp()) > after)

    def __str__(self) -> str:
        return f"{self.expression} {self.timezone}"


class Job(Struct, frozen=True):
    """A function that runs by a schedule, in each process or in one of the service."""

    schedule: Schedule
    function: Callable[[], Any]
    is_once: bool

    def __str__(self) -> str:
        return f"{label(self.function)} ({self.schedule})"


def cron(expression: object, timezone: object) -> Cron:
    """Check a cron expression and its time zone."""
    from datetime import UTC, datetime
    from zoneinfo import ZoneInfo

    from cronsim import CronSim, CronSimError

    if not isinstance(expression, str) or not isinstance(timezone, str):
        raise ConfigError(
            f"cron({expression!r}, timezone={timezone!r}) takes two texts",
            'write @worker.cron("0 3 * * *", timezone="Europe/Berlin")',
        )
    try:
        zone = ZoneInfo(timezone)
    except (ValueError, OSError, LookupError):
        raise ConfigError(
            f"cron: {timezone!r} is not a time zone that this system knows",
            'write a name such as "Asia/Shanghai"; if the system has no time zones at all,'
            " install its package tzdata",
        ) from None
    try:
        next(CronSim(expression, datetime.now(UTC).astimezone(zone)))
    except CronSimError as error:
        raise ConfigError(
            f"cron: {expression!r} is not a cron expression ({error})",
            'write minute, hour, day of month, month and day of week: "*/5 * * * *", "0 3 * * MON"',
        ) from None
    except StopIteration:
        raise ConfigError(
            f"cron: {expression!r} never comes", "correct its day of month and its month"
        ) from None
    return Cron(expression, timezone)
