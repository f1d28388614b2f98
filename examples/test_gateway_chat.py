"""Tests of gateway_chat.py, whose processes die and are replaced: `pytest -o asyncio_mode=auto`."""

from gateman import testing

program = testing.load("gateway_chat.py")
gateway, chat = program.gate, program.chat


async def test_a_crash_loses_no_line():
    async with (
        testing.service(gateway, chat, processes={chat: 2}) as service,
        testing.connect(gateway, "/jazz?token=secret-of-ann") as client,
    ):
        assert await client.receive() == "in this room: ann"
        await service.processes(chat)[0].kill()
        await client.send("hi")
        await testing.advance(5)
        assert await client.receive() == "ann 1: hi"


async def test_new_code_disconnects_nobody():
    async with (
        testing.service(gateway, chat) as service,
        testing.connect(gateway, "/jazz?token=secret-of-ann") as client,
    ):
        assert await client.receive() == "in this room: ann"
        old = service.processes(chat)[0]
        await old.reload()
        await client.send("hi")
        assert await client.receive() == "ann 1: hi"
        await testing.advance(10)
        assert old.has_ended
        assert client.closed is None
