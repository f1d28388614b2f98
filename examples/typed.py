"""A service whose sessions and messages a type checker knows: ws://localhost:8282/?user=ann."""

from typing import NotRequired, TypedDict

from gateman import Connection, Request, Worker


class Session(TypedDict):
    """What the service knows of a client; the handshake stores the user."""

    user: str
    count: NotRequired[int]


worker = Worker[Session]("websocket://127.0.0.1:8282", name="typed")


@worker.on_websocket_connect
def log_in(connection: Connection[Session], request: Request) -> None:
    """Store the user; `session["uesr"]` would be an error."""
    connection.session["user"] = request.query.get("user", "somebody")


@worker.on_message
def answer(connection: Connection[Session], message: str) -> None:
    """Count the messages of the client; `message: int` would be an error."""
    connection.session["count"] = connection.session.get("count", 0) + 1
    connection.send(f"{connection.session['user']} {connection.session['count']}: {message}")


if __name__ == "__main__":
    Worker.run_all()
