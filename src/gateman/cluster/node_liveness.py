"""Liveness of nodes: the hellos that a node sends and receives."""

import asyncio
from collections.abc import Callable, Iterable

from msgspec import structs

from ..log import logger
from .channels import EVERYBODY, Channel, node_channel
from .discovery import Discovery, InformedNodes
from .envelope import Hello
from .names import NodeId
from .peers import DISCOVERY_TIME, HELLO_INTERVAL, Peers, PeerState
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
        send: Callable[[Channel, Hello], None],
        publish_marks: Callable[[], None],
        is_connected: Callable[[], bool],
        ask: Ask,
        on_gone: Callable[[NodeId], object],
        on_silent: Callable[[NodeId], object] = lambda _node: None,
        senders: Callable[[], Iterable[NodeId]] = tuple,
        informed_nodes: InformedNodes | None = None,
        hello_interval: float = HELLO_INTERVAL,
        discovery_time: float = DISCOVERY_TIME,
    ) -> None:
        self.peers = Peers(node)
        self._node = node
        self._has_clients = has_clients
        self._send = send
        self._publish_marks = publish_marks
        self._is_connected = is_connected
        self._on_gone = on_gone
        self._on_silent = on_silent
        self._senders = senders
        self._probes = Probes(ask, self._on_probed)
        self._loop = asyncio.get_running_loop()
        self._hello_interval = hello_interval
        self._informed_nodes = informed_nodes or InformedNodes(None)
        self.discovery = Discovery(
            self._informed_nodes.exist,
            greet=lambda: self._send_hello(EVERYBODY, is_new=True),
            on_informed=self._on_informed,
            is_connected=is_connected,
            patience=discovery_time,
        )
        self._is_bus_away = False
        self._hello_timer: asyncio.TimerHandle | None = None
        self._marks_timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Send a hello now and at intervals."""
        self._begin_discovery(was_away=False)
        self._hello_timer = self._loop.call_later(self._hello_interval, self._on_hello_timer)

    def stop(self) -> None:
        self._probes.cancel()
        self.discovery.stop()
        for timer in (self._hello_timer, self._marks_timer):
            if timer is not None:
                timer.cancel()

    def on_hello(self, hello: Hello) -> None:
        """Handle the hello of another node."""
        now = self._loop.time()
        self.peers.heard_from(hello.source, now, has_clients=hello.has_clients)
        self.peers.heard_of(hello.nodes, now)
        if hello.source in hello.nodes:
            self.discovery.informed()
        if hello.is_new:
            self._send_hello(node_channel(hello.source), nodes=self._known())
        if hello.was_away:
            self.mark_soon()

    def on_bus_restored(self) -> None:
        """Handle the return of the bus."""
        self._is_bus_away = False
        self.peers.restart_timeouts(self._loop.time())
        self._begin_discovery(was_away=True)
        self.mark_soon()

    def _begin_discovery(self, *, was_away: bool) -> None:
        self._informed_nodes.leave()
        self._send_hello(EVERYBODY, is_new=True, was_away=was_away)
        self.discovery.begin()

    def _on_informed(self) -> None:
        if self._has_clients:
            self._informed_nodes.join()

    def _known(self) -> tuple[NodeId, ...]:
        """List the other nodes; and this one, to say that these are all."""
        is_all = self._has_clients and self.discovery.is_informed
        return (*self.peers.names(), self._node) if is_all else self.peers.names()

    def request_logins(self, node: NodeId, seconds: float) -> None:
        """Ask a node for its logins of so many seconds."""
        hello = Hello(self._node, self._has_clients, is_new=False, was_away=False, nodes=())
        self._send(node_channel(node), structs.replace(hello, away=seconds))

    def mark_soon(self) -> None:
        """Publish the sequence marks, once for all nodes that want them now."""
        if self._marks_timer is None:
            self._marks_timer = self._loop.call_later(_MARK_DELAY, self._mark)

    def is_unknown(self, node: NodeId) -> bool:
        """Whether a node does not exist; never during discovery or without the bus."""
        return node not in self.peers and self._is_connected() and self.discovery.is_over

    def _send_hello(
        self,
        channel: Channel,
        *,
        is_new: bool = False,
        was_away: bool = False,
        nodes: tuple[NodeId, ...] = (),
    ) -> None:
        self._send(channel, Hello(self._node, self._has_clients, is_new, was_away, nodes))

    def _on_hello_timer(self) -> None:
        self._hello_timer = self._loop.call_later(self._hello_interval, self._on_hello_timer)
        if not self._is_connected():
            self._is_bus_away = True
        # Before the gap is reported, no node had the time to send a hello.
        elif not self._is_bus_away:
            self._send_hello(EVERYBODY)
            self.peers.watch_senders(self._senders(), self._loop.time())
            for node in self.peers.silent(self._loop.time()):
                self._probes.ask(node)

    def _on_probed(self, node: NodeId, is_connected: bool | None) -> None:  # noqa: FBT001 - the bus's answer
        if self._is_bus_away or not self._is_connected():
            return
        has_clients = node in self.peers
        state = self.peers.on_probe(node, self._loop.time(), is_connected=is_connected)
        if state is not None and has_clients:
            logger.warning("the process %s %s", node, state.value)
        if state is PeerState.GONE:
            self._on_gone(node)
        elif state is PeerState.BLOCKED:
            self._on_silent(node)

    def _mark(self) -> None:
        self._marks_timer = None
        self._publish_marks()
