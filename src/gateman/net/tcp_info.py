"""What the system has counted of a TCP connection; nothing is counted on the hot path for it."""

import socket
import struct

# struct tcp_info of linux/tcp.h: tcpi_bytes_acked and tcpi_bytes_received, since Linux 4.1.
_OFFSET = 120
_FORMAT = "=QQ"


def tcp_info(sock: socket.socket | None) -> tuple[int, int] | None:
    """Return the bytes received and sent on a connection, as the system counts them."""
    option = getattr(socket, "TCP_INFO", None)
    if sock is None or option is None or sock.family == socket.AF_UNIX:
        return None
    size = _OFFSET + struct.calcsize(_FORMAT)
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, option, size)
    except OSError:
        return None
    if len(info) < size:
        return None
    sent, received = struct.unpack_from(_FORMAT, info, _OFFSET)
    return received, sent
