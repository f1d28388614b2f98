"""The metrics of a process, for its master; only a service that shows metrics loads this."""

import asyncio

from msgspec import Raw

from ..cluster.hub import hub
from ..config.base import BaseWorker
from ..gateway.business import BusinessWorker
from ..gateway.gateway import Gateway
from ..log import logger
from ..metrics.catalogue import CATALOGUE
from ..metrics.families import Family, encode
from ..runtime.measurements import Measurements
from ..runtime.process import AnyService
from ..runtime.process_metrics import ProcessState, families
from ..runtime.timer import timers
from ..runtime.worker_service import WorkerService
from ..tls.reload import CertificateReload
from .channel import MAX_LINE_SIZE
from .process_stats import ProcessStats, memory

__all__ = ["Measurements", "ProcessMetrics"]

# The rest of the line is enough for the other fields of the answer.
_MAX_SIZE = MAX_LINE_SIZE - 1024  # bytes


class ProcessMetrics:
    """Reads the numbers of a process when the master asks for them."""

    def __init__(
        self,
        worker: BaseWorker,
        service: AnyService,
        stats: ProcessStats,
        measurements: Measurements,
        certificate_reload: CertificateReload | None,
    ) -> None:
        self._worker = worker
        self._service = service
        self._stats = stats
        self._measurements = measurements
        self._certificate_reload = certificate_reload
        self._hub_counts = hub.counts
        self._node = hub.local_node
        self._has_complained = False

    def encoded(self) -> Raw:
        found = families(self._state(), self._measurements)
        data = bounded(found)
        if data is None:
            if not self._has_complained:
                self._has_complained = True
                logger.error(
                    "the metrics are too large for the master: those of the application are left"
                    " out; use fewer labels, with short values"
                )
            data = encode([one for one in found if one.name in CATALOGUE])
        return Raw(data)

    def _state(self) -> ProcessState:
        service = self._service
        return ProcessState(
            worker=self._worker.name,
            slot=self._worker.id,
            is_gateway=isinstance(self._worker, Gateway),
            is_business=isinstance(self._worker, BusinessWorker),
            counts=service.counts,
            hub_counts=self._hub_counts,
            is_bus_connected=self._node.is_connected,
            connections=service.present_count,
            websockets=len(service.connections) if isinstance(service, WorkerService) else 0,
            messages=self._stats.count_messages(asyncio.get_running_loop().time()),
            timers=timers.count,
            timer_counts=timers.counts,
            has_outgoing=bool(self._worker.outgoing),
            memory=memory(),
            contexts=service.contexts,
            certificate_reload=self._certificate_reload,
        )


def bounded(found: list[Family], *, max_size: int = _MAX_SIZE) -> bytes | None:
    """Encode families; ``None`` if that has too many bytes."""
    data = encode(found)
    return data if len(data) <= max_size else None
