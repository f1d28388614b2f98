"""
Print the messages of a chat, and send "tom".

    pip install centrifuge-python
    python chat.py wss://example.com/wss
"""

import asyncio
import sys

from centrifuge import Client, ClientEventHandler, SubscriptionEventHandler

ended = asyncio.Event()


class ClientEvents(ClientEventHandler):
    """Says how the connection is."""

    async def on_connecting(self, ctx):
        """Tell that it is made, for the first time or again."""
        print("connecting:", ctx.reason, flush=True)

    async def on_connected(self, ctx):
        """Tell that it is open."""
        print("connected as", ctx.client, flush=True)

    async def on_disconnected(self, ctx):
        """End: the server refuses to have it back."""
        print("disconnected:", ctx.reason, flush=True)
        ended.set()


class RoomEvents(SubscriptionEventHandler):
    """Says what happens in the channel."""

    async def on_subscribed(self, ctx):
        """Tell if messages were missed that the server does not have any more."""
        if ctx.was_recovering and not ctx.recovered:
            print("some messages are lost", flush=True)

    async def on_publication(self, ctx):
        """Print a message."""
        print("received", ctx.pub.data, flush=True)


async def main():
    """Run until the server ends it."""
    client = Client(sys.argv[1], events=ClientEvents())
    room = client.new_subscription("chat:1", events=RoomEvents())
    await client.connect()
    await room.subscribe()
    await room.publish("tom")
    await ended.wait()


asyncio.run(main())
