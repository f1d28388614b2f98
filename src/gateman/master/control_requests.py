"""
Requests and answers of the control socket, which :mod:`.control` describes. PURE.

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
    pass


class ListConnections(Struct, tag_field="command", tag="connections"):
    limit: Annotated[int, Meta(ge=1, le=1 << 31)] = DEFAULT_LIMIT


class Stop(Struct, tag_field="command", tag="stop"):
    graceful: bool = False


class Reload(Struct, tag_field="command", tag="reload"):
    gently: bool = False
    all: bool = False


class GetBus(Struct, tag_field="command", tag="bus"):
    pass


class HangUp(Struct, tag_field="command", tag="hangup"):
    pass


class GetArrivals(Struct, tag_field="command", tag="arrivals"):
    nonce: Nonce


class RenewCertificates(Struct, tag_field="command", tag="renew"):
    name: str = ""  # a name of the certificate; empty for all of them


Request = (
    GetStatus | ListConnections | Stop | Reload | GetBus | HangUp | GetArrivals | RenewCertificates
)

requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


# Answers.


class ControlAnswer(TypedDict):
    """Common to all answers; ``error`` is present if ``ok`` is false."""

    ok: bool
    error: NotRequired[str]


class StopAnswer(ControlAnswer):
    pid: int


class BusAnswer(ControlAnswer):
    bus: str | dict[str, Any] | None


class RenewAnswer(ControlAnswer):
    lines: list[str]
    certificates: list[dict[str, Any]]


class ListedConnection(ConnectionReport):
    pid: int
    worker: str
    slot: int | None


class ListAnswer(ControlAnswer):
    connections: list[ListedConnection]
    total: int
    silent: list[int]


class ListedArrival(ArrivalReport):
    pid: int
    worker: str


class ListedCause(CauseReport):
    pid: int
    worker: str


class ListArrivalsAnswer(ControlAnswer):
    arrivals: list[ListedArrival]
    causes: list[ListedCause]
    silent: list[int]


class MasterStatus(TypedDict):
    pid: int
    script: str
    state: str
    uptime: float  # seconds
    started_time: float  # seconds since 1970


class WorkerStatus(TypedDict):
    name: str
    listen: str
    count: int


class ProcessStatus(TypedDict):
    pid: int
    status: str
    uptime: float  # seconds
    memory: int | None  # bytes
    connections: int | None
    messages: int | None
    qps: float | None
    send_fail: int | None
    timers: int | None
    lag: float | None  # seconds
    counts: dict[str, int] | None
    hub: dict[str, int] | None
    certificate_days: int | None


class SlotStatus(TypedDict):
    worker: str
    listen: str
    slot: int
    state: str
    respawn_in: float | None  # seconds
    restarts: int
    last_exit: str | None
    last_lines: list[str]
    processes: list[ProcessStatus]


class StatusAnswer(ControlAnswer):
    master: MasterStatus
    workers: list[WorkerStatus]
    slots: list[SlotStatus]
    certificates: NotRequired[list[dict[str, Any]]]
