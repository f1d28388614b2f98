"""
The load generator against servers that misbehave: a judge has to be right before it is fast.

    python -m pytest bench/test_load.py

Every server here is a few lines over a plain socket, so that nothing of gateman or picows is
between what is sent and what the generator says of it.
"""

import base64
import contextlib
import hashlib
import json
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import BinaryIO

import pytest
from generator import command

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PING = b"are you there"

Answer = Callable[[bytes], list[bytes]]
"""Takes a message of the client, gives what to send: one list entry per write."""


def frame(payload: bytes, first: int = 0x81) -> bytes:
    """Write a server's frame; short payloads only."""
    assert len(payload) < 126
    return bytes([first, len(payload)]) + payload


def read_message(stream: BinaryIO) -> bytes | None:
    """Read one short masked message, past pongs; ``None`` for a Close or the end."""
    while (head := stream.read(2)) and head[0] in {0x81, 0x8A}:
        mask, masked = stream.read(4), stream.read(head[1] & 0x7F)
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(masked))
        if head[0] == 0x81:
            return payload
        assert payload == PING
    return None


def serve_one(listener: socket.socket, head: bytes, answer: Answer) -> None:
    """Accept one client, and answer its messages until it closes."""
    sock, _ = listener.accept()
    with sock, sock.makefile("rb") as stream:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += sock.recv(4096)
        key = request.split(b"Sec-WebSocket-Key: ")[1][:24]
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())  # noqa: S324 - RFC 6455, 1.3
        sock.sendall(head.replace(b"ACCEPT", accept))
        while (message := read_message(stream)) is not None:
            for part in answer(message):
                sock.sendall(part)
        sock.sendall(frame(b"\x03\xe8", 0x88))


GOOD_HEAD = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection:upgrade\r\n"
    b"Sec-WebSocket-Accept: ACCEPT\r\n\r\n"
)


def run(answer: Answer, head: bytes = GOOD_HEAD) -> tuple[dict[str, float], str]:
    """
    Let the generator talk to a server of our own for a moment.

    Returns:
        Its figures, empty where it could not measure, and what it wrote on standard error.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_quietly, args=(listener, head, answer), daemon=True)
        thread.start()
        words = command(listener.getsockname()[1], secure=False, size=20, warm_up=0, duration=0.05)
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
        thread.join(10)
    figures = json.loads(done.stdout) if done.stdout else {}
    assert (done.returncode == 0) == (bool(figures) and figures["errors"] == 0)
    return figures, done.stderr


def _quietly(listener: socket.socket, head: bytes, answer: Answer) -> None:
    # The generator is right to leave a server that misbehaves.
    with contextlib.suppress(ConnectionError):
        serve_one(listener, head, answer)


@pytest.mark.parametrize(
    "answer",
    [
        lambda message: [frame(message)],
        lambda message: [bytes([byte]) for byte in frame(message)],
        lambda message: [frame(message[:7], 0x01), frame(b"", 0x00), frame(message[7:], 0x80)],
        lambda message: [frame(PING, 0x89)[:5], frame(PING, 0x89)[5:] + frame(message)],
        lambda message: [frame(message[:1], 0x01) + frame(b"", 0x8A) + frame(message[1:], 0x80)],
    ],
    ids=["whole", "byte by byte", "in fragments", "behind a ping", "around a pong"],
)
def test_accepts_every_legal_form_of_an_echo(answer: Answer) -> None:
    """However the server cuts frames and reads, a right echo is counted and no error."""
    figures, said = run(answer)
    assert said == ""
    assert figures["messages"] > 0


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda message: [frame(message[:-1] + b"\x00")], "an echo differs from what was sent"),
        (lambda message: [frame(message[:-1])], "an echo of 19 bytes"),
        (lambda message: [frame(message + b"x")], "an echo is too long"),
        (lambda message: [frame(message, 0x82)], "opcode 2 is not what was sent"),
        (lambda message: [frame(message, 0xC1)], "a reserved bit is set"),
        (lambda message: [frame(message, 0x83)], "opcode 3 is not what was sent"),
        (lambda message: [frame(message), frame(message)], "an echo differs from what was sent"),
        (lambda message: [b"\x81\x94" + b"\x00" * 4 + message], "a frame of the server is masked"),
        (lambda message: [b"\x81\x7e\x00\x14" + message], "a length is not minimal"),
        (lambda _: [frame(b"\x03\xf3no", 0x88)], "closed by the server with 1011"),
        (lambda _: [], "an echo never came"),
    ],
)
def test_reports_every_wrong_echo(answer: Answer, sentence: str) -> None:
    """What is not the echo of what was sent is an error, with its reason."""
    figures, said = run(answer)
    assert f"load: connection 0: {sentence}" in said.splitlines()
    assert figures.get("errors", 1) == 1


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        (GOOD_HEAD.replace(b"101", b"200"), "the status is not 101"),
        (GOOD_HEAD.replace(b"ACCEPT", b"AAAA"), "not exactly one right Sec-WebSocket-Accept"),
        (GOOD_HEAD.replace(b"upgrade: WebSocket\r\n", b""), "not exactly one Upgrade: websocket"),
        (GOOD_HEAD.replace(b":upgrade", b":close"), "not exactly one Connection: Upgrade"),
        (
            GOOD_HEAD.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: x\r\n\r\n"),
            "it chose an extension",
        ),
        (GOOD_HEAD.replace(b"upgrade:", b"upgrade :"), "a header name has a blank in it"),
        (GOOD_HEAD + frame(b"hello"), "a message that nobody sent"),
    ],
)
def test_refuses_every_wrong_handshake(head: bytes, sentence: str) -> None:
    """A 101 that breaks RFC 6455, section 4.1 is refused before anything is measured."""
    figures, said = run(lambda message: [frame(message)], head)
    assert figures == {}
    assert sentence in said
