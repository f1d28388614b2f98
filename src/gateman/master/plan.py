"""What the declared workers come to, all of them together, before anything listens."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from ..config.base import BaseWorker
from ..config.settings import WorkerSettings
from ..config.worker import Worker, settings_of
from ..errors import ConfigError
from ..gateway.bus_check import check_buses
from ..gateway.business import BusinessWorker
from ..listen import ListenAddress
from . import privileges
from .events import Policy

_POLICY_FIELDS = frozenset(field.name for field in fields(Policy))

_EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - what users write, compared


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerPlan:
    """One worker, checked."""

    worker: BaseWorker
    settings: WorkerSettings | None
    policy: Policy
    identity: privileges.Identity | None


def plan(workers: Sequence[BaseWorker], *, now: float) -> list[WorkerPlan]:
    """
    Check everything that was declared; nothing is bound, and no event loop is made.

    Raises:
        ConfigError: Something cannot be, two workers want the same address, or gateways and
            business workers would not find each other.
    """
    if not workers:
        raise ConfigError("no worker is declared", 'write Worker("websocket://0.0.0.0:8282")')
    planned: list[WorkerPlan] = []
    addresses: list[ListenAddress] = []
    for worker in workers:
        settings = settings_of(worker, now=now) if isinstance(worker, Worker) else None
        if settings is not None:
            _check_address(settings.listen, addresses)
            addresses.append(settings.listen)
        planned.append(
            WorkerPlan(
                worker=worker,
                settings=settings,
                policy=policy_of(worker),
                identity=privileges.find(worker.user, worker.group),
            )
        )
    check_buses(workers)
    return planned


def listen_of(worker: BaseWorker) -> str:
    """Tell where a worker listens."""
    return worker.listen if isinstance(worker, Worker) else ""


def policy_of(worker: BaseWorker) -> Policy:
    """Read how a worker's processes are to be supervised."""
    timeouts = worker.timeouts
    drain = worker.drain_window
    if isinstance(worker, Worker):
        # Who is arriving has the time that a handshake may take.
        drain = max(drain, timeouts.handshake)
    # The options that a policy has under the same name.
    shared = {name: getattr(worker, name) for name in worker.options.keys() & _POLICY_FIELDS}
    return Policy(
        **shared,
        start=timeouts.start,
        stall=timeouts.stall,
        shutdown=timeouts.shutdown,
        drain=drain,
        # When gateways part from their clients, the application hears of it.
        ends_last=isinstance(worker, BusinessWorker),
    )


def _check_address(listen: ListenAddress, others: Sequence[ListenAddress]) -> None:
    for other in others:
        if _clash(other, listen):
            raise ConfigError(
                f"two workers listen on {_where(other, listen)}",
                "give each an address of its own; count=2 is one worker with two processes",
            )


def _clash(one: ListenAddress, other: ListenAddress) -> bool:
    if one.path or other.path:
        return one.path == other.path
    if one.port != other.port or not one.port:
        return False
    return one.host == other.host or bool(_EVERYWHERE & {one.host, other.host})


def _where(one: ListenAddress, other: ListenAddress) -> str:
    return str(one) if str(one) == str(other) else f"one port: {one} and {other}"
