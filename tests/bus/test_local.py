"""The bus of a machine, with a real router."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateman.bus.base import MAX_PENDING_SIZE, Bus
from gateman.bus.local import local_bus

from ..support.router import RouterProcess, router
from .contract import DeliveryContract
from .contract_of_losses import LossContract


class _Broker:
    def __init__(self, process: RouterProcess) -> None:
        self._process = process

    def bus(self, *, max_pending_size: int | None = None) -> Bus:
        return local_bus(
            str(self._process.path), max_pending_size=max_pending_size or MAX_PENDING_SIZE
        )

    def kill(self) -> None:
        self._process.kill()

    def restart(self) -> None:
        self._process.start()


class TestLocal(DeliveryContract, LossContract):
    """The contract, kept with a router that is killed and started again."""

    TEXT_OF_ABSENCE = "nobody listens there: is the service running?"

    @pytest.fixture
    def broker(self, tmp_path: Path) -> Iterator[_Broker]:
        """Run a router."""
        with router(tmp_path) as process:
            yield _Broker(process)
