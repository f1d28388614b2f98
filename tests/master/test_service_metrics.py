"""Sums over processes that answer, do not answer, and have ended."""

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import msgspec
from prometheus_client.openmetrics import parser as open_metrics
from prometheus_client.parser import text_string_to_metric_families as read

from gateman.bus.router_wire import HistoryReport
from gateman.http.response import Response
from gateman.master.channel import AT_END, MetricsAnswer
from gateman.master.events import Policy
from gateman.master.service_metrics import ServiceMetrics
from gateman.master.supervisor import Supervisor
from gateman.metrics.families import Family, encode
from gateman.request import Request, parse_request

read_open: Any = open_metrics.text_string_to_metric_families

REQUEST = parse_request(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", max_header_count=9)
OPEN_REQUEST = parse_request(
    b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text;version=1.0.0\r\n"
    b"\r\n",
    max_header_count=9,
)


def report(count: float, rooms: float = 0, number: int = 1) -> MetricsAnswer:
    families = [
        Family(name="orders_total", kind="counter", description="O.", series=[((), [count])]),
        Family(name="rooms", kind="gauge", description="R.", series=[((), [rooms])]),
    ]
    return MetricsAnswer(number, msgspec.Raw(encode(families)))


class Site:
    """Processes that answer as the test says."""

    def __init__(self, *pids: int) -> None:
        self.children: dict[int, Any] = {pid: SimpleNamespace(is_ready=True) for pid in pids}
        self.asked: list[Callable[[dict[int, MetricsAnswer]], None]] = []
        self.answers: list[Response] = []
        supervisor = Supervisor([Policy(name="chat", count=2)])
        self.metrics = ServiceMetrics(
            self.asked.append, supervisor, cast("Any", self.children), Counter(limit=3)
        )

    def scrape(self, request: Request = REQUEST, **answered: MetricsAnswer) -> dict[str, float]:
        """Scrape, after a pause, and give the samples without labels."""
        self.metrics.fresh_until = 0  # As after a fifth of a second
        self.metrics.scrape(request, self.answers.append)
        answers = {int(pid[1:]): answer for pid, answer in answered.items()}
        for pid, answer in answers.items():
            self.metrics.reported(pid, answer)
        self.asked.pop()(answers)
        return samples(self.answers[-1])


def samples(response: Response) -> dict[str, float]:
    families = read(response.body.decode())
    return {one.name: one.value for family in families for one in family.samples if not one.labels}


def test_processes_are_summed() -> None:
    found = Site(1, 2).scrape(p1=report(3, 1), p2=report(4, 1))

    assert (found["orders_total"], found["rooms"]) == (7, 2)
    assert found["gateman_scrape_silent_processes"] == 0


def test_a_silent_process_is_told_and_has_its_last_numbers() -> None:
    """So its counters do not go back."""
    site = Site(1, 2)
    site.scrape(p1=report(3), p2=report(4))
    found = site.scrape(p1=report(5))

    assert found["orders_total"] == 9
    assert found["gateman_scrape_silent_processes"] == 1


def test_a_process_that_has_ended_leaves_its_counters() -> None:
    site = Site(1, 2)
    site.scrape(p1=report(3, 1), p2=report(4, 1))
    site.metrics.reported(1, report(30, 9, AT_END))
    while_it_ends = site.scrape(p2=report(4, 1))
    del site.children[1]
    site.metrics.ended(1)
    after = site.scrape(p2=report(5, 1))

    assert while_it_ends["orders_total"] == 34
    assert while_it_ends["gateman_scrape_silent_processes"] == 0
    assert (after["orders_total"], after["rooms"]) == (35, 1)


def test_a_process_that_was_killed_leaves_what_it_reported_last() -> None:
    site = Site(1)
    site.scrape(p1=report(3))
    del site.children[1]
    site.metrics.ended(1)

    assert site.scrape()["orders_total"] == 3


def test_scrapes_at_the_same_time_ask_once() -> None:
    """Many scrapers cost the processes no more than one."""
    site = Site(1)
    for _ in range(3):
        site.metrics.scrape(REQUEST, site.answers.append)
    [answered] = site.asked
    site.metrics.reported(1, report(3))
    answered({1: report(3)})
    site.metrics.scrape(REQUEST, site.answers.append)

    assert len(site.asked) == 1
    assert [samples(one)["orders_total"] for one in site.answers] == [3] * 4


def test_open_metrics_is_written_for_who_asks_for_it() -> None:
    site = Site(1)
    site.scrape(p1=report(3))
    site.metrics.scrape(OPEN_REQUEST, site.answers.append)
    answer = site.answers[-1]
    names = {family.name for family in read_open(answer.body.decode())}

    assert answer.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert {"orders", "rooms", "gateman_info"} <= names
    assert site.answers[0].content_type == "text/plain; version=0.0.4; charset=utf-8"


def test_reloads_are_counted() -> None:
    site = Site()
    before = site.scrape()
    site.metrics.reloaded("it failed")
    failed = site.scrape()
    site.metrics.reloaded("")
    found = [site.scrape(), before, failed]
    reloads = {
        one.labels["outcome"]: one.value
        for family in read(site.answers[-1].body.decode())
        for one in family.samples
        if one.name == "gateman_reloads_total"
    }

    assert [one["gateman_last_reload_successful"] for one in found] == [1, 1, 0]
    times = [one["gateman_last_reload_success_timestamp_seconds"] for one in found]
    assert times[0] > times[1] == times[2]
    assert reloads == {"success": 1, "failure": 1}


def test_certificates_by_acme() -> None:
    """Orders that have failed in a row, and when the next one is due."""
    site = Site()
    described = [
        {"path": "/a.pem", "failures": 2, "renewal_at": 1.8e9},
        {"path": "/b.pem", "failures": 0, "renewal_at": None},
    ]
    site.metrics.orders = cast(  # As the master passes it
        "Any",
        SimpleNamespace(
            described=lambda: described,
            order_counts=lambda: Counter({("/a.pem", "success"): 1, ("/a.pem", "failure"): 3}),
        ),
    )
    site.scrape()
    found = {
        (one.name, *one.labels.values()): one.value
        for family in read(site.answers[-1].body.decode())
        for one in family.samples
        if "acme" in one.name
    }

    assert found == {
        ("gateman_acme_orders_total", "/a.pem", "success"): 1,
        ("gateman_acme_orders_total", "/a.pem", "failure"): 3,
        ("gateman_acme_orders_total", "/b.pem", "success"): 0,
        ("gateman_acme_orders_total", "/b.pem", "failure"): 0,
        ("gateman_acme_failures", "/a.pem"): 2,
        ("gateman_acme_failures", "/b.pem"): 0,
        ("gateman_acme_renewal_timestamp_seconds", "/a.pem"): 1.8e9,
    }


def test_what_a_process_sends_is_checked() -> None:
    """Its numbers are not used, and those before stay."""
    site = Site(1)
    site.scrape(p1=report(3))
    found = site.scrape(p1=MetricsAnswer(1, msgspec.Raw(b'[{"name":"a b"}]')))

    assert found["orders_total"] == 3


def test_the_history_of_a_router_is_measured() -> None:
    """A service without a router keeps none."""
    site = Site(1)
    assert "gateman_router_history_bytes" not in site.scrape(p1=report(1))
    metrics = ServiceMetrics(
        site.asked.append,
        Supervisor([Policy(name="chat", count=1)]),
        {},
        Counter(),
        history=lambda: HistoryReport(1000, 2, 3),
    )
    metrics.scrape(REQUEST, site.answers.append)
    site.asked.pop()({})
    found = samples(site.answers[-1])

    assert [found[f"gateman_router_history_{one}"] for one in ("bytes", "channels")] == [1000, 2]
    assert found["gateman_router_history_dropped_total"] == 3
