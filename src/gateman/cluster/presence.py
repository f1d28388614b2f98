"""
Who joins and leaves channels, on all nodes: one consistent order of events on each. Pure.

A node *follows* a channel as long as it has a client in it: it knows which clients of other nodes
are in it. Each node numbers its changes, and says with each which one was the last in that channel,
so a node that has missed one asks for the state. Clients of a node that is gone have left.

A client that loses its connection usually comes back, with another client id. So its leave waits
for a while, unless its user has another client there; if it comes, its join is announced first.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .channels import EVERYBODY, Channel, node_channel
from .envelope import (
    MAX_LEAVE_DELAY,
    ChannelState,
    Joined,
    Left,
    PresenceChanges,
    PresenceRequest,
    PresenceStates,
    Target,
)
from .names import ClientId, Group, NodeId, node_of
from .publication import ClientInfo

# Channels of one request: 25 KiB with the longest names.
_MAX_REQUESTED = 100
# bytes; a part of an answer, which may be larger by one client.
_MAX_PART_SIZE = 64 << 10
# What a client takes beside its infos: two names, with four bytes for a character, and headers.
_INFO_OVERHEAD = 256


class PresenceEvent(NamedTuple):
    """
    A client has joined a channel, or left it.

    ``is_own`` is true on the one node that tells the application: that of the client, or, if that
    is gone, the one that has had clients in the channel for the longest time.
    """

    channel: Group
    info: ClientInfo
    is_join: bool
    is_own: bool


class PresenceMessage(NamedTuple):
    """An envelope to send."""

    to: Channel
    envelope: PresenceRequest | PresenceStates


class Announcement(NamedTuple):
    """The changes of a channel are to be sent to the others that follow it."""

    channel: Group


Output = PresenceEvent | PresenceMessage | Announcement


class _Source:
    """What is known of one node's clients in a channel."""

    __slots__ = ("infos", "number", "parts", "parts_id", "since")

    def __init__(self) -> None:
        self.number = 0
        # Microseconds since 1970: who follows for long knows the clients of all others.
        self.since = 0
        self.infos: dict[ClientId, ClientInfo] = {}
        # Of an answer that has not arrived completely, with its request.
        self.parts: list[ClientInfo] = []
        self.parts_id = 0

    def take(self, state: ChannelState, request_id: int) -> list[ClientInfo] | None:
        """Take a part of an answer; return all of it with the last one."""
        if self.parts_id != request_id:
            self.parts, self.parts_id = [], request_id
        self.parts += state.infos
        if not state.is_last:
            return None
        infos, self.parts = self.parts, []
        return infos


class _Leaving(NamedTuple):
    """A client whose user may come back; ``is_handed_over`` if its node follows no more."""

    info: ClientInfo
    until: float
    is_handed_over: bool


class _FollowedChannel:
    """A channel with clients of this node, or with leaves that it has to announce."""

    __slots__ = (
        "delay",
        "is_followed",
        "leaving",
        "name",
        "pending",
        "request_id",
        "sources",
        "users",
    )

    def __init__(self, name: Group) -> None:
        self.name = name
        self.sources: dict[NodeId, _Source] = {}
        self.users: Counter[str] = Counter()
        # By user: only who has one can be recognized when it comes back.
        self.leaving: dict[str, dict[ClientId, _Leaving]] = {}
        self.pending: list[Joined | Left] = []
        self.delay = 0.0
        self.is_followed = False
        # What the first request asked for was there before: its answers are not changes.
        self.request_id = 0

    def take_leaving(self, client: ClientId) -> bool:
        """Stop waiting for a client; return whether it was waited for."""
        for user, clients in self.leaving.items():
            if clients.pop(client, None) is not None:
                if not clients:
                    del self.leaving[user]
                return True
        return False

    def source(self, node: NodeId) -> _Source:
        found = self.sources.get(node)
        if found is None:
            found = self.sources[node] = _Source()
        return found


class Presence:
    """The presence of one node: its clients in channels, and those of others that it follows."""

    def __init__(self, node: NodeId) -> None:
        self._node = node
        self._channels: dict[Group, _FollowedChannel] = {}
        # Channels with leaves that wait.
        self._leaving: set[Group] = set()
        # Channels whose changes the bus has refused.
        self._unsent: set[Group] = set()
        # Nodes whose clients are known, as far as they are in followed channels.
        self._known: set[NodeId] = set()
        self._number = 0
        self._request_number = 0

    def __bool__(self) -> bool:
        return bool(self._channels)

    def senders(self) -> set[NodeId]:
        """List the nodes whose end has to be noticed."""
        nodes = {node for channel in self._channels.values() for node in channel.sources}
        return nodes - {self._node}

    def members(self, channel: Group) -> set[ClientId]:
        """List the clients whose join was announced here, and whose leave was not."""
        found = self._channels.get(channel)
        if found is None:
            return set()
        present = {client for source in found.sources.values() for client in source.infos}
        return present.union(*found.leaving.values())

    # What happens to clients of this node.

    def join(
        self, channel: Group, info: ClientInfo, delay: float, wall_time: float
    ) -> list[Output]:
        """Note that a client has joined; ``delay`` is for leaves of others' clients, in seconds."""
        followed = self._channels.get(channel)
        if followed is None:
            followed = self._channels[channel] = _FollowedChannel(channel)
        followed.delay = min(delay, MAX_LEAVE_DELAY)
        outputs: list[Output] = []
        if not followed.is_followed:
            followed.is_followed = True
            followed.source(self._node).since = int(wall_time * 1e6)
            request = self._request([channel])
            followed.request_id = request.request_id
            outputs.append(PresenceMessage(Channel(Target.GROUPS, channel), request))
        source = followed.source(self._node)
        if info.client not in source.infos:
            outputs += self._add(followed, self._node, info)
            outputs += self._announce(followed, Joined(info))
        return outputs

    def leave(self, channel: Group, client: ClientId, delay: float, now: float) -> list[Output]:
        """Note that a client has left, or, with a ``delay``, that it may come back."""
        followed = self._channels.get(channel)
        own = None if followed is None else followed.sources.get(self._node)
        if followed is None or own is None or client not in own.infos:
            return []
        delay = min(delay, MAX_LEAVE_DELAY)
        outputs = self._remove(followed, self._node, Left(client, delay), now)
        # The others tell it: this node does not see any more who comes back.
        is_handed_over = (
            not own.infos and len(followed.sources) > 1 and followed.take_leaving(client)
        )
        outputs += self._announce(followed, Left(client, delay, is_handed_over))
        if not own.infos:
            self._unfollow(followed)
        return outputs

    def changes(self, channel: Group) -> PresenceChanges:
        """Take the changes that were not sent yet."""
        followed = self._channels[channel]
        changes, followed.pending = followed.pending, []
        source = followed.source(self._node)
        previous, self._number = source.number, self._number + 1
        source.number = self._number if source.infos else 0
        self._forget_if_over(followed)
        return PresenceChanges(self._node, channel, source.since, previous, self._number, changes)

    def not_sent(self, channel: Group) -> None:
        """Note that the bus has refused changes; they are sent when it is back."""
        self._unsent.add(channel)

    # What others say.

    def on_changes(self, message: PresenceChanges, now: float) -> list[Output]:
        followed = self._followed(message.channel)
        if followed is None or message.source == self._node:
            return []
        held = followed.sources.get(message.source)
        number = 0 if held is None else held.number
        followed.source(message.source).since = message.since
        # A node that seemed to be gone is not.
        outputs = self.on_hello(message.source, is_new=False, was_away=False)
        for change in message.changes:
            if isinstance(change, Joined):
                outputs += self._add(followed, message.source, change.info)
            else:
                outputs += self._remove(followed, message.source, change, now)
        self._note(followed, message.source, message.number)
        if message.previous != number:
            outputs.append(
                PresenceMessage(node_channel(message.source), self._request([message.channel]))
            )
        return outputs

    def on_request(self, request: PresenceRequest) -> list[Output]:
        """Answer with the state of this node in these channels."""
        return [
            PresenceMessage(node_channel(request.source), states)
            for states in self._states(request.channels, request.request_id)
        ]

    def on_states(self, message: PresenceStates, now: float) -> list[Output]:
        outputs: list[Output] = []
        for state in message.states:
            followed = self._followed(state.channel)
            if followed is None or message.source == self._node:
                continue
            source = followed.source(message.source)
            source.since = state.since
            infos = source.take(state, message.request_id)
            if infos is not None:
                is_first = message.request_id == followed.request_id
                outputs += self._replace(followed, message.source, infos, now, is_first=is_first)
                self._note(followed, message.source, state.number)
        return outputs

    def on_hello(self, node: NodeId, *, is_new: bool, was_away: bool) -> list[Output]:
        """Ask a node for its clients, if it may have said what did not arrive here."""
        is_known = node in self._known
        self._known.add(node)
        # A new node has no clients yet.
        must_ask = was_away or not (is_known or is_new)
        return self._request_all(node_channel(node)) if must_ask else []

    def on_gone(self, node: NodeId, now: float) -> list[Output]:
        """Note that a node has ended, or does not answer: its clients have left."""
        self._known.discard(node)
        outputs: list[Output] = []
        for followed in self._channels.values():
            source = followed.sources.get(node)
            if source is None:
                continue
            del followed.sources[node]
            for info in source.infos.values():
                outputs += self._leave(followed, info, Left(info.client, followed.delay), now)
        return outputs

    def on_bus_restored(self) -> list[Output]:
        """Ask for what was missed, and send what was not sent."""
        unsent, self._unsent = self._unsent, set()
        outputs: list[Output] = [
            PresenceMessage(Channel(Target.GROUPS, channel), states)
            for channel in sorted(unsent)
            for states in self._states([channel], 0)
        ]
        return outputs + self._request_all(EVERYBODY)

    def expire(self, now: float) -> list[Output]:
        """Announce the leaves that have waited long enough."""
        outputs: list[Output] = []
        for channel in list(self._leaving):
            followed = self._channels[channel]
            for user, clients in list(followed.leaving.items()):
                for leaving in list(clients.values()):
                    if leaving.until <= now:
                        outputs.append(self._left(followed, leaving))
                        del clients[leaving.info.client]
                if not clients:
                    del followed.leaving[user]
            self._forget_if_over(followed)
        return outputs

    @property
    def is_waiting(self) -> bool:
        """Whether leaves wait for :meth:`expire`."""
        return bool(self._leaving)

    def last_leaves(self) -> list[Output]:
        """Announce, as this node stops, the leaves that no other node knows of."""
        return [
            PresenceEvent(channel, leaving.info, is_join=False, is_own=True)
            for channel, followed in self._channels.items()
            if not followed.sources.keys() - {self._node}
            for clients in followed.leaving.values()
            for leaving in clients.values()
        ]

    def _followed(self, channel: Group) -> _FollowedChannel | None:
        found = self._channels.get(channel)
        return found if found is not None and found.is_followed else None

    def _announce(self, followed: _FollowedChannel, change: Joined | Left) -> list[Output]:
        followed.pending.append(change)
        return [Announcement(followed.name)] if len(followed.pending) == 1 else []

    def _add(self, followed: _FollowedChannel, node: NodeId, info: ClientInfo) -> Iterator[Output]:
        infos = followed.source(node).infos
        if info.client in infos:
            return
        infos[info.client] = info
        followed.users[info.user] += 1
        leaving = followed.leaving.pop(info.user, {})
        # A client whose node seemed to be gone has not left at all.
        if leaving.pop(info.client, None) is None:
            yield PresenceEvent(followed.name, info, is_join=True, is_own=node == self._node)
        for one in leaving.values():
            yield self._left(followed, one)
        self._forget_if_over(followed)

    def _remove(
        self, followed: _FollowedChannel, node: NodeId, left: Left, now: float
    ) -> list[Output]:
        source = followed.sources.get(node)
        info = None if source is None else source.infos.pop(left.client, None)
        return [] if info is None else self._leave(followed, info, left, now)

    def _leave(
        self, followed: _FollowedChannel, info: ClientInfo, left: Left, now: float
    ) -> list[Output]:
        """Announce that a client has left, or wait for its user to come back."""
        one = _Leaving(info, now + left.delay, left.is_handed_over)
        followed.users[info.user] -= 1
        is_last = not followed.users[info.user]
        if is_last:
            del followed.users[info.user]
        if not (is_last and left.delay and info.user):
            return [self._left(followed, one)]
        followed.leaving.setdefault(info.user, {})[info.client] = one
        self._leaving.add(followed.name)
        return []

    def _left(self, followed: _FollowedChannel, leaving: _Leaving) -> PresenceEvent:
        is_own = self._is_own(followed, leaving)
        return PresenceEvent(followed.name, leaving.info, is_join=False, is_own=is_own)

    def _is_own(self, followed: _FollowedChannel, leaving: _Leaving) -> bool:
        """Whether this node tells the application that a client has left."""
        owner = node_of(leaving.info.client)
        if owner == self._node or (owner in self._known and not leaving.is_handed_over):
            return owner == self._node
        sources = followed.sources
        return self._node == min(
            sources, key=lambda node: (sources[node].since, node), default=owner
        )

    def _replace(
        self,
        followed: _FollowedChannel,
        node: NodeId,
        infos: list[ClientInfo],
        now: float,
        *,
        is_first: bool,
    ) -> list[Output]:
        outputs: list[Output] = []
        for info in infos:
            added = list(self._add(followed, node, info))
            # Nobody here was told that the client was there, unless its user had another one.
            outputs += added if not is_first or len(added) > 1 else []
        present = {info.client for info in infos}
        for client in followed.source(node).infos.keys() - present:
            outputs += self._remove(followed, node, Left(client, followed.delay), now)
        return outputs

    def _note(self, followed: _FollowedChannel, node: NodeId, number: int) -> None:
        """Note the number of a node's last changes; a node without clients starts again from 0."""
        source = followed.sources.get(node)
        if source is not None:
            source.number = number
            if not source.infos and not source.parts:
                del followed.sources[node]

    def _unfollow(self, followed: _FollowedChannel) -> None:
        """Forget the clients of other nodes; the bus brings no more of them."""
        followed.is_followed = False
        followed.users.clear()
        for node in followed.sources.keys() - {self._node}:
            del followed.sources[node]
        for user, clients in list(followed.leaving.items()):
            own = {
                client: leaving
                for client, leaving in clients.items()
                if self._is_own(followed, leaving)
            }
            if own:
                followed.leaving[user] = own
            else:
                del followed.leaving[user]
        self._forget_if_over(followed)

    def _forget_if_over(self, followed: _FollowedChannel) -> None:
        if followed.leaving:
            return
        self._leaving.discard(followed.name)
        if not followed.is_followed and not followed.pending:
            self._channels.pop(followed.name, None)

    def _request(self, channels: list[Group]) -> PresenceRequest:
        self._request_number += 1
        return PresenceRequest(self._node, self._request_number, channels)

    def _request_all(self, to: Channel) -> list[Output]:
        channels = [name for name, one in self._channels.items() if one.is_followed]
        return [
            PresenceMessage(to, self._request(channels[start : start + _MAX_REQUESTED]))
            for start in range(0, len(channels), _MAX_REQUESTED)
        ]

    def _states(self, channels: Iterable[Group], request_id: int) -> Iterator[PresenceStates]:
        """Make the envelopes that hold the clients of this node in some channels."""
        states: list[ChannelState] = []
        size = 0
        for channel in channels:
            for state, state_size in self._parts(channel):
                if states and size + state_size > _MAX_PART_SIZE:
                    yield PresenceStates(self._node, request_id, states)
                    states, size = [], 0
                states.append(state)
                size += state_size
        if states:
            yield PresenceStates(self._node, request_id, states)

    def _parts(self, channel: Group) -> Iterator[tuple[ChannelState, int]]:
        followed = self._channels.get(channel)
        source = None if followed is None else followed.sources.get(self._node)
        number, since = (0, 0) if source is None else (source.number, source.since)
        part: list[ClientInfo] = []
        size = _INFO_OVERHEAD
        for info in () if source is None else source.infos.values():
            info_size = _INFO_OVERHEAD + len(info.connection_info) + len(info.channel_info)
            if part and size + info_size > _MAX_PART_SIZE:
                yield ChannelState(channel, since, number, is_last=False, infos=part), size
                part, size = [], _INFO_OVERHEAD
            part.append(info)
            size += info_size
        yield ChannelState(channel, since, number, is_last=True, infos=part), size
