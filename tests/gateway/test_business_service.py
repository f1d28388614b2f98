"""A business worker at work: what gateways send it, how it leaves, and what a gateway leaves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateman import BusinessWorker, Refuse, Request
from gateman.cluster.names import ClientId, NodeId, client_id
from gateman.gateway.protocol import (
    AdoptEvent,
    CloseEvent,
    Discover,
    Events,
    Leave,
    MessageEvent,
    Offer,
    Released,
)
from gateman.runtime.process import StartFailed
from tests.support.gateways import BusinessNode, Site, read, site
from tests.support.loop import eventually, on_loop, turns, until_idle

GONE = (1001, "server is shutting down")


# Its life.


@on_loop
async def test_it_begins_and_ends_with_the_application() -> None:
    """`on_worker_start` before the first event, `on_worker_stop` behind the last."""
    async with site() as there:

        async def start(worker: BusinessWorker) -> None:
            await asyncio.sleep(0.01)
            there.journal.note("start", worker.name)

        async def stop(worker: BusinessWorker) -> None:
            await asyncio.sleep(0.01)
            there.journal.note("stop", worker.name)

        gateway_node = await there.gateway()
        coming = asyncio.ensure_future(gateway_node.client())
        await eventually(lambda: bool(gateway_node.dispatch.pending_count))
        business_node = await there.business(
            name="chat", on_worker_start=start, on_worker_stop=stop
        )
        client = await coming
        await client.close()
        await there.journal.until("close")
        await gateway_node.settle()
        await business_node.stop()

        kinds = [entry[0] for entry in there.journal.entries]
        assert kinds == ["start", "connect", "open", "close", "stop"]
        assert there.journal.of("stop") == [("chat",)]
        assert (str(business_node.service), business_node.service.message_count) == ("chat", 3)


@on_loop
async def test_an_application_that_does_not_start_serves_no_gateway() -> None:
    """No gateway hears of the process."""

    def fail(_worker: BusinessWorker) -> None:
        raise LookupError("no database")

    async with site() as there:
        gateway_node = await there.gateway()
        with pytest.raises(StartFailed):
            await there.business(on_worker_start=fail)
        await until_idle()

        assert gateway_node.dispatch.windows == {}


@pytest.mark.parametrize("case", ["slow", "wrong"])
def test_what_on_worker_stop_does_wrong_does_not_keep_it(case: str) -> None:
    """It is logged, and the process ends in time."""
    on_loop(_stop_badly)(case)


async def _stop_badly(case: str) -> None:
    said = {
        "slow": "business: on_worker_stop took longer than timeouts.shutdown",
        "wrong": "business: on_worker_stop failed <- LookupError('what?')",
    }

    async def stop(_worker: BusinessWorker) -> None:
        if case == "wrong":
            raise LookupError("what?")
        await asyncio.Event().wait()

    async with site() as there:
        gateway_node = await there.gateway(errors=[said[case]])
        business_node = await there.business(on_worker_stop=stop, timeouts={"shutdown": 0.1})
        await business_node.stop()
        await gateway_node.stop()


@on_loop
async def test_on_worker_stop_has_time_left_whatever_handlers_take() -> None:
    """It closes what they use: a handler that does not end is cancelled before."""
    async with site() as there:

        async def never_end(_client_id: ClientId, _message: str) -> None:
            there.journal.note("begins")
            try:
                await asyncio.Event().wait()
            finally:
                there.journal.note("cancelled")

        async def stop(_worker: BusinessWorker) -> None:
            await turns(3)
            there.journal.note("stop")

        gateway_node = await there.gateway(errors=["gateway: 2 events of clients were not handled"])
        business_node = await there.business(
            on_message=never_end, on_worker_stop=stop, timeouts={"shutdown": 1.0}
        )
        client = await gateway_node.client()
        await client.send("go")
        await there.journal.until("begins")
        await business_node.stop()

        kinds = [entry[0] for entry in there.journal.entries]
        assert kinds[kinds.index("begins") :] == ["begins", "cancelled", "stop"]


@on_loop
async def test_it_has_no_connections() -> None:
    """What `status` and `connections` ask for is there, and empty."""
    async with site() as there:
        service = (await there.business()).service
        service.accept([])

        assert service.describe(10) == []
        assert (service.present_count, service.counts["dropped_slow_peer"]) == (0, 0)
        assert service.contexts is None
        assert service.counts == {"clients": 0}


# What handlers do wrong.


@on_loop
async def test_what_a_handler_raises_costs_its_client() -> None:
    """It is closed with 1011; nobody else notices, and its end is told."""

    def hear(client_id: ClientId, message: str) -> None:
        there.journal.note("message", client_id, int(message))

    async with site() as there:
        business_node = await there.business(on_message=hear)
        gateway_node = await there.gateway()
        [one, name], [other, _] = [await gateway_node.newcomer() for _ in range(2)]
        await one.send("what?")
        with pytest.raises(ConnectionClosed) as caught:
            await read(one)
        await other.send("1")
        await there.journal.until("message")
        await there.journal.until("close")

        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1011, "internal error")
        assert there.journal.of("close") == [(name, 1011, "internal error")]
        assert business_node.service.counts["callback_failed"] == 1
        [line] = gateway_node.server.lines()
        assert line.startswith("on_message raised ValueError for ")


REFUSALS: Mapping[str, Refuse] = {
    "number": Refuse(503, "later", {"Retry-After": 5}),  # type: ignore[dict-item]
    "bytes": Refuse(403, b"no"),  # type: ignore[arg-type]
    "surrogate": Refuse(403, "\udc80"),
    "large": Refuse(403, "x" * (2 << 20)),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_that_cannot_be_sent_is_a_fault_of_its_handler(case: str) -> None:
    """Its client gets 500; others of the same process are let in."""
    on_loop(_refuse)(REFUSALS[case])


async def _refuse(refusal: Refuse) -> None:
    def connect(_client_id: ClientId, request: Request) -> None:
        if request.path == "/no":
            raise refusal

    async with site() as there:
        business_node = await there.business(on_websocket_connect=connect)
        gateway_node = await there.gateway()
        with pytest.raises(InvalidStatus) as caught:
            await gateway_node.client("no")
        await gateway_node.client()
        await there.journal.until("open")
        await gateway_node.settle()

        assert caught.value.response.status_code == 500
        assert caught.value.response.headers["Gateman-Refused"] == "APPLICATION_FAILED"
        assert business_node.service.counts["callback_failed"] == 1
        [line] = gateway_node.server.lines()
        assert line.startswith("on_websocket_connect raised Refuse")


# How it leaves.


@on_loop
async def test_its_clients_go_on_elsewhere_while_it_leaves() -> None:
    """What it has it handles; what comes then others handle; all of it once, and in order."""
    may_end = asyncio.Event()
    async with site() as there:

        async def hear(client_id: ClientId, message: str) -> None:
            old.journal.note("message", client_id, message)
            there.journal.note("message", client_id, message)
            await may_end.wait()

        old = await there.business(on_message=hear)
        gateway_node = await there.gateway()
        [busy, name], [idle, other] = [await gateway_node.newcomer() for _ in range(2)]
        await gateway_node.settle()
        await busy.send("1")
        await busy.send("2")
        await old.journal.until("message")
        new = await there.business()
        draining = asyncio.ensure_future(old.service.drain(*GONE, window=5.0))
        await eventually(lambda: gateway_node.dispatch.windows[old.hub.node].is_leaving)
        await idle.send("3")
        await new.journal.until("message", other, "3")
        await busy.send("4")
        await until_idle()
        assert new.journal.of("message") == [(other, "3")]
        may_end.set()
        await draining
        await new.journal.until("message", name, "4")
        await old.stop()
        await gateway_node.settle()

        assert old.journal.of("message") == [(name, "1"), (name, "2")]
        assert new.journal.of("message") == [(other, "3"), (name, "4")]
        assert gateway_node.service.counts["events_repeated"] == 0
        await gateway_node.stop()
        assert sorted(new.journal.of("close")) == sorted([(name, *GONE), (other, *GONE)])
        assert old.journal.of("close") == []


@on_loop
async def test_a_handler_that_takes_too_long_is_cancelled() -> None:
    """What it had is handled elsewhere, before what came behind it."""
    async with site() as there:

        async def hear(client_id: ClientId, message: str) -> None:
            old.journal.note("message", client_id, message)
            try:
                await asyncio.Event().wait()
            finally:
                old.journal.note("cancelled", client_id, message)

        old = await there.business(on_message=hear, timeouts={"shutdown": 0.1})
        gateway_node = await there.gateway()
        client, name = await gateway_node.newcomer()
        await gateway_node.settle()
        for number in range(3):
            await client.send(f"{number}")
        await old.journal.until("message")
        new = await there.business()
        await old.stop()
        await new.journal.until("message", count=3)
        await gateway_node.settle()

        assert old.journal.of("message") == old.journal.of("cancelled") == [(name, "0")]
        assert new.journal.of("message") == [(name, f"{number}") for number in range(3)]
        await gateway_node.stop()


@pytest.mark.parametrize("may_stay", [True, False])
def test_a_process_that_leaves_waits_for_a_bus_that_is_away(*, may_stay: bool) -> None:
    """What it has handled is not handled again, unless its master does not grant it the time."""
    on_loop(_leave_without_a_bus)(may_stay)


async def _leave_without_a_bus(may_stay: bool) -> None:  # noqa: FBT001 - a case of the test above
    may_end = asyncio.Event()
    asked: list[bool] = []
    async with site() as there:

        async def hear(client_id: ClientId, message: str) -> None:
            old.journal.note("message", client_id, message)
            await may_end.wait()

        def ask() -> bool:
            asked.append(may_stay)
            return may_stay

        old = await there.business(on_message=hear)
        gateway_node = await there.gateway()
        client, name = await gateway_node.newcomer()
        await gateway_node.settle()
        await client.send("1")
        await old.journal.until("message")
        new = await there.business()
        draining = asyncio.ensure_future(old.service.drain(*GONE, window=0.2, may_stay=ask))
        await eventually(lambda: gateway_node.dispatch.windows[old.hub.node].is_leaving)
        there.broker.go_down()
        may_end.set()
        await eventually(lambda: bool(asked))
        await until_idle()
        assert draining.done() is not may_stay
        there.broker.come_up()
        await draining
        await old.stop()
        await client.send("2")
        await new.journal.until("message", name, "2")
        await gateway_node.settle()

        again = [] if may_stay else [(name, "1")]
        assert old.journal.of("message") == [(name, "1")]
        assert new.journal.of("message") == [*again, (name, "2")]
        await gateway_node.stop()


# What a gateway leaves.


@on_loop
async def test_clients_of_a_dead_gateway_are_closed() -> None:
    """With 1006, once for each; those of other gateways go on."""
    async with site() as there:
        business_node = await there.business()
        lost = "gateway: 3 events of clients were not handled"
        dead = await there.gateway(timeouts={"shutdown": 0.1}, errors=[lost])
        gateway_node = await there.gateway(errors=[lost])
        names = [(await dead.newcomer())[1] for _ in range(3)]
        client, name = await gateway_node.newcomer()
        await there.journal.until("open", count=4)
        await dead.settle()
        await dead.kill()
        await there.journal.until("close", count=3)
        await client.send("1")
        await there.journal.until("message", name, "1")
        await dead.stop()

        assert sorted(there.journal.of("close")) == sorted(
            (one, 1006, "the gateway is gone") for one in names
        )
        assert list(business_node.windows) == [gateway_node.node]
        assert list(business_node.clients) == [name]


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_the_end_of_a_client_is_told_by_the_process_that_has_it(how: str) -> None:
    """A process that leaves tells only of those that no other has taken over yet."""
    on_loop(_end_while_one_leaves)(how)


async def _end_while_one_leaves(how: str) -> None:
    may_end = asyncio.Event()
    async with site() as there:

        async def hear(client_id: ClientId, message: str) -> None:
            there.journal.note("message", client_id, message)
            await may_end.wait()

        old = await there.business(on_message=hear)
        count = {"killed": 3, "stopped": 2}[how]
        lost = f"gateway: {count} events of clients were not handled"
        gateway_node = await there.gateway(timeouts={"shutdown": 0.1}, errors=[lost])
        [busy, busy_name], [_, idle_name] = [await gateway_node.newcomer() for _ in range(2)]
        await gateway_node.settle()
        await busy.send("1")
        await there.journal.until("message")
        new = await there.business()
        draining = asyncio.ensure_future(old.service.drain(*GONE, window=5.0))
        # But for the message, the gateway knows of everything that it was handled.
        await eventually(lambda: idle_name in new.clients and gateway_node.pending_count == 1)
        await (gateway_node.kill() if how == "killed" else gateway_node.stop())
        await new.journal.until("close", idle_name)
        may_end.set()
        await draining

        code = {"killed": (1006, "the gateway is gone"), "stopped": GONE}[how]
        assert new.journal.of("close") == [(idle_name, *code)]
        assert old.journal.of("close") == [(busy_name, 1006, "the gateway is gone")]
        await gateway_node.stop()


@on_loop
async def test_a_process_that_leaves_tells_the_ends_of_clients_that_nobody_else_can_tell() -> None:
    """Its time is over, a handler was cancelled, and it is not known yet that a gateway died."""
    async with site() as there:

        async def hear(client_id: ClientId, message: str) -> None:
            there.journal.note("message", client_id, message)
            await asyncio.Event().wait()

        old = await there.business(on_message=hear)
        lost = "gateway: 2 events of clients were not handled"
        gateway_node = await there.gateway(timeouts={"shutdown": 0.1}, errors=[lost])
        client, name = await gateway_node.newcomer()
        await gateway_node.settle()
        await client.send("1")
        await there.journal.until("message")
        await gateway_node.kill()
        await old.service.drain(*GONE, window=0.0, may_stay=lambda: True)

        assert there.journal.of("close") == [(name, 1006, "the gateway is gone")]
        await gateway_node.stop()


@on_loop
async def test_a_process_that_leaves_does_not_wait_for_gateways_that_are_there() -> None:
    """Its handlers have taken all its time: the next process gets what it leaves."""
    async with site() as there:

        async def hear(client_id: ClientId, message: str) -> None:
            old.journal.note("message", client_id, message)
            await asyncio.Event().wait()

        old = await there.business(on_message=hear)
        gateway_node = await there.gateway()
        client, name = await gateway_node.newcomer()
        await gateway_node.settle()
        await client.send("1")
        await old.journal.until("message")
        new = await there.business()
        await old.service.drain(*GONE, window=0.0, may_stay=lambda: True)
        await new.journal.until("message", name, "1")
        await gateway_node.settle()

        assert old.journal.of("close") == []
        await gateway_node.stop()


@on_loop
async def test_a_gateway_that_was_taken_for_dead_begins_anew() -> None:
    """Its clients are told to be gone and there again; nothing that they say is lost."""
    async with site() as there:
        business_node = await there.business()
        gateway_node = await there.gateway()
        client, name = await gateway_node.newcomer()
        await client.send("1")
        await there.journal.until("message")
        await gateway_node.settle()
        # The business process takes the gateway for dead; the gateway does not know it.
        there.forge(gateway_node.node, business_node.hub.node, Leave())
        await there.journal.until("close", name)
        await client.send("2")
        await there.journal.until("message", name, "2")
        await client.send("3")
        await gateway_node.settle()

        assert there.journal.entries[2:] == [
            ("message", name, "1"),
            ("close", name, 1006, "the gateway is gone"),
            ("message", name, "2"),
            ("message", name, "3"),
        ]
        assert list(business_node.clients) == [name]


# What others say.


GATE = NodeId("gate")
ANN, BOB = client_id(GATE, 1), client_id(GATE, 2)


def events(epoch: int, first: int, *items: AdoptEvent | MessageEvent | CloseEvent) -> Events:
    """Make what a gateway sends."""
    return Events(epoch, 0, first, list(items))


def text(client: ClientId, payload: str) -> MessageEvent:
    """Make a message."""
    return MessageEvent(client, payload=payload.encode())


@contextlib.asynccontextmanager
async def forged(there: Site) -> AsyncIterator[tuple[BusinessNode, Callable[..., None]]]:
    """Run a business process; gives what says something to it, as if a gateway did."""
    business_node = await there.business()
    yield business_node, lambda packet: there.forge(GATE, business_node.hub.node, packet)


@on_loop
async def test_what_is_malformed_is_ignored_and_counted() -> None:
    """And what is of no use, of no gateway, or of another version, is ignored."""
    async with site() as there, forged(there) as (business_node, say):
        for data in (b"", b"\xc1", b"junk" * 1000, b"\x92\xa1e\x01"):
            say(data)
        for packet in (
            Leave(),
            Released(1, 1, has_successor=True),
            Offer(is_leaving=False, load=0),
            Discover(),
        ):
            say(packet)
        await until_idle()
        say(events(1, 1, AdoptEvent(ANN), text(ANN, "1")))
        await there.journal.until("message")

        assert business_node.hub.counts["bad_envelope"] == 4
        assert there.journal.entries == [("message", ANN, "1")]


@on_loop
async def test_what_is_of_an_earlier_link_is_ignored() -> None:
    """And a later one is a new beginning, of which the clients are not told."""
    async with site() as there, forged(there) as (business_node, say):
        say(events(2, 1, AdoptEvent(ANN), text(ANN, "1")))
        say(events(1, 1, AdoptEvent(BOB), text(BOB, "?")))
        say(events(1, 3, text(ANN, "?")))
        say(Released(1, 3, has_successor=True))
        say(events(2, 2, text(ANN, "again"), text(ANN, "2")))
        say(events(2, 5, text(ANN, "behind a hole")))
        say(events(3, 1, AdoptEvent(BOB), text(BOB, "3"), text(ANN, "nobody's")))
        await there.journal.until("message", BOB, "3")
        await until_idle()

        assert there.journal.entries == [
            ("message", ANN, "1"),
            ("message", ANN, "2"),
            ("message", BOB, "3"),
        ]
        assert list(business_node.clients) == [BOB]


@on_loop
async def test_events_for_clients_of_other_gateways_are_ignored() -> None:
    """A client's id says whose it is."""
    async with site() as there, forged(there) as (business_node, say):
        other = client_id(NodeId("other"), 1)
        say(events(1, 1, AdoptEvent(other), text(other, "?"), AdoptEvent(ANN), text(ANN, "1")))
        await there.journal.until("message")

        assert there.journal.entries == [("message", ANN, "1")]
        assert business_node.windows[GATE].received == 4


@on_loop
async def test_a_gateway_that_says_good_bye_is_gone_at_once() -> None:
    """Its remaining clients are told so."""
    async with site() as there, forged(there) as (business_node, say):
        say(
            events(
                1, 1, AdoptEvent(ANN), text(ANN, "1"), AdoptEvent(BOB), CloseEvent(BOB, code=1000)
            )
        )
        await there.journal.until("close", BOB)
        say(Leave())
        await there.journal.until("close", ANN)

        assert there.journal.of("close") == [(BOB, 1000, ""), (ANN, 1006, "the gateway is gone")]
        assert business_node.windows == {}
