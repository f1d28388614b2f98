"""The programs and the configuration of ``docs/protocols.md`` do what the page says."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

from gateman import testing
from tests.support.loop import on_loop
from tests.support.ports import free_port
from tests.support.proxies import program, running
from tests.support.raw import RawClient
from tests.support.server import Journal, serve

PAGE = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def loaded(text: str, folder: Path) -> ModuleType:
    script = folder / "program.py"
    script.write_text(text)
    return testing.load(script)


def test_devices_and_pages(tmp_path: Path) -> None:
    program = loaded(PROGRAMS[0], tmp_path)

    @on_loop
    async def test() -> None:
        async with (
            testing.connect(program.pages) as page,
            testing.open_stream(program.devices) as (reader, writer),
        ):
            writer.write(b"21.5\n")
            assert await page.receive() == "127.0.0.1 says 21.5"
            assert await reader.readline() == b"127.0.0.1 says 21.5\n"

    test()


def test_a_protocol_and_its_test(tmp_path: Path) -> None:
    program = loaded("\n".join(PROGRAMS[1:]), tmp_path)
    program.worker.on_message = lambda connection, pair: connection.send(pair[::-1])
    program.test_pairs_survive_every_cut()

    @on_loop
    async def test() -> None:
        async with testing.open_stream(program.worker) as (reader, writer):
            writer.write(b"\1\1ab\0\0")
            assert await reader.read() == b"\1\1ba"

    test()


@on_loop
async def test_haproxy_tells_who_the_client_is(tmp_path: Path) -> None:
    journal = Journal()
    callbacks = journal.callbacks(on_message=lambda connection, line: connection.send(line))
    del callbacks["on_websocket_connect"]
    options: dict[str, Any] = {"proxy_protocol": "required", "trusted_proxies": ["127.0.0.1"]}
    [configuration] = re.findall(r"```haproxy\n(.*?)```", PAGE, re.DOTALL)
    async with serve("text://127.0.0.1:0", **options, **callbacks) as server:
        port = free_port()
        file = tmp_path / "haproxy.cfg"
        for old, new in {":8283": f"127.0.0.1:{port}", "9283": str(server.port)}.items():
            assert old in configuration
            configuration = configuration.replace(old, new)
        file.write_text(configuration)
        command = [program("haproxy"), "-db", "-q", "-f", str(file)]
        with running(command, port=port, log=tmp_path / "log"):
            client = await RawClient.connect(("127.0.0.1", port))
            await client.send(b"hi\n")
            assert await client.read(3) == b"hi\n"
            ours = client.socket.getsockname()[1]
            assert ours in [connection.remote_port for connection in journal.connections]
            await client.close()
