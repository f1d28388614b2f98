"""Who a business process lets in through a gateway, and who waits until there is one."""

import asyncio

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateman import Refuse, Request, current_client
from gateman.cluster.hub import Hub
from gateman.cluster.names import ClientId
from tests.support.gateways import read, site
from tests.support.loop import eventually, on_loop

GONE = (1001, "server is shutting down")


# Who comes in.


@on_loop
async def test_the_101_waits_for_the_application() -> None:
    """However long `on_websocket_connect` takes, within the handshake's time."""
    may_enter = asyncio.Event()
    async with site() as there:

        async def connect(client_id: ClientId, request: Request) -> None:
            business_node.journal.note("connect", client_id, request.path, request.query["a"])
            await may_enter.wait()

        business_node = await there.business(on_websocket_connect=connect)
        gateway_node = await there.gateway()
        coming = asyncio.ensure_future(gateway_node.client("chat?a=1"))
        await business_node.journal.until("connect")
        assert not coming.done()
        may_enter.set()
        client = await coming
        await business_node.journal.until("open")
        await client.close()
        await business_node.journal.until("close")

        [(name, path, value)] = business_node.journal.of("connect")
        assert (path, value) == ("/chat", "1")
        assert business_node.journal.of("open") == [(name,)]
        assert business_node.journal.of("close") == [(name, 1000, "")]
        assert gateway_node.service.counts["no_business"] == 0


@on_loop
async def test_a_refusal_is_the_answer() -> None:
    """With its status, text and headers; nobody is told that it closes."""

    def refuse(_client_id: ClientId, _request: Request) -> None:
        raise Refuse(401, "who are you?", {"X-Why": "unknown"})

    async with site() as there:
        business_node = await there.business(on_websocket_connect=refuse)
        gateway_node = await there.gateway()
        with pytest.raises(InvalidStatus) as caught:
            await gateway_node.client()
        await eventually(lambda: not gateway_node.service.present_count)

        response = caught.value.response
        assert (response.status_code, response.headers["X-Why"]) == (401, "unknown")
        assert response.body == b"who are you?\n"
        assert business_node.journal.entries == []
        assert business_node.service.counts["callback_failed"] == 0


@on_loop
async def test_a_handler_that_fails_refuses_the_handshake() -> None:
    """The client gets 500 and no word of why, the log gets all of it."""

    def fail(_client_id: ClientId, _request: Request) -> None:
        raise LookupError("no such table")

    async with site() as there:
        business_node = await there.business(on_websocket_connect=fail)
        gateway_node = await there.gateway()
        with pytest.raises(InvalidStatus) as caught:
            await gateway_node.client()

        assert caught.value.response.status_code == 500
        assert b"table" not in (caught.value.response.body or b"")
        assert business_node.service.counts["callback_failed"] == 1
        [line] = gateway_node.server.lines()
        assert line.startswith("on_websocket_connect raised LookupError")


@on_loop
async def test_a_uid_bound_in_the_handshake_is_known_at_once() -> None:
    """Its uid, groups and session are in effect when the 101 is sent."""
    hub = Hub()

    async def connect(client_id: ClientId, _request: Request) -> None:
        hub.bind_uid(client_id, "ann")
        hub.join_group(client_id, "room")
        hub.join_group(client_id, "hall")
        hub.leave_group(client_id, "hall")
        current_client.session["name"] = "Ann"
        await asyncio.sleep(0)

    async with site() as there:
        await there.business(hub, on_websocket_connect=connect)
        gateway_node = await there.gateway()
        client, name = await gateway_node.newcomer()
        gateway_node.hub.send_to_group("hall", "1")
        gateway_node.hub.send_to_group("room", "2")
        there.hub.send_to_uid("ann", "3")

        assert await read(client, 2) == ["2", "3"]
        assert await there.hub.get_session(name) == {"name": "Ann"}


@on_loop
async def test_a_refused_client_has_no_callbacks() -> None:
    """What was asked for in a handshake that failed is forgotten."""
    hub = Hub()

    def connect(client_id: ClientId, _request: Request) -> None:
        hub.bind_uid(client_id, "ann")
        hub.join_group(client_id, "room")
        current_client.session["name"] = "Ann"
        raise Refuse

    async with site() as there:
        await there.business(hub, on_websocket_connect=connect)
        gateway_node = await there.gateway()
        with pytest.raises(InvalidStatus):
            await gateway_node.client()
        await eventually(lambda: not gateway_node.service.present_count)

        assert await there.hub.groups() == set()
        assert await there.hub.count_uids() == 0
        assert gateway_node.hub.counts["unknown_client"] == 0


@on_loop
async def test_a_client_closed_in_its_handshake_is_closed_with_the_101() -> None:
    """As with all that is done to a client that is on its way in."""
    hub = Hub()

    def connect(client_id: ClientId, _request: Request) -> None:
        hub.close_client(client_id, 4001, "come later")

    async with site() as there:
        business_node = await there.business(hub, on_websocket_connect=connect)
        gateway_node = await there.gateway()
        client = await gateway_node.client()
        with pytest.raises(ConnectionClosed) as caught:
            await read(client)
        await business_node.journal.until("close")

        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "come later")
        [[name]] = business_node.journal.of("open")
        assert business_node.journal.of("close") == [(name, 4001, "come later")]


# While nobody is there.


@on_loop
async def test_without_business_a_handshake_waits_and_gets_503() -> None:
    """Before its own time is over, so that the client is told something."""
    async with site() as there:
        gateway_node = await there.gateway(timeouts={"handshake": 0.5})
        begun_at = asyncio.get_running_loop().time()
        with pytest.raises(InvalidStatus) as caught:
            await gateway_node.client()
        waited = asyncio.get_running_loop().time() - begun_at
        await eventually(lambda: not gateway_node.service.present_count)

        response = caught.value.response
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        assert waited >= 0.4
        assert gateway_node.service.counts["no_business"] == 1
        assert gateway_node.service.counts["handshake_timeout"] == 0
        [line] = gateway_node.server.lines()
        assert line.endswith("was refused with 503: no business worker has answered")


@on_loop
async def test_without_business_a_handshake_may_be_refused_at_once() -> None:
    """As a load balancer in front likes it, that has other machines."""
    async with site() as there:
        gateway_node = await there.gateway(without_business="refuse")
        with pytest.raises(InvalidStatus) as caught:
            await gateway_node.client()
        first = gateway_node.service.counts["no_business"]
        await there.business()
        await eventually(lambda: gateway_node.dispatch.has_business)
        await gateway_node.client()

        assert caught.value.response.status_code == 503
        assert (first, gateway_node.service.counts["no_business"]) == (1, 1)
        [line] = gateway_node.server.lines()
        assert line.endswith("was refused with 503: no business worker is available")
        await gateway_node.stop()


@on_loop
async def test_a_waiting_handshake_is_accepted_when_a_process_joins() -> None:
    """The first business process gets the clients that came before it."""
    async with site() as there:
        gateway_node = await there.gateway()
        coming = [asyncio.ensure_future(gateway_node.client()) for _ in range(3)]
        await eventually(lambda: gateway_node.dispatch.pending_count == 3)
        await there.business()
        await asyncio.gather(*coming)
        await there.journal.until("open", count=3)
        await gateway_node.stop()

        assert gateway_node.service.counts["no_business"] == 0


@on_loop
async def test_a_client_that_leaves_while_waiting_has_no_events() -> None:
    """No business process hears of a client that did not wait for the first one."""
    async with site() as there:
        gateway_node = await there.gateway()
        coming = asyncio.ensure_future(gateway_node.client())
        await eventually(lambda: bool(gateway_node.dispatch.pending_count))
        coming.cancel()
        await eventually(lambda: not gateway_node.service.present_count)
        await there.business()
        await gateway_node.client()
        await there.journal.until("open")

        assert len(there.journal.of("connect")) == 1
        assert gateway_node.service.counts["no_business"] == 0
        await gateway_node.stop()


@on_loop
async def test_a_client_that_leaves_during_its_handshake_gets_a_close_event() -> None:
    """What `on_websocket_connect` has noted, `on_close` takes back; unless it refuses."""
    may_end = asyncio.Event()
    async with site() as there:

        async def connect(client_id: ClientId, request: Request) -> None:
            there.journal.note("connect", client_id)
            await may_end.wait()
            there.journal.note("ended", client_id)
            if request.path == "/no":
                raise Refuse

        await there.business(on_websocket_connect=connect)
        gateway_node = await there.gateway()
        coming = [asyncio.ensure_future(gateway_node.client(path)) for path in ("", "no")]
        await there.journal.until("connect", count=2)
        for one in coming:
            one.cancel()
        await eventually(lambda: not gateway_node.service.present_count)
        may_end.set()
        await there.journal.until("close")
        await eventually(lambda: not gateway_node.dispatch.clients)

        names = there.journal.of("connect")
        assert there.journal.of("ended") == names
        assert len(there.journal.of("close")) == 1
        assert there.journal.of("close")[0] in [(name, 1006, "") for [name] in names]
        assert there.journal.of("open") == []
