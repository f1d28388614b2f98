"""
The presence of several nodes on a bus that loses, delays, splits and kills, without a loop.

What is between nodes is bytes, in order for each pair. A bus delivers the channel of a group to the
nodes that have a client in it. Each node's events are checked as they come: nobody joins twice.
"""

import random
from collections import Counter, defaultdict, deque
from collections.abc import Iterable

from gateman.cluster.channels import EVERYBODY, Channel
from gateman.cluster.envelope import (
    PresenceChanges,
    PresenceRequest,
    PresenceStates,
    Target,
    decode,
    encode,
)
from gateman.cluster.names import Group, NodeId, client_id
from gateman.cluster.presence import (
    Announcement,
    Output,
    Presence,
    PresenceEvent,
    PresenceMessage,
)
from gateman.cluster.publication import ClientInfo

DELAY = 3.0  # seconds that a leave waits


class Node:
    """A process: its clients by channel, what it knows, and the events that it was told."""

    def __init__(self, name: NodeId) -> None:
        self.name = name
        self.presence = Presence(name)
        self.clients: dict[Group, dict[str, ClientInfo]] = defaultdict(dict)
        self.events: list[PresenceEvent] = []
        # Who is in each channel, as its clients know from the events.
        self.seen: dict[Group, set[str]] = {}
        self.is_away = False
        self._count = 0

    def new_client(self, user: str) -> ClientInfo:
        self._count += 1
        return ClientInfo(client_id(self.name, self._count), user, b'{"n":1}', b"")


class World:
    """Nodes, and the bus between them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a test's choices
        self.now = 100.0
        self.nodes: dict[NodeId, Node] = {}
        self.queues: dict[tuple[NodeId, NodeId], deque[bytes]] = defaultdict(deque)
        self.cut: set[frozenset[NodeId]] = set()
        self.own_events: Counter[tuple[Group, str, bool]] = Counter()
        self._number = 0

    # What happens.

    def start(self) -> Node:
        """Start a node; it and the others know each other at once."""
        self._number += 1
        node = Node(NodeId(f"n{self._number}"))
        for other in self.nodes.values():
            self.do(other, other.presence.on_hello(node.name, is_new=True, was_away=False))
            self.do(node, node.presence.on_hello(other.name, is_new=True, was_away=False))
        self.nodes[node.name] = node
        return node

    def join(self, node: Node, channel: Group, info: ClientInfo) -> None:
        if not node.clients[channel]:
            node.seen[channel] = set()
        node.clients[channel][info.client] = info
        self.do(node, node.presence.join(channel, info, DELAY, self.now))

    def leave(self, node: Node, channel: Group, client: str, delay: float = 0.0) -> None:
        info = node.clients[channel].pop(client)
        self.do(node, node.presence.leave(channel, info.client, delay, self.now))

    def kill(self, node: Node) -> None:
        """End a node; the others are told so by the bus."""
        del self.nodes[node.name]
        for pair in [pair for pair in self.queues if node.name in pair]:
            del self.queues[pair]
        for other in list(self.nodes.values()):
            self.do(other, other.presence.on_gone(node.name, self.now))

    def stop(self, node: Node) -> None:
        """End a node in order: what it has sent arrives first."""
        self.do(node, node.presence.last_leaves())
        self.deliver()
        self.kill(node)

    def away(self, node: Node) -> None:
        """Cut a node from the bus, and lose what was on its way."""
        node.is_away = True
        for pair in [pair for pair in self.queues if node.name in pair]:
            del self.queues[pair]

    def restore(self, node: Node) -> None:
        node.is_away = False
        self.do(node, node.presence.on_bus_restored())
        for other in self.nodes.values():
            if other is not node and not self._is_cut(node, other):
                self.do(other, other.presence.on_hello(node.name, is_new=True, was_away=True))

    def split(self, one: Node, other: Node) -> None:
        """Cut two nodes from each other: each believes that the other one is gone."""
        self.cut.add(frozenset((one.name, other.name)))
        for pair in ((one.name, other.name), (other.name, one.name)):
            self.queues.pop(pair, None)
        self.do(one, one.presence.on_gone(other.name, self.now))
        self.do(other, other.presence.on_gone(one.name, self.now))

    def heal(self) -> None:
        """Join what was split: hellos arrive again."""
        healed, self.cut = self.cut, set()
        for names in healed:
            one, other = (self.nodes.get(name) for name in sorted(names))
            # The hello of one that is away comes when it is back.
            if one and other and not (one.is_away or other.is_away):
                self.do(one, one.presence.on_hello(other.name, is_new=False, was_away=False))
                self.do(other, other.presence.on_hello(one.name, is_new=False, was_away=False))

    def settle(self, seconds: float = 2 * DELAY) -> None:
        """Deliver everything, and let time pass until no leave waits."""
        until = self.now + seconds
        while self.now < until:
            self.deliver()
            self.now += 0.25
            for node in list(self.nodes.values()):
                self.do(node, node.presence.expire(self.now))
        self.deliver()

    # The bus.

    def do(self, node: Node, outputs: Iterable[Output]) -> None:
        for output in outputs:
            match output:
                case PresenceEvent():
                    self._told(node, output)
                case PresenceMessage(to, envelope):
                    self._publish(node, to, encode(envelope))
                case Announcement(channel):
                    changes = encode(node.presence.changes(channel))
                    if not self._publish(node, Channel(Target.GROUPS, channel), changes):
                        node.presence.not_sent(channel)

    def deliver(self, count: int = 1 << 30) -> None:
        """Deliver messages, each time of a pair chosen by chance."""
        while count and self.queues:
            count -= 1
            pair = self.random.choice(sorted(self.queues))
            payload = self.queues[pair].popleft()
            if not self.queues[pair]:
                del self.queues[pair]
            node = self.nodes[pair[1]]
            envelope = decode(payload, max_size=1 << 20)
            match envelope:
                case PresenceChanges():
                    self.do(node, node.presence.on_changes(envelope, self.now))
                case PresenceRequest():
                    self.do(node, node.presence.on_request(envelope))
                case PresenceStates():
                    self.do(node, node.presence.on_states(envelope, self.now))

    def _publish(self, node: Node, to: Channel, payload: bytes) -> bool:
        if node.is_away:
            return False
        for other in self.nodes.values():
            is_reached = (
                to == EVERYBODY
                or (to.target is Target.CLIENTS and to.name == other.name)
                or (to.target is Target.GROUPS and bool(other.clients[Group(to.name)]))
            )
            is_connected = not other.is_away and not self._is_cut(node, other)
            if other is not node and is_reached and is_connected:
                self.queues[node.name, other.name].append(payload)
        return True

    def _is_cut(self, one: Node, other: Node) -> bool:
        return frozenset((one.name, other.name)) in self.cut

    def _told(self, node: Node, event: PresenceEvent) -> None:
        node.events.append(event)
        if event.is_own:
            self.own_events[event.channel, event.info.client, event.is_join] += 1
        seen = node.seen.setdefault(event.channel, set())
        if event.is_join:
            assert event.info.client not in seen, (node.name, event)
            seen.add(event.info.client)
        else:
            seen.discard(event.info.client)

    # What is true.

    def actual(self, channel: Group) -> set[str]:
        return {client for node in self.nodes.values() for client in node.clients[channel]}
