"""
A chat whose code can be changed while people chat: ws://localhost:8282/ROOM?token=TOKEN.

Gateways hold the connections, and business workers run the code below. Change it, then

    gateman reload examples/gateway_chat.py

and no client is disconnected, and no line is lost.
"""

from gateman import BusinessWorker, Gateway, Refuse, Request, current_client, hub

USERS = {"secret-of-ann": "ann", "secret-of-bob": "bob"}

gate = Gateway(
    "websocket://127.0.0.1:8282", name="gate", count=2, limits={"max_message_size": 4096}
)
chat = BusinessWorker(name="chat", count=2)


@chat.on_websocket_connect
async def log_in(client_id: str, request: Request) -> None:
    """Accept a client that has a token; the handshake waits for this."""
    user = USERS.get(request.query.get("token", ""))
    if user is None:
        raise Refuse(401, "No such token.")
    current_client.session["user"] = user
    current_client.session["room"] = request.path
    hub.bind_uid(client_id, user)
    hub.join_group(client_id, request.path)


@chat.on_open
async def welcome(client_id: str) -> None:
    """Send the names of the users in the room."""
    names = await hub.uids_of_group(current_client.session["room"])
    hub.send_to_client(client_id, f"in this room: {', '.join(sorted(names))}")


@chat.on_message
def say(client_id: str, line: str | bytes) -> None:
    """
    Tell the room.

    A line is handled again if a process dies before it is known that it was handled. The session
    goes back together with that, so the line has the same number then: the reader ignores
    a line that it has seen.
    """
    if isinstance(line, bytes):
        hub.close_client(client_id, 1003, "text only")
        return
    session = current_client.session
    session["lines"] = session.get("lines", 0) + 1
    hub.send_to_group(session["room"], f"{session['user']} {session['lines']}: {line}")


@chat.on_close
def leave(client_id: str, code: int, reason: str) -> None:
    """Tell the room; the client is no longer a member."""
    hub.send_to_group(current_client.session["room"], f"{current_client.session['user']} has left")


Gateway.run_all()
