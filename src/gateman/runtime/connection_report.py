"""What an operator is told of one connection (``gateman connections``)."""

from typing import Any

from ..connection import Connection
from ..net.tcp_info import tcp_info


def describe(connection: Connection, *, uid: str | None, now: float | None) -> dict[str, Any]:
    """Describe a connection; ``now``, by the loop's clock, is for one that is open."""
    is_behind_proxy = connection.remote_ip != connection.peer_ip
    described: dict[str, Any] = {
        "id": connection.id,
        "client": connection.remote_address,
        "proxy": connection.peer_ip if is_behind_proxy else None,
        "state": connection.state.value,
        "unsent": connection.send_buffer_size,
        "received": None,
        "sent": None,
        "messages": 0,
        "age": None,
        "uid": uid,
    }
    if now is not None:
        described["messages"] = connection.link.message_count
        described["age"] = round(now - connection.opened_at, 1)
        counted = tcp_info(connection.link.socket)
        if counted is not None:
            described["received"], described["sent"] = counted
    return described
