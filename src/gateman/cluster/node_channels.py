"""
The channels of a node: which of them have history, and publishing to those.

The processes of a service know it from their script. A program outside waits for the first hello of
the service when it connects.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import structs

from ..bus import Bus
from ..errors import BusError, HubError
from .channels import EVERYBODY, subject_of
from .envelope import KeptRule, Target
from .local_clients import LocalClients
from .names import ClientId
from .peers import DISCOVERY_TIME
from .publication import PACKED, PackedPublication, unpack

if TYPE_CHECKING:
    from ..history.base import HistoryLimits, Position
    from .history_channels import HistoryChannels

Kept = Mapping[str, "HistoryLimits | None"]
"""What is kept of channels, by pattern."""

NOTHING_KEPT: Kept = {}

Appended = Sequence["asyncio.Future[Position | None]"]
"""What confirms that histories have a message."""

# Seconds that a program waits to be told; the service answers within milliseconds.
_LEARNING_TIMEOUT = 3.0


class NodeChannels:
    """The channels of one node, and what is kept of them."""

    def __init__(
        self,
        kept: Kept,
        *,
        check: Callable[[bytes, tuple[str, ...], tuple[ClientId, ...]], None],
        local_clients: LocalClients,
        counts: Counter[str],
    ) -> None:
        self._kept = kept
        self._check = check
        self._local_clients = local_clients
        self._counts = counts
        self._told = asyncio.Event()
        self._bus: Bus | None = None
        self._own_bus: Bus | None = None
        self.history: HistoryChannels | None = None

    async def start(self, bus: Bus | None) -> None:
        """Begin; the bus is started, or there is none."""
        self._bus = bus
        if bus is None and self._kept:
            from ..bus.memory import MemoryBus

            self._bus = self._own_bus = MemoryBus()
            await self._own_bus.start()
        self._use(self._kept)

    async def wait_until_told(self, bus: Bus) -> None:
        """Wait for the first hello of the service, if there is one."""
        is_there = await bus.has_subscriber(subject_of(EVERYBODY))
        if is_there is not False and not self._told.is_set():
            seconds = _LEARNING_TIMEOUT if is_there else DISCOVERY_TIME
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._told.wait()

    async def stop(self) -> None:
        """Finish what was sent."""
        if self.history is not None:
            await self.history.settle()
            self.history.stop()
        if self._own_bus is not None:
            await self._own_bus.stop()

    def learn(self, rules: Sequence[KeptRule]) -> None:
        """Take what another node of the service has told, unless it is known from the script."""
        self._told.set()
        if not self._kept and rules:
            # Imported here, as below.
            from ..history.base import HistoryLimits

            self._use(
                {
                    one.pattern: HistoryLimits(one.size, one.ttl) if one.size else None
                    for one in rules
                }
            )

    def _use(self, kept: Kept) -> None:
        self._kept = kept
        if kept and self._bus is not None:
            # Imported here: most services have no channels with history.
            from .history_channels import HistoryChannels
            from .patterns import Patterns

            for limits in kept.values():
                if limits is not None:
                    self._bus.history.expect(limits)
            self.history = HistoryChannels(
                self._bus, Patterns(kept).get, self._local_clients, self._counts
            )

    @property
    def rules(self) -> tuple[KeptRule, ...]:
        """What a program outside is to know."""
        return tuple(
            KeptRule(pattern, *((0, 0.0) if one is None else (one.size, one.ttl)))
            for pattern, one in self._kept.items()
        )

    def send(  # noqa: PLR0917 - as Node.send
        self,
        target: Target,
        names: tuple[str, ...],
        kind: int,
        payload: bytes,
        exclude: tuple[ClientId, ...],
        key: str,
    ) -> tuple[tuple[str, ...], Appended]:
        """Publish to the channels that have history; return the names of the others."""
        history = self.history
        if history is None:
            return names, ()
        others: list[str] = []
        appended: list[asyncio.Future[Position | None]] = []
        for name in names:
            limits = history.limits(target, name)
            if limits is None:
                others.append(name)
                continue
            self._check(payload, (name,), exclude)
            packed = (
                structs.replace(unpack(payload), exclude=exclude)
                if kind == PACKED
                else PackedPublication(kind, payload, exclude=exclude)
            )
            appended.append(history.publish(target, name, packed, limits, key))
        return tuple(others), appended


async def position_of(appended: Appended) -> "Position | None":
    """Wait until histories have a message; return its last position; raises HubError."""
    position: Position | None = None
    try:
        for one in appended:
            position = await asyncio.shield(one)
    except BusError as error:
        raise HubError(f"the message may not have been published: {error}") from None
    return position
