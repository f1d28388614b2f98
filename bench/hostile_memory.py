"""
Memory: what a hostile peer can make a process hold, against what it is promised to.

The promise is ``max_message_size + max_send_buffer_size`` and a constant for each connection, here
with the defaults of 1 MiB each. Every attack is made by some connections at once; PSS of the server
process with all of them in the worst state that they can get to, less its PSS before, divided by
their number. A fresh server for each figure.

    python bench/hostile_memory.py             about 13 minutes
    QUICK=1 python bench/hostile_memory.py     about 6 minutes
"""

import argparse
import contextlib
import os
import socket
import ssl
import struct
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import shake_128

from subject import Server, Subject, conditions, running

MESSAGE = 1 << 20  # bytes: limits.max_message_size
PROMISE = 2 << 20  # bytes: and limits.max_send_buffer_size

# What the docs promise beside that.
CONSTANT = 768 << 10  # bytes

VICTIM = Server(name="gateman", script="gateman_victim.py")
HANGING = Server(name="gateman", script="gateman_victim.py", arguments=("--hang",))
PAUSING = Server(name="gateman", script="gateman_victim.py", arguments=("--pause",))

CONTINUATION, TEXT, BINARY = 0, 1, 2
TIMEOUT = 10.0  # seconds
PATIENCE = 1.5  # seconds after which the server is believed to take no more

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
)

NOISE = shake_128(b"noise").digest(MESSAGE)


class Peer:
    """One hostile connection, open."""

    def __init__(self, port: int, *, secure: bool) -> None:
        """Connect and shake hands."""
        self._port, self._secure = port, secure
        self._sock = self._connect()
        self._sock.sendall(HANDSHAKE)
        self._read_head()

    def _connect(self) -> socket.socket:
        plain = socket.socket()
        # Small: what is unsent is to be the server's.
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.settimeout(TIMEOUT)
        plain.connect(("127.0.0.1", self._port))
        if not self._secure:
            return plain
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(plain)

    def _read_head(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._sock.recv(1)

    def again(self, data: bytes) -> None:
        """Connect again, and send bytes in one piece with the handshake."""
        self._sock.close()
        self._sock = self._connect()
        self._sock.sendall(HANDSHAKE + data)
        self._read_head()

    def send(self, data: bytes) -> None:
        """Send bytes; the server has to take them."""
        self._sock.sendall(data)

    def flood(self, data: bytes) -> None:
        """Send the same again and again until the server takes no more."""
        self._sock.settimeout(PATIENCE)
        with contextlib.suppress(TimeoutError, OSError):
            for _ in range(64):
                self._sock.sendall(data)

    def close(self) -> None:
        """End it."""
        self._sock.close()


def frame(
    opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, size: int | None = None
) -> bytes:
    """Write a client's frame; masked with zeros, which cost no time."""
    first, size = fin << 7 | rsv << 4 | opcode, len(payload) if size is None else size
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, 0xFE, size)
    else:
        head = struct.pack("!BBQ", first, 0xFF, size)
    return head + bytes(4) + payload


def incomplete_frame(peer: Peer) -> None:
    """Send the largest frame but for its last byte."""
    peer.send(frame(BINARY, NOISE[1:], size=MESSAGE))


def incomplete_message(peer: Peer) -> None:
    """Send the largest message in fragments of 64 bytes, but for its last byte."""
    peer.send(frame(BINARY, b"", fin=False))
    peer.send(frame(CONTINUATION, bytes(64), fin=False) * (MESSAGE // 64 - 1))
    peer.send(frame(CONTINUATION, bytes(63), size=64))


def message_behind_frame(peer: Peer) -> None:
    """The same, behind a whole frame of the largest size, to which there is no answer."""
    peer.send(frame(BINARY, NOISE) + frame(BINARY, bytes(10), fin=False))
    peer.send(frame(CONTINUATION, bytes(1000), fin=False) * 1048 + frame(0, b"x", size=2)[:-1])


def first_fragment_and_a_byte(peer: Peer) -> None:
    """Send the largest message in one fragment, which is not the last, and a byte behind it."""
    peer.send(frame(BINARY, NOISE[200:], fin=False) + frame(CONTINUATION, b"", size=200)[:1])


def half_message_and_frame(peer: Peer) -> None:
    """Send half a message, and of a frame that is as large as a whole one as much as is taken."""
    peer.send(frame(BINARY, NOISE[: MESSAGE // 2], fin=False))
    peer.send(frame(CONTINUATION, NOISE[: MESSAGE // 2 - 200], size=MESSAGE))


def many_small(peer: Peer) -> None:
    """Send tiny messages until nothing more is taken, and read nothing."""
    peer.flood(frame(TEXT, b"ab") * 40_000)


def unread_small(peer: Peer) -> None:
    """Send messages of 100 bytes until nothing more is taken, and read nothing."""
    peer.flood(frame(BINARY, NOISE[:100]) * 10_000)


def unread_large(peer: Peer) -> None:
    """Send the largest messages until nothing more is taken, and read nothing."""
    peer.flood(frame(BINARY, NOISE))


def incomplete_and_unread(peer: Peer) -> None:
    """Read nothing of what the server sends by itself, with the largest frame incomplete."""
    peer.send(frame(TEXT, b"push") + frame(BINARY, NOISE[1:], size=MESSAGE))


def fragments_and_unread(peer: Peer) -> None:
    """The same with a message in one fragment and a byte."""
    peer.send(frame(TEXT, b"push"))
    first_fragment_and_a_byte(peer)


def compressed(peer: Peer) -> None:
    """Fill both windows, and then as before with a compressed message."""
    stream = zlib.compressobj(1, zlib.DEFLATED, -12)
    window = stream.compress(NOISE[:70_000]) + stream.flush(zlib.Z_SYNC_FLUSH)
    peer.send(frame(BINARY, window[:-4], rsv=4))
    # From now on, the server's answers fill its window.
    large = stream.compress(bytes(MESSAGE - 2)) + stream.flush(zlib.Z_SYNC_FLUSH)
    peer.send(frame(TEXT, b"push") + frame(BINARY, large, fin=False, rsv=4) + frame(0, b"")[:1])


def bomb(size: int = MESSAGE - 2) -> bytes:
    """Write a compressed frame of zeros: about a thousandth of its message."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -12)
    packed = stream.compress(bytes(size)) + stream.flush(zlib.Z_SYNC_FLUSH)
    return frame(BINARY, packed[:-4], rsv=4)


BOMBS = bomb() * (MESSAGE // 4 // len(bomb()))


def bombs(peer: Peer) -> None:
    """Send 256 KiB of bombs of the largest size in one piece, and read nothing."""
    peer.send(BOMBS)


def bombs_behind_a_message(peer: Peer) -> None:
    """The same in one piece with a message of 60 KB, for which the handler needs a while."""
    peer.send(frame(BINARY, NOISE[:60_000]) + BOMBS)


def bombs_behind_the_handshake(peer: Peer) -> None:
    """Send bombs in one piece with the handshake."""
    peer.again(BOMBS[: 60 << 10])


def two_large(peer: Peer) -> None:
    """Send three of the largest messages, and most of a fourth."""
    peer.flood(frame(BINARY, NOISE) * 3 + frame(BINARY, NOISE[1:], size=MESSAGE))


def wide_text(peer: Peer) -> None:
    """Send the largest text that needs four bytes of memory per character."""
    peer.flood(frame(TEXT, "😀".encode() + bytes(MESSAGE - 4)))


@dataclass(frozen=True, kw_only=True)
class Attack:
    """
    What a peer does.

    Attributes:
        act: Does it.
        server: To whom.
        extra: What it may cost beside the promise, and the docs say so; bytes.
    """

    act: Callable[[Peer], None]
    server: Server = VICTIM
    extra: int = 0


ATTACKS = [
    Attack(act=incomplete_frame),
    Attack(act=incomplete_message),
    Attack(act=message_behind_frame),
    Attack(act=first_fragment_and_a_byte),
    Attack(act=half_message_and_frame),
    Attack(act=many_small),
    Attack(act=unread_small),
    Attack(act=unread_large),
    Attack(act=incomplete_and_unread),
    Attack(act=fragments_and_unread),
    Attack(act=compressed),
    Attack(act=many_small, server=HANGING),
    Attack(act=two_large, server=HANGING),
    Attack(act=bombs),
    Attack(act=bombs, server=HANGING),
    Attack(act=bombs_behind_a_message, server=HANGING),
    Attack(act=bombs_behind_a_message, server=PAUSING),
    Attack(act=many_small, server=PAUSING),
    Attack(act=bombs_behind_the_handshake, server=HANGING),
    # Python's own: a text with one character beyond the BMP takes 4 bytes for each.
    Attack(act=wide_text, server=HANGING, extra=3 * MESSAGE),
]


def peak(subject: Subject, seconds: float) -> int:
    """Watch the memory for a while."""
    until = time.monotonic() + seconds
    most = 0
    while time.monotonic() < until:
        most = max(most, subject.pss())
        time.sleep(0.1)
    return most


def cost(attack: Attack, count: int, seconds: float, *, secure: bool) -> float:
    """Measure one attack."""
    with running(attack.server, secure=secure) as subject:
        warm = Peer(subject.port, secure=secure)
        warm.send(frame(BINARY, b"warm"))
        before = subject.settled_pss()
        peers = [Peer(subject.port, secure=secure) for _ in range(count)]
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(attack.act, peers))
        held = peak(subject, seconds) - before
        for peer in [*peers, warm]:
            peer.close()
    return held / count


def main() -> None:
    """Read the arguments, measure, print a table, and fail if a promise is broken."""
    quick = bool(os.environ.get("QUICK"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20 if quick else 50)
    parser.add_argument("--scheme", choices=("ws", "wss"), help="only this one")
    parser.add_argument("--only", default="", help="only attacks with this in their name")
    arguments = parser.parse_args()
    print(conditions())
    print(f"\n{'KiB of PSS per hostile peer':42}{'held':>8}{'promised':>10}")
    # The server needs that long to send to all of them.
    seconds = 5.0 if quick else 10.0
    is_kept = True
    for scheme in [arguments.scheme] if arguments.scheme else ["ws", "wss"]:
        for attack in ATTACKS:
            name = attack.act.__name__.replace("_", " ")
            if arguments.only not in name:
                continue
            how = "".join(attack.server.arguments).replace("--", " ")
            label = f"{scheme:5}{name}{how and f' ({how.strip()})'}"
            held = cost(attack, arguments.count, seconds, secure=scheme == "wss")
            promised = PROMISE + CONSTANT + attack.extra
            verdict = "" if held <= promised else "  BROKEN"
            is_kept = is_kept and not verdict
            print(f"{label:42}{held / 1024:8.0f}{promised / 1024:10.0f}{verdict}", flush=True)
    sys.exit(0 if is_kept else 1)


if __name__ == "__main__":
    main()
