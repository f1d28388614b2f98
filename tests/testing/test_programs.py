"""The handlers of each program in ``examples``, as their users would test them."""

import asyncio
import contextlib
import json
import os
import socket
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gateman import testing
from tests.support.loop import on_loop
from tests.support.ports import free_port

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    return testing.load(EXAMPLES / f"{name}.py")


@pytest.mark.parametrize("name", ["wss", "ws", "wss_by_domain"])
@on_loop
async def test_the_five_lines(name: str) -> None:
    async with testing.connect(load(name).worker) as client:
        await client.send("hi")
        assert await client.receive() == "ok"


@on_loop
async def test_rooms() -> None:
    worker = load("rooms").worker
    assert (await testing.refused(worker, "/jazz?token=wrong")).status == 401
    assert (await testing.refused(worker, origin="https://elsewhere.test")).status == 403
    async with (
        testing.connect(worker, "/jazz?token=secret-of-ann") as ann,
        testing.connect(worker, "/jazz?token=secret-of-bob") as bob,
        testing.connect(worker, "/folk?token=secret-of-bob") as other,
    ):
        await ann.send("hi")
        assert await bob.receive() == "ann: hi"
        await other.receive_nothing()
        await ann.send(b"bytes")
        assert (await ann.wait_closed()).code == 1003
        await bob.send("x" * 5000)
        assert (await bob.wait_closed()).code == 1009


@on_loop
async def test_a_chat_with_gateways() -> None:
    chat = load("gateway_chat")
    async with testing.service(chat.gate, chat.chat, processes=2) as service:
        assert (await testing.refused(chat.gate, "/jazz?token=wrong")).status == 401
        async with testing.connect(chat.gate, "/jazz?token=secret-of-ann") as ann:
            assert await ann.receive() == "in this room: ann"
            async with testing.connect(chat.gate, "/jazz?token=secret-of-bob") as bob:
                assert await bob.receive() == "in this room: ann, bob"
                for number in (1, 2):
                    await ann.send("hi")
                    assert await bob.receive() == f"ann {number}: hi"
                    assert await ann.receive() == f"ann {number}: hi"
                    await service.processes(chat.chat)[0].reload()
                    await testing.advance(10)
            assert await ann.receive() == "bob has left"


@on_loop
async def test_an_own_loop() -> None:
    program = load("own_loop")
    async with testing.connect(program.worker) as client:
        assert await program.publish("news") == 1
        assert await client.receive() == "news"


@on_loop
async def test_a_typed_session() -> None:
    async with testing.connect(load("typed").worker, "/?user=ann") as client:
        for number in (1, 2):
            await client.send("hi")
            assert await client.receive() == f"ann {number}: hi"


@on_loop
async def test_notifications() -> None:
    worker = load("notifications/server").worker
    assert (await testing.refused(worker)).status == 401
    async with (
        testing.service(worker, processes=2) as service,
        testing.connect(worker, "/?token=secret-of-ann") as phone,
        testing.connect(worker, "/?token=secret-of-ann") as browser,
    ):
        [_, other] = service.processes(worker)
        assert await other.hub.send_to_uid("ann", "ready") == 2
        assert await phone.receive() == await browser.receive() == "ready"


@on_loop
async def test_an_http_application() -> None:
    """Its handlers reach the clients of the test, when they are called on its event loop."""
    program = load("with_http")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/push/orders",
        "query_string": b"",
        "headers": [],
    }
    sent = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"Order 7 is ready."}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async with testing.connect(program.worker) as client:
        await program.application(scope, receive, send)
        assert await client.receive() == "Order 7 is ready."
        assert sent[-1]["body"] == b"1"


def test_a_chat_for_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_CLIENTS", "1")
    worker = load("compose/server").worker

    @on_loop
    async def test() -> None:
        async with (
            testing.service(worker, processes=2) as service,
            testing.connect(worker) as ann,
            testing.connect(worker) as bob,
        ):
            assert all(process.is_ready for process in service.processes(worker))
            for client in (ann, bob):
                assert await client.receive() == f"This is {socket.gethostname()}."
            await ann.send("hi")
            assert await bob.receive() == "hi"
            await testing.advance(worker.timeouts.health_interval + 1)
            assert not any(process.is_ready for process in service.processes(worker))
            await bob.close()
            await testing.advance(worker.timeouts.health_interval + 1)
            assert [process.is_ready for process in service.processes(worker)] == [False, True]

    test()


def test_two_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NAME": "one", "PORT": "1", "BUS": "nats://127.0.0.1:1?name=two"}.items():
        monkeypatch.setenv(name, value)
    worker = load("two_nodes/node").worker

    @on_loop
    async def test() -> None:
        async with (
            testing.service(worker, processes=2),
            testing.connect(worker) as ann,
            testing.connect(worker) as bob,
        ):
            for client in (ann, bob):
                assert await client.receive() == f"This is one, process {os.getpid()}."
            await ann.send("hi")
            assert await bob.receive() == "one: 'hi'"

    test()


def test_jobs_that_one_of_two_processes_runs(tmp_path: Path) -> None:
    """On a loop without a deadline of its own, which would move as well."""
    worker = replaced("cron", tmp_path, "0 3 * * *", "*/10 * * * *").worker

    async def test() -> None:
        async with testing.service(worker, processes=2), testing.connect(worker) as client:
            await testing.advance(3600)

            assert client.received.count("a minute has passed") == 60
            assert client.received.count("1 clients are here") == 6

    asyncio.run(test())


def test_a_login_by_a_token_that_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_KEY", "secret")
    program = load("recipes/login")

    @on_loop
    async def test() -> None:
        async with (
            testing.connect(program.worker) as late,
            testing.connect(program.worker) as wrong,
            testing.connect(program.worker) as ann,
        ):
            await wrong.send("token ann.99999999999.forged")
            assert (await wrong.wait_closed()).code == 4401
            await ann.send(f"token {program.make_token('ann', 30)}")
            assert await ann.receive() == "welcome"
            await testing.advance(11)
            assert (await late.wait_closed()).reason == "no token in time"
            await ann.send("hi")
            assert await ann.receive() == "ann said hi"
            await testing.advance(30)
            assert (await ann.wait_closed()).reason == "the token has expired"

    test()


def test_messages_for_users_who_are_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    program = load("recipes/offline")
    worker = program.worker

    @on_loop
    async def test() -> None:
        async with testing.connect(worker, "/?uid=bob") as bob:
            await bob.send(json.dumps({"to": "ann", "text": "hi"}))
            await bob.receive_nothing()
            for _ in range(2):
                async with testing.connect(worker, "/?uid=ann") as ann:
                    assert json.loads(await ann.receive()) == {"id": 1, "text": "hi"}
            async with testing.connect(worker, "/?uid=ann") as ann:
                await ann.receive()
                await ann.send(json.dumps({"got": 1}))
                await ann.receive_nothing()
            async with testing.connect(worker, "/?uid=ann") as ann:
                await ann.receive_nothing()

    with contextlib.closing(program.database()):
        test()


def test_counters_that_processes_share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    program = load("recipes/counters")
    worker = program.worker

    @on_loop
    async def test() -> None:
        async with (
            testing.service(worker, processes=2),
            testing.connect(worker) as one,
            testing.connect(worker) as other,
        ):
            for number, client in enumerate((one, other, one), start=1):
                await client.send("visits")
                assert await client.receive() == str(number)

    with contextlib.closing(program.database()):
        test()


def replaced(name: str, folder: Path, old: str, new: str) -> ModuleType:
    """Load a recipe with a part of its text replaced."""
    program = (EXAMPLES / "recipes" / f"{name}.py").read_text()
    assert old in program
    copy = folder / f"{name}.py"
    copy.write_text(program.replace(old, new))
    return testing.load(copy)


def test_devices_with_lines_of_json_and_pages() -> None:
    program = testing.load(EXAMPLES / "recipes" / "json_lines.py")
    values = [{"a": 1}, [], "ä", 5, None]
    lines = b"".join(map(program.JsonLines().encode, map(json.dumps, values)))
    assert testing.cut_at_every_byte(program.JsonLines, lines) == values

    @on_loop
    async def test() -> None:
        async with (
            testing.connect(program.pages) as page,
            testing.open_stream(program.devices, remote_ip="192.0.2.1") as (reader, writer),
        ):
            writer.write(b'{"degrees": 21}\n')
            wanted = {"from": "192.0.2.1", "value": {"degrees": 21}}
            assert json.loads(await page.receive()) == wanted
            assert json.loads(await reader.readline()) == wanted
            writer.write(b"no JSON\n")
            assert await reader.read() == b""

    test()


def test_a_master_reads_registers() -> None:
    program = testing.load(EXAMPLES / "recipes" / "modbus.py")
    modbus = program.Modbus()
    frames = [program.Frame(1, 17, 3, bytes([0, number, 0, 2])) for number in (5, 99)]
    frames.append(program.Frame(2, 17, 6, b""))
    stream = b"".join(map(modbus.encode, frames))
    assert testing.cut_at_every_byte(modbus, stream) == frames

    @on_loop
    async def test() -> None:
        async with testing.open_stream(program.worker) as (reader, writer):
            writer.write(stream)
            answers = [
                program.Frame(1, 17, 3, bytes([4, 0, 5, 0, 6])),
                program.Frame(1, 17, 0x83, b"\x02"),
                program.Frame(2, 17, 0x86, b"\x01"),
            ]
            packets = b"".join(map(modbus.encode, answers))
            assert await reader.readexactly(len(packets)) == packets
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await reader.read() == b""

    test()


def test_a_feed_that_all_clients_get(tmp_path: Path) -> None:
    port = free_port()
    program = replaced("outgoing", tmp_path, "9001", str(port))

    @on_loop
    async def test() -> None:
        feeds: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        server = await asyncio.start_server(
            lambda _, writer: feeds.put_nowait(writer), "127.0.0.1", port
        )
        async with (
            server,
            testing.service(program.worker),
            testing.connect(program.worker) as client,
        ):
            for news in ("one", "two"):
                # Until one process is in charge, and until the next attempt.
                await testing.advance(12)
                feed = await feeds.get()
                feed.write(f"{news}\n".encode())
                assert await client.receive() == news
                feed.close()
                await feed.wait_closed()
            await testing.advance(0)

    test()


def test_a_pipe_to_another_server(tmp_path: Path) -> None:
    port = free_port()
    pipe = replaced("pipe", tmp_path, "9002", str(port))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data.upper())
        writer.close()

    @on_loop
    async def test() -> None:
        assert (await testing.refused(pipe.worker)).status == 502
        server = await asyncio.start_server(answer, "127.0.0.1", port)
        async with server, testing.connect(pipe.worker) as client:
            await client.send("hi")
            assert await client.receive() == b"HI"

    test()


@on_loop
async def test_monitoring() -> None:
    """Its metrics begin at zero with the first client, and several processes count together."""
    program = load("monitoring/server")
    for _ in range(2):
        async with (
            testing.service(program.worker, processes=2),
            testing.connect(program.worker) as ann,
            testing.connect(program.worker) as bob,
        ):
            await ann.send("hi")
            assert await bob.receive() == "hi"
            assert program.lines.value(room="lobby") == 1
            assert program.talking.value() == 2
            assert program.sizes.count() == 1
        assert program.talking.value() == 0
