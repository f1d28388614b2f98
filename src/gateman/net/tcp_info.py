"""What the system has counted of a TCP connection; nothing is counted on the hot path for it."""

import socket
import struct

# struct tcp_info of linux/tcp.h: tcpi_bytes_acked and tcpi_bytes_received, since Linux 4.1.
_OFFSET = 120
_FORMAT = "=QQ"
# tcpi_last_data_sent, tcpi_last_ack_sent, which Linux does not count, and tcpi_last_data_recv.
_TIMES_OFFSET = 44
_TIMES = "=III"  # milliseconds


def tcp_info(sock: socket.socket | None) -> tuple[int, int] | None:
    """Return the bytes received and sent on a connection, as the system counts them."""
    found = _read(sock, _FORMAT, _OFFSET)
    return None if found is None else (found[1], found[0])


def silence(sock: socket.socket | None) -> float | None:
    """Return the seconds since the last byte of data, in either direction."""
    found = _read(sock, _TIMES, _TIMES_OFFSET)
    return None if found is None else min(found[0], found[2]) / 1000


def _read(sock: socket.socket | None, form: str, offset: int) -> tuple[int, ...] | None:
    option = getattr(socket, "TCP_INFO", None)
    if sock is None or option is None or sock.family == socket.AF_UNIX:
        return None
    size = offset + struct.calcsize(form)
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, option, size)
    except OSError:
        return None
    return struct.unpack_from(form, info, offset) if len(info) >= size else None
