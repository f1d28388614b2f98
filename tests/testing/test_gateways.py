"""Gateways and business workers, on the event loop of a test."""

import asyncio

import pytest

from gateman import BusinessWorker, Gateway, Refuse, Request, current_client, hub, testing
from tests.support.loop import eventually, on_loop

LISTEN = "websocket://127.0.0.1:1"


class Chat:
    """A business worker with a login, and what its callbacks were told."""

    def __init__(self) -> None:
        self.gateway = Gateway(LISTEN, timeouts={"ping_interval": 20, "pong": 10})
        self.business = business = BusinessWorker(name="chat")
        self.log: list[object] = []
        self.may_go_on = asyncio.Event()
        self.node = ""
        business.on_worker_start = lambda own: self.log.append(("start", own.id))
        business.on_worker_stop = lambda own: self.log.append(("stop", own.id))
        business.on_websocket_connect = self._log_in
        business.on_message = self._say
        business.on_close = lambda _client, code, _reason: self.log.append(("close", code))

    def _log_in(self, client_id: str, request: Request) -> None:
        if "name" not in request.query:
            raise Refuse(401, "Who are you?")
        current_client.session["name"] = request.query["name"]
        hub.join_group(client_id, "chat")

    async def _say(self, _client_id: str, message: str) -> None:
        name = current_client.session["name"]
        match message:
            case "wait":
                self.log.append("begin")
                self.node = hub.node
                await self.may_go_on.wait()
            case "bug":
                raise ValueError(message)
        hub.send_to_group("chat", f"{name}: {message}")

    def busy(self, service: testing.Service) -> testing.Process:
        """Find the process whose callback waits."""
        return next(
            process for process in service.processes(self.business) if process.hub.node == self.node
        )


@on_loop
async def test_a_message_passes_through_a_gateway_and_a_business_worker() -> None:
    chat = Chat()
    async with testing.service(chat.gateway, chat.business):
        refused = await testing.refused(chat.gateway)
        assert (refused.status, refused.text.strip()) == (401, "Who are you?")
        async with (
            testing.connect(chat.gateway, "/?name=ann") as ann,
            testing.connect(chat.gateway, "/?name=bob") as bob,
        ):
            await ann.send("hi")
            assert await ann.receive() == await bob.receive() == "ann: hi"
            await bob.drop()
            await testing.advance(0)
            await ann.receive_nothing()
    assert chat.log == [("start", 0), ("close", 1006), ("close", 1000), ("stop", 0)]


@on_loop
async def test_an_error_of_a_business_worker_fails_the_test_unless_it_is_expected() -> None:
    chat = Chat()
    async with (
        testing.service(chat.gateway, chat.business),
        testing.connect(chat.gateway, "/?name=ann") as ann,
    ):
        with testing.expected(ValueError):
            await ann.send("bug")
            assert (await ann.wait_closed()).code == 1011

    async def run() -> None:
        async with (
            testing.service(chat.gateway, chat.business),
            testing.connect(chat.gateway, "/?name=ann") as ann,
        ):
            await ann.send("bug")
            await ann.wait_closed()

    with pytest.raises(AssertionError, match="on_message raised ValueError"):
        await run()


@on_loop
async def test_an_event_is_handled_again_if_its_process_is_killed() -> None:
    chat = Chat()
    async with testing.service(
        chat.gateway, chat.business, processes={chat.business: 2}
    ) as service:
        first, second = service.processes(chat.business)
        async with testing.connect(chat.gateway, "/?name=ann") as ann:
            await ann.send("wait")
            await ann.send("later")
            await testing.advance(0)
            await chat.busy(service).kill()
            await testing.advance(5)
            chat.may_go_on.set()

            assert [await ann.receive() for _ in range(2)] == ["ann: wait", "ann: later"]
            assert first.has_ended is not second.has_ended
    assert chat.log[2:] == ["begin", "begin", ("close", 1000), chat.log[-1]]


@on_loop
async def test_an_event_that_kills_two_processes_is_not_given_to_a_third() -> None:
    chat = Chat()
    async with (
        testing.service(chat.gateway, chat.business, processes={chat.business: 3}) as service,
        testing.connect(chat.gateway, "/?name=ann") as ann,
    ):
        await ann.send("wait")
        await ann.send("later")
        for _ in range(2):
            await testing.advance(5)
            await chat.busy(service).kill()

        assert await ann.receive() == "ann: later"
    assert chat.log.count("begin") == 2


@on_loop
async def test_a_reload_of_the_business_worker_drops_no_client_and_loses_no_message() -> None:
    chat = Chat()
    async with testing.service(chat.gateway, chat.business) as service:
        [old] = service.processes(chat.business)
        async with testing.connect(chat.gateway, "/?name=ann") as ann:
            await ann.send("wait")
            await testing.advance(0)
            new = await old.reload()
            await ann.send("later")
            await testing.advance(1)
            assert not old.has_ended
            chat.may_go_on.set()

            assert [await ann.receive() for _ in range(2)] == ["ann: wait", "ann: later"]
            await eventually(lambda: old.has_ended)
            assert service.processes(chat.business) == [new]
    assert chat.log == [
        *[("start", 0), "begin", ("start", 0), ("stop", 0)],
        *[("close", 1000), ("stop", 0)],
    ]


@on_loop
async def test_clients_of_a_gateway_that_is_killed_are_closed() -> None:
    chat = Chat()
    async with testing.service(chat.gateway, chat.business, processes={chat.gateway: 2}) as service:
        first, second = service.processes(chat.gateway)
        async with (
            testing.connect(first, "/?name=ann") as ann,
            testing.connect(second, "/?name=bob") as bob,
        ):
            await first.kill()
            assert (await ann.wait_closed()).code == 1006
            await testing.advance(5)
            assert chat.log == [("start", 0), ("close", 1006)]
            await bob.send("alone")
            assert await bob.receive() == "bob: alone"


@on_loop
async def test_deadlines_of_gateways_follow_the_clock() -> None:
    chat = Chat()
    async with testing.service(chat.gateway, chat.business) as service:
        async with testing.connect(chat.gateway, "/?name=ann") as ann:
            ann.stop_reading()
            await testing.advance(60)
            assert chat.log == [("start", 0), ("close", 1006)]
        [gateway], [business] = map(service.processes, (chat.gateway, chat.business))
        assert (gateway.is_ready, business.is_ready) == (True, True)
        await business.kill()
        refused = asyncio.ensure_future(testing.refused(chat.gateway, "/?name=bob"))
        await testing.advance(1)
        assert not refused.done()
        await testing.advance(20)

        assert (await refused).status == 503
        assert (gateway.is_ready, business.is_ready) == (False, False)
