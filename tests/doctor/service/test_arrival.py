"""The handshake that carries a nonce, and what a server may answer to it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateman.doctor.service import arrival
from gateman.doctor.service.observations import ArrivalsSeen
from gateman.doctor.target import Settings
from gateman.master.script import Script
from tests.support.loop import on_loop
from tests.support.master import Master, echo, master

from .urls import target


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    with master(echo(options="count=1"), tmp_path_factory.mktemp("service")) as service:
        yield service


def test_a_service_that_is_not_running_is_not_asked(tmp_path: Path) -> None:
    path = tmp_path / "server.py"
    path.write_text(echo())
    looked = asyncio.run(arrival.look(Script.find(str(path)), target(), Settings(), ("127.0.0.1",)))

    assert looked.refused.endswith("server.py is not running.")
    assert looked.status is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nServer: x\r\n\r\nno good", (502, "x", "", "no good")),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", (101, "", "", "")),
        (b"SSH-2.0-x\r\n\r\n", (None, "", "it is not HTTP", "")),
        (b"", (None, "", "(it was closed)", "")),
    ],
)
def test_what_another_server_answers(
    running: Master, answer: bytes, expected: tuple[int | None, str, str, str]
) -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    async def look(script: Script) -> ArrivalsSeen:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            settings = Settings(headers=(("X-A", "b"),), subprotocols=("chat",))
            url = target(f"ws://example.com:{port}/chat?a=1")
            return await arrival.look(script, url, settings, ("127.0.0.1",))

    looked = asyncio.run(look(Script.find(str(running.path))))
    status, server, problem, text = expected

    assert (looked.status, looked.server, looked.text) == (status, server, text)
    assert problem in looked.problem
    assert bool(problem) == bool(looked.problem)
    assert (looked.refused, looked.arrivals, looked.causes) == ("", (), ())
    lines = asked[0].decode().split("\r\n")
    assert lines[0].startswith("GET /chat?a=1&gateman-doctor=")
    assert {"X-A: b", "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Version: 13"} <= set(lines)


@on_loop
async def test_no_address_is_no_answer() -> None:
    looked = ArrivalsSeen(problem="the name has no address")

    assert looked.answer == "the name has no address"
    assert ArrivalsSeen(status=404).answer == "the status 404"
