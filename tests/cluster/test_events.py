"""Messages to code: who handles which, in which order, and what becomes of too many."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import pytest

from gateman import BusinessWorker, Gateway, Worker
from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.cluster.envelope import encode_value
from gateman.cluster.events import MAX_WAITING, MAX_WAITING_SIZE, Events
from gateman.cluster.hub import Hub
from gateman.config.base import BaseWorker
from gateman.errors import ConfigError, EnvelopeError, HubError

from ..support.cluster import Deaf, Node, cluster
from ..support.loop import eventually, on_loop, turns


class Listener:
    """
    Handlers without any bus.

    Attributes:
        counts: What became of events.
        topics: What is subscribed to.
        heard: What was handled.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.topics: list[str] = []
        self.heard: list[Any] = []
        self.events = Events(
            self.counts, subscribe=self.topics.append, unsubscribe=self.topics.remove
        )

    def tell(self, *data: object, topic: str = "prices") -> None:
        """Hand over what was sent."""
        self.events.deliver(topic, [bytes(encode_value(one)) for one in data])


def end() -> float:
    """Give a deadline that is soon."""
    return asyncio.get_running_loop().time() + 0.05


@on_loop
async def test_each_function_gets_each_event_of_its_topic() -> None:
    """In a turn of the loop to come, as data of its own."""
    listener = Listener()

    def change(data: Any) -> None:
        listener.heard.append(list(data))
        data.clear()

    handlers = [listener.events.add("prices", change) for _ in range(2)]
    handlers.append(listener.events.add("news", listener.heard.append))
    listener.tell([1, 2], (3,))
    listener.tell("rain", topic="weather")
    assert listener.heard == []
    await turns()

    assert listener.heard == [[1, 2], [3], [1, 2], [3]]
    assert listener.topics == ["prices", "news"]
    await listener.events.remove(handlers, deadline=end())
    assert listener.topics == []
    listener.tell("late")
    await turns()
    assert len(listener.heard) == 4


@on_loop
async def test_events_wait_while_one_is_handled() -> None:
    """An async function has one at a time, in order; what it raises is its own."""
    listener = Listener()
    gate = asyncio.Event()

    async def slow(data: int) -> None:
        await gate.wait()
        if data == 1:
            raise ValueError("one")
        listener.heard.append(data)

    handler = listener.events.add("prices", slow)
    listener.tell(0, 1, 2)
    await turns()
    listener.tell(3)
    gate.set()
    await eventually(lambda: listener.heard == [0, 2, 3])
    await listener.events.remove([handler], deadline=end())

    assert listener.counts == {"events_failed": 1}


@pytest.mark.parametrize("has_begun", [False, True], ids=["before its first step", "later"])
@on_loop
async def test_a_handler_that_is_cancelled_goes_on_with_the_next_event(*, has_begun: bool) -> None:
    """Whoever cancels its task, or what it awaits: that event has failed, and no other."""
    listener = Listener()
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def hear(data: Any) -> None:
        if data == 1:
            await never
        listener.heard.append(data)

    handler = listener.events.add("prices", hear)
    before = asyncio.all_tasks()
    listener.tell(1, 2)
    await eventually(lambda: asyncio.all_tasks() > before)
    if has_begun:
        await turns()
        never.cancel()
    else:
        (task,) = asyncio.all_tasks() - before
        task.cancel()
    await eventually(lambda: bool(listener.heard))

    assert (listener.heard, listener.counts["events_failed"]) == ([2], 1)
    await listener.events.remove([handler], deadline=end())


@on_loop
async def test_events_above_the_bound_are_dropped_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A bound in events and one in bytes, for each function; one line says which."""
    listener = Listener()

    async def stuck(_: object) -> None:
        await asyncio.Event().wait()

    handler = listener.events.add("prices", stuck)
    listener.tell("first")
    await turns()
    listener.tell(*range(MAX_WAITING + 5))
    assert listener.counts == {"events_dropped": 5}
    await listener.events.remove([handler], deadline=end())
    handler = listener.events.add("prices", stuck)
    listener.tell(*[bytes(1 << 20)] * (MAX_WAITING_SIZE >> 20))
    await listener.events.remove([handler], deadline=end())

    assert listener.counts == {"events_dropped": 6}
    [said] = caplog.messages
    assert said.startswith("events of the topic 'prices' are dropped: 1000 wait already for test_")
    assert said.endswith(".stuck")


@on_loop
async def test_a_function_that_tells_itself_lets_others_have_their_turn() -> None:
    """And many events at once take several turns of the loop."""
    listener = Listener()

    def again(data: int) -> None:
        listener.heard.append(data)
        if data < 500:
            listener.tell(data + 1)

    handler = listener.events.add("prices", again)
    listener.tell(0)
    await turns(3)
    assert 0 < len(listener.heard) < 500
    await eventually(lambda: len(listener.heard) == 501)
    await listener.events.remove([handler], deadline=end())


@on_loop
async def test_a_handler_has_its_time_to_end() -> None:
    """One that takes longer is cancelled, and nothing that waits begins."""
    listener = Listener()
    ended: list[str] = []

    async def handle(seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
            ended.append("done")
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    for seconds in (0.01, 60.0):
        handler = listener.events.add("prices", handle)
        listener.tell(seconds, seconds)
        await turns()
        await listener.events.remove([handler], deadline=end())

    assert ended == ["done", "cancelled"]


NAME: ContextVar[str] = ContextVar("NAME", default="nobody")


@on_loop
async def test_handlers_see_what_on_worker_start_has_set() -> None:
    """As in other callbacks."""
    listener = Listener()
    token = NAME.set("a pool")
    handler = listener.events.add("prices", lambda _: listener.heard.append(NAME.get()))
    NAME.reset(token)
    listener.tell(1)
    await turns()
    await listener.events.remove([handler], deadline=end())

    assert listener.heard == ["a pool"]


def listen(nodes: list[Node], topic: str) -> list[list[Any]]:
    """Have every node take note of a topic."""
    heard: list[list[Any]] = [[] for _ in nodes]
    for node, notes in zip(nodes, heard, strict=True):
        node.hub.local_node.events.add(topic, notes.append)
    return heard


@on_loop
async def test_events_reach_the_code_of_all_processes() -> None:
    """The sender's too, and from programs beside; with all that MessagePack carries."""
    broker = MemoryBroker()
    async with cluster(2, lambda: MemoryBus(broker=broker)) as nodes:
        heard = listen(nodes, "prices")
        client = await nodes[1].client()
        data = {"gold": 1.5, "at": datetime(2026, 1, 1, tzinfo=UTC), "raw": b"\x00", "n": [None]}
        nodes[0].hub.send_event("prices", data)
        nodes[0].hub.send_event("prices")
        nodes[0].hub.send_event("weather", "rain")
        nodes[0].hub.send_to_all("for clients")
        outside = Hub()
        await outside.start(MemoryBus(broker=broker), has_clients=False)
        outside.send_event("prices", 2)
        await eventually(lambda: all(len(notes) == 3 for notes in heard))
        await outside.stop()

        assert heard == [[data, None, 2], [data, None, 2]]
        assert await client.read() == ["for clients"]
        assert nodes[0].hub.counts["published"] == 4
        assert nodes[1].hub.counts["received"] == 4


@on_loop
async def test_events_that_are_lost_are_counted() -> None:
    """By who misses them, and by the sender if the bus does not take them."""
    broker = MemoryBroker()
    buses: list[Deaf] = []

    def make() -> Deaf:
        buses.append(Deaf(broker=broker))
        return buses[-1]

    async with cluster(2, make) as nodes:
        heard = listen(nodes, "prices")
        for number in range(4):
            buses[1].is_deaf = number in {1, 2}
            nodes[0].hub.send_event("prices", number)
            await turns()
        await eventually(lambda: len(heard[1]) == 2)
        assert heard == [[0, 1, 2, 3], [0, 3]]
        assert nodes[1].hub.counts["lost"] == 2
        broker.go_down()
        nodes[0].hub.send_event("prices", 4)
        await eventually(lambda: nodes[0].hub.counts["unsent"] == 1)
        await eventually(lambda: heard[0][-1] == 4)
        broker.come_up()


@on_loop
async def test_data_that_cannot_be_encoded_is_refused() -> None:
    """Topics, data and sizes; then nobody gets it."""
    async with cluster(2) as nodes:
        heard = listen(nodes, "prices")
        hub = nodes[0].hub
        with pytest.raises(ConfigError, match="a topic cannot be empty"):
            hub.send_event("", 1)
        with pytest.raises(EnvelopeError):
            hub.send_event("prices", object())
        with pytest.raises(HubError, match="no client got it"):
            hub.send_event("prices", bytes(1 << 20))
        await turns()

        assert heard == [[], []]


@pytest.mark.parametrize(
    "make", [lambda: Worker("ws://127.0.0.1:0"), BusinessWorker], ids=["worker", "business"]
)
def test_a_function_is_declared_for_a_topic(make: Callable[[], BaseWorker]) -> None:
    """What cannot be one is told in a sentence."""
    worker: Any = make()

    async def update(data: object) -> None: ...

    assert worker.on_event("prices")(update) is update
    assert worker.event_handlers == [("prices", update)]
    for wrong, said in (
        (lambda: worker.on_event(update), "on_event was given no topic: write @worker.on_event("),
        (worker.on_event, "on_event() missing 1 required positional argument: 'topic'"),
        (lambda: worker.on_event(7), "the topic 7 is not text"),
        (lambda: worker.on_event("x")(lambda: None), "on_event is called with (data), but "),
        (lambda: worker.on_event("x")(None), "on_event=None is no"),
    ):
        with pytest.raises(ConfigError) as caught:
            wrong()
        assert str(caught.value).startswith(said)


def test_a_gateway_runs_no_code() -> None:
    """So it handles no events either."""
    gateway = Gateway("ws://127.0.0.1:0")
    with pytest.raises(ConfigError, match="a Gateway runs no application code"):
        gateway.on_event("prices")
