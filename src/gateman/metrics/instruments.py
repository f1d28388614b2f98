"""
Counters, gauges and histograms of the application, in this process.

They may be used from any thread. Their values are kept whether or not anybody reads them: a process
is asked for them when the service is.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import pairwise
from threading import Lock
from typing import NoReturn, TypeVar

from msgspec.structs import replace

from ..errors import ConfigError
from .families import MAX_SERIES, Combine, Family, Series

MAX_INSTRUMENTS = 100
"""Metrics of an application. They share :data:`MAX_ALL_SERIES`."""

MAX_ALL_SERIES = 10_000
"""Series of all metrics of a process together: the master adds up so many in 20 ms."""

DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds, those of Prometheus's own clients: for seconds that a user waits."""

_MAX_BUCKETS = 50
_MAX_NAME_SIZE = 100
_MAX_DESCRIPTION_SIZE = 1000
_MAX_VALUE_SIZE = 128  # characters of a label's value

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

# What the format adds to the name of a histogram or a counter.
_SUFFIXES = ("_total", "_bucket", "_count", "_sum", "_created", "_info")

DROPPED = Family(
    name="gateman_metrics_dropped_updates_total",
    kind="counter",
    description="Updates of the application's metrics that were not kept, as a metric had 1000"
    " series, or all metrics of a process 10000.",
    labels=("metric",),
)

Key = tuple[str, ...]


class _LabelNames(tuple[str, ...]):
    """What a metric was declared with."""

    __slots__ = ()

    def __call__(self, *_values: object, **_named: object) -> NoReturn:
        """Refuse what the clients of Prometheus have instead."""
        raise ConfigError(
            "labels of a metric is not a method",
            f"give their values with the number, as in inc({', '.join(f'{n}=…' for n in self)})",
        )


class Instrument:
    """A metric of the application, with a series for each combination of its labels' values."""

    def __init__(self, registry: "Registry", declared: Family) -> None:
        """Make one; :func:`gateman.metrics.counter` and its siblings do."""
        self.name = declared.name
        self.description = declared.description
        self.labels = _LabelNames(declared.labels)
        self.declared = declared
        self._registry = registry
        self._label_set = frozenset(declared.labels)
        self._lock = registry.lock
        self._series: dict[Key, list[float]] = {}

    def __repr__(self) -> str:
        """Name it for a log line."""
        return f"<{type(self).__name__} {self.name}>"

    @property
    def series_count(self) -> int:
        """How many series it has, at most 1000."""
        return len(self._series)

    def _empty(self) -> list[float]:
        return [0.0] * self.declared.width

    def _numbers(self, given: Mapping[str, object]) -> list[float] | None:
        """Find a series, or add it; ``None`` if there are too many. The lock is held."""
        if given.keys() != self._label_set:
            raise ConfigError(
                f"{self.name} was given the labels {', '.join(sorted(given)) or 'none'}",
                f"it is declared with {', '.join(self.labels) or 'none'}",
            )
        key = tuple([_value(given[label]) for label in self.labels]) if given else ()
        found = self._series.get(key)
        if found is None:
            if len(self._series) >= MAX_SERIES or not self._registry.has_room():
                self._registry.count_dropped(self.name)
                return None
            found = self._series[key] = self._empty()
        return found

    def _add(self, amount: float, given: Mapping[str, object]) -> None:
        with self._lock:
            numbers = self._numbers(given)
            if numbers is not None:
                numbers[0] += amount

    def _read(self, given: Mapping[str, object]) -> list[float]:
        key = tuple(_value(given.get(label, "")) for label in self.labels)
        return self._series.get(key) or self._empty()

    def family(self) -> Family:
        """Return its values, for gateman's own modules."""
        with self._lock:
            series: list[Series] = [(key, list(kept)) for key, kept in self._series.items()]
        if not series and not self.labels:
            # A counter that has not counted yet is 0: an alert on its rate needs that.
            series = [((), self._empty())]
        return replace(self.declared, series=series)

    def clear(self) -> None:
        """Forget all values, for gateman's own modules."""
        with self._lock:
            self._series.clear()


class Counter(Instrument):
    """A number that only grows."""

    def inc(self, amount: float = 1, /, **labels: object) -> None:
        """
        Count something.

        Args:
            amount: How many; 0 or more.
            labels: A value for each declared label; at most 128 characters of it are kept.

        Raises:
            ConfigError: The labels are not those that were declared.
            ValueError: The amount is negative or not finite.
        """
        if not 0 <= amount < math.inf:
            raise ValueError(f"{self.name} cannot grow by {amount!r}")
        self._add(amount, labels)

    def value(self, **labels: object) -> float:
        """
        Return the count of this process.

        Args:
            labels: A value for each declared label.
        """
        return self._read(labels)[0]


class Gauge(Instrument):
    """A number that goes up and down."""

    def set(self, value: float, /, **labels: object) -> None:
        """
        Set the value of this process.

        Args:
            value: A finite number.
            labels: A value for each declared label.

        Raises:
            ConfigError: The labels are not those that were declared.
            ValueError: The value is not finite.
        """
        _check_finite(self.name, value)
        with self._lock:
            numbers = self._numbers(labels)
            if numbers is not None:
                numbers[0] = float(value)

    def inc(self, amount: float = 1, /, **labels: object) -> None:
        """
        Add to the value of this process.

        Args:
            amount: A finite number.
            labels: A value for each declared label.

        Raises:
            ConfigError: The labels are not those that were declared.
            ValueError: The amount is not finite.
        """
        _check_finite(self.name, amount)
        self._add(amount, labels)

    def dec(self, amount: float = 1, /, **labels: object) -> None:
        """Subtract from the value of this process; see :meth:`inc`."""
        self.inc(-amount, **labels)

    def value(self, **labels: object) -> float:
        """
        Return the value of this process.

        Args:
            labels: A value for each declared label.
        """
        return self._read(labels)[0]


class Histogram(Instrument):
    """How often values were in which range, and their sum."""

    def observe(self, value: float, /, **labels: object) -> None:
        """
        Count a value in its range.

        Args:
            value: A finite number.
            labels: A value for each declared label.

        Raises:
            ConfigError: The labels are not those that were declared.
            ValueError: The value is not finite.
        """
        _check_finite(self.name, value)
        with self._lock:
            numbers = self._numbers(labels)
            if numbers is not None:
                numbers[bisect_left(self.declared.bounds, value)] += 1
                numbers[-1] += value

    def count(self, **labels: object) -> int:
        """
        Return how many values this process has counted.

        Args:
            labels: A value for each declared label.
        """
        return int(sum(self._read(labels)[:-1]))


I = TypeVar("I", bound=Instrument)  # noqa: E741 - of an instrument


class Registry:
    """The metrics of an application in one process."""

    def __init__(self) -> None:
        self.lock = Lock()
        self._instruments: dict[str, Instrument] = {}
        self._dropped: dict[str, float] = {}

    def counter(self, name: str, description: str, labels: Iterable[str]) -> Counter:
        names = self._check(name, description, labels)
        if not name.endswith("_total"):
            raise ConfigError(f"the counter {name!r} does not end in _total", f"write {name}_total")
        declared = Family(name=name, kind="counter", description=description, labels=names)
        return self._declare(Counter(self, declared))

    def gauge(self, name: str, description: str, labels: Iterable[str], combine: Combine) -> Gauge:
        names = self._check(name, description, labels)
        _check_suffix("gauge", name)
        if combine not in {"sum", "max", "min"}:
            raise ConfigError(
                f"combine={combine!r} is not a way to combine the values of processes",
                "use 'sum', 'max' or 'min'",
            )
        declared = Family(
            name=name, kind="gauge", description=description, labels=names, combine=combine
        )
        return self._declare(Gauge(self, declared))

    def histogram(
        self, name: str, description: str, labels: Iterable[str], buckets: Iterable[float]
    ) -> Histogram:
        names = self._check(name, description, labels)
        _check_suffix("histogram", name)
        if "le" in names:
            raise ConfigError(
                f"the label 'le' of {name!r} is the histogram's own", "give it another name"
            )
        bounds = _buckets(name, buckets)
        declared = Family(
            name=name, kind="histogram", description=description, labels=names, bounds=bounds
        )
        return self._declare(Histogram(self, declared))

    def _check(self, name: str, description: str, labels: Iterable[str]) -> tuple[str, ...]:
        if not _is_name(name) or len(name) > _MAX_NAME_SIZE:
            raise ConfigError(
                f"{name!r} is not a name of a metric",
                f"use up to {_MAX_NAME_SIZE} letters, digits and _, and no digit first",
            )
        if name.startswith("gateman_"):
            raise ConfigError(
                f"the metric {name!r} would be gateman's own", "do not begin its name with gateman_"
            )
        if not 0 < len(str(description).strip()) <= _MAX_DESCRIPTION_SIZE:
            raise ConfigError(
                f"the metric {name!r} has no description", "say in one sentence what it counts"
            )
        if isinstance(labels, str):
            raise ConfigError(
                f"labels={labels!r} of {name!r} is a text", f"write labels=[{labels!r}]"
            )
        names = tuple(labels)
        for label in names:
            if not _is_name(label) or label[:2] == "__":
                raise ConfigError(
                    f"{label!r} is not a name of a label of {name!r}",
                    "use letters, digits and _, and neither a digit nor __ first",
                )
        if len(set(names)) < len(names) or len(names) > 16:
            raise ConfigError(f"{name!r} has labels twice, or more than 16", "name each once")
        return names

    def _declare(self, made: I) -> I:
        with self.lock:
            known = self._instruments.get(made.name)
            if known is None:
                if len(self._instruments) >= MAX_INSTRUMENTS:
                    raise ConfigError(
                        f"{made.name!r} is one metric too many: an application has"
                        f" {MAX_INSTRUMENTS}",
                        "declare fewer, with labels",
                    )
                self._instruments[made.name] = made
                return made
        # A module that is loaded twice declares its metrics twice.
        if not known.declared.is_of(made.declared):
            raise ConfigError(
                f"the metric {made.name!r} was declared before, as another one",
                "give it another name, or the same kind, labels and options",
            )
        return known  # type: ignore[return-value] # of the same kind

    def has_room(self) -> bool:
        return sum(one.series_count for one in self._instruments.values()) < MAX_ALL_SERIES

    def count_dropped(self, name: str) -> None:
        self._dropped[name] = self._dropped.get(name, 0.0) + 1

    def families(self) -> list[Family]:
        """Return the values of this process."""
        found = [one.family() for one in list(self._instruments.values())]
        dropped: list[Series] = [((name,), [count]) for name, count in self._dropped.items()]
        return [*found, replace(DROPPED, series=dropped)] if dropped else found

    def clear(self) -> None:
        """Forget all values; what is declared stays declared."""
        self._dropped.clear()
        for one in self._instruments.values():
            one.clear()


def _is_name(given: object) -> bool:
    return isinstance(given, str) and _NAME.fullmatch(given) is not None


def _value(given: object) -> str:
    text = given if isinstance(given, str) else str(given)
    if text.isascii() and len(text) <= _MAX_VALUE_SIZE:
        return text
    return text[:_MAX_VALUE_SIZE].encode("utf-8", "replace").decode()


def _check_suffix(kind: str, name: str) -> None:
    suffix = next((one for one in _SUFFIXES if name.endswith(one)), None)
    if suffix is not None:
        raise ConfigError(
            f"the {kind} {name!r} ends in {suffix}, which has a meaning of its own",
            "give it another name",
        )


def _check_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is not a value for {name}")


def _buckets(name: str, given: Iterable[float]) -> tuple[float, ...]:
    try:
        found = tuple(float(bound) for bound in given)
    except (TypeError, ValueError):
        found = ()
    is_rising = all(one < other for one, other in pairwise(found))
    if (
        not found
        or len(found) > _MAX_BUCKETS
        or not is_rising
        or not all(map(math.isfinite, found))
    ):
        raise ConfigError(
            f"the buckets of {name!r} are not up to {_MAX_BUCKETS} rising numbers",
            "write buckets=(0.1, 0.5, 1, 5)",
        )
    return found
