"""
Clients of the official SDK for Python that a test tells what to do.

Commands, answers and events are those of ``driver.js``: a line of JSON each.
"""

import asyncio
import base64
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from centrifuge import (
    CentrifugeError,
    Client,
    ClientEventHandler,
    ClientInfo,
    Publication,
    ReplyError,
    StreamPosition,
    Subscription,
    SubscriptionEventHandler,
    UnauthorizedError,
)


def say(**report: Any) -> None:
    print(json.dumps(report), flush=True)


class Codec:
    """JSON data as they are."""

    def encode(self, data: Any) -> Any:
        return data

    def decode(self, data: Any) -> Any:
        return data


class BytesCodec(Codec):
    """Protobuf: data is bytes, which are JSON unless the test says ``{"base64"}``."""

    def encode(self, data: Any) -> Any:
        if isinstance(data, dict) and "base64" in data:
            return base64.b64decode(data["base64"])
        return json.dumps(data, separators=(",", ":")).encode()

    def decode(self, data: Any) -> Any:
        if not data:
            return None
        try:
            return json.loads(data)
        except ValueError:
            return {"base64": base64.b64encode(data).decode()}


class Reporter:
    """Turns the SDK's contexts into reports."""

    def __init__(self, name: str, codec: Codec, **fixed: Any) -> None:
        self._codec = codec
        self._fixed = {"client": name, **fixed}

    def tell(self, event: str, **fields: Any) -> None:
        say(**self._fixed, event=event, **fields)

    def subscribed(self, context: Any, **where: Any) -> None:
        position = context.stream_position
        self.tell(
            "subscribed",
            **where,
            recoverable=context.recoverable,
            positioned=context.positioned,
            position=position and [position.epoch, position.offset],
            was_recovering=context.was_recovering,
            recovered=context.recovered,
            data=self._codec.decode(context.data),
        )

    def publication(self, found: Publication) -> dict[str, Any]:
        return {
            "data": self._codec.decode(found.data),
            "offset": found.offset,
            "info": found.info and self.member(found.info),
            "tags": dict(found.tags),
        }

    def member(self, info: ClientInfo) -> dict[str, Any]:
        return {
            "client": info.client,
            "user": info.user,
            "conn_info": self._codec.decode(info.conn_info),
            "chan_info": self._codec.decode(info.chan_info),
        }


class ClientEvents(ClientEventHandler):
    def __init__(self, reporter: Reporter, codec: Codec) -> None:
        self._report = reporter
        self._codec = codec

    async def on_connecting(self, ctx: Any) -> None:
        self._report.tell("connecting", code=ctx.code, reason=ctx.reason)

    async def on_connected(self, ctx: Any) -> None:
        self._report.tell("connected", id=ctx.client, data=self._codec.decode(ctx.data))

    async def on_disconnected(self, ctx: Any) -> None:
        self._report.tell("disconnected", code=ctx.code, reason=ctx.reason)

    async def on_error(self, ctx: Any) -> None:
        self._report.tell("error", code=ctx.code, message=str(ctx.error))

    async def on_subscribing(self, ctx: Any) -> None:
        self._report.tell("subscribing", channel=ctx.channel, server=True)

    async def on_subscribed(self, ctx: Any) -> None:
        self._report.subscribed(ctx, channel=ctx.channel, server=True)

    async def on_unsubscribed(self, ctx: Any) -> None:
        self._report.tell("unsubscribed", channel=ctx.channel, server=True)

    async def on_publication(self, ctx: Any) -> None:
        found = self._report.publication(ctx.pub)
        self._report.tell("publication", channel=ctx.channel, server=True, **found)

    async def on_join(self, ctx: Any) -> None:
        info = self._report.member(ctx.info)
        self._report.tell("join", channel=ctx.channel, server=True, info=info)

    async def on_leave(self, ctx: Any) -> None:
        info = self._report.member(ctx.info)
        self._report.tell("leave", channel=ctx.channel, server=True, info=info)


class SubscriptionEvents(SubscriptionEventHandler):
    def __init__(self, reporter: Reporter) -> None:
        self._report = reporter

    async def on_subscribing(self, ctx: Any) -> None:
        self._report.tell("subscribing", code=ctx.code, reason=ctx.reason)

    async def on_subscribed(self, ctx: Any) -> None:
        self._report.subscribed(ctx)

    async def on_unsubscribed(self, ctx: Any) -> None:
        self._report.tell("unsubscribed", code=ctx.code, reason=ctx.reason)

    async def on_publication(self, ctx: Any) -> None:
        self._report.tell("publication", **self._report.publication(ctx.pub))

    async def on_join(self, ctx: Any) -> None:
        self._report.tell("join", info=self._report.member(ctx.info))

    async def on_leave(self, ctx: Any) -> None:
        self._report.tell("leave", info=self._report.member(ctx.info))

    async def on_error(self, ctx: Any) -> None:
        self._report.tell("error", code=ctx.code, message=str(ctx.error))


def asked_for(tokens: list[str] | None) -> Callable[..., Awaitable[str]] | None:
    """Give tokens one after the other; behind the last one there is no right any more."""

    async def next_token(*_: object) -> str:
        if not tokens:
            raise UnauthorizedError("no more tokens")
        return tokens.pop(0)

    return None if tokens is None else next_token


class Driver:
    """The clients."""

    def __init__(self) -> None:
        self._clients: dict[str, tuple[Client, Codec]] = {}

    async def perform(self, command: dict[str, Any]) -> None:
        number, verb = command.pop("number"), command.pop("do")
        try:
            say(answer=number, value=await getattr(self, f"do_{verb}")(**command))
        except ReplyError as error:
            say(answer=number, error={"code": error.code, "message": error.message})
        except (CentrifugeError, TimeoutError) as error:
            say(answer=number, error={"code": None, "message": str(error)})

    async def do_open(
        self,
        client: str,
        url: str,
        *,
        protobuf: bool = False,
        token: str = "",
        given_tokens: list[str] | None = None,
        data: Any = None,
        timeout: float = 10_000,  # noqa: ASYNC109 - the SDK's own
        delays: tuple[int, int] = (20, 200),
    ) -> None:
        codec = BytesCodec() if protobuf else Codec()
        made = Client(
            url,
            events=ClientEvents(Reporter(client, codec), codec),
            token=token,
            get_token=asked_for(given_tokens),
            use_protobuf=protobuf,
            timeout=timeout / 1000,
            name="driver",
            data=None if data is None else codec.encode(data),
            min_reconnect_delay=delays[0] / 1000,
            max_reconnect_delay=delays[1] / 1000,
            proxy=None,
        )
        self._clients[client] = made, codec

    async def do_connect(self, client: str) -> None:
        await self._clients[client][0].connect()

    async def do_disconnect(self, client: str) -> None:
        await self._clients[client][0].disconnect()

    async def do_subscribe(
        self,
        client: str,
        channel: str,
        *,
        data: Any = None,
        token: str = "",
        given_tokens: list[str] | None = None,
        positioned: bool = False,
        recoverable: bool = False,
        join_leave: bool = False,
        states: list[tuple[str, int]] | None = None,
    ) -> None:
        made, codec = self._clients[client]
        subscription = made.get_subscription(channel)
        reporter = Reporter(client, codec, channel=channel)

        async def state(_: str) -> StreamPosition:
            assert states is not None
            reporter.tell("state_asked")
            epoch, offset = states.pop(0)
            return StreamPosition(offset=offset, epoch=epoch)

        if subscription is None:
            subscription = made.new_subscription(
                channel,
                events=SubscriptionEvents(reporter),
                token=token,
                get_token=asked_for(given_tokens),
                data=None if data is None else codec.encode(data),
                positioned=positioned,
                recoverable=recoverable,
                join_leave=join_leave,
                min_resubscribe_delay=0.02,
                max_resubscribe_delay=0.2,
                get_state=None if states is None else state,
            )
        await subscription.subscribe()

    async def do_unsubscribe(self, client: str, channel: str) -> None:
        await self._subscription(client, channel).unsubscribe()

    async def do_forget(self, client: str, channel: str) -> None:
        self._clients[client][0].remove_subscription(self._subscription(client, channel))

    async def do_publish(self, client: str, channel: str, *, data: Any) -> None:
        made, codec = self._clients[client]
        await made.publish(channel, codec.encode(data))

    async def do_rpc(self, client: str, method: str, *, data: Any) -> Any:
        made, codec = self._clients[client]
        return codec.decode((await made.rpc(method, codec.encode(data))).data)

    async def do_history(
        self,
        client: str,
        channel: str,
        *,
        limit: int = 0,
        since: tuple[str, int] | None = None,
        reverse: bool = False,
    ) -> dict[str, Any]:
        made, codec = self._clients[client]
        found = await made.history(
            channel,
            limit=limit,
            reverse=reverse,
            since=StreamPosition(epoch=since[0], offset=since[1]) if since else None,
        )
        reporter = Reporter(client, codec)
        return {
            "publications": [reporter.publication(one) for one in found.publications],
            "position": [found.epoch, found.offset],
        }

    async def do_presence(self, client: str, channel: str) -> dict[str, Any]:
        made, codec = self._clients[client]
        reporter = Reporter(client, codec)
        found = await made.presence(channel)
        return {name: reporter.member(info) for name, info in found.clients.items()}

    async def do_presence_stats(self, client: str, channel: str) -> dict[str, int]:
        found = await self._clients[client][0].presence_stats(channel)
        return {"clients": found.num_clients, "users": found.num_users}

    def _subscription(self, client: str, channel: str) -> Subscription:
        found = self._clients[client][0].get_subscription(channel)
        assert found is not None
        return found


async def main() -> None:
    loop = asyncio.get_running_loop()
    driver = Driver()
    running = set()
    lines = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    # Answers may wait for a reconnect, and the next command for none of them.
    async for line in lines:
        task = loop.create_task(driver.perform(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


if __name__ == "__main__":
    asyncio.run(main())
