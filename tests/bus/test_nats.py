"""The bus of several machines, with real NATS servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateman.bus.base import MAX_PENDING_SIZE, Bus
from gateman.bus.nats import nats_bus

from ..support.nats import NatsServer, nats_server
from .contract import DeliveryContract
from .contract_of_losses import LossContract


class _Broker:
    def __init__(self, server: NatsServer) -> None:
        self._server = server

    def bus(self, *, max_pending_size: int | None = None) -> Bus:
        return nats_bus(self._server.url, max_pending_size=max_pending_size or MAX_PENDING_SIZE)

    def kill(self) -> None:
        self._server.kill()

    def restart(self) -> None:
        self._server.start()


class TestNats(DeliveryContract, LossContract):
    """The contract, kept with a server that is killed and started again."""

    TEXT_OF_ABSENCE = "nobody listens there"

    @pytest.fixture
    def broker(self, tmp_path: Path) -> Iterator[_Broker]:
        """Run a server."""
        with nats_server(tmp_path) as server:
            yield _Broker(server)
