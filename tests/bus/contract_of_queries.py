"""
What every bus has to answer when it is asked whether anybody subscribes.

Runs as :mod:`.contract` does; :class:`ProcessContract` where a broker has processes.
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateman.bus.base import Bus
from gateman.bus.subjects import Subject, subject

from ..support.child import Child
from ..support.deadlines import TIMEOUT
from ..support.loop import eventually, on_loop, turns
from .contract import HOSTILE, OTHER, ROOM, Broker, Contract, back, ignore, started

SUBSCRIBER = """
import asyncio, sys
from gateman.bus import open_bus, subject

async def main(url):
    bus = open_bus(url)
    await bus.start()
    await bus.subscribe(subject("group", "room"), print)
    print("subscribed", flush=True)
    await asyncio.get_running_loop().create_future()

asyncio.run(main(sys.argv[1]))
"""


async def answered(bus: Bus, one: Subject, *, expected: bool) -> None:
    """Ask until the answer is so: a broker notices the end of a connection in its own time."""
    async with asyncio.timeout(TIMEOUT):
        while await bus.has_subscriber(one) is not expected:
            await turns(1)


@contextmanager
def subscriber(folder: Path, url: str) -> Iterator[Child]:
    """Run a process that subscribes to a room, to the end of the block."""
    log = folder / "subscriber.log"
    child = Child(
        [sys.executable, "-c", SUBSCRIBER, url],
        log=log,
        is_up=lambda: b"subscribed\n" in log.read_bytes(),
    )
    child.start()
    try:
        yield child
    finally:
        child.kill()


class QuestionContract(Contract):
    """Who is there, as the broker knows."""

    @on_loop
    async def test_only_others_count(self, broker: Broker) -> None:
        """Nobody is there, nor are we; another one is, until it unsubscribes."""
        async with started(broker, 3) as (here, there, elsewhere):
            answers = [await here.has_subscriber(ROOM)]
            await here.subscribe(ROOM, ignore)
            answers += [await here.has_subscriber(ROOM), await there.has_subscriber(ROOM)]
            await there.subscribe(ROOM, ignore)
            await elsewhere.subscribe(ROOM, ignore)
            answers += [await here.has_subscriber(ROOM), await here.has_subscriber(OTHER)]
            elsewhere.unsubscribe(ROOM)
            await back(elsewhere)
            answers += [await here.has_subscriber(ROOM)]
            there.unsubscribe(ROOM)
            await back(there)
            answers += [await here.has_subscriber(ROOM), await there.has_subscriber(ROOM)]

        assert answers == [False, False, True, True, False, True, False, True]

    @on_loop
    async def test_a_stopped_subscriber_is_not_connected(self, broker: Broker) -> None:
        """A bus that has ended subscribes to nothing."""
        async with started(broker) as (here, there):
            await there.subscribe(ROOM, ignore)
            before = await here.has_subscriber(ROOM)
            await there.stop()
            await answered(here, ROOM, expected=False)

        assert before is True

    @on_loop
    async def test_a_query_does_not_reach_the_subscriber(self, broker: Broker) -> None:
        """No receiver is called, and nothing is counted, however often it is asked."""
        async with started(broker) as (here, there):
            arrived: list[bytes] = []
            await there.subscribe(ROOM, arrived.append)
            answers = [await here.has_subscriber(ROOM) for _ in range(10)]
            here.publish(ROOM, b"the only one")
            await eventually(lambda: bool(arrived))
            await back(here, there)

        assert answers == [True] * 10
        assert arrived == [b"the only one"]
        assert (here.counts["published"], there.counts["received"]) == (1, 1)

    @on_loop
    async def test_many_questions_at_once(self, broker: Broker) -> None:
        """Each has its own answer, whatever is asked in one turn, and how names are written."""
        async with started(broker) as (here, there):
            names = [*HOSTILE, *map(str, range(2000))]
            for name in names[::2]:
                pending = there.subscribe(subject("group", name), ignore)
            await pending

            asked = [here.has_subscriber(subject("group", name)) for name in names]
            answers = [await one for one in asked]

        assert answers == [number % 2 == 0 for number in range(len(names))]

    @on_loop
    async def test_it_is_asked_in_order(self, broker: Broker) -> None:
        """What is published around questions arrives in order, and so do subscriptions."""
        async with started(broker) as (here, there):
            arrived: list[bytes] = []
            await there.subscribe(ROOM, arrived.append)
            payloads = [b"%d" % number for number in range(1000)]
            asked = []
            for payload in payloads:
                here.publish(ROOM, payload)
                asked.append(here.has_subscriber(ROOM))
            there.subscribe(OTHER, ignore)
            there.unsubscribe(ROOM)
            there.subscribe(ROOM, arrived.append)
            asked.append(there.has_subscriber(ROOM))
            answers = [await one for one in asked]
            await there.subscribe(subject("later"), ignore)
            after = [await here.has_subscriber(OTHER), await here.has_subscriber(ROOM)]
            await eventually(lambda: arrived[-1:] == payloads[-1:])

        assert (answers[-1], after) == (False, [True, True])
        assert arrived == sorted(set(arrived), key=int)

    @on_loop
    async def test_an_answer_need_not_be_awaited(self, broker: Broker) -> None:
        """Who asks may have left, without a trace."""
        async with started(broker) as (here, there):
            await there.subscribe(ROOM, ignore)
            asyncio.ensure_future(here.has_subscriber(ROOM)).cancel()
            here.has_subscriber(ROOM)
            answer = await here.has_subscriber(ROOM)
            here.has_subscriber(ROOM)

        assert answer is True

    @on_loop
    async def test_without_a_broker_the_answer_is_unknown(self, broker: Broker) -> None:
        """Before the start, while the broker is away, and after the end; not when it is back."""
        idle = broker.bus()
        answers = [await idle.has_subscriber(ROOM)]
        async with started(broker) as (here, there):
            await there.subscribe(ROOM, ignore)
            broker.kill()
            await eventually(lambda: not here.is_connected)
            answers.append(await here.has_subscriber(ROOM))
            broker.restart()
            await back(here, there)
            after = await here.has_subscriber(ROOM)
        answers.append(await here.has_subscriber(ROOM))
        await idle.stop()

        assert (answers, after) == ([None, None, None], True)


class ProcessContract(Contract):
    """Who is there, if a process is blocked or killed."""

    @on_loop
    async def test_a_blocked_process_is_there(self, broker: Broker, tmp_path: Path) -> None:
        """Its broker answers for it; one that was killed is gone as soon as that notices."""
        async with started(broker, 1) as (here,):
            with subscriber(tmp_path, here.url) as child:
                running = await here.has_subscriber(ROOM)
                child.freeze()
                blocked = [await here.has_subscriber(ROOM) for _ in range(100)]
                child.kill()
                await answered(here, ROOM, expected=False)

        assert (running, blocked) == (True, [True] * 100)

    @on_loop
    async def test_a_broker_that_goes_meanwhile(self, broker: Broker) -> None:
        """Nobody can tell any more; nobody waits either."""
        async with started(broker) as (here, there):
            await there.subscribe(ROOM, ignore)
            broker.kill()
            asked = [here.has_subscriber(ROOM), there.has_subscriber(ROOM)]
            answers = [await one for one in asked]
            broker.restart()

        assert answers == [None, None]
