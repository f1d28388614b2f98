"""Messages of other nodes reach clients and event handlers; gaps are counted."""

from collections import Counter

from gateman.cluster.channels import Channel
from gateman.cluster.envelope import (
    DirectMessage,
    DirectMessages,
    Item,
    Messages,
    SequenceMark,
    Target,
    encode_value,
)
from gateman.cluster.events import Events
from gateman.cluster.fanout import Fanout
from gateman.cluster.local_clients import LocalClients
from gateman.cluster.names import ClientId, Group, NodeId
from gateman.cluster.receiver import Receiver
from tests.support.loop import eventually, on_loop
from tests.support.members import FakeSendBuffer

NODE, OTHER = NodeId("n"), NodeId("o")
ANN, NOBODY = ClientId("n-1"), ClientId("n-2")


class Harness:
    """A receiver with one client."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.warnings: list[str] = []
        self.ann = FakeSendBuffer()
        self.local_clients = LocalClients(Fanout(lambda _flush: None), NodeId("n"))
        self.local_clients.registry.add(ANN, self.ann)
        self.events = Events(self.counts, subscribe=lambda _: None, unsubscribe=lambda _: None)
        self.receiver = Receiver(
            NODE,
            self.local_clients,
            self.events,
            counts=self.counts,
            warn=lambda _cause, message: self.warnings.append(message),
        )

    def received(self) -> list[bytes]:
        """Flush the fan-out; return what the client has received so far."""
        self.local_clients.fanout.flush()
        return [payload for _, payload in self.ann.messages]


def text(payload: bytes, *exclude: ClientId) -> Item:
    return Item(kind=1, payload=payload, exclude=exclude)


def test_direct_messages_reach_their_clients_in_order() -> None:
    """Those for clients that are gone are counted."""
    harness = Harness()
    names = (ANN, NOBODY, ANN)
    items = [DirectMessage(name, kind=1, payload=b"%d" % index) for index, name in enumerate(names)]
    harness.receiver.deliver(DirectMessages(OTHER, 0, items))

    assert harness.received() == [b"0", b"2"]
    assert harness.counts == {"received": 3, "unknown_client": 1}


def test_messages_reach_the_members_of_their_target() -> None:
    """A group, and clients by id."""
    harness = Harness()
    harness.local_clients.registry.join(ANN, Group("room"))
    items = [text(b"a"), text(b"b", ANN)]
    harness.receiver.deliver(Messages(OTHER, 0, Target.GROUPS, ("room",), items))
    harness.receiver.deliver(Messages(OTHER, 0, Target.CLIENTS, (ANN, NOBODY), items[:1]))

    assert harness.received() == [b"a", b"a"]
    assert harness.counts == {"received": 3, "unknown_client": 1}


@on_loop
async def test_events_reach_their_handlers() -> None:
    harness = Harness()
    heard: list[object] = []
    harness.events.add("prices", heard.append)
    items = [text(bytes(encode_value(7)))]
    harness.receiver.deliver(Messages(OTHER, 0, Target.EVENTS, ("prices",), items))

    await eventually(lambda: heard == [7])


def test_a_gap_in_the_numbers_is_counted() -> None:
    """Of messages, and of a mark behind the last of them."""
    harness = Harness()
    item = [DirectMessage(ANN, kind=1, payload=b"x")]
    harness.receiver.deliver(DirectMessages(OTHER, 0, item))
    harness.receiver.deliver(DirectMessages(OTHER, 3, item))
    harness.receiver.deliver(SequenceMark(OTHER, 5, Target.CLIENTS, (NODE,)))

    assert harness.counts == {"received": 2, "lost": 3}
    assert harness.warnings == [f"{n} messages of the process o did not arrive" for n in (2, 1)]
    harness.receiver.sequences.forget_channel(Channel(Target.CLIENTS, NODE))
    assert list(harness.receiver.sequences.senders()) == []
