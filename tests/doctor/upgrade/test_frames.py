"""Frames as a client reads and writes them."""

import pytest

from gateman.doctor.upgrade.frames import FrameReader, client_frame
from gateman.doctor.upgrade.observations import parse_answer
from gateman.websocket.encoding import Opcode, encode_frame
from tests.support.raw import frame


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_frames_of_clients(size: int) -> None:
    payload = bytes(i % 251 for i in range(size))
    mask = b"\x5a\xc3\x11\xf8"

    assert client_frame(Opcode.BINARY, payload, mask) == frame(2, payload, mask=mask)


@pytest.mark.parametrize("size", [0, 125, 126, 70_000])
def test_frames_of_servers_cut_at_every_place(size: int) -> None:
    data = encode_frame(Opcode.TEXT, b"a" * size) + encode_frame(Opcode.PING, b"p")
    step = 1 if size < 200 else 4099
    for cut in range(0, len(data), step):
        reader = FrameReader()
        read = reader.feed(data[:cut]) + reader.feed(data[cut:])

        assert [(one.opcode, one.size, one.payload[:1]) for one in read] == [
            (1, size, b"a" if size else b""),
            (9, 1, b"p"),
        ]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (encode_frame(Opcode.TEXT, b"a"), ""),
        (encode_frame(Opcode.TEXT, b"a", rsv1=True), ""),
        (frame(1, b"a"), "a masked frame, as only clients send"),
        (frame(3, mask=None), "the unknown opcode 3"),
        (
            frame(9, fin=False, mask=None),
            "a control frame that is fragmented or longer than 125 bytes",
        ),
        (frame(1, rsv=3, mask=None), "reserved bits 011"),
    ],
)
def test_faults(data: bytes, fault: str) -> None:
    (read,) = FrameReader().feed(data)

    assert read.fault == fault


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", (200, "OK", "b")),
        (b"HTTP/1.0 404\r\n\r\n", (404, "", "")),
        (b"HTTP/1.1 101 Switching\nA:b\n\n", (101, "Switching", "b")),
        (b"SSH-2.0\r\n\r\n", None),
        (b"HTTP/2 200\r\n\r\n", None),
    ],
)
def test_heads_of_answers(head: bytes, expected: tuple[int, str, str] | None) -> None:
    answer = parse_answer(head)

    assert (answer and (answer.status, answer.reason, answer.get("a"))) == expected
