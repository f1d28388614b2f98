"""What a process wants to get from the bus, because of who is connected to it. Pure."""

from .channels import Channel
from .envelope import Bind, BindOnly, ClientAction, Join, Target
from .registry import Topic, TopicKind


def channel_of_topic(topic: Topic) -> Channel:
    """Name the channel on which messages for a uid or a group travel."""
    return Channel(Target.UIDS if topic.kind is TopicKind.UID else Target.GROUPS, topic.name)


def topic_of(action: ClientAction) -> Topic | None:
    """Tell what others have to route here, for an action to be in effect."""
    match action:
        case Join(_, group):
            return Topic(TopicKind.GROUP, group)
        case Bind(_, uid) | BindOnly(_, uid):
            return Topic(TopicKind.UID, uid)
        case _:
            return None
