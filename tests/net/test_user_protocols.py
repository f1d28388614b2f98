"""Protocols of users on tcp://: what their faults do, and what their messages may be."""

import asyncio
from typing import Any

import pytest

from gateman import Connection
from gateman.protocols.raw import Raw
from gateman.runtime.measurements import Measurements
from tests.support.loop import eventually, on_loop
from tests.support.packets import BYTES, Calls, echo, to_group
from tests.support.server import serve


class Broken(Raw):
    """Does what the first byte of a packet says."""

    def packet_size(self, data: bytearray) -> Any:
        if data.startswith(b"s"):
            raise LookupError("in packet_size")
        wrong = {b"t": "5", b"f": 1.5, b"b": True}
        return wrong.get(bytes(data[:1]), super().packet_size(data))

    def decode(self, packet: bytes) -> Any:
        if packet.startswith(b"d"):
            raise LookupError("in decode")
        return tuple(packet) if packet.startswith(b"p") else packet

    def encode(self, message: Any) -> bytes:
        if isinstance(message, str):
            raise LookupError("in encode")  # noqa: TRY004 - a mistake
        return super().encode(bytes(message))


class Loose(Raw):
    """Has packets that are not ``bytes``, where it is not told otherwise."""

    def packet_size(self, data: bytearray) -> Any:
        return Index(len(data))

    def encode(self, message: Any) -> Any:
        return message


class Index:
    """An integer of another type, as those of numpy."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value


@pytest.mark.parametrize(
    ("first", "kind"), [(b"t", "str"), (b"f", "float"), (b"b", "bool")], ids=str
)
@on_loop
async def test_a_size_that_is_no_number_is_named(first: bytes, kind: str) -> None:
    """In one line, without the traceback of gateman; the client learns nothing of it."""
    journal = Calls()
    async with serve(BYTES, protocol=Broken, **journal.callbacks(on_message=echo)) as server:
        client = await server.connect()
        await client.send(first)
        assert (await client.read_end())[0] == b""
        await journal.until("on_close", 1011, "internal error")
        assert server.service.counts["protocol_failed"] == 1
        [line] = server.lines()
        assert line.endswith(
            f" is closed: Broken.packet_size returned a value of type {kind}: return the size of"
            " the packet as an int, or None if more has to arrive."
        )


@pytest.mark.parametrize("measured", [False, True], ids=["plain", "measured"])
@on_loop
async def test_a_packet_that_is_not_bytes_is_named(*, measured: bool) -> None:
    """To who sends: a callback, or the hub, whose message is dropped; bytes of other types pass."""
    journal = Calls()

    def answer(connection: Connection, message: bytes) -> None:
        sent: dict[bytes, Any] = {b"t": "text", b"n": None}
        connection.send(sent.get(message, bytearray(message)))

    measurements = Measurements() if measured else None
    callbacks = journal.callbacks(on_message=answer)
    async with serve(BYTES, protocol=Loose, measurements=measurements, **callbacks) as server:
        for first, what in ((b"t", "a value of type str"), (b"n", "None")):
            client = await server.connect()
            await client.send(first)
            assert (await client.read_end())[0] == b""
            sentence = f"Loose.encode returned {what}: return the packet as bytes."
            await journal.until("on_error", f"TypeError: {sentence}")
        client = await server.connect()
        await client.send(b"ok")
        assert await client.read(2) == b"ok"
        await journal.connections[-1].join("all")
        local = server.service._membership.local_node.local_clients  # type: ignore[union-attr] # noqa: SLF001
        local.send(*to_group("all", "text"))
        await eventually(lambda: server.service.counts["protocol_failed"] == 1)
        assert "Loose.encode returned a value of type str" in server.lines()[-1]
        await client.send(b"ok")
        assert await client.read(2) == b"ok"


@pytest.mark.parametrize("first", [b"s", b"d"])
@on_loop
async def test_a_fault_of_a_protocol_ends_one_connection(first: bytes) -> None:
    """It is logged with its traceback, and counted; other connections go on."""
    journal = Calls()
    callbacks = journal.callbacks(on_message=echo)
    async with serve(BYTES, protocol=Broken, **callbacks) as server:
        other = await server.connect()
        client = await server.connect()
        await client.send(first)
        assert (await client.read_end())[0] == b""
        await client.close()
        await journal.until("on_close", 1011, "internal error")
        assert server.service.counts["protocol_failed"] == 1
        [line] = server.lines()
        assert line.startswith("Broken raised")
        assert "is closed for it <- " in line
        assert len(journal.of("on_error")) == 1
        await other.send(b"ok")
        assert await other.read(2) == b"ok"


@on_loop
async def test_a_fault_in_encode_is_that_of_who_sends() -> None:
    """Of a callback, whose connection is closed; of the hub, whose message is dropped."""
    journal = Calls()
    callbacks = journal.callbacks(on_message=lambda connection, _: connection.send("text"))
    async with serve(BYTES, protocol=Broken, **callbacks) as server:
        client = await server.connect()
        await journal.until("on_open")
        await journal.connections[0].join("all")
        local = server.service._membership.local_node.local_clients  # type: ignore[union-attr] # noqa: SLF001
        local.send(*to_group("all", "text"))
        await client.send(b"x")
        assert (await client.read_end())[0] == b""
        await journal.until("on_error", "LookupError: in encode")
        assert server.service.counts["protocol_failed"] == 1
        assert len(server.lines()) == 2


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@on_loop
async def test_messages_of_a_protocol_may_be_anything(*, is_async: bool) -> None:
    """Tuples too, also while they wait for a callback that takes time."""
    journal = Calls()

    async def note_later(connection: Connection, message: Any) -> None:
        await asyncio.sleep(0)
        note(connection, message)

    def note(connection: Connection, message: Any) -> None:
        journal.note(message)
        connection.send(bytearray(message))

    callbacks = journal.callbacks(on_message=note_later if is_async else note)
    measurements = Measurements()
    async with serve(BYTES, protocol=Broken, measurements=measurements, **callbacks) as server:
        client = await server.connect()
        for count in (1, 2):
            await client.send(b"pair")
            await journal.until(tuple(b"pair"), count=count)
        assert await client.read(8) == b"pairpair"
