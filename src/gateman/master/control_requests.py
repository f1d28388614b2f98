"""
What a command and a master say to each other, over the control socket. PURE.

What it means is in :mod:`.control`. Both sides check in full what they read.
"""

from typing import Annotated, Any, NotRequired, TypedDict

import msgspec
from msgspec import Meta, Struct

from .channel import ConnectionReport

DEFAULT_LIMIT = 1000
"""How many connections of each process are listed."""


# Requests.


class GetStatus(Struct, tag_field="command", tag="status"):
    """How is the service?"""


class ListConnections(Struct, tag_field="command", tag="connections"):
    """Who is connected?"""

    limit: Annotated[int, Meta(ge=1, le=1 << 31)] = DEFAULT_LIMIT


class Stop(Struct, tag_field="command", tag="stop"):
    """End the service."""

    graceful: bool = False


class Reload(Struct, tag_field="command", tag="reload"):
    """Renew the processes."""

    gently: bool = False
    all: bool = False


class GetBus(Struct, tag_field="command", tag="bus"):
    """What reaches the hubs of the processes?"""


class HangUp(Struct, tag_field="command", tag="hangup"):
    """Read certificates again, and reopen logs."""


Request = GetStatus | ListConnections | Stop | Reload | GetBus | HangUp

requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


# Answers.


class ControlAnswer(TypedDict):
    """The part that all answers have; they have an ``error`` where ``ok`` is false."""

    ok: bool
    error: NotRequired[str]


class StopAnswer(ControlAnswer):
    """The answer to :class:`Stop`."""

    pid: int


class BusAnswer(ControlAnswer):
    """The answer to :class:`GetBus`."""

    bus: str | dict[str, Any] | None


class ListedConnection(ConnectionReport):
    """One line of :class:`ListAnswer`."""

    pid: int
    worker: str
    slot: int | None


class ListAnswer(ControlAnswer):
    """The answer to :class:`ListConnections`."""

    connections: list[ListedConnection]
    total: int
    silent: list[int]


class MasterStatus(TypedDict):
    """Part of :class:`StatusAnswer`."""

    pid: int
    script: str
    state: str
    uptime: float
    started_time: float


class WorkerStatus(TypedDict):
    """Part of :class:`StatusAnswer`."""

    name: str
    listen: str
    count: int


class ProcessStatus(TypedDict):
    """Part of :class:`StatusAnswer`."""

    pid: int
    status: str
    uptime: float
    memory: int | None
    connections: int | None
    messages: int | None
    qps: float | None
    send_fail: int | None
    timers: int | None
    lag: float | None
    counts: dict[str, int] | None
    certificate_days: int | None


class SlotStatus(TypedDict):
    """Part of :class:`StatusAnswer`."""

    worker: str
    listen: str
    slot: int
    state: str
    respawn_in: float | None
    restarts: int
    last_exit: str | None
    last_lines: list[str]
    processes: list[ProcessStatus]


class StatusAnswer(ControlAnswer):
    """The answer to :class:`GetStatus`."""

    master: MasterStatus
    workers: list[WorkerStatus]
    slots: list[SlotStatus]
