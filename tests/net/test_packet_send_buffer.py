"""Packets on their way out: in order, joined where that saves writes, and counted."""

from collections.abc import Callable
from typing import Any

from gateman import Connection, SendResult
from gateman.net.packet_send_buffer import PacketEncoder, PacketSendBuffer
from gateman.protocols.frame import Frame
from gateman.protocols.raw import Raw
from gateman.protocols.text import Text
from tests.support.loop import on_loop
from tests.support.server import serve


@on_loop
async def test_packets_are_sent_in_order_whatever_their_size() -> None:
    """The answers of one read are written together; a large one is not copied for that."""
    results: list[SendResult] = []
    messages = [b"a", bytes(20_000), b"b", *[bytes([number]) for number in range(40)]]

    def answer(connection: Connection, message: bytes) -> None:
        assert isinstance(connection.send_buffer, PacketSendBuffer)
        if message == b"go":
            results.extend(map(connection.send, messages))

    async with serve("frame://127.0.0.1:0", on_message=answer) as server:
        client = await server.connect()
        await client.send(b"\0\0\0\x06go\0\0\0\x04")
        wanted = b"".join((len(one) + 4).to_bytes(4) + one for one in messages)
        assert await client.read(len(wanted)) == wanted

    assert results[0] is SendResult.QUEUED
    assert set(results) <= {SendResult.QUEUED, SendResult.SENT}


@on_loop
async def test_nothing_is_sent_after_the_end() -> None:
    results: list[SendResult] = []
    again: list[Callable[[], SendResult]] = []

    def leave(connection: Connection, _code: int, _reason: str) -> None:
        results.append(connection.send("late"))
        again.append(lambda: connection.send("later"))

    async with serve("text://127.0.0.1:0", on_close=leave) as server:
        client = await server.connect()
        await client.send(b"a\n")
        client.end()
        assert (await client.read_end())[0] == b""
        assert [*results, again[0]()] == [SendResult.CLOSED] * 2


class Sums:
    """A protocol of an application, whose messages are numbers."""

    encoded = 0

    def packet_size(self, data: bytearray) -> int:
        return len(data)

    def decode(self, packet: bytes) -> int:
        return len(packet)

    def encode(self, message: Any) -> bytes:
        self.encoded += 1
        return bytes(message + 1)


def test_what_a_protocol_carries_is_asked_once() -> None:
    """Awaited messages of the hub are counted for clients of protocols that have such messages."""
    context: Any = None
    sums = Sums()
    encoders = [PacketEncoder(protocol, context) for protocol in (Text(), Frame(), Raw(), sums)]
    for _ in range(2):
        carried = [[one.carries(kind) for kind in (1, 2, 3)] for one in encoders]
        assert carried == [
            [True, True, True],
            [True, True, True],
            [True, True, True],
            [False, False, False],
        ]

    assert sums.encoded == 2
