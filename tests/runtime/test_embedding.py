"""Workers on the event loop of another program."""

import asyncio
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosed

from gateman import ConfigError, Connection, Gateway, HubError, Worker, hub, metrics, serve
from tests.support.loop import on_loop


def echo(listen: str = "websocket://127.0.0.1:0", **options: object) -> Worker:
    worker = Worker(listen, **options)  # type: ignore[arg-type]
    worker.on_message = lambda connection, message: connection.send(message)
    return worker


@on_loop
async def test_it_serves_while_the_body_runs() -> None:
    async with serve(echo()) as serving:
        (url,) = serving.urls
        async with connect(url) as client:
            await client.send("hello")

            assert await client.recv() == "hello"

    with pytest.raises(ConnectionRefusedError):
        await connect(url)


@on_loop
async def test_clients_are_closed_at_the_end() -> None:
    worker = echo()
    ended: list[str] = []
    worker.on_close = lambda _connection, _code, _reason: ended.append("on_close")
    worker.on_worker_stop = lambda _worker: ended.append("on_worker_stop")
    async with serve(worker) as serving:
        client = await connect(serving.urls[0])

    with pytest.raises(ConnectionClosed, match="1001"):
        await client.recv()
    assert ended == ["on_close", "on_worker_stop"]


@on_loop
async def test_the_same_worker_may_be_served_again() -> None:
    worker = echo()
    ticks = asyncio.Event()
    worker.every(0.01)(ticks.set)
    for _ in range(2):
        ticks.clear()
        async with serve(worker) as serving, connect(serving.urls[0]) as client:
            await client.send("hello")

            assert await client.recv() == "hello"
            assert len(worker.connections) == 1
            await asyncio.wait_for(ticks.wait(), 5)
        assert not worker.connections


@on_loop
async def test_several_workers_share_the_hub() -> None:
    page, push = echo(), echo()

    def join(connection: Connection) -> None:
        connection.join("all")

    page.on_open = join
    push.on_message = lambda _connection, message: hub.send_to_group("all", message)
    async with (
        serve(page, push) as serving,
        connect(serving.urls[0]) as reader,
        connect(serving.urls[1]) as writer,
    ):
        await writer.send("news")

        assert await reader.recv() == "news"


@on_loop
async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "chat.sock"
    async with serve(echo(f"websocket+unix://{path}")) as serving:
        assert serving.urls == (f"ws+unix://{path}",)
        async with unix_connect(str(path)) as client:
            await client.send("hello")

            assert await client.recv() == "hello"
    assert not path.exists()


@on_loop
async def test_one_call_at_a_time() -> None:
    async with serve(echo()) as serving:
        with pytest.raises(HubError, match="the hub runs already"):
            async with serve(echo()):
                pass
        async with connect(serving.urls[0]) as client:
            await client.send("still there")

            assert await client.recv() == "still there"


@pytest.mark.parametrize(
    ("workers", "problem"),
    [
        ([lambda: echo(count=2)], "has count=2, and serve() runs in this process only"),
        ([lambda: echo(acme="a.test")], "has acme, and serve() starts no process that orders"),
        ([lambda: echo(user="nobody")], "has user='nobody'"),
        ([lambda: Gateway("websocket://127.0.0.1:0")], "serve() got 'Gateway'"),
        ([echo, lambda: echo(bus="memory://")], "the workers have different buses"),
    ],
)
@on_loop
async def test_what_needs_processes_is_refused(workers: list, problem: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigError, match=re.escape(problem)):
        async with serve(*(make() for make in workers)):
            pass


@on_loop
async def test_an_address_in_use_leaves_nothing_behind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError):
            async with serve(echo(), echo(f"websocket://127.0.0.1:{port}")):
                pass
    async with serve(echo(f"websocket://127.0.0.1:{port}")) as serving:
        assert serving.urls == (f"ws://127.0.0.1:{port}",)


@on_loop
async def test_metrics_of_the_application_are_there() -> None:
    """For a page of the program's own."""
    lines = metrics.counter("embedded_lines_total", "Lines.")
    worker = Worker("websocket://127.0.0.1:0")

    def answer(connection: Connection, message: str) -> None:
        lines.inc()
        connection.send(message)

    worker.on_message = answer
    async with serve(worker) as serving, connect(serving.urls[0]) as client:
        await client.send("hello")
        await client.recv()

        assert "\nembedded_lines_total 1\n" in metrics.text()
    metrics.registry.clear()


@on_loop
async def test_an_error_of_on_worker_start_is_the_callers() -> None:
    worker = echo()
    worker.on_worker_start = lambda _worker: 1 / 0
    with pytest.raises(ZeroDivisionError):
        async with serve(worker):
            pass


@on_loop
async def test_the_programs_exception_handler_stays() -> None:
    loop = asyncio.get_running_loop()
    handled: list[str] = []

    def handle(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        handled.append(str(context["message"]))

    loop.set_exception_handler(handle)
    async with serve(echo()):
        loop.call_exception_handler({"message": "a peer", "exception": ConnectionResetError()})
        loop.call_exception_handler({"message": "the program's"})
    assert loop.get_exception_handler() is handle
    assert handled == ["the program's"]


@on_loop
async def test_run_all_names_it_on_a_running_loop() -> None:
    with pytest.raises(ConfigError, match=re.escape("`async with gateman.serve(worker):`")):
        Worker.run_all()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "serve() got nothing to serve: write serve(worker)."),
        (
            ["ws://127.0.0.1:0"],
            "serve() got 'str', and it serves workers only: write serve(worker), or serve(one,"
            " other).",
        ),
        (
            [[]],
            "serve() got 'list', and it serves workers only: write serve(worker), or serve(one,"
            " other).",
        ),
    ],
)
@on_loop
async def test_only_workers_can_be_served(given: list[Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        async with serve(*given):
            pass

    assert str(caught.value) == sentence
