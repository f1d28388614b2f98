"""Which channels a node subscribes to for its local clients. Pure."""

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
