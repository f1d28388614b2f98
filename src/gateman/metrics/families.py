"""Values of metrics as processes report them, and their sums over processes. PURE."""

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

MAX_SERIES = 1000
"""Series of one metric. More would slow down each query of a monitoring system."""

_Name = Annotated[str, Meta(pattern=r"\A[a-zA-Z_][a-zA-Z0-9_]*\Z", max_length=200)]
_Label = Annotated[str, Meta(max_length=256)]

Series = tuple[tuple[_Label, ...], list[float]]
"""The values of the labels, and a number; of a histogram, the count in each bucket, and the sum."""

Combine = Literal["sum", "max", "min"]
"""What the values of several processes amount to."""


class Family(Struct, kw_only=True):
    """A metric and its values. The buckets of a histogram are not cumulative; the last is +Inf."""

    name: _Name
    kind: Literal["counter", "gauge", "histogram"]
    description: Annotated[str, Meta(max_length=1024)]
    labels: Annotated[tuple[_Name, ...], Meta(max_length=16)] = ()
    combine: Combine = "sum"
    bounds: Annotated[tuple[float, ...], Meta(max_length=64)] = ()
    series: list[Series] = []

    @property
    def width(self) -> int:
        """The count of numbers in each of its series."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1

    def is_of(self, other: "Family") -> bool:
        """Tell whether the values of both can be combined."""
        return (self.kind, self.labels, self.combine, self.bounds) == (
            other.kind,
            other.labels,
            other.combine,
            other.bounds,
        )


_decoder = msgspec.json.Decoder(list[Family])


def encode(families: list[Family]) -> bytes:
    """Encode what a process reports; the text of each label has to be UTF-8."""
    return msgspec.json.encode(families)


def decode(data: bytes) -> list[Family]:
    """Decode what a process has reported; ``ValueError`` if it is not valid."""
    try:
        families = _decoder.decode(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    for family in families:
        for labels, numbers in family.series:
            if len(labels) != len(family.labels) or len(numbers) != family.width:
                raise ValueError(f"a series of {family.name} is incomplete")
    return families


class Totals:
    """The sums over processes, each series once."""

    def __init__(self) -> None:
        # Series that are not part of the sums: too many, or another declaration of their metric.
        self.dropped = 0
        self._families: dict[str, tuple[Family, dict[tuple[str, ...], list[float]]]] = {}

    def add(self, families: Iterable[Family], *, only_cumulative: bool = False) -> None:
        """Add what a process reports; without gauges, when it has ended."""
        for family in families:
            if only_cumulative and family.kind == "gauge":
                continue
            known = self._families.get(family.name)
            if known is None:
                known = self._families[family.name] = (family, {})
            if known[0].is_of(family):
                self._add(known[1], family)
            else:
                self.dropped += len(family.series)

    def _add(self, kept: dict[tuple[str, ...], list[float]], family: Family) -> None:
        for labels, numbers in family.series:
            old = kept.get(labels)
            if old is None:
                if len(kept) < MAX_SERIES:
                    kept[labels] = list(numbers)
                else:
                    self.dropped += 1
            elif family.combine == "sum":
                for index, number in enumerate(numbers):
                    old[index] += number
            else:
                old[0] = (max if family.combine == "max" else min)(old[0], numbers[0])

    def families(self) -> list[Family]:
        """Return the sums, in the order of the names."""
        return [
            replace(family, series=sorted(kept.items()))
            for _, (family, kept) in sorted(self._families.items())
        ]
