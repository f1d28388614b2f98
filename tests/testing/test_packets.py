"""The test of a protocol finds what it is for."""

from typing import Any

import pytest

from gateman import ConfigError, PacketError, Worker, testing
from gateman.protocols.frame import Frame
from gateman.protocols.text import Text
from tests.support.loop import on_loop


def test_messages_survive_every_cut() -> None:
    packets = b"".join(map(Frame().encode, [b"", b"one", bytes(20)]))

    assert testing.cut_at_every_byte(Frame, packets) == [b"", b"one", bytes(20)]


def test_a_stream_has_to_end_with_a_packet() -> None:
    with pytest.raises(AssertionError, match="ends within a packet, of which 2 bytes are there"):
        testing.cut_at_every_byte(Text(), b"one\ntw")


class _Impatient(Text):
    def packet_size(self, data: bytearray) -> int | None:
        return super().packet_size(data) or (len(data) if len(data) > 2 else None)


class _Hungry(Text):
    def packet_size(self, data: bytearray) -> int | None:
        del data[:1]
        return super().packet_size(data)


@pytest.mark.parametrize(
    ("protocol", "sentence"),
    [
        (_Impatient, r"cut after 3 bytes, the messages are \['he', 'lo'\], and not \['hello'\]"),
        (_Hungry, "packet_size changes the bytes"),
    ],
)
def test_a_faulty_protocol_is_found(protocol: Any, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        testing.cut_at_every_byte(protocol, b"hello\n")


def test_what_is_refused_is_told() -> None:
    with pytest.raises(PacketError, match="not UTF-8"):
        testing.cut_at_every_byte(Text, b"\xff\n")


@on_loop
async def test_a_stream_of_a_worker() -> None:
    worker = Worker("text://127.0.0.1:1")
    worker.on_message = lambda connection, line: connection.send(f"{connection.remote_ip} {line}")
    async with testing.open_stream(worker, remote_ip="2001:db8::1") as (reader, writer):
        writer.write(b"hi\n")

        assert await reader.readline() == b"2001:db8::1 hi\n"


@on_loop
async def test_a_websocket_to_a_worker_of_another_protocol() -> None:
    worker = Worker("text://127.0.0.1:1", name="devices")
    with pytest.raises(ConfigError, match=r"devices listens on text://.*testing\.open_stream"):
        async with testing.connect(worker):
            pass
