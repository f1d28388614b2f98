"""Checks all declared workers together, before any of them listens."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from ..config.base import BaseWorker
from ..config.channels import kept_by
from ..config.settings import WorkerSettings
from ..config.worker import Worker, settings_of
from ..errors import ConfigError
from ..gateway.bus_check import check_buses
from ..gateway.business import BusinessWorker
from ..listen import ListenAddress
from . import privileges
from .events import Policy

if TYPE_CHECKING:
    from ..acme.options import AcmeOptions

_POLICY_FIELDS = frozenset(Policy.__struct_fields__)

_EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - what users write, compared


class WorkerPlan(Struct, frozen=True, kw_only=True):
    worker: BaseWorker
    settings: WorkerSettings | None
    policy: Policy
    identity: privileges.Identity | None

    @property
    def acme_places(self) -> list[str]:
        return [] if self.settings is None else acme_places(self.settings.acme)


def plan(workers: Sequence[BaseWorker], *, now: float) -> list[WorkerPlan]:
    """Check all workers, without binding an address; ``now`` is in seconds since 1970."""
    check_declared(workers)
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
    # Raises if two workers contradict each other.
    kept_by(workers)
    certificates = [one for each in planned if each.settings for one in each.settings.acme]
    if certificates:
        # Imported here: only a service with acme needs it.
        from ..acme.options import check_together

        check_together(certificates)
    for http in dict.fromkeys(one.http for one in certificates if one.http):
        _check_address(ListenAddress.parse(f"websocket://{http}"), addresses)
    check_buses(workers)
    return planned


def check_declared(workers: Sequence[BaseWorker]) -> None:
    if not workers:
        raise ConfigError("no worker is declared", 'write Worker("websocket://0.0.0.0:8282")')


def acme_places(certificates: "Iterable[AcmeOptions]") -> list[str]:
    """Return what the master has made for ACME, and a reload cannot change."""
    return sorted({f"{one.storage} {one.http}" for one in certificates})


def listen_of(worker: BaseWorker) -> str:
    """Return the address of a worker; empty for a business worker."""
    return worker.listen if isinstance(worker, Worker) else ""


def policy_of(worker: BaseWorker) -> Policy:
    timeouts = worker.timeouts
    drain = worker.drain_window
    if isinstance(worker, Worker):
        # A handshake that has begun may finish.
        drain = max(drain, timeouts.handshake)
    # Options that are also fields of a policy.
    shared = {name: getattr(worker, name) for name in worker.options.keys() & _POLICY_FIELDS}
    return Policy(
        **shared,
        start=timeouts.start,
        stall=timeouts.stall,
        shutdown=timeouts.shutdown,
        drain=drain,
        # Business workers handle the events of the connections that gateways close.
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
