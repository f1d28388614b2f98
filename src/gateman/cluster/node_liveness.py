"""Liveness of nodes: the hellos that a node sends and receives."""

import asyncio
from collections.abc import Callable, Iterable

from ..log import logger
from .channels import EVERYBODY, Channel, node_channel
from .envelope import Hello
from .names import NodeId
from .peers import DISCOVERY_TIME, HELLO_INTERVAL, Peers, Verdict
from .probes import Ask, Probes

# How long sequence marks are delayed after a gap, so that all nodes with the same gap get them.
_MARK_DELAY = 0.2  # seconds


class NodeLiveness:
    """Sends the hellos of this node, and watches those of the others."""

    def __init__(
        self,
        node: NodeId,
        *,
        has_clients: bool,
        say: Callable[[Channel, Hello], None],
        mark: Callable[[], None],
        is_connected: Callable[[], bool],
        ask: Ask,
        on_gone: Callable[[NodeId], object],
        senders: Callable[[], Iterable[NodeId]] = tuple,
        hello_interval: float = HELLO_INTERVAL,
        discovery_time: float = DISCOVERY_TIME,
    ) -> None:
        self.peers = Peers(node)
        self._node = node
        self._has_clients = has_clients
        self._say = say
        self._publish_marks = mark
        self._is_connected = is_connected
        self._on_gone = on_gone
        self._senders = senders
        self._probes = Probes(ask, self._probed)
        self._loop = asyncio.get_running_loop()
        self._hello_interval = hello_interval
        self._discovery_time = discovery_time
        self._discovered_at = 0.0
        self._is_away = False
        self._beat: asyncio.TimerHandle | None = None
        self._marking: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Send a hello now and at intervals; the bus is connected."""
        self._discovered_at = self._loop.time() + self._discovery_time
        self._say_hello(EVERYBODY, is_new=True)
        self._beat = self._loop.call_later(self._hello_interval, self._keep_beating)

    def stop(self) -> None:
        self._probes.cancel()
        for timer in (self._beat, self._marking):
            if timer is not None:
                timer.cancel()

    def take(self, hello: Hello) -> None:
        """Handle the hello of another node."""
        now = self._loop.time()
        self.peers.hear(hello.source, now, has_clients=hello.has_clients)
        self.peers.hear_of(hello.nodes, now)
        if hello.is_new:
            self._say_hello(node_channel(hello.source), nodes=self.peers.names())
        if hello.was_away:
            self.mark_soon()

    def return_(self) -> None:
        """Handle the return of the bus."""
        self._is_away = False
        self.peers.excuse(self._loop.time())
        self._say_hello(EVERYBODY, is_new=True, was_away=True)
        self.mark_soon()

    def mark_soon(self) -> None:
        """Publish the sequence marks, once for all nodes that want them now."""
        if self._marking is None:
            self._marking = self._loop.call_later(_MARK_DELAY, self._mark)

    def is_unknown(self, node: NodeId) -> bool:
        """Whether a node does not exist; never during discovery or without the bus."""
        if node in self.peers or not self._is_connected():
            return False
        return self._loop.time() > self._discovered_at

    async def discover(self, deadline: float) -> None:
        """Wait until the other nodes had the time to send their hellos."""
        delay = min(self._discovered_at, deadline) - self._loop.time()
        if delay > 0:
            await asyncio.sleep(delay)

    def _say_hello(
        self,
        channel: Channel,
        *,
        is_new: bool = False,
        was_away: bool = False,
        nodes: tuple[NodeId, ...] = (),
    ) -> None:
        self._say(channel, Hello(self._node, self._has_clients, is_new, was_away, nodes))

    def _keep_beating(self) -> None:
        self._beat = self._loop.call_later(self._hello_interval, self._keep_beating)
        if not self._is_connected():
            self._is_away = True
        # Before the gap is reported, no node had the time to send a hello.
        elif not self._is_away:
            self._say_hello(EVERYBODY)
            self.peers.suppose(self._senders(), self._loop.time())
            for node in self.peers.silent(self._loop.time()):
                self._probes.ask(node)

    def _probed(self, node: NodeId, is_there: bool | None) -> None:  # noqa: FBT001 - the bus's answer
        if self._is_away or not self._is_connected():
            return
        has_clients = node in self.peers
        verdict = self.peers.told(node, self._loop.time(), is_there=is_there)
        if verdict is not None and has_clients:
            logger.warning("the process %s %s", node, verdict.value)
        if verdict is Verdict.GONE:
            self._on_gone(node)

    def _mark(self) -> None:
        self._marking = None
        self._publish_marks()
