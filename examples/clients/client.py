"""
Talk to a WSS service, and reconnect when the connection is lost.

    pip install websockets
    python client.py wss://example.com/wss
"""

import asyncio
import random
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

MIN_DELAY, MAX_DELAY = 0.5, 30.0  # seconds
FINAL = {1000, 1008}  # Closed on purpose: do not reconnect.


async def talk(address: str) -> None:
    """Say hello and print each message, until the server closes with a final code."""
    delay = MIN_DELAY
    while True:
        try:
            async with connect(address) as websocket:
                await websocket.send("tom")
                while True:
                    print("received", await websocket.recv(), flush=True)
                    delay = MIN_DELAY
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else 1006
            print("closed", code, flush=True)
            if code in FINAL:
                return
        except (OSError, WebSocketException) as error:
            print("failed:", error, flush=True)
        # Full jitter: clients that lost one server together do not reconnect at once.
        await asyncio.sleep(random.uniform(0, delay))  # noqa: S311
        delay = min(2 * delay, MAX_DELAY)


asyncio.run(talk(sys.argv[1]))
