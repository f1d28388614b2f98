"""
The metrics of a service: sums over its processes, with those that have ended.

Processes are asked only when somebody asks for the metrics. A process that ends in order reports
its last numbers; of one that is killed, those of the last scrape remain.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Protocol

from ..bus.router_wire import HistoryReport
from ..http.response import Response
from ..log import logger
from ..metrics.catalogue import label, made
from ..metrics.exposition import OPEN_METRICS, PROMETHEUS, write
from ..metrics.families import Family, Totals, decode
from ..request import Request
from .channel import AT_END, MetricsAnswer
from .process_stats import memory
from .slots import ProcessState
from .spawn import ChildProcess
from .supervisor import Supervisor

# Answers that come sooner after another one have the same numbers.
_FRESH_TIME = 0.2  # seconds

_STATES = {
    ProcessState.STARTING: "starting",
    ProcessState.SERVING: "serving",
    ProcessState.LEAVING: "draining",
}

Ask = Callable[[Callable[[dict[int, MetricsAnswer]], None]], None]
"""Asks all processes, and calls a function with the answers of those that gave one in time."""


class Orders(Protocol):
    def described(self) -> Sequence[Mapping[str, Any]]:
        """Describe the certificates, as for `status`."""

    def order_counts(self) -> Counter[tuple[str, str]]:
        """Return how many orders have ended, by the certificate's path and the outcome."""


class ServiceMetrics:
    def __init__(
        self,
        ask: Ask,
        supervisor: Supervisor,
        children: Mapping[int, ChildProcess],
        refused: Counter[str],
        *,
        orders: Orders | None = None,
        history: Callable[[], HistoryReport | None] = lambda: None,
    ) -> None:
        self._history = history
        self.orders = orders
        self._ask = ask
        self._supervisor = supervisor
        self._children = children
        self._refused = refused
        self._started_at = self._reloaded_at = time.time()
        self._reloads: Counter[str] = Counter(success=0, failure=0)
        self._is_last_reload_good = True
        # Of the processes that have ended; and of the others, what they have reported last.
        self._ended = Totals()
        self._latest: dict[int, list[Family]] = {}
        # Those that are about to end, and answer nothing more.
        self._ending: set[int] = set()
        # Those who wait for an answer: whether it is for OpenMetrics, and who takes it.
        self._waiting: list[tuple[bool, Callable[[Response], None]]] = []
        self._asked_at = 0.0
        self._families: list[Family] = []
        self.fresh_until = 0.0

    def scrape(self, request: Request, answer: Callable[[Response], None]) -> None:
        is_open = "application/openmetrics-text" in request.headers.get("accept", "")
        now = time.monotonic()
        if now < self.fresh_until:
            answer(_response(self._families, is_open=is_open))
            return
        self._waiting.append((is_open, answer))
        if len(self._waiting) == 1:
            self._asked_at = now
            self._ask(self._answered)

    def reloaded(self, problem: str) -> None:
        self._is_last_reload_good = not problem
        self._reloads["failure" if problem else "success"] += 1
        if not problem:
            self._reloaded_at = time.time()

    def reported(self, pid: int, answer: MetricsAnswer) -> None:
        """Take what a process has measured, in answer to a question or at its end."""
        if answer.to == AT_END:
            self._ending.add(pid)
        try:
            self._latest[pid] = decode(bytes(answer.families))
        except ValueError as error:
            logger.error("the metrics of pid %d are not valid: %s", pid, error)

    def ended(self, pid: int) -> None:
        """Keep the counters of a process that has ended."""
        self._ending.discard(pid)
        self._ended.add(self._latest.pop(pid, ()), only_cumulative=True)

    def _answered(self, answers: Mapping[int, MetricsAnswer]) -> None:
        totals = Totals()
        totals.add(self._ended.families())
        for _, families in sorted(self._latest.items()):
            totals.add(families)
        silent = sum(
            child.is_ready and pid not in answers and pid not in self._ending
            for pid, child in self._children.items()
        )
        now = time.monotonic()
        totals.add(self._of_supervisor())
        totals.add(_of_acme(self.orders))
        totals.add(_of_history(self._history()))
        totals.add(
            [
                made("gateman_scrape_silent_processes", {(): silent}),
                made("gateman_scrape_duration_seconds", {(): now - self._asked_at}),
                made("gateman_scrape_dropped_series", {(): totals.dropped + self._ended.dropped}),
            ]
        )
        self._families = totals.families()
        self.fresh_until = now + _FRESH_TIME
        written: dict[bool, Response] = {}
        waiting, self._waiting = self._waiting, []
        for is_open, answer in waiting:
            if is_open not in written:
                written[is_open] = _response(self._families, is_open=is_open)
            answer(written[is_open])

    def _of_supervisor(self) -> list[Family]:
        slots: Counter[tuple[str, ...]] = Counter()
        given_up: Counter[tuple[str, ...]] = Counter()
        restarts: Counter[tuple[str, ...]] = Counter()
        states: Counter[tuple[str, ...]] = Counter()
        for slot in self._supervisor.slots:
            worker = self._supervisor.policy(slot.id).name
            slots[worker,] += 1
            given_up[worker,] += slot.is_given_up
            restarts[worker,] += slot.restarts
            for state in _STATES.values():
                states[worker, state] += 0
            for process in slot.processes:
                states[worker, _STATES[process.state]] += 1
        return [
            made("gateman_slots", slots),
            made("gateman_slots_given_up", given_up),
            made("gateman_process_restarts_total", restarts),
            made("gateman_processes", states),
            made("gateman_info", {(_version(),): 1}),
            made("gateman_start_time_seconds", {(): self._started_at}),
            made("gateman_master_resident_memory_bytes", {(): memory()}),
            made("gateman_reloads_total", {(how,): n for how, n in self._reloads.items()}),
            made("gateman_last_reload_successful", {(): self._is_last_reload_good}),
            made("gateman_last_reload_success_timestamp_seconds", {(): self._reloaded_at}),
            made(
                "gateman_scrape_connections_refused_total",
                {(cause,): self._refused[cause] for cause in ("limit", "timeout", "invalid")},
            ),
        ]


def _of_history(report: HistoryReport | None) -> list[Family]:
    if report is None:
        return []
    return [
        made("gateman_router_history_bytes", {(): report.size}),
        made("gateman_router_history_channels", {(): report.channels}),
        made("gateman_router_history_dropped_total", {(): report.dropped}),
    ]


def _of_acme(orders: Orders | None) -> list[Family]:
    if orders is None:
        return []
    failures: Counter[tuple[str, ...]] = Counter()
    renewals: dict[tuple[str, ...], float] = {}
    ended: Counter[tuple[str, ...]] = Counter()
    for (path_text, outcome), count in orders.order_counts().items():
        ended[label(path_text), outcome] += count
    for one in orders.described():
        path = (label(one["path"]),)
        failures[path] += one["failures"]
        for outcome in ("success", "failure"):
            ended[*path, outcome] += 0
        if one["renewal_at"] is not None:
            renewals[path] = one["renewal_at"]
    return [
        made("gateman_acme_orders_total", ended),
        made("gateman_acme_failures", failures),
        made("gateman_acme_renewal_timestamp_seconds", renewals),
    ]


def _version() -> str:
    # A lower layer does not import the package, which is loaded.
    return str(getattr(sys.modules["gateman"], "__version__", "unknown"))


def _response(families: list[Family], *, is_open: bool) -> Response:
    return Response(
        HTTPStatus.OK,
        write(families, is_open=is_open).encode(),
        OPEN_METRICS if is_open else PROMETHEUS,
    )
