"""A node that has just started, or was away, does not take those that it knows for all."""

import asyncio
from collections.abc import Callable

import pytest

from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.bus.subjects import Subject
from gateman.cluster.discovery import Discovery
from gateman.cluster.hub import Hub
from gateman.errors import PartialResult

from ..support.cluster import cluster
from ..support.loop import MS, eventually, on_loop


class Late(MemoryBus):
    """A bus whose process reads nothing until a test lets it."""

    is_late = False

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker=broker)
        self._waiting: list[tuple[Subject, bytes]] = []

    def put(self, subject: Subject, payload: bytes) -> None:  # type: ignore[override]
        if self.is_late:
            self._waiting.append((subject, payload))
        else:
            super().put(subject, payload)

    def read(self) -> None:
        """Read what has come meanwhile."""
        self.is_late = False
        for message in self._waiting:
            super().put(*message)


async def _joined(broker: MemoryBroker, seconds: float) -> Hub:
    hub = Hub()
    hub.answer_timeout = seconds
    await hub.start(MemoryBus(broker=broker))
    return hub


@on_loop
async def test_a_count_waits_for_a_process_that_answers_late() -> None:
    """Later than the time in which others usually answer, and also if two start together."""
    broker = MemoryBroker()
    made: list[Late] = []

    def make() -> Late:
        made.append(Late(broker))
        return made[-1]

    async with cluster(1, make) as [one]:
        client = await one.client("room")
        made[0].is_late = True
        hubs = [await _joined(broker, 60), await _joined(broker, 60)]
        counting = [asyncio.ensure_future(hub.count_group("room")) for hub in hubs]
        online = asyncio.ensure_future(hubs[0].is_online(client.id))
        await asyncio.sleep(700 * MS)
        assert not any(one.done() for one in (*counting, online))
        made[0].read()

        assert [await one for one in counting] == [1, 1]
        assert await online
        for hub in hubs:
            await hub.stop()


@on_loop
async def test_a_count_without_a_process_that_does_not_answer_is_partial() -> None:
    """It is not known, but the bus says that there is one."""
    broker = MemoryBroker()
    made: list[Late] = []

    def make() -> Late:
        made.append(Late(broker))
        return made[-1]

    async with cluster(1, make) as [one]:
        client = await one.client("room")
        made[0].is_late = True
        hub = await _joined(broker, 50 * MS)
        with pytest.raises(PartialResult) as caught:
            await hub.count_group("room")
        assert (caught.value.value, caught.value.missing) == (0, ("?",))
        with pytest.raises(PartialResult):
            await hub.is_online(client.id)
        made[0].read()
        await eventually(lambda: hub.nodes == (one.hub.node,))

        assert await hub.count_group("room") == 1
        await hub.stop()


@on_loop
async def test_processes_that_were_away_find_each_other() -> None:
    """All at once, after an outage: none waits for another one that waits as well."""
    broker = MemoryBroker()
    async with cluster(3, lambda: MemoryBus(broker=broker)) as nodes:
        for node in nodes:
            await node.client("room")
        broker.go_down()
        newcomer = Hub()
        await newcomer.start(MemoryBus(broker=broker))
        with pytest.raises(PartialResult):
            await newcomer.count_group("room")
        broker.come_up()

        assert await newcomer.count_group("room") == 3
        assert [await node.hub.count_group("room") for node in nodes] == [3, 3, 3]
        await newcomer.stop()


class _Bus:
    """
    Answers a discovery.

    Attributes:
        answers: What the bus will say, in order.
        greetings: How often others were greeted.
    """

    def __init__(self, *answers: bool | None) -> None:
        self.answers = list(answers)
        self.greetings = 0
        self.informed = 0
        self.is_connected = True

    async def ask(self) -> bool | None:
        return self.answers.pop(0)

    def count(self, name: str) -> Callable[[], None]:
        return lambda: setattr(self, name, getattr(self, name) + 1)

    def discovery(self) -> Discovery:
        return Discovery(
            self.ask,
            greet=self.count("greetings"),
            on_informed=self.count("informed"),
            is_connected=lambda: self.is_connected,
            patience=MS,
        )


@on_loop
async def test_others_are_greeted_until_one_answers_or_none_is_left() -> None:
    """One that was killed is there until the bus notices."""
    bus = _Bus(*(True, True, False))
    discovery = bus.discovery()
    assert not discovery.is_over
    discovery.begin()
    await discovery.wait(asyncio.get_running_loop().time() + 60)

    assert (discovery.is_over, bus.greetings, bus.informed, bus.answers) == (True, 2, 1, [])


@on_loop
async def test_nothing_is_known_while_the_bus_is_away() -> None:
    bus = _Bus(None, None)
    bus.is_connected = False
    discovery = bus.discovery()
    discovery.begin()
    await discovery.wait(asyncio.get_running_loop().time() + 5 * MS)
    assert (discovery.is_informed, bus.answers) == (False, [None])
    bus.is_connected = True
    discovery.begin()
    await discovery.wait(asyncio.get_running_loop().time() + 60)

    assert (discovery.is_informed, bus.informed) == (True, 1)
