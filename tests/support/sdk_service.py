"""A service that speaks the client protocol, which SDK clients tell what to do by RPC."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .master import Master, master
from .sdk import SdkClient

SCRIPT = """
import os
from gateman import Allow, Channel, ClientError, Disconnect, Worker, hub

worker = Worker("websocket://127.0.0.1:0", name="sdk", client_protocol="centrifuge", {options})
KEPT = dict(subscribe=True, publish="everyone", history="everyone", history_size=5)
worker.channels = {{
    "open:*": Channel(subscribe=True, publish=True),
    "kept:*": Channel(**KEPT),
    "short:*": Channel(**{{**KEPT, "history_ttl": 1}}),
    "deaf:*": Channel(**KEPT, recover=False),
    "seen:*": Channel(subscribe=True, presence=True, join_leave=True, leave_delay=0.2),
    "mute:*": Channel(subscribe=True),
    "all:*": Channel(publish="everyone", presence="everyone", join_leave=True),
}}
said = []


@worker.on_client_connect
def connect(connection, token, data):
    data = data or {{}}
    match data:
        case {{"refuse": [code, message]}}:
            raise ClientError(code, message)
        case {{"end": [code, reason]}}:
            raise Disconnect(code, reason)
    for channel in data.get("join", ()):
        connection.join(channel)
    if "uid" in data:
        connection.bind(data["uid"])
    return Allow(data=data.get("echo"), info=data.get("info"), expires_in=data.get("expires_in"))


@worker.on_refresh
def refresh(connection, token):
    return Allow(expires_in=60) if token == "good" else False


@worker.on_subscribe
def subscribe(connection, channel, data):
    match data:
        case {{"refuse": [code, message]}}:
            raise ClientError(code, message)
        case {{"allow": allowed}}:
            return Allow(**allowed)
    if channel.startswith("closed:"):
        return False


@worker.on_sub_refresh
def sub_refresh(connection, channel, token):
    return Allow(expires_in=60) if token == "good" else False


@worker.on_publish
def publish(connection, channel, data):
    match data:
        case {{"refuse": [code, message]}}:
            raise ClientError(code, message)
        case {{"replace": other}}:
            return other


@worker.on_message
def take(connection, data):
    connection.send(data)


@worker.on_rpc
async def rpc(connection, method, data):
    match method, data:
        case "echo", _:
            return data
        case "pid", _:
            return os.getpid()
        case "cut", _:
            connection.destroy()
        case "end", [code, reason]:
            raise Disconnect(code, reason)
        case "refuse", [code, message]:
            raise ClientError(code, message)
        case "fail", _:
            raise RuntimeError("secret")
        case "join", channel:
            await connection.join(channel)
        case "leave", channel:
            await connection.leave(channel)
        case "group", [channel, value]:
            await hub.send_to_group(channel, value)
        case "group bytes", channel:
            await hub.send_to_group(channel, bytes([0, 255]))
        case "uid", [uid, value]:
            await hub.send_to_uid(uid, value)
        case "counts", _:
            return dict(hub.counts)
        case _:
            raise ClientError(404, "no such method")


Worker.run_all()
"""


class SdkService:
    """
    The service.

    Attributes:
        master: Its master.
        url: Where clients connect.
    """

    def __init__(self, running: Master) -> None:
        self.master = running
        self.url = f"ws://127.0.0.1:{running.port}"

    def reload(self) -> None:
        """Replace its processes, behind an earlier reload."""
        os.kill(self.master.pid, signal.SIGUSR1)

    def kill(self, client: SdkClient) -> None:
        """Kill the process of a client."""
        os.kill(client.do("rpc", method="pid", data=None), signal.SIGKILL)


@contextmanager
def sdk_service(folder: Path, options: str = "", **more: Any) -> Iterator[SdkService]:
    """Run it; the options are those of its worker, and of :func:`.master.master`."""
    with master(SCRIPT.format(options=options), folder, **more) as running:
        yield SdkService(running)
