"""Workers of other protocols than WebSocket, their journal, and a message to a group."""

from typing import Any

from gateman import Connection

from .server import Journal

LINES = "text://127.0.0.1:0"
FRAMES = "frame://127.0.0.1:0"
BYTES = "tcp://127.0.0.1:0"


def echo(connection: Connection, message: Any) -> None:
    connection.send(message)


class Calls(Journal):
    """A journal of the callbacks that such a worker has."""

    def callbacks(self, **own: Any) -> dict[str, Any]:
        found = super().callbacks(**own)
        del found["on_websocket_connect"]
        return found


def to_group(group: str, text: str) -> Any:
    from gateman.cluster.envelope import Target

    return Target.GROUPS, (group,), [(1, text.encode(), ())]
