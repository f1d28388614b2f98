"""A web application with an event loop: FastAPI, with a hub that is connected while it runs."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, HTTPException, Path, Request

from gateman import Hub, PartialResult


@asynccontextmanager
async def connected(application: FastAPI) -> AsyncIterator[None]:
    """Connect to the service's hub, from the application's start to its end."""
    async with await Hub.connect(os.environ["GATEMAN_BUS"]) as hub:
        application.state.hub = hub
        yield


application = FastAPI(lifespan=connected)
User = Annotated[str, Path(max_length=50)]


@application.post("/users/{user}/orders/{number}/ready", status_code=204)
async def tell(user: User, number: int, request: Request) -> None:
    """Send to the devices of a user that are connected now; others do not get it later."""
    hub: Hub = request.app.state.hub
    hub.send_to_uid(user, f"Order {number} is ready.")


@application.get("/users/{user}/online")
async def is_online(user: User, request: Request) -> bool:
    """Tell whether the user is connected."""
    hub: Hub = request.app.state.hub
    try:
        return await hub.is_uid_online(user)
    except PartialResult as partial:
        raise HTTPException(503, str(partial)) from partial
