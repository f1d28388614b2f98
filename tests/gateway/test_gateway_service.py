"""A gateway at work: real clients, and business processes on the other side of a bus."""

import asyncio

import pytest
from websockets.exceptions import ConnectionClosed

from gateman import Request, current_client
from gateman.cluster.hub import Hub
from gateman.cluster.names import ClientId
from gateman.gateway.protocol import Begun, Discover, Done, Leave, Offer, Result
from tests.support.gateways import read, site
from tests.support.loop import eventually, on_loop, turns, until_idle
from tests.support.raw import request

GONE = (1001, "server is shutting down")


# What they say.


@on_loop
async def test_messages_travel_whole() -> None:
    """Text and binary, empty ones, and what needs several envelopes."""
    said: list[str | bytes] = [
        "",
        b"",
        "grüße",
        b"\x00\xff",
        "é" * (1 << 19),
        bytes(range(256)) * (1 << 12),
    ]

    async with site() as there:
        await there.business()
        gateway_node = await there.gateway()
        client, name = await gateway_node.newcomer()
        for message in said:
            await client.send(message)
        await there.journal.until("message", count=len(said))

        assert there.journal.of("message") == [(name, message) for message in said]


@pytest.mark.parametrize("is_async", [False, True])
@on_loop
async def test_a_client_may_be_greeted_before_it_is_in(*, is_async: bool) -> None:
    """What `on_websocket_connect` sends goes out behind the 101, and before what `on_open` does."""
    hubs: list[Hub] = []

    async with site() as there:

        def greet(client_id: ClientId, _request: Request) -> None:
            hub = hubs[0]
            hub.send_to_client(client_id, "1")
            hub.send_to_clients([client_id], "2")
            hub.join_group(client_id, "room")

        async def greet_later(client_id: ClientId, request: Request) -> None:
            greet(client_id, request)
            await turns(3)

        business_node = await there.business(
            on_websocket_connect=greet_later if is_async else greet,
            on_open=lambda client_id: hubs[0].send_to_client(client_id, "3"),
        )
        hubs.append(business_node.hub)
        gateway_node = await there.gateway()
        client = await gateway_node.client()

        assert [await client.recv() for _ in range(3)] == ["1", "2", "3"]
        assert gateway_node.hub.counts["unknown_client"] == 0


@on_loop
async def test_messages_are_handled_in_order() -> None:
    """A thousand of them, those that take a while and those that do not."""
    heard: list[object] = []

    async def hear(_client_id: ClientId, message: str) -> None:
        if int(message) % 7 == 0:
            await asyncio.sleep(0)
        heard.append(message)

    async with site() as there:
        await there.business(on_message=hear)
        gateway_node = await there.gateway()
        client = await gateway_node.client()
        said = [str(number) for number in range(1000)]
        for message in said:
            await client.send(message)
        await eventually(lambda: len(heard) == len(said))
        await gateway_node.settle()

        assert heard == said
        assert gateway_node.service.counts["events_repeated"] == 0


@on_loop
async def test_a_session_travels_with_the_events() -> None:
    """What a handler changes is everybody's then, and what others change is the next handler's."""
    async with site() as there:

        def count(_client_id: ClientId, _message: str) -> None:
            there.journal.note("session", dict(current_client.session))
            current_client.session["count"] = current_client.session.get("count", 0) + 1

        business_node = await there.business(on_message=count)
        gateway_node = await there.gateway()
        client, name = await gateway_node.newcomer()
        for _ in range(3):
            await client.send("")
        await there.journal.until("session", count=3)
        await gateway_node.settle()
        assert await there.hub.get_session(name) == {"count": 3}
        await there.hub.set_session(name, {"count": 10})
        await client.send("")
        await there.journal.until("session", count=4)
        await gateway_node.settle()
        await there.hub.update_session(name, name="Ann")
        await client.send("")
        await there.journal.until("session", count=5)

        assert there.journal.of("session") == [
            ({},),
            ({"count": 1},),
            ({"count": 2},),
            ({"count": 10},),
            ({"count": 11, "name": "Ann"},),
        ]
        assert business_node.service.counts["callback_failed"] == 0


@on_loop
async def test_a_handler_knows_where_its_client_is() -> None:
    """Behind a trusted proxy it is the address that the proxy names."""
    async with site() as there:

        def connect(client_id: ClientId, _request: Request) -> None:
            there.journal.note(
                "from", client_id, current_client.remote_ip, current_client.remote_port
            )

        def opened(_client_id: ClientId) -> None:
            there.journal.note("open", current_client.client_id, current_client.remote_ip)

        await there.business(on_websocket_connect=connect, on_open=opened)
        gateway_node = await there.gateway(trusted_proxies=["127.0.0.1"])
        await gateway_node.client(additional_headers={"X-Forwarded-For": "2001:db8::7"})
        await there.journal.until("open")

        [(name, ip, port)] = there.journal.of("from")
        assert (ip, port) == ("2001:db8::7", 0)
        assert there.journal.of("open") == [(name, ip)]


@on_loop
async def test_an_end_is_told_once_with_its_code_and_reason() -> None:
    """Behind all messages of the client, whichever side ended it."""
    hub = Hub()

    async def hear(client_id: ClientId, message: str) -> None:
        there.journal.note("message", client_id, message)
        if message == "end":
            hub.close_client(client_id, 4002, "as you wish")

    async with site() as there:
        await there.business(hub, on_message=hear)
        gateway_node = await there.gateway()
        one, other, third = [await gateway_node.newcomer() for _ in range(3)]
        for number in range(20):
            await one[0].send(f"{number}")
        await one[0].close(4001, "enough")
        await other[0].send("end")
        third[0].transport.abort()
        await there.journal.until("close", count=3)
        await gateway_node.stop()

        of_one = [entry for entry in there.journal.entries if entry[1] == one[1]]
        assert of_one[2:] == [
            *[("message", one[1], f"{number}") for number in range(20)],
            ("close", one[1], 4001, "enough"),
        ]
        assert sorted(there.journal.of("close")) == sorted(
            [
                (one[1], 4001, "enough"),
                (other[1], 4002, "as you wish"),
                (third[1], 1006, ""),
            ]
        )


@on_loop
async def test_a_session_that_no_envelope_carries_costs_its_client() -> None:
    """It is closed for it; others of the same business process go on."""
    async with site() as there:
        await there.business()
        gateway_node = await there.gateway()
        [one, name], [other, _] = await gateway_node.newcomer(), await gateway_node.newcomer()
        for number in range(5):
            await there.hub.update_session(name, **{f"part {number}": "x" * (100 << 10)})
        await one.send("1")
        with pytest.raises(ConnectionClosed) as caught:
            await read(one)
        await other.send("2")
        await there.journal.until("close")
        await gateway_node.settle()

        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1011
        assert [entry[1] for entry in there.journal.of("message")] == ["1", "2"]
        assert gateway_node.service.counts["session_too_big"] == 1
        [line] = gateway_node.server.lines()
        assert "262144 bytes" in line
        assert "xxx" not in line


# When it stops.


@on_loop
async def test_all_ends_are_handled_before_it_stops() -> None:
    """Slow handlers too, as far as `timeouts.shutdown` goes."""
    async with site() as there:

        async def close(client_id: ClientId, code: int, reason: str) -> None:
            await asyncio.sleep(0.05)
            there.journal.note("close", client_id, code, reason)

        await there.business(on_close=close)
        gateway_node = await there.gateway()
        names = [(await gateway_node.newcomer())[1] for _ in range(5)]
        await gateway_node.stop()

        assert sorted(there.journal.of("close")) == sorted((name, *GONE) for name in names)
        assert gateway_node.service.counts["events_lost"] == 0


@on_loop
async def test_health_checks_fail_without_business_workers() -> None:
    """With the reason, until one is there; that the last is gone is forgiven for a while."""
    async with site() as there:
        gateway_node = await there.gateway()

        async def check() -> tuple[int, bytes]:
            answer = await gateway_node.server.ask(request("GET /healthz HTTP/1.0"))
            return answer.status, answer.body

        assert await check() == (503, b"no business worker is available\n")
        business = await there.business()
        await eventually(lambda: gateway_node.dispatch.has_business)
        assert await check() == (200, b"ok\n")
        await business.stop()
        await eventually(lambda: not gateway_node.dispatch.has_business)
        assert await check() == (200, b"ok\n")


@on_loop
async def test_events_that_were_not_handled_in_time_are_counted() -> None:
    """And logged, when the gateway's time to stop is over."""
    may_go_on = asyncio.Event()
    async with site() as there:

        async def hear(_client_id: ClientId, _message: str) -> None:
            await may_go_on.wait()

        business_node = await there.business(on_message=hear)
        gateway_node = await there.gateway(
            timeouts={"shutdown": 0.1}, errors=["gateway: 3 events of clients were not handled"]
        )
        client = await gateway_node.client()
        await client.send("1")
        await client.send("2")
        await eventually(lambda: business_node.service.message_count == 2)
        await gateway_node.stop()

        assert gateway_node.service.counts["events_lost"] == 3
        may_go_on.set()


# What others say.


@on_loop
async def test_what_is_malformed_is_ignored_and_counted() -> None:
    """A process on the bus may have another version, or a bug."""
    async with site() as there:
        business_node = await there.business()
        gateway_node = await there.gateway()
        client = await gateway_node.client()
        await gateway_node.settle()
        for data in (b"", b"\xc1", b"\x93\xa1d\x01", b"junk" * 1000):
            there.forge(business_node.hub.node, gateway_node.node, data)
        await client.send("1")
        await there.journal.until("message")
        await gateway_node.settle()

        assert gateway_node.hub.counts["bad_envelope"] == 4
        assert [line for line in gateway_node.server.lines() if "is ignored" not in line] == []


@on_loop
async def test_what_is_of_another_link_is_ignored() -> None:
    """Of a link that has ended, or has never been; or of a process that nobody knows."""
    may_go_on = asyncio.Event()
    async with site() as there:

        async def hear(client_id: ClientId, message: str) -> None:
            there.journal.note("message", client_id, message)
            await may_go_on.wait()

        business_node = await there.business(on_message=hear)
        gateway_node = await there.gateway()
        client = await gateway_node.client()
        await gateway_node.settle()
        await client.send("1")
        await there.journal.until("message")
        for source, epoch in (
            (business_node.hub.node, 99),
            (business_node.hub.node, 0),
            (there.hub.node, 1),
        ):
            there.forge(
                source,
                gateway_node.node,
                Done(epoch, 3, has_gap=False, first=1, results=[Result(1), Result(2)]),
            )
            there.forge(source, gateway_node.node, Begun(epoch, 3))
        there.forge(there.hub.node, gateway_node.node, Leave())
        there.forge(there.hub.node, gateway_node.node, Offer(is_leaving=True, load=0))
        there.forge(there.hub.node, gateway_node.node, Discover())
        await until_idle()
        pending_count = gateway_node.pending_count
        may_go_on.set()
        await gateway_node.settle()

        assert pending_count == 1
        assert list(gateway_node.dispatch.windows) == [business_node.hub.node]
        assert len(there.journal.of("message")) == 1


@on_loop
async def test_a_session_that_cannot_be_read_is_not_kept() -> None:
    """Its client has the one that it had, and everybody goes on."""
    may_go_on = asyncio.Event()
    async with site() as there:

        async def hear(client_id: ClientId, message: str) -> None:
            there.journal.note("message", client_id, message)
            await may_go_on.wait()

        business_node = await there.business(on_message=hear)
        gateway_node = await there.gateway()
        client, name = await gateway_node.newcomer()
        await gateway_node.settle()
        await there.hub.set_session(name, {"name": "Ann"})
        await client.send("1")
        await there.journal.until("message")
        # What it has said so far: on_websocket_connect and on_open.
        forged = Done(1, 3, has_gap=False, first=3, results=[Result(3, session=b"\xc1")])
        there.forge(business_node.hub.node, gateway_node.node, forged)
        await eventually(lambda: gateway_node.service.counts["bad_session"] == 1)
        may_go_on.set()
        await client.send("2")
        await there.journal.until("message", count=2)

        assert await there.hub.get_session(name) == {"name": "Ann"}
        assert len(gateway_node.server.lines()) == 1
