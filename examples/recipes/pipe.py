"""Forwards each client to a TCP server; whoever reads slowly makes the other one wait."""

import asyncio

from gateman import Refuse, Worker

worker = Worker("websocket://0.0.0.0:8282", count=2)
SERVER = ("127.0.0.1", 9002)


@worker.on_websocket_connect
async def connect(connection, request):
    try:
        async with asyncio.timeout(5):
            streams = await asyncio.open_connection(*SERVER)
    except OSError:
        raise Refuse(502) from None
    connection.session["streams"] = streams


@worker.on_open
def start(connection):
    connection.session["task"] = asyncio.create_task(forward_to_client(connection))


async def forward_to_client(connection):
    reader, _ = connection.session["streams"]
    try:
        while data := await reader.read(65536):
            connection.send(data)
            await connection.drain()  # Nothing is read while the client does not read.
        connection.close(1000, "the server has ended")
    except OSError:
        connection.close(1014, "the server is gone")


@worker.on_message
async def forward_to_server(connection, message):
    _, writer = connection.session["streams"]
    try:
        writer.write(message.encode() if isinstance(message, str) else message)
        await writer.drain()  # The client is not read while the server does not read.
    except OSError:
        connection.close(1014, "the server is gone")


@worker.on_close
async def end(connection, code, reason):
    if "task" in connection.session:
        connection.session["task"].cancel()
    if "streams" in connection.session:
        _, writer = connection.session["streams"]
        writer.close()
        try:
            async with asyncio.timeout(5):
                await writer.wait_closed()
        except OSError:
            writer.transport.abort()


Worker.run_all()
