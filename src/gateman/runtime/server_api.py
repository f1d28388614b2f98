"""Executes requests of the HTTP API on a hub."""

import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from fnmatch import translate
from importlib.metadata import version
from typing import Any, assert_never

from msgspec import Raw

from ..clients import server_api as api
from ..clients.codes import DISCONNECT_REASONS, DisconnectCode, ErrorCode
from ..clients.server_api import ApiError
from ..cluster.envelope import Query
from ..cluster.hub import Hub
from ..cluster.hub_channels import KeptPublication
from ..cluster.names import ClientId
from ..cluster.publication import ClientInfo
from ..errors import (
    BusError,
    ConfigError,
    ConfirmTimeout,
    EnvelopeError,
    HubError,
    PartialResult,
    UnknownClient,
)
from ..history.base import Position
from ..log import logger
from .client_subscriptions import target_of

# Publications of one answer.
_MAX_HISTORY = 1000


class ServerApi:
    """The HTTP API of one process."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def answer(self, method: str, body: bytes) -> tuple[dict[str, Any], ApiError | None]:
        """Execute a request; return the answer, and what has failed."""
        try:
            return await self._answer(api.decode(method, body)), None
        except ApiError as error:
            return api.error(error), error

    async def _answer(self, request: api.Request) -> dict[str, Any]:
        if isinstance(request, api.Batch):
            # One after the other, in any case: commands about one channel stay in order.
            return {"replies": [await self._reply(one) for one in request.commands]}
        return {"result": await self._execute(request)}

    async def _reply(self, command: dict[str, Raw]) -> dict[str, Any]:
        try:
            method, request = api.command(command)
            return {method: await self._execute(request)}
        except ApiError as error:
            return api.error(error)

    async def _execute(self, request: api.Request) -> dict[str, Any]:
        try:
            return await self._do(request)
        except ApiError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever happens, the answer is of this form
            raise _failure(error) from None

    async def _do(  # noqa: PLR0911, PLR0912 - a table of methods
        self, request: api.Request
    ) -> dict[str, Any]:
        hub = self._hub
        match request:
            case api.Publish():
                return await self._publish(request.channel, request)
            case api.Broadcast():
                return {
                    "responses": [await self._respond(one, request) for one in request.channels]
                }
            case api.Subscribe(channel=channel):
                return await self._for_each(request, lambda client: hub.join_group(client, channel))
            case api.Unsubscribe(channel=channel):
                return await self._for_each(
                    request, lambda client: hub.leave_group(client, channel)
                )
            case api.Disconnect():
                return await self._disconnect(request)
            case api.Presence(channel=channel):
                infos = await hub.presence(channel)
                return {"presence": {client: _info(info) for client, info in infos.items()}}
            case api.PresenceStats(channel=channel):
                clients, users = await hub.presence_stats(channel)
                return {"num_clients": clients, "num_users": users}
            case api.Channels(pattern=pattern):
                return {"channels": await self._channels(pattern)}
            case api.Info():
                return {"nodes": await self._nodes()}
            case api.Rpc():
                raise ApiError(ErrorCode.METHOD_NOT_FOUND)
            case api.History():
                return await self._history(request)
            case api.HistoryRemove(channel=channel):
                await hub.remove_history(self._with_history(channel))
                return {}
            case api.Refresh():
                return await self._refresh(request)
            case api.Batch():
                raise ApiError(ErrorCode.BAD_REQUEST)
            case _:
                assert_never(request)

    async def _respond(self, channel: str, payload: api.Payload) -> dict[str, Any]:
        try:
            return {"result": await self._publish(channel, payload)}
        except ApiError as error:
            return api.error(error)
        except Exception as error:  # noqa: BLE001 - the others are published
            return api.error(_failure(error))

    async def _publish(self, channel: str, payload: api.Payload) -> dict[str, Any]:
        position = await self._hub.publish(
            channel,
            payload.value(),
            tags=payload.tags,
            skip_history=payload.skip_history,
            idempotency_key=payload.idempotency_key,
        )
        return {} if position is None else position._asdict()

    def _with_history(self, channel: str) -> str:
        """Check that a channel has history; raises ApiError."""
        history = self._hub.local_node.channels.history
        if history is None or history.limits(*target_of(channel)) is None:
            raise ApiError(ErrorCode.NOT_AVAILABLE)
        return channel

    async def _history(self, request: api.History) -> dict[str, Any]:
        since = None
        if request.since is not None:
            since = Position(request.since.epoch, request.since.offset)
        limit = _MAX_HISTORY if request.limit < 0 else min(request.limit, _MAX_HISTORY)
        channel = self._with_history(request.channel)
        kept = await self._hub.history(
            channel, limit=limit, since=since, is_reverse=request.reverse
        )
        if since is not None and since.epoch and since.epoch != kept.position.epoch:
            raise ApiError(ErrorCode.UNRECOVERABLE_POSITION)
        publications = [_publication(one) for one in kept.publications]
        return {"publications": publications, **kept.position._asdict()}

    async def _refresh(self, request: api.Refresh) -> dict[str, Any]:
        """Close expired connections; when a connection expires is the application's to say."""
        if not request.expired:
            raise ApiError(ErrorCode.NOT_AVAILABLE)
        code = DisconnectCode.EXPIRED
        for client in await self._clients(request):
            with suppress(UnknownClient):
                await self._hub.close_client(client, int(code), DISCONNECT_REASONS[code])
        return {}

    async def _for_each(
        self, request: api.Subscribe | api.Unsubscribe, do: Callable[[str], Awaitable[None]]
    ) -> dict[str, Any]:
        for client in await self._clients(request):
            # It may have disconnected meanwhile.
            with suppress(UnknownClient):
                await do(client)
        return {}

    async def _clients(
        self, request: api.Subscribe | api.Unsubscribe | api.Disconnect | api.Refresh
    ) -> Iterable[str]:
        """List the clients of a user, or the one that is meant."""
        if not request.client:
            return await self._hub.clients_of_uid(request.user)
        uid = await self._hub.uid_of_client(request.client)
        return [request.client] if not request.user or uid == request.user else []

    async def _disconnect(self, request: api.Disconnect) -> dict[str, Any]:
        how = request.disconnect or api.DisconnectAs()
        code = how.code or int(DisconnectCode.FORCE_DISCONNECT)
        reason = how.reason or DISCONNECT_REASONS[DisconnectCode.FORCE_DISCONNECT]
        if not request.client:
            await self._hub.close_uid(request.user, code, reason, exclude=request.whitelist)
            return {}
        for client in await self._clients(request):
            with suppress(UnknownClient):
                await self._hub.close_client(client, code, reason)
        return {}

    async def _channels(self, pattern: str) -> dict[str, dict[str, int]]:
        matches = re.compile(translate(pattern or "*")).match
        sizes = await self._hub.group_sizes()
        return {name: {"num_clients": size} for name, size in sizes.items() if matches(name)}

    async def _nodes(self) -> list[dict[str, Any]]:
        values, missing = await self._hub.local_node.query_client.ask_all(Query.TOTALS, "")
        if missing:
            raise PartialResult(values, missing)
        return [
            {
                "uid": one.node,
                "name": one.node,
                "version": f"gateman {version('gateman')}",
                "num_clients": one.clients,
                "num_users": one.users,
                "num_channels": one.groups,
                "num_subs": one.subscriptions,
                "uptime": one.uptime,
            }
            for [one] in values
        ]


def _failure(error: Exception) -> ApiError:
    match error:
        case ConfigError():
            return ApiError(ErrorCode.BAD_REQUEST, f"bad request: {error.problem}")
        case EnvelopeError():
            return ApiError(ErrorCode.BAD_REQUEST, f"bad request: {error}")
        case PartialResult() | ConfirmTimeout():
            return ApiError(ErrorCode.INTERNAL, "another process did not answer in time")
        case BusError():
            return ApiError(ErrorCode.INTERNAL, "the bus or its history is away")
        case HubError():
            return ApiError(ErrorCode.LIMIT_EXCEEDED, str(error))
    logger.error("the HTTP API could not answer a request", exc_info=error)
    return ApiError(ErrorCode.INTERNAL)


def _publication(kept: KeptPublication) -> dict[str, Any]:
    described: dict[str, Any] = {"offset": kept.offset}
    if isinstance(kept.data, bytes):
        described["b64data"] = kept.data
    else:
        described["data"] = kept.data
    if kept.info is not None:
        described["info"] = _info(kept.info)
    if kept.tags:
        described["tags"] = kept.tags
    return described


def _info(info: ClientInfo) -> dict[str, Any]:
    described: dict[str, Any] = {"client": ClientId(info.client), "user": info.user}
    for name, data in (("conn_info", info.connection_info), ("chan_info", info.channel_info)):
        value = api.json_value(data)
        if value is not None:
            described[name] = value
    return described
