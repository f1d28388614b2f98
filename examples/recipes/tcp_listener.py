"""A plain TCP listener beside a worker: all clients get what devices send to it."""

import asyncio

from gateman import Worker, hub

worker = Worker("websocket://0.0.0.0:8282", count=2)
listeners = []


async def talk(reader, writer):
    while line := await reader.readline():
        hub.send_to_all(line.decode().strip())
    writer.close()


@worker.on_worker_start
async def listen(worker):
    # reuse_port: each process listens on the port, and during a reload the new one beside the old.
    listeners.append(await asyncio.start_server(talk, "127.0.0.1", 9000, reuse_port=True))


@worker.on_worker_stop
def stop_listening(worker):
    listeners[0].close()


Worker.run_all()
