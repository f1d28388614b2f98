"""
Devices on TCP, pages and mini programs on WebSocket, in one group.

    python server.py
    nc localhost 8283      a device: type "thermometer secret-1", and then what it measures
    page.html              in a browser; mini_program.js is a page of a WeChat mini program

A device says who it is first. What it measures reaches everybody; what a page writes to a device
(``lamp on``) reaches that device, wherever it is connected.
"""

import hmac

from gateman import Worker, hub

TOKENS = {"thermometer": "secret-1", "lamp": "secret-2"}

devices = Worker("text://0.0.0.0:8283", name="devices", timeouts={"login": 10, "idle": 120})
pages = Worker("websocket://0.0.0.0:8282", name="pages")


@devices.on_message
async def from_device(connection, line):
    name = connection.session.get("name")
    if name is None:
        await log_in(connection, *line.partition(" ")[::2])
    else:
        hub.send_to_group("room", f"{name} {line}")


async def log_in(connection, name, token):
    if name not in TOKENS or not hmac.compare_digest(TOKENS[name].encode(), token.encode()):
        connection.close(4401, "not a device", message="not a device")
        return
    connection.session["name"] = name
    # Its new connection takes the place of one that is left from before.
    await connection.bind(name, only=True)
    await connection.join("room")
    connection.send("welcome")


@pages.on_open
async def join(connection):
    await connection.join("room")
    connection.send("welcome")


@pages.on_message
def from_page(connection, message):
    if isinstance(message, str) and len(message) < 100 and message.isprintable():
        name, _, command = message.partition(" ")
        hub.send_to_uid(name, command)


Worker.run_all()
