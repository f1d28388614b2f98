"""
Answers the commands that ask all processes: status, connections and arrivals.

:mod:`.control_requests` describes the answers, which name the processes that are silent.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..bus.router_wire import HistoryReport
from . import channel
from .channel import (
    Answer,
    ArrivalsAnswer,
    ConnectionsAnswer,
    MetricsAnswer,
    Report,
    ReportAnswer,
)
from .child_queries import A, AnyChildQuery, ChildQuery
from .control import ControlClient
from .listeners import Listeners
from .router_process import RouterProcess
from .slots import Process, ProcessState, Slot
from .spawn import ChildProcess
from .supervisor import Supervisor

if TYPE_CHECKING:
    from .certificate_orders import CertificateOrders

# A command waits at most this long for processes that may be stuck.
_STATUS_TIMEOUT = 0.06  # seconds
_CONNECTIONS_TIMEOUT = 2.0  # seconds
_ARRIVALS_TIMEOUT = 0.5  # seconds
# Prometheus waits 10 s for all by default.
_METRICS_TIMEOUT = 1.0  # seconds


class StatusQueries:
    def __init__(
        self,
        script: str,
        supervisor: Supervisor,
        children: Mapping[int, ChildProcess],
        listeners: Sequence[Listeners],
        *,
        orders: "CertificateOrders | None" = None,
        router: RouterProcess | None = None,
    ) -> None:
        self._router = router
        self._script = script
        self._supervisor = supervisor
        self._children = children
        self._listeners = listeners
        self._orders = orders
        self._started_at = time.monotonic()
        self._started_time = time.time()
        self._queries: dict[int, AnyChildQuery] = {}
        self._query_count = 0

    def answer_status(self, client: ControlClient) -> None:
        self._ask_router()
        self._answer(channel.GetReport, ReportAnswer, self._status, client, _STATUS_TIMEOUT)

    def answer_connections(self, client: ControlClient, limit: int) -> None:
        make_message = partial(channel.GetConnections, limit=limit)
        self._answer(
            make_message, ConnectionsAnswer, self._connections, client, _CONNECTIONS_TIMEOUT
        )

    def answer_arrivals(self, client: ControlClient, nonce: str) -> None:
        make_message = partial(channel.GetArrivals, nonce=nonce)
        self._answer(make_message, ArrivalsAnswer, self._arrivals, client, _ARRIVALS_TIMEOUT)

    def history_report(self) -> HistoryReport | None:
        """What the router's history holds; ``None`` without a router."""
        return None if self._router is None else self._router.history_report

    def ask_metrics(self, on_answers: Callable[[dict[int, MetricsAnswer]], None]) -> None:
        self._ask_router()
        self._ask(channel.GetMetrics, MetricsAnswer, on_answers, _METRICS_TIMEOUT)

    def _ask_router(self) -> None:
        # Its report is there when the processes have answered.
        if self._router is not None:
            self._router.ask()

    def _answer(
        self,
        make_message: Callable[[int], channel.FromMaster],
        kind: type[A],
        describe: Callable[[dict[int, A]], dict[str, Any]],
        client: ControlClient,
        timeout: float,
    ) -> None:
        self._ask(make_message, kind, lambda answers: client.answer(**describe(answers)), timeout)

    def _ask(
        self,
        make_message: Callable[[int], channel.FromMaster],
        kind: type[A],
        on_answers: Callable[[dict[int, A]], None],
        timeout: float,
    ) -> None:
        self._query_count += 1
        message = make_message(self._query_count)
        asked = {
            pid for pid, child in self._children.items() if child.is_ready and child.send(message)
        }
        due_at = time.monotonic() + timeout
        self._queries[self._query_count] = ChildQuery(asked, due_at, kind, on_answers)

    def take(self, pid: int, answer: Answer) -> None:
        query = self._queries.get(answer.to)
        if query is not None:
            query.add_answer(pid, answer)

    def forget(self, pid: int) -> None:
        """Expect no answer from a process that has ended."""
        for query in self._queries.values():
            query.forget(pid)

    def finish(self) -> None:
        """Answer the commands whose queries are complete, or have timed out."""
        now = time.monotonic()
        for number, query in list(self._queries.items()):
            if query.is_done(now):
                del self._queries[number]
                query.finish()

    @property
    def deadlines(self) -> list[float]:
        return [query.due_at for query in self._queries.values()]

    def _status(self, answers: Mapping[int, ReportAnswer]) -> dict[str, Any]:
        supervisor, now = self._supervisor, time.monotonic()
        workers = [_describe_worker(listeners) for listeners in self._listeners]
        return {
            "master": {
                "pid": os.getpid(),
                "script": self._script,
                "uptime": round(now - self._started_at, 1),
                "started_time": self._started_time,
                "state": "reloading" if supervisor.is_reloading else supervisor.phase.value,
            },
            "workers": workers,
            "slots": [
                {
                    "worker": workers[slot.id.worker]["name"],
                    "listen": workers[slot.id.worker]["listen"],
                    "slot": slot.id.number,
                    "state": _state(slot),
                    "respawn_in": None
                    if slot.respawn_at is None
                    else round(max(slot.respawn_at - now, 0), 1),
                    "restarts": slot.restarts,
                    "recent_crashes": slot.crashes.count(now),
                    "last_exit": slot.last_exit or None,
                    "last_lines": list(slot.last_lines),
                    "processes": [
                        _describe_process(
                            process, self._children.get(process.pid), answers.get(process.pid), now
                        )
                        for process in slot.processes
                    ],
                }
                for slot in supervisor.slots
            ],
            **({} if self._router is None else {"history": self._router.history_report._asdict()}),
            **({} if self._orders is None else {"certificates": self._orders.described()}),
        }

    def _connections(self, answers: Mapping[int, ConnectionsAnswer]) -> dict[str, Any]:
        return {
            "connections": [
                {**self._place(pid), **connection}
                for pid, answer in answers.items()
                for connection in answer.connections
            ],
            "total": sum(answer.total for answer in answers.values()),
            "silent": self._silent(answers),
        }

    def _arrivals(self, answers: Mapping[int, ArrivalsAnswer]) -> dict[str, Any]:
        def listed(name: str) -> list[dict[str, Any]]:
            return [
                {"pid": pid, "worker": self._place(pid)["worker"], **one}
                for pid, answer in answers.items()
                for one in getattr(answer, name)
            ]

        return {
            "arrivals": listed("arrivals"),
            "causes": listed("causes"),
            "silent": self._silent(answers),
        }

    def _silent(self, answers: Mapping[int, Any]) -> list[int]:
        return sorted(pid for pid in self._children if pid not in answers)

    def _place(self, pid: int) -> dict[str, Any]:
        child = self._children.get(pid)
        if child is None:
            return {"pid": pid, "worker": "", "slot": None}
        slot_id = child.slot_id
        return {
            "pid": pid,
            "worker": self._supervisor.policy(slot_id).name,
            "slot": slot_id.number,
        }


def _describe_worker(listeners: Listeners) -> dict[str, Any]:
    settings, declared = listeners.plan.settings, "-"
    if settings is not None:
        scheme = "ws" if settings.contexts is None else "wss"
        declared = f"{scheme}://{str(settings.listen).partition('://')[2]}"
    return {
        "name": listeners.plan.policy.name,
        "listen": ", ".join(listeners.urls) or declared,
        "count": listeners.plan.policy.count,
    }


def _state(slot: Slot) -> str:
    if slot.is_given_up:
        return "given_up"
    if slot.current is None:
        return "waiting"
    return "starting" if slot.current.state is ProcessState.STARTING else "running"


def _describe_process(
    process: Process, child: ChildProcess | None, answer: ReportAnswer | None, now: float
) -> dict[str, Any]:
    report = answer.report if answer is not None else child and child.report
    return {
        "pid": process.pid,
        "status": _status(process, child, has_answered=answer is not None),
        "uptime": round(now - process.spawned_at, 1),
        **(report or dict.fromkeys(Report.__annotations__)),
    }


def _status(process: Process, child: ChildProcess | None, *, has_answered: bool) -> str:
    if not has_answered and child is not None and child.is_stopped:
        return "stopped"
    if process.state is ProcessState.LEAVING:
        return "draining"
    if process.state is ProcessState.STARTING:
        return "starting"
    return "idle" if has_answered else "busy"
