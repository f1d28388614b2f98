"""ClientHellos: one of a real client, and any that can be written."""

import ssl

import pytest


def openssl_hello(server_name: str | None, alpn: list[str]) -> bytes:
    """What Python's OpenSSL sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if server_name is None:
        context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def vector(size: int, *parts: bytes) -> bytes:
    """A vector of RFC 8446, section 3.4, with ``size`` bytes of length before it."""
    content = b"".join(parts)
    return len(content).to_bytes(size) + content


def records(message: bytes, size: int = 1 << 14) -> bytes:
    """A handshake message in records of at most ``size`` bytes each."""
    return b"".join(
        b"\x16\x03\x01" + vector(2, message[start : start + size])
        for start in range(0, len(message), size)
    )


def hello(extensions: bytes | None = None, *, tail: bytes = b"") -> bytes:
    """A ClientHello message; without ``extensions``, as clients of old made it."""
    body = b"\x03\x03" + bytes(32) + vector(1, b"session") + vector(2, b"\x13\x01") + b"\x01\x00"
    if extensions is not None:
        body += vector(2, extensions)
    return b"\x01" + vector(3, body + tail)


def named(name: bytes, kind: int = 0) -> bytes:
    """A server_name extension."""
    entry = bytes([kind]) + vector(2, name)
    return b"\x00\x00" + vector(2, vector(2, entry))


def offering(*protocols: bytes) -> bytes:
    """An ALPN extension."""
    names = (vector(1, protocol) for protocol in protocols)
    return b"\x00\x10" + vector(2, vector(2, *names))
