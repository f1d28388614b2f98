"""
Requests and answers of the control socket, whose form :mod:`.control` describes. PURE.

Both sides validate each message completely.
"""

from typing import Annotated, Any, NotRequired, TypedDict

import msgspec
from msgspec import Meta, Struct

from .channel import ArrivalReport, CauseReport, ConnectionReport, Nonce

DEFAULT_LIMIT = 1000
"""Connections of each process."""


# Requests.


class GetStatus(Struct, tag_field="command", tag="status"):
    """Answered within 100 ms, for busy processes with the values of their latest heartbeat."""


class ListConnections(Struct, tag_field="command", tag="connections"):
    limit: Annotated[int, Meta(ge=1, le=1 << 31)] = DEFAULT_LIMIT


class Stop(Struct, tag_field="command", tag="stop"):
    """Answered at once; the master closes the connection when it has ended."""

    graceful: bool = False


class Reload(Struct, tag_field="command", tag="reload"):
    """Answered when every slot has its new process, or the reload has failed."""

    gently: bool = False  # a slot waits until the previous one has drained
    all: bool = False  # also the workers that are not reloadable


class GetBus(Struct, tag_field="command", tag="bus"):
    pass


class HangUp(Struct, tag_field="command", tag="hangup"):
    """Re-read certificates and reopen logs, as SIGHUP does."""


class GetArrivals(Struct, tag_field="command", tag="arrivals"):
    """Processes record these handshakes from the first request until 30 s after the last one."""

    nonce: Nonce


class RenewCertificates(Struct, tag_field="command", tag="renew"):
    """Answered when the orders have ended."""

    name: str = ""  # a name of the certificate; empty for all of them


Request = (
    GetStatus | ListConnections | Stop | Reload | GetBus | HangUp | GetArrivals | RenewCertificates
)

ANSWERED_LATE = Reload | RenewCertificates
"""The others are answered at once."""

requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


# Answers.


class ControlAnswer(TypedDict):
    """Common to all answers; ``error`` is present if ``ok`` is false."""

    ok: bool
    error: NotRequired[str]


class StopAnswer(ControlAnswer):
    pid: int


class ReloadAnswer(ControlAnswer):
    notes: NotRequired[list[str]]  # what was declared and needs a `restart`


class BusAnswer(ControlAnswer):
    bus: str | dict[str, Any] | None  # a URL, or a mapping with a ``url`` and options


class RenewAnswer(ControlAnswer):
    lines: list[str]  # of the log
    certificates: list[dict[str, Any]]  # as in `StatusAnswer`, the ordered ones


class ListedConnection(ConnectionReport):
    pid: int
    worker: str
    slot: int | None


class ListAnswer(ControlAnswer):
    connections: list[ListedConnection]
    total: int  # of all connections
    silent: list[int]  # the pids that did not answer


class ListedArrival(ArrivalReport):
    pid: int
    worker: str


class ListedCause(CauseReport):
    pid: int
    worker: str


class ListArrivalsAnswer(ControlAnswer):
    arrivals: list[ListedArrival]
    causes: list[ListedCause]  # what went wrong meanwhile, with the nonce or without
    silent: list[int]


class MasterStatus(TypedDict):
    pid: int
    script: str
    state: str  # starting, running, reloading or stopping
    uptime: float  # seconds
    started_time: float  # seconds since 1970


class WorkerStatus(TypedDict):
    name: str
    listen: str  # such as ``wss://0.0.0.0:8282``, or ``-`` for a business worker
    count: int


class ProcessStatus(TypedDict):
    """What is ``None`` before the first heartbeat is described by :class:`.channel.Report`."""

    pid: int
    status: str  # idle (it answered just now), busy, starting, draining, or stopped (by SIGSTOP)
    uptime: float  # seconds
    memory: int | None
    connections: int | None
    messages: int | None
    qps: float | None
    send_fail: int | None
    timers: int | None
    lag: float | None
    counts: dict[str, int] | None
    hub: dict[str, int] | None
    certificate_days: int | None


class SlotStatus(TypedDict):
    worker: str
    listen: str
    slot: int
    state: str  # starting, running, waiting (for `respawn_in`) or given_up
    respawn_in: float | None  # seconds
    restarts: int  # how many ended processes were replaced
    recent_crashes: NotRequired[int]  # in the last five minutes
    last_exit: str | None  # how the last failed process ended
    last_lines: list[str]  # the end of its standard error
    processes: list[ProcessStatus]  # usually one; more while a process is being replaced


class StatusAnswer(ControlAnswer):
    master: MasterStatus
    workers: list[WorkerStatus]
    slots: list[SlotStatus]  # in order
    # What the router keeps: see :class:`gateman.bus.router_wire.HistoryReport`.
    history: NotRequired[dict[str, int]]
    # Those by ``acme``, as of the last look: see :class:`gateman.acme.state.CertificateStatus`.
    certificates: NotRequired[list[dict[str, Any]]]
