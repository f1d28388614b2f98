"""What the system counts of a connection."""

import socket
from contextlib import closing

import pytest

from gateman.net.tcp_info import silence, tcp_info
from tests.support.deadlines import TIMEOUT


def test_bytes_of_a_connection_are_counted() -> None:
    """Received, and acknowledged by the other end."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        closing(socket.create_connection(listener.getsockname(), timeout=TIMEOUT)) as client,
    ):
        accepted, _ = listener.accept()
        with closing(accepted):
            client.sendall(bytes(3000))
            accepted.recv(3000, socket.MSG_WAITALL)
            accepted.sendall(bytes(500))
            client.recv(500, socket.MSG_WAITALL)
            # The answer carries the acknowledgement.
            client.sendall(b"!")
            accepted.recv(1)

            assert tcp_info(accepted) == (3001, 500)
            quiet = silence(accepted)
            assert quiet is not None
            assert 0 <= quiet < TIMEOUT


def test_bytes_of_a_unix_socket_are_not_counted() -> None:
    """Nor what is no socket any more."""
    one, other = socket.socketpair(socket.AF_UNIX)
    with closing(one), closing(other):
        assert tcp_info(one) is None
    closed = socket.socket()
    closed.close()

    assert tcp_info(closed) is None
    assert silence(closed) is None
    assert tcp_info(None) is None


def test_system_without_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no TCP_INFO, there is no answer."""
    monkeypatch.delattr(socket, "TCP_INFO")
    with closing(socket.socket()) as sock:
        assert tcp_info(sock) is None
