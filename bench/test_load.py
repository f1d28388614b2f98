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
import ssl
import subprocess
import threading
import time
import zlib
from collections.abc import Callable
from typing import BinaryIO

import pytest
import trustme
from generator import Option, command

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
    while (head := stream.read(2)) and head[0] in {0x81, 0xC1, 0x8A}:
        mask, masked = stream.read(4), stream.read(head[1] & 0x7F)
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(masked))
        if head[0] != 0x8A:
            return payload
        assert payload == PING
    return None


def serve_one(listener: socket.socket, head: bytes, answer: Answer) -> None:
    """Accept one client, and answer its messages until it closes."""
    sock, _ = listener.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    converse(sock, head, answer)


def converse(sock: socket.socket, head: bytes, answer: Answer) -> None:
    """Shake hands with one client, and answer its messages until it closes."""
    with sock, sock.makefile("rb") as stream:
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


def run(answer: Answer, head: bytes = GOOD_HEAD, **options: Option) -> tuple[dict[str, float], str]:
    """Let the generator talk to a server of our own for a moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_quietly, args=(listener, head, answer), daemon=True)
        thread.start()
        options = {"size": 20, "warm_up": 0, "duration": 0.05, **options}
        words = command(listener.getsockname()[1], secure=False, **options)
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
        thread.join(10)
    figures = json.loads(done.stdout) if done.stdout else {}
    assert (done.returncode == 0) == (bool(figures) and figures["errors"] == 0)
    return figures, done.stderr


def run_with(
    serve: Callable[[socket.socket], None], *, secure: bool = False, **options: Option
) -> tuple[dict[str, float], str]:
    """Let the generator talk to a server that takes one connection after the other."""

    def accept(listener: socket.socket) -> None:
        # Ended by closing the listener.
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                with contextlib.suppress(OSError):
                    serve(sock)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, args=(listener,), daemon=True)
        thread.start()
        options = {"warm_up": 0, "duration": 0.05, **options}
        words = command(listener.getsockname()[1], secure=secure, **options)
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    return json.loads(done.stdout) if done.stdout else {}, done.stderr


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


PACKING_HEAD = GOOD_HEAD.replace(
    b"\r\n\r\n",
    b"\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n",
)


def unpack(message: bytes) -> bytes:
    """Inflate a message, RFC 7692, section 7.2.2."""
    return zlib.decompressobj(-15).decompress(message + b"\x00\x00\xff\xff")


def pack(text: bytes, level: int) -> bytes:
    """Deflate a message, RFC 7692, section 7.2.1."""
    packer = zlib.compressobj(level, wbits=-15)
    return (packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.mark.parametrize(
    "answer",
    [
        lambda message: [frame(message, 0xC1)],
        lambda message: [frame(pack(unpack(message), 1), 0xC1)],
        lambda message: [frame(message[:5], 0x41), frame(message[5:], 0x80)],
    ],
    ids=["as it was", "by other means", "in fragments"],
)
def test_reads_compressed_echoes(answer: Answer) -> None:
    """A compressed echo is what it inflates to, and is counted with what it took."""
    figures, said = run(answer, PACKING_HEAD, compress=True)

    assert said == ""
    assert figures["messages"] > 0
    assert figures["packed"] == figures["messages"]
    assert figures["packed_bytes"] > 0


def test_tells_echoes_that_a_server_did_not_compress() -> None:
    """A right echo that is not compressed is right, and not counted as compressed."""
    figures, said = run(lambda message: [frame(unpack(message))], PACKING_HEAD, compress=True)

    assert said == ""
    assert figures["messages"] > 0
    assert figures["packed"] == 0


@pytest.mark.parametrize(
    ("answer", "head", "sentence"),
    [
        (
            lambda message: [frame(pack(unpack(message)[::-1], 1), 0xC1)],
            PACKING_HEAD,
            "an echo differs from what was sent",
        ),
        (lambda _: [frame(b"\xff\xff", 0xC1)], PACKING_HEAD, "an echo differs from what was sent"),
        (
            lambda message: [frame(message[:5], 0x41), frame(message[5:], 0xC0)],
            PACKING_HEAD,
            "a reserved bit is set",
        ),
        (lambda _: [], GOOD_HEAD, "it does not compress without context"),
        (
            lambda _: [],
            PACKING_HEAD.replace(b"; server_no_context_takeover", b""),
            "it does not compress without context",
        ),
    ],
)
def test_refuses_wrong_compression(answer: Answer, head: bytes, sentence: str) -> None:
    """A server that compresses wrongly, or not as asked, is not measured."""
    figures, said = run(answer, head, compress=True)

    assert figures.get("errors", 1) == 1
    assert sentence in said


def test_counts_latency_from_when_a_message_was_due() -> None:
    """A server slower than the schedule makes latencies grow, though it answers each alike."""

    def answer(message: bytes) -> list[bytes]:
        time.sleep(0.01)
        return [frame(message)]

    figures, said = run(answer, rate=1000, duration=0.3)

    assert said == ""
    assert figures["p50_us"] > 100_000


def test_speaks_socketio() -> None:
    """Engine.IO's OPEN is answered by a CONNECT, and messages are Socket.IO's events."""
    heard = []

    def converse_in_socketio(sock: socket.socket) -> None:
        with sock, sock.makefile("rb") as stream:
            key = b"".join(iter(stream.readline, b"\r\n")).split(b"Sec-WebSocket-Key: ")[1][:24]
            accept = base64.b64encode(hashlib.sha1(key + GUID).digest())  # noqa: S324 - as above
            sock.sendall(GOOD_HEAD.replace(b"ACCEPT", accept) + frame(b'0{"sid":"a"}'))
            heard.append(read_message(stream))
            sock.sendall(frame(b'40{"sid":"b"}'))
            while (message := read_message(stream)) is not None:
                heard.append(message)
                sock.sendall(frame(message))
            sock.sendall(frame(b"\x03\xe8", 0x88))

    figures, said = run_with(converse_in_socketio, socketio=True, size=40)

    assert said == ""
    assert figures["messages"] > 0
    connect, first = heard[:2]
    assert connect == b"40"
    assert first is not None
    name, text = json.loads(first[2:])
    assert (first[:2], name, len(text)) == (b"42", "message", 40 - len('42["message",""]'))


def test_counts_handshakes() -> None:
    """Connections are opened, closed and opened again, and each is counted."""
    figures, said = run_with(
        lambda sock: converse(sock, GOOD_HEAD, lambda _: []), handshakes=True, duration=0.3
    )

    assert said == ""
    assert figures["messages"] > 1


@pytest.mark.parametrize("resume", [False, True])
def test_counts_resumed_tls_sessions(resume: bool) -> None:  # noqa: FBT001 - a parameter
    """With --resume, all handshakes but the first few are resumed; without, none is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    def converse_in_tls(sock: socket.socket) -> None:
        converse(context.wrap_socket(sock, server_side=True), GOOD_HEAD, lambda _: [])

    figures, said = run_with(
        converse_in_tls, secure=True, handshakes=True, resume=resume, duration=0.5
    )

    assert said == ""
    assert figures["messages"] > 1
    assert (figures["resumed"] > 0) == resume
