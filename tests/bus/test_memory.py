"""The bus within one process."""

from collections.abc import Iterator

import pytest

from gateman.bus.base import MAX_PENDING_SIZE, Bus
from gateman.bus.memory import MemoryBroker, MemoryBus

from ..support.loop import eventually, on_loop
from .contract import ROOM, DeliveryContract, labelled
from .contract_of_gaps import LossContract
from .contract_of_history import HistoryContract
from .contract_of_queries import QuestionContract


class _Broker:
    def __init__(self) -> None:
        self._broker = MemoryBroker()

    def bus(self, *, max_pending_size: int | None = None) -> Bus:
        return MemoryBus(broker=self._broker, max_pending_size=max_pending_size or MAX_PENDING_SIZE)

    def kill(self) -> None:
        self._broker.go_down()

    def restart(self) -> None:
        self._broker.come_up()


class TestMemory(DeliveryContract, LossContract, HistoryContract, QuestionContract):
    """The contract, kept without another process."""

    TEXT_OF_ABSENCE = "nothing answers there"

    @pytest.fixture
    def broker(self) -> Iterator[_Broker]:
        """Make a broker."""
        yield _Broker()  # noqa: PT022 - as in the contract


@on_loop
async def test_a_name_is_shared_while_a_bus_uses_it() -> None:
    """Buses of one name meet; those without a name are alone."""
    arrived: list[tuple[str, bytes]] = []
    buses = {
        "red": MemoryBus("colour"),
        "blue": MemoryBus("colour"),
        "other": MemoryBus("taste"),
        "alone": MemoryBus(),
        "lonely": MemoryBus(),
    }
    for name, bus in buses.items():
        await bus.start()
        await bus.subscribe(ROOM, labelled(arrived, name))
    for name, bus in buses.items():
        bus.publish(ROOM, name.encode())
    await eventually(lambda: len(arrived) >= 2)
    for bus in buses.values():
        await bus.stop()

    assert arrived == [("blue", b"red"), ("red", b"blue")]
