"""The text formats, read by the parsers of Prometheus's own client."""

from collections.abc import Iterable
from typing import Any

from prometheus_client.openmetrics import parser as open_metrics
from prometheus_client.parser import text_string_to_metric_families as read

from gateman.metrics.exposition import write
from gateman.metrics.families import Family

read_open: Any = open_metrics.text_string_to_metric_families

ORDERS = Family(
    name="orders_total",
    kind="counter",
    description='Orders, "all"\nof them \\ here.',
    labels=("kind", "shop"),
    series=[(('a"b\\c\nd', "ü"), [3.0]), (("", "x"), [0.5])],
)
ROOMS = Family(name="rooms", kind="gauge", description="Rooms.", series=[((), [-2.0])])
TIMES = Family(
    name="wait_seconds",
    kind="histogram",
    description="Waits.",
    labels=("worker",),
    bounds=(0.005, 1.0, 2.5),
    series=[(("chat",), [1.0, 2.0, 0.0, 4.0, 99.5])],
)
FAMILIES = [ORDERS, ROOMS, TIMES]


def samples(families: Iterable[Any]) -> dict[tuple[str, ...], float]:
    return {
        (one.name, *(f"{name}={value}" for name, value in sorted(one.labels.items()))): one.value
        for family in families
        for one in family.samples
    }


SAMPLES = {
    ("orders_total", 'kind=a"b\\c\nd', "shop=ü"): 3.0,
    ("orders_total", "kind=", "shop=x"): 0.5,
    ("rooms",): -2.0,
    ("wait_seconds_bucket", "le=0.005", "worker=chat"): 1.0,
    ("wait_seconds_bucket", "le=1.0", "worker=chat"): 3.0,
    ("wait_seconds_bucket", "le=2.5", "worker=chat"): 3.0,
    ("wait_seconds_bucket", "le=+Inf", "worker=chat"): 7.0,
    ("wait_seconds_sum", "worker=chat"): 99.5,
    ("wait_seconds_count", "worker=chat"): 7.0,
}


def test_prometheus_reads_it() -> None:
    families = list(read(write(FAMILIES)))

    assert samples(families) == SAMPLES
    assert [(one.name, one.type, one.documentation) for one in families] == [
        ("orders", "counter", ORDERS.description),
        ("rooms", "gauge", "Rooms."),
        ("wait_seconds", "histogram", "Waits."),
    ]


def test_open_metrics_is_read() -> None:
    families = list(read_open(write(FAMILIES, is_open=True)))

    assert samples(families) == SAMPLES
    assert [(one.name, one.type, one.documentation) for one in families] == [
        ("orders", "counter", ORDERS.description),
        ("rooms", "gauge", "Rooms."),
        ("wait_seconds", "histogram", "Waits."),
    ]


def test_large_and_small_numbers() -> None:
    """As people write them, without losing a digit."""
    numbers = [0.0, 7.0, 0.1, 1e-09, 123456789012.0, 1796032163.4446027, 1e22]
    family = Family(
        name="n",
        kind="gauge",
        description="N.",
        labels=("at",),
        series=[((str(index),), [number]) for index, number in enumerate(numbers)],
    )
    text = write([family])

    assert list(samples(read(text)).values()) == numbers
    assert 'n{at="1"} 7\n' in text
    assert 'n{at="4"} 123456789012\n' in text


def test_nothing() -> None:
    assert write([]) == ""
    assert write([], is_open=True) == "# EOF\n"
