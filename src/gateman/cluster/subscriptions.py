"""Which channels a node subscribes to for its local clients. Pure."""

from ..bus.base import SubscriptionConfirmation
from .channels import Channel
from .envelope import Bind, BindOnly, ClientAction, Join, Target
from .registry import Topic, TopicKind


def channel_of_topic(topic: Topic) -> Channel:
    """Get the channel that carries messages for a uid or a group."""
    return Channel(Target.UIDS if topic.kind is TopicKind.UID else Target.GROUPS, topic.name)


def topic_of(action: ClientAction) -> Topic | None:
    """Get the topic that the bus must route here before an action is in effect."""
    match action:
        case Join(_, group):
            return Topic(TopicKind.GROUP, group)
        case Bind(_, uid) | BindOnly(_, uid):
            return Topic(TopicKind.UID, uid)
        case _:
            return None


class UnconfirmedSubscriptions:
    """The channels whose messages may not arrive yet: the bus has not confirmed them."""

    def __init__(self) -> None:
        # In the order in which they are confirmed.
        self._pending: dict[Channel, SubscriptionConfirmation] = {}

    def add(self, channel: Channel, pending: SubscriptionConfirmation) -> None:
        self.remove(channel)
        while self._pending:
            first = next(iter(self._pending))
            if not self._pending[first].is_done:
                break
            del self._pending[first]
        self._pending[channel] = pending

    def remove(self, channel: Channel) -> None:
        self._pending.pop(channel, None)

    def __contains__(self, channel: object) -> bool:
        pending = self._pending.get(channel)  # type: ignore[call-overload]
        return pending is not None and not pending.is_done

    def __len__(self) -> int:
        return len(self._pending)
