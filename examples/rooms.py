"""
A chat with rooms and a login: wss://localhost:8282/ROOM?token=TOKEN.

A client without a token is refused before the WebSocket opens. A client that sends too long a line
gets the reason when its connection is closed.
"""

from collections import defaultdict

from gateman import Connection, Refuse, Request, Worker

USERS = {"secret-of-ann": "ann", "secret-of-bob": "bob"}

worker = Worker(
    "websocket://127.0.0.1:8282",
    name="rooms",
    allowed_origins=["https://example.com", "http://localhost:8000"],
    limits={"max_message_size": 4096},
)
rooms: defaultdict[str, set[Connection]] = defaultdict(set)


@worker.on_websocket_connect
async def log_in(connection: Connection, request: Request) -> None:
    """Accept a client that has a token; a real service would query a database here."""
    user = USERS.get(request.query.get("token", ""))
    if user is None:
        raise Refuse(401, "No such token.")
    connection.session["user"] = user
    connection.session["room"] = request.path


@worker.on_open
def join(connection: Connection) -> None:
    """Add the client to the room that the address names."""
    rooms[connection.session["room"]].add(connection)


@worker.on_message
def say(connection: Connection, message: str | bytes) -> None:
    """Send the line to everybody in the room."""
    if isinstance(message, bytes):
        connection.close(1003, "text only")
        return
    for member in rooms[connection.session["room"]]:
        member.send(f"{connection.session['user']}: {message}")


@worker.on_close
def leave(connection: Connection, code: int, reason: str) -> None:
    """Remove the client, and its room if it is empty; a refused client was in no room."""
    room = connection.session.get("room")
    rooms[room].discard(connection)
    if not rooms[room]:
        del rooms[room]


Worker.run_all()
