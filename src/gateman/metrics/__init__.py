"""
Metrics of the application, beside gateman's own (``docs/monitoring.md``).

    from gateman import metrics

    orders = metrics.counter("orders_total", "Orders placed.", labels=["kind"])

    @worker.on_message
    def order(connection, message):
        orders.inc(kind="card")

Values are kept in this process; with ``Worker.run_all(metrics="127.0.0.1:9095")`` the service shows
their sums over all processes. Without that, they can be used just the same. Of each metric 1000
series are kept, and of a process 10000; further ones are counted and not kept.
"""

from collections.abc import Iterable

from .exposition import write
from .families import Combine
from .instruments import DEFAULT_BUCKETS, Counter, Gauge, Histogram, Registry

__all__ = ["Counter", "Gauge", "Histogram", "counter", "gauge", "histogram", "registry", "text"]

registry = Registry()
"""All metrics of this process, for gateman's own modules."""


def counter(name: str, description: str, *, labels: Iterable[str] = ()) -> Counter:
    """
    Declare a number that only grows, such as ``orders_total``.

    The service shows the sum over all processes, with those that have ended. A second declaration
    with the same arguments returns the same counter.

    Args:
        name: Letters, digits and ``_``; it ends in ``_total``.
        description: What it counts, for people who read the metrics.
        labels: Names of labels. Give them few values: each combination is a series.

    Returns:
        The counter.

    Raises:
        ConfigError: A name is not valid, or it is declared differently already.
    """
    return registry.counter(name, description, labels)


def gauge(
    name: str, description: str, *, labels: Iterable[str] = (), combine: Combine = "sum"
) -> Gauge:
    """
    Declare a number that goes up and down, such as ``rooms``.

    The value of a process that has ended is gone.

    Args:
        name: Letters, digits and ``_``.
        description: What it says, with its unit.
        labels: Names of labels. Give them few values: each combination is a series.
        combine: What the service shows for several processes: their ``"sum"``, ``"max"`` or
            ``"min"``.

    Returns:
        The gauge.

    Raises:
        ConfigError: A name is not valid, or it is declared differently already.
    """
    return registry.gauge(name, description, labels, combine)


def histogram(
    name: str,
    description: str,
    *,
    labels: Iterable[str] = (),
    buckets: Iterable[float] = DEFAULT_BUCKETS,
) -> Histogram:
    """
    Declare a distribution of values, such as ``payment_seconds``.

    The service shows the sum over all processes, with those that have ended.

    Args:
        name: Letters, digits and ``_``.
        description: What it says, with its unit.
        labels: Names of labels. Give them few values: each combination is a series for each
            bucket.
        buckets: The upper bounds of the ranges, rising; the last range has no bound.

    Returns:
        The histogram.

    Raises:
        ConfigError: A name is not valid, or it is declared differently already.
    """
    return registry.histogram(name, description, labels, buckets)


def text() -> str:
    """
    Write the application's metrics of this process in Prometheus's text format.

    It is for tests, and for a program that serves with :func:`gateman.serve` and has a page for
    metrics of its own.

    Returns:
        The text.
    """
    return write(registry.families())
