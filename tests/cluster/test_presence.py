"""Signs of life, as they are given and taken."""

import asyncio

from gateman.cluster.channels import EVERYBODY, Channel, node_channel
from gateman.cluster.envelope import Hello
from gateman.cluster.names import NodeId
from gateman.cluster.presence import Presence

from ..support.loop import eventually, on_loop

ME, ANN, BOB = NodeId("me"), NodeId("ann"), NodeId("bob")


class Cluster:
    """
    A presence, and what it says.

    Attributes:
        presence: It.
        said: Where and what.
        marks: How often it let marks be published.
        is_connected: Whether the bus is there.
    """

    def __init__(self) -> None:
        self.said: list[tuple[Channel, Hello]] = []
        self.marks = 0
        self.is_connected = True
        self.presence = Presence(
            ME,
            has_clients=True,
            say=lambda channel, hello: self.said.append((channel, hello)),
            mark=self.mark,
            is_connected=lambda: self.is_connected,
            hello_interval=0.02,
            discovery_time=0.1,
        )

    def mark(self) -> None:
        """Count."""
        self.marks += 1


def hello(
    source: NodeId,
    *nodes: NodeId,
    has_clients: bool = True,
    is_new: bool = False,
    was_away: bool = False,
) -> Hello:
    """Make a sign of life."""
    return Hello(source, has_clients=has_clients, is_new=is_new, was_away=was_away, nodes=nodes)


@on_loop
async def test_hello_is_said_at_the_start_and_then_in_intervals() -> None:
    """The first asks for those of others."""
    cluster = Cluster()
    cluster.presence.start()
    await eventually(lambda: len(cluster.said) >= 3)
    cluster.presence.stop()

    assert cluster.said[:3] == [
        (EVERYBODY, hello(ME, is_new=True)),
        (EVERYBODY, hello(ME)),
        (EVERYBODY, hello(ME)),
    ]


@on_loop
async def test_who_is_new_is_told_of_everybody() -> None:
    """One answer is enough to know all."""
    cluster = Cluster()
    cluster.presence.take(hello(ANN))
    cluster.presence.take(hello(BOB, is_new=True))

    assert cluster.said == [(node_channel(BOB), hello(ME, ANN, BOB))]
    assert cluster.presence.nodes.names() == (ANN, BOB)


@on_loop
async def test_hearsay_makes_known() -> None:
    """Whom another knows is expected to answer."""
    cluster = Cluster()
    cluster.presence.take(hello(ANN, BOB, ME))

    assert cluster.presence.nodes.names() == (ANN, BOB)


@on_loop
async def test_who_has_no_clients_is_answered_but_not_asked() -> None:
    """A program that only sends is no place to look for clients."""
    cluster = Cluster()
    cluster.presence.take(hello(ANN, has_clients=False, is_new=True))

    assert cluster.presence.nodes.names() == ()
    assert cluster.said == [(node_channel(ANN), hello(ME))]


@on_loop
async def test_who_was_away_is_told_how_far_we_have_come() -> None:
    """Once for all who come back together."""
    cluster = Cluster()
    for node in (ANN, BOB):
        cluster.presence.take(hello(node, is_new=True, was_away=True))
    await eventually(lambda: cluster.marks == 1)
    cluster.presence.return_()
    await eventually(lambda: cluster.marks == 2)

    assert cluster.said[-1] == (EVERYBODY, hello(ME, is_new=True, was_away=True))


@on_loop
async def test_nothing_is_said_while_the_bus_is_away() -> None:
    """And nobody is judged before they had the time to be heard again."""
    cluster = Cluster()
    cluster.presence.start()
    cluster.is_connected = False
    await asyncio.sleep(0.05)
    said = len(cluster.said)
    cluster.is_connected = True
    await asyncio.sleep(0.05)
    assert len(cluster.said) == said
    cluster.presence.return_()
    await eventually(lambda: len(cluster.said) > said + 1)
    cluster.presence.stop()


@on_loop
async def test_at_first_nobody_is_unknown() -> None:
    """A process that has just started cannot tell who is not there."""
    cluster = Cluster()
    loop = asyncio.get_running_loop()
    cluster.presence.start()
    assert not cluster.presence.is_unknown(ANN)
    await cluster.presence.discover(loop.time() + 0.01)
    assert not cluster.presence.is_unknown(ANN)
    await cluster.presence.discover(loop.time() + 5)
    await eventually(lambda: cluster.presence.is_unknown(ANN))
    cluster.presence.take(hello(ANN))
    assert not cluster.presence.is_unknown(ANN)
    cluster.presence.stop()


@on_loop
async def test_the_silent_are_forgotten() -> None:
    """After the time that everybody has."""
    cluster = Cluster()
    long_ago = asyncio.get_running_loop().time() - 60
    cluster.presence.nodes.hear(ANN, long_ago)
    cluster.presence.take(hello(BOB))
    cluster.presence.start()
    await eventually(lambda: cluster.presence.nodes.names() == (BOB,))
    cluster.presence.stop()
