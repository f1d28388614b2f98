"""What a user writes to test handlers."""

import json

import pytest

from gateman import Connection, Worker, hub, testing
from tests.support.loop import on_loop

from .chat import chat


@on_loop
async def test_a_message_and_its_answer() -> None:
    async with testing.connect(chat(), "/jazz?token=t") as client:
        await client.send("hi")

        assert await client.receive() == "127.0.0.1: hi"


@on_loop
async def test_several_clients_share_the_hub() -> None:
    worker = chat()
    async with (
        testing.connect(worker, "/jazz?token=t", remote_ip="192.0.2.1") as ann,
        testing.connect(worker, "/jazz?token=t", remote_ip="2001:db8::1") as bob,
        testing.connect(worker, "/folk?token=t") as eve,
    ):
        await ann.send("hi")
        await bob.send("ho")

        assert [await ann.receive(), await ann.receive()] == [
            "192.0.2.1: hi",
            "2001:db8::1: ho",
        ]
        await eve.receive_nothing()


@on_loop
async def test_several_workers_share_the_hub() -> None:
    page, push = chat(), Worker("websocket://127.0.0.1:1", name="push")
    push.on_message = lambda _connection, message: hub.send_to_group("/jazz", message)
    async with (
        testing.connect(page, "/jazz?token=t") as reader,
        testing.connect(push) as writer,
    ):
        await writer.send("news")

        assert await reader.receive() == "news"


@on_loop
async def test_a_refused_client() -> None:
    refused = await testing.refused(chat(), "/jazz?token=wrong")

    assert (refused.status, refused.text.strip()) == (401, "No such token.")
    with pytest.raises(AssertionError, match="chat accepted /jazz"):
        await testing.refused(chat(), "/jazz?token=t")
    with pytest.raises(AssertionError, match=r"chat refused /jazz with 401: No such token\."):
        async with testing.connect(chat(), "/jazz"):
            pass


@on_loop
async def test_an_origin_and_headers() -> None:
    worker = Worker(
        "websocket://127.0.0.1:1", allowed_origins=["https://a.test"], subprotocols=["v1"]
    )

    @worker.on_open
    def greet(connection: Connection) -> None:
        assert connection.request is not None
        connection.send(json.dumps(connection.request.headers.getall("X-Id")))

    refused = await testing.refused(worker, origin="https://b.test")
    assert refused.status == 403
    async with testing.connect(
        worker, origin="https://a.test", headers={"X-Id": "7"}, subprotocols=["v1"]
    ) as client:
        assert await client.receive() == '["7"]'
        assert client.subprotocol == "v1"


@on_loop
async def test_an_error_of_a_callback_fails_the_test() -> None:
    async def run() -> None:
        async with testing.connect(chat(), "/jazz?token=t") as client:
            await client.send("bug")
            assert (await client.wait_closed()).code == 1011

    with pytest.raises(AssertionError, match=r"on_message raised ValueError .*'bug'"):
        await run()


@on_loop
async def test_another_failure_stays_and_has_a_note_of_it() -> None:
    async def run() -> None:
        async with testing.connect(chat(), "/jazz?token=t") as client:
            await client.send("bug")
            await client.receive()

    with pytest.raises(AssertionError, match="and it was closed") as failed:
        await run()

    (note,) = failed.value.__notes__
    assert note.startswith("on_message raised ValueError for ")


@on_loop
async def test_an_expected_error() -> None:
    worker = chat()
    for _ in range(2):
        async with testing.connect(worker, "/jazz?token=t") as client:
            with testing.expected(ValueError) as raised:
                await client.send("bug")
                await client.wait_closed()
            assert [str(error) for error in raised.errors] == ["bug"]
            assert (await client.wait_closed()).code == 1011
    with (
        pytest.raises(AssertionError, match="no callback raised KeyError"),
        testing.expected(KeyError),
    ):
        pass


@on_loop
async def test_a_worker_starts_and_stops_with_its_clients() -> None:
    worker = chat()
    ran: list[str] = []
    worker.on_worker_start = lambda _worker: ran.append("start")
    worker.on_worker_stop = lambda _worker: ran.append("stop")
    for _ in range(2):
        async with testing.connect(worker, "/jazz?token=t"):
            assert len(worker.connections) == 1

    assert ran == ["start", "stop", "start", "stop"]
    assert not worker.connections
