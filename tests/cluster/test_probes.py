"""Asking the bus for processes that are silent."""

import asyncio

from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.cluster.channels import node_channel, subject_of
from gateman.cluster.names import NodeId
from gateman.cluster.probes import Probes, asks
from tests.support.loop import eventually, on_loop, turns

ANN, BOB = NodeId("ann"), NodeId("bob")


class _Room:
    """A bus on which Ann is and Bob is not, and what was answered."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.bus = MemoryBus(broker=self.broker)
        self.ann = MemoryBus(broker=self.broker)
        self.answers: list[tuple[NodeId, bool | None]] = []
        self.probes = Probes(asks(self.bus), lambda *answer: self.answers.append(answer))

    async def enter(self) -> None:
        await self.bus.start()
        await self.ann.start()
        await self.ann.subscribe(subject_of(node_channel(ANN)), lambda *_: None)


@on_loop
async def test_the_bus_answers_which_process_is_connected() -> None:
    """One who is connected and one who is not; and again, when that was answered."""
    room = _Room()
    await room.enter()
    for node in (ANN, BOB, ANN):
        room.probes.ask(node)
    await eventually(lambda: len(room.answers) >= 2)
    room.probes.ask(ANN)
    await eventually(lambda: len(room.answers) >= 3)
    await turns(5)

    assert room.answers == [(ANN, True), (BOB, False), (ANN, True)]


@on_loop
async def test_a_bus_that_is_away_does_not_know() -> None:
    """When it is back, it can be asked again."""
    room = _Room()
    await room.enter()
    room.broker.go_down()
    room.probes.ask(ANN)
    await turns(5)
    room.broker.come_up()
    room.probes.ask(ANN)
    await eventually(lambda: len(room.answers) > 1)

    assert room.answers == [(ANN, None), (ANN, True)]


@on_loop
async def test_an_answer_without_a_probe_is_ignored() -> None:
    """A process that ends has no use for it; without a bus nobody knows."""
    room = _Room()
    await room.enter()
    room.probes.ask(ANN)
    room.probes.cancel()
    Probes(asks(None), lambda *answer: room.answers.append(answer)).ask(ANN)
    await turns(5)

    assert room.answers == [(ANN, None)]
    assert len(asyncio.all_tasks()) == 1
