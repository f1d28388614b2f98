"""
WebSockets on the event loop of a FastAPI application, in its process.

    uvicorn own_loop:application
"""

from contextlib import asynccontextmanager

from fastapi import FastAPI

from gateman import Worker, hub, serve

worker = Worker("websocket://127.0.0.1:8282")


@worker.on_open
def join(connection):
    connection.join("news")


@asynccontextmanager
async def lifespan(_application):
    async with serve(worker):
        yield


application = FastAPI(lifespan=lifespan)


@application.post("/news")
async def publish(text: str) -> int:
    return await hub.send_to_group("news", text)
