"""What an application declares and counts."""

import threading
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families as read

from gateman import ConfigError, metrics
from gateman.metrics.families import MAX_SERIES
from gateman.metrics.instruments import MAX_ALL_SERIES, MAX_INSTRUMENTS, Registry


@pytest.fixture
def registry() -> Registry:
    return Registry()


def values(registry: Registry) -> dict[str, list[tuple[tuple[str, ...], list[float]]]]:
    return {family.name: family.series for family in registry.families()}


def test_counter(registry: Registry) -> None:
    orders = registry.counter("orders_total", "Orders.", ["kind"])
    orders.inc(kind="card")
    orders.inc(2.5, kind="card")
    orders.inc(0, kind=7)

    assert orders.value(kind="card") == 3.5
    assert orders.value(kind="none") == 0
    assert values(registry) == {"orders_total": [(("card",), [3.5]), (("7",), [0])]}


def test_gauge(registry: Registry) -> None:
    rooms = registry.gauge("rooms", "Rooms.", (), "max")
    rooms.set(3)
    rooms.inc()
    rooms.dec(2)
    [family] = registry.families()

    assert rooms.value() == 2
    assert (family.combine, family.series) == ("max", [((), [2])])


def test_histogram(registry: Registry) -> None:
    waits = registry.histogram("wait_seconds", "Waits.", (), (0.1, 1))
    for value in (0.1, 0.2, 1, 50):
        waits.observe(value)
    [family] = registry.families()

    assert waits.count() == 4
    assert (family.bounds, family.series) == ((0.1, 1), [((), [1, 2, 1, 51.3])])


def test_what_has_not_happened_yet_is_zero(registry: Registry) -> None:
    """Without labels: an alert on a rate needs the value before the first event."""
    registry.counter("orders_total", "Orders.", ())
    registry.counter("users_total", "Users.", ["kind"])

    assert values(registry) == {"orders_total": [((), [0])], "users_total": []}


def test_series_above_the_limit_are_counted_and_not_kept(registry: Registry) -> None:
    orders = registry.counter("orders_total", "Orders.", ["user"])
    for number in range(MAX_SERIES + 5):
        orders.inc(user=number)
    orders.inc(user=0)
    found = values(registry)

    assert len(found["orders_total"]) == MAX_SERIES
    assert orders.value(user=0) == 2
    assert found["gateman_metrics_dropped_updates_total"] == [(("orders_total",), [5])]


def test_series_of_all_metrics_have_a_limit(registry: Registry) -> None:
    for number in range(MAX_ALL_SERIES // MAX_SERIES + 1):
        one = registry.counter(f"m{number}_total", "M.", ["user"])
        for user in range(MAX_SERIES):
            one.inc(user=user)
    found = values(registry)

    assert sum(map(len, found.values())) == MAX_ALL_SERIES + 1
    assert found["gateman_metrics_dropped_updates_total"] == [(("m10_total",), [MAX_SERIES])]


def test_labels_are_not_a_method(registry: Registry) -> None:
    """As they are of a metric of prometheus_client."""
    orders = registry.counter("orders_total", "Orders.", ["kind", "shop"])

    assert tuple(orders.labels) == ("kind", "shop")
    calls: list[Callable[[], object]] = [
        lambda: orders.labels("card", "x"),
        lambda: orders.labels(kind="card"),
    ]
    for call in calls:
        with pytest.raises(ConfigError) as caught:
            call()
        assert str(caught.value) == (
            "labels of a metric is not a method: give their values with the number, as in"
            " inc(kind=…, shop=…)."
        )


def test_values_of_labels_are_cut(registry: Registry) -> None:
    """They may be what clients have sent; half a character is replaced."""
    orders = registry.counter("orders_total", "Orders.", ["user"])
    orders.inc(user="x" * 1000)
    orders.inc(user="\ud800")

    assert values(registry)["orders_total"] == [(("x" * 128,), [1]), (("?",), [1])]


def test_threads_count_together(registry: Registry) -> None:
    orders = registry.counter("orders_total", "Orders.", ())

    def count() -> None:
        for _ in range(5000):
            orders.inc()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert orders.value() == 20_000


def test_a_second_declaration_is_the_first_one(registry: Registry) -> None:
    """A module that is loaded twice counts on."""
    first = registry.histogram("wait_seconds", "Waits.", ["a"], (1, 2))

    assert registry.histogram("wait_seconds", "Waits!", ["a"], (1, 2)) is first
    for declare in (
        lambda: registry.histogram("wait_seconds", "Waits.", ["a"], (1, 3)),
        lambda: registry.histogram("wait_seconds", "Waits.", ["b"], (1, 2)),
        lambda: registry.gauge("wait_seconds", "Waits.", ["a"], "sum"),
    ):
        with pytest.raises(ConfigError, match="was declared before, as another one"):
            declare()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda r: r.counter("orders", "O.", ()),
            "the counter 'orders' does not end in _total: write orders_total.",
        ),
        (
            lambda r: r.counter("2_total", "O.", ()),
            "'2_total' is not a name of a metric: use up to 100 letters, digits and _, and no"
            " digit first.",
        ),
        (
            lambda r: r.counter("gateman_x_total", "O.", ()),
            "the metric 'gateman_x_total' would be gateman's own: do not begin its name with"
            " gateman_.",
        ),
        (
            lambda r: r.counter("o_total", " ", ()),
            "the metric 'o_total' has no description: say in one sentence what it counts.",
        ),
        (
            lambda r: r.counter("o_total", "O.", "kind"),
            "labels='kind' of 'o_total' is a text: write labels=['kind'].",
        ),
        (
            lambda r: r.counter("o_total", "O.", ["a b"]),
            "'a b' is not a name of a label of 'o_total': use letters, digits and _, and neither a"
            " digit nor __ first.",
        ),
        (
            lambda r: r.counter("o_total", "O.", ["a", "a"]),
            "'o_total' has labels twice, or more than 16: name each once.",
        ),
        (
            lambda r: r.gauge("o_total", "O.", (), "sum"),
            "the gauge 'o_total' ends in _total, which has a meaning of its own: give it another"
            " name.",
        ),
        (
            lambda r: r.gauge("o", "O.", (), "mean"),
            "combine='mean' is not a way to combine the values of processes: use 'sum', 'max' or"
            " 'min'.",
        ),
        (
            lambda r: r.histogram("o", "O.", ["le"], (1,)),
            "the label 'le' of 'o' is the histogram's own: give it another name.",
        ),
        (
            lambda r: r.histogram("o", "O.", (), (2, 1)),
            "the buckets of 'o' are not up to 50 rising numbers: write buckets=(0.1, 0.5, 1, 5).",
        ),
        (
            lambda r: r.counter("o_total", "O.", ["a"]).inc(b=1),
            "o_total was given the labels b: it is declared with a.",
        ),
        (
            lambda r: r.counter("o_total", "O.", ["a"]).inc(),
            "o_total was given the labels none: it is declared with a.",
        ),
    ],
)
def test_mistakes_are_told_in_a_sentence(registry: Registry, call: object, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        call(registry)  # type: ignore[operator]

    assert str(caught.value) == text


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf")])
def test_a_counter_only_grows(registry: Registry, amount: float) -> None:
    with pytest.raises(ValueError, match="orders_total cannot grow by"):
        registry.counter("orders_total", "Orders.", ()).inc(amount)


def test_values_are_finite(registry: Registry) -> None:
    with pytest.raises(ValueError, match="nan is not a value for rooms"):
        registry.gauge("rooms", "Rooms.", (), "sum").set(float("nan"))
    with pytest.raises(ValueError, match="inf is not a value for waits"):
        registry.histogram("waits", "Waits.", (), (1,)).observe(float("inf"))


def test_metrics_have_a_limit(registry: Registry) -> None:
    for number in range(MAX_INSTRUMENTS):
        registry.gauge(f"m{number}", "M.", (), "sum")

    with pytest.raises(ConfigError, match="'more' is one metric too many"):
        registry.gauge("more", "M.", (), "sum")


@pytest.fixture
def names() -> Iterator[None]:
    yield
    metrics.registry.clear()


@pytest.mark.usefixtures("names")
def test_text_is_what_prometheus_reads() -> None:
    """The names of the module, which users import."""
    metrics.counter("test_orders_total", "Orders.", labels=["kind"]).inc(kind="card")
    metrics.gauge("test_rooms", "Rooms.", combine="max").set(2)
    metrics.histogram("test_wait_seconds", "Waits.", buckets=[1]).observe(3)
    found = {
        one.name: one.value
        for family in read(metrics.text())
        for one in family.samples
        if "test_" in one.name
    }

    assert found == {
        "test_orders_total": 1,
        "test_rooms": 2,
        "test_wait_seconds_bucket": 1,
        "test_wait_seconds_sum": 3,
        "test_wait_seconds_count": 1,
    }


@pytest.mark.usefixtures("names")
def test_values_are_forgotten() -> None:
    """What tests of handlers begin with."""
    orders = metrics.counter("test_orders_total", "Orders.", labels=["kind"])
    orders.inc(kind="card")
    metrics.registry.clear()

    assert orders.value(kind="card") == 0
    orders.inc(kind="card")
    assert orders.value(kind="card") == 1
