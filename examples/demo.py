"""
A chat over wss with rooms and names, served by two processes with common rooms.

    make demo                          then open https://localhost:8282/
    PORT=9443 make demo                on another port
    ADDRESS=192.168.1.20 make demo     on this address of the machine, for a phone beside it
    python examples/demo.py start -d   in the background; then status, reload and stop

The certificate is for development: an authority of your own signs it, and the demo says how to
make a browser trust that. The page is gateman's test page.
"""

import os
from collections.abc import Awaitable
from typing import TypeVar

from gateman import Connection, PartialResult, Worker, hub
from gateman.ops.certificates import data_folder, development_certificate, trust_instructions

ADDRESS = os.environ.get("ADDRESS", "localhost")
PORT = os.environ.get("PORT", "8282")

T = TypeVar("T")

LOBBY = "lobby"
HELP = "Write, and all in your room read it. /name NAME, /room ROOM, /who, /rooms, /help"
MAX_LENGTH = 40  # characters of a name, or of a room's

certificate = development_certificate([ADDRESS], data_folder() / "demo")
worker = Worker(
    f"websocket://{'127.0.0.1' if ADDRESS == 'localhost' else ADDRESS}:{PORT}",
    {"ssl": {"local_cert": str(certificate.certificate), "local_pk": str(certificate.key)}},
    name="chat",
    count=2,
)
worker.transport = "ssl"
worker.test_page = True


@worker.on_worker_start
def explain(started: Worker) -> None:
    """Print what to do now, once, in one process."""
    if started.id == 0:
        print(trust_instructions(certificate))
        print("Until then the browser warns, which you may accept for this page. For a phone, run")
        print("it with ADDRESS=... in front, an address of this machine that it can reach.\n")
        print(f"The chat: open https://{ADDRESS}:{PORT}/ in two windows, connect, and write.")
        print("Two processes serve it, and you need not know which. Ctrl-C ends it.\n", flush=True)


@worker.on_open
async def welcome(connection: Connection) -> None:
    """Give a new client a name, and a room."""
    guest = connection.session
    # A client id ends in its number, and the name of a process is random: together they are short.
    guest["name"] = f"guest-{connection.client_id[8:]}"
    connection.send(f"Welcome, {guest['name']}! {HELP}")
    await enter(connection, LOBBY)


async def known(answer: Awaitable[T]) -> T:
    """Use the answers without those of a process that hangs: clients would wait for it."""
    try:
        return await answer
    except PartialResult as partial:
        return partial.value


async def enter(connection: Connection, room: str) -> None:
    """Move a client into a room, and tell its members."""
    guest = connection.session
    guest["room"] = room
    await connection.join(room)
    count = await known(hub.count_group(room))
    hub.send_to_group(room, f"{guest['name']} is in {room}, which makes {count}")


@worker.on_message
async def take(connection: Connection, message: str | bytes) -> None:
    """Execute a command, or pass on a line; bytes unchanged."""
    guest = connection.session
    if isinstance(message, bytes):
        hub.send_to_group(guest["room"], message)
        return
    command, _, word = message.partition(" ")
    word = word.strip()[:MAX_LENGTH]
    match command:
        case "/name" if word:
            hub.send_to_group(guest["room"], f"{guest['name']} is now {word}")
            guest["name"] = word
        case "/room" if word:
            await connection.leave(guest["room"])
            hub.send_to_group(guest["room"], f"{guest['name']} went to {word}")
            await enter(connection, word)
        case "/who":
            sessions = await known(hub.sessions_of_group(guest["room"]))
            names = sorted(session["name"] for session in sessions.values())
            connection.send(f"In {guest['room']}: {', '.join(names)}")
        case "/rooms":
            connection.send(f"Rooms: {', '.join(sorted(await known(hub.groups())))}")
        case _ if message.startswith("/"):
            connection.send(HELP)
        case _:
            hub.send_to_group(guest["room"], f"{guest['name']}: {message}")


@worker.on_close
def part(connection: Connection, code: int, reason: str) -> None:
    """Tell the room who left; a client that was refused was in no room."""
    guest = connection.session
    if "room" in guest:
        why = f"{code}{reason and f', {reason}'}"
        hub.send_to_group(guest["room"], f"{guest['name']} left ({why})")


Worker.run_all()
