"""
The stream of a service in JetStream: its making, its identity, and single requests to it.

Only the leader of the stream tells where a channel ends, since other servers may lag behind, or
have dropped what the leader has. Any server may give a page of messages.
"""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from ..history.base import HistoryLimits
from .followers import history_subject
from .jetstream_wire import (
    JetStreamError,
    LogMessage,
    StreamNames,
    epoch_of,
    get_by_number,
    get_last,
    grown,
    is_last_of_page,
    page_request,
    read_answer,
    read_direct,
    read_message,
    sequence,
)

if TYPE_CHECKING:
    from .broker_bus import BrokerBus
    from .nats_wire import NatsWire
    from .wire import BrokerReply, Wire

# Seconds for which the identity of the stream is trusted in recoveries.
_TRUST_TIME = 1.0

# Replicas where the server is in a cluster, unless the option says otherwise.
_REPLICAS = 3

# What the stream is made for, if nothing is known of the limits of channels.
_FIRST_LIMITS = HistoryLimits(size=100, ttl=300)


class Stream:
    """
    The stream of a service; all requests raise JetStreamError, or BusError while the bus is away.

    Attributes:
        epoch: Names the stream; another one after it was made anew, of which ``on_anew`` tells.
        elections: How many leaders it got, as far as this process was told by ``on_elected``.
    """

    def __init__(
        self,
        bus: "BrokerBus",
        name: str,
        *,
        replicas: int,
        max_bytes: int,
        on_anew: Callable[[], object],
        on_elected: Callable[[], object],
    ) -> None:
        self.names = StreamNames(name)
        self.epoch = ""
        self.elections = 0
        self._bus = bus
        self._replicas = replicas
        self._max_bytes = max_bytes
        self._on_anew = on_anew
        self._on_elected = on_elected
        self._preparing = asyncio.Lock()
        self._wire: NatsWire | None = None
        self._config: dict[str, Any] = {}
        self._expected_limits: HistoryLimits | None = None
        self._is_prepared = False
        self._trusted_until = 0.0
        bus.on_unknown(self._on_message)

    def log(self, channel: str) -> str:
        """Name the subject of a channel's messages."""
        return self.names.log(history_subject(channel))

    def expect(self, limits: HistoryLimits) -> None:
        # A stream that is made with less, and grows, is cut by servers of NATS 2.9 that start again
        # to what it was made with.
        known = self._expected_limits or limits
        self._expected_limits = HistoryLimits(
            max(known.size, limits.size), max(known.ttl, limits.ttl)
        )

    def forget(self) -> None:
        """Look at the stream before it is used again: it may be another one."""
        self._is_prepared = False

    async def ensure(self, limits: HistoryLimits) -> None:
        """Make the stream, or let it keep more, if a channel with these limits needs it."""
        if not self._is_prepared or grown(self._config, limits):
            await self._prepare(limits)

    async def check(self, *, is_now: bool = False) -> None:
        """Make sure that the epoch is still that of the stream."""
        if is_now:
            self._trusted_until = 0.0
        if not self._is_prepared or asyncio.get_running_loop().time() > self._trusted_until:
            await self._prepare(None)

    async def last(self, channel: str) -> LogMessage | None:
        """Get the last message of a channel from the leader."""
        return await self._get(get_last(self.log(channel)))

    async def first_from(self, channel: str, number: int) -> LogMessage | None:
        """Get the first message of a channel from a number on, from the leader."""
        return await self._get(get_by_number(self.log(channel), number))

    async def page(self, channel: str, number: int, count: int) -> list[LogMessage]:
        """Get messages of a channel from any server: it may lag behind, or have dropped some."""
        request = page_request(self.log(channel), number, count)
        replies = await self._bus.request(
            self._writer(self.names.api("DIRECT.GET"), request),
            is_last=lambda one: is_last_of_page(one.payload),
        )
        return [one for reply in replies if (one := read_direct(reply.payload)) is not None]

    def publish(self, channel: str, payload: bytes, head: bytes) -> "Awaitable[list[BrokerReply]]":
        """Send a message at once; the answer has its number."""
        return self._start(self.log(channel).encode("ascii"), payload, head)

    async def mark(self, channel: str, head: bytes) -> int:
        """Write a marker; return its number, or 0 if another message came before it."""
        (reply,) = await self.publish(channel, b"", head)
        try:
            return sequence(reply.payload)
        except JetStreamError as error:
            if error.is_wrong_last:
                return 0
            raise

    async def _get(self, request: bytes) -> LogMessage | None:
        try:
            return read_message(await self._api("STREAM.MSG.GET", request))
        except JetStreamError as error:
            if error.is_missing_message:
                return None
            raise

    async def _prepare(self, limits: HistoryLimits | None) -> None:
        async with self._preparing:
            begun_at = asyncio.get_running_loop().time()
            if limits is None and self._is_prepared and begun_at <= self._trusted_until:
                return
            try:
                info = await self._api("STREAM.INFO")
            except JetStreamError as error:
                if not error.is_missing_stream:
                    raise
                if limits is not None:
                    self.expect(limits)
                info = await self._create(self._expected_limits or _FIRST_LIMITS)
            more = None if limits is None else grown(info["config"], limits)
            if more is not None:
                info = await self._api("STREAM.UPDATE", json.dumps(more).encode())
            if not self._is_prepared and not self.names.is_ours(info["config"]):
                raise JetStreamError(
                    0,
                    f"its stream {self.names.stream} was not made by this version of gateman:"
                    " delete it, or give the bus another name",
                )
            epoch = epoch_of(info)
            if self.epoch and epoch != self.epoch:
                self._on_anew()
            self.epoch, self._config = epoch, info["config"]
            self._is_prepared = True
            self._trusted_until = begun_at + _TRUST_TIME

    async def _create(self, limits: HistoryLimits) -> dict[str, Any]:
        replicas = self._replicas or (_REPLICAS if self._bus.is_spread else 1)
        config = self.names.config(
            limits, secrets.token_hex(8), replicas=replicas, max_bytes=self._max_bytes
        )
        try:
            return await self._api("STREAM.CREATE", json.dumps(config).encode())
        except JetStreamError as error:
            if error.is_name_in_use:
                return await self._api("STREAM.INFO")
            raise JetStreamError(
                error.code,
                f"{error.text} (it was to make a stream with history_replicas={replicas} and"
                f" history_max_bytes={self._max_bytes})",
            ) from None

    async def _api(self, verb: str, request: bytes = b"") -> dict[str, Any]:
        (reply,) = await self._start(self.names.api(verb), request)
        return read_answer(reply.payload)

    def _start(
        self, subject: bytes, payload: bytes, head: bytes | None = None
    ) -> "Awaitable[list[BrokerReply]]":
        return self._bus.request(self._writer(subject, payload, head), len(payload))

    def _writer(
        self, subject: bytes, payload: bytes, head: bytes | None = None
    ) -> "Callable[[Wire, int], bytes]":
        def write(wire: "Wire", number: int) -> bytes:
            wire = cast("NatsWire", wire)
            data = wire.request(subject, number, payload, head)
            if wire is self._wire:
                return data
            self._wire = wire
            return wire.listen(self.names.leader_elected.encode("ascii")) + data

        return write

    def _on_message(self, subject: str, payload: bytes) -> None:
        number = 0 if self._wire is None else self._wire.reply_number(subject)
        if number:
            self._bus.take_reply(number, payload)
        elif self.names.leader_elected.endswith(subject):
            self.elections += 1
            self._on_elected()
