"""What a server speaks that is not HTTP/1."""

import pytest

from gateman.doctor.protocols import is_http2, is_tls, protocol


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"SSH-2.0-OpenSSH_9.2", "SSH"),
        (b"220 ProFTPD Server ready", "FTP"),
        (b"220 mx.a.test ESMTP", "SMTP (mail)"),
        (b"* OK IMAP4rev1", "IMAP (mail)"),
        (b"-ERR unknown command 'GET'", "Redis"),
        (b'INFO {"server_id"', "NATS"),
        (b"J\0\0\0\x0a8.0.36\0\x08", "MySQL"),
        (b"whatever", ""),
        (b"", ""),
    ],
)
def test_protocols(data: bytes, name: str) -> None:
    assert protocol(data) == name


def test_binary_protocols() -> None:
    assert is_http2(b"\0\0\x12\4\0\0\0\0\0")
    assert is_http2(b"\0\0\0\x04\0\0\0\0\0")
    assert not is_http2(b"HTTP/1.1 200")
    assert is_tls(b"\x15\3\1\0\2")
    assert not is_tls(b"HTTP/1.1")
