"""The services of production, which a test may also end as if their process were killed."""

import dataclasses
from typing import Any

from msgspec.structs import replace

from ..gateway.business_service import BusinessService
from ..gateway.gateway_service import GatewayService
from ..options import Timeouts
from ..runtime.worker_service import WorkerService

# Seconds that a killed process takes.
_AT_ONCE = 0.001


class MortalWorker(WorkerService):
    """A worker's service."""

    is_dead = False

    def die(self) -> None:
        """Call no callback any more, and end all connections without a Close; then stop it."""
        self.is_dead = True
        _silence(self._functions)
        self.settings = replace(self.settings, timeouts=_hurried(self.settings.timeouts))
        for connection in list(self._present):
            connection.destroy()


class MortalGateway(MortalWorker, GatewayService):
    """A gateway's service."""

    async def _wait_until_settled(self, seconds: float) -> None:
        if not self.is_dead:
            await super()._wait_until_settled(seconds)


class MortalBusiness(BusinessService):
    """A business worker's service."""

    def die(self) -> None:
        """Call no callback any more; then stop it."""
        _silence(self._worker.callbacks)
        self._timeouts = _hurried(self._timeouts)


MortalService = MortalWorker | MortalBusiness


def _hurried(timeouts: Timeouts) -> Timeouts:
    return dataclasses.replace(timeouts, shutdown=_AT_ONCE)


def _silence(functions: dict[str, Any]) -> None:
    functions.update(dict.fromkeys(functions, _nothing))


def _nothing(*_args: object) -> None:
    """Replace a callback of a process that is dead."""
