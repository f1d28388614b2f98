"""An outgoing connection: one process follows a feed, and all clients get its messages."""

import asyncio
import logging

from gateman import BusinessWorker, Worker, hub

worker = Worker("websocket://0.0.0.0:8282", count=2)
feed = BusinessWorker(name="feed")
tasks = []


async def follow():
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", 9001)
            while line := await reader.readline():
                hub.send_to_all(line.decode().strip())
            writer.close()
        except OSError as error:
            logging.getLogger("feed").warning("the feed: %s", error)
        await asyncio.sleep(1)


@feed.on_worker_start
def begin(feed):
    # In a list: asyncio keeps only weak references to tasks.
    tasks.append(asyncio.create_task(follow()))


@feed.on_worker_stop
def end(feed):
    tasks[0].cancel()


Worker.run_all()
