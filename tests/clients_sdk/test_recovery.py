"""
What a client missed: it gets all of it, once and in order, or is told that it cannot.

These are the cases in which systems of this kind were found to lose messages in silence.
"""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.master import until
from tests.support.sdk import KINDS, Kind, SdkClient
from tests.support.sdk_service import SdkService, sdk_service

from .conftest import Clients

SIZE = 5  # messages that the channels keep: SCRIPT of tests/support/sdk_service.py


# Each SDK once, and each encoding: what is recovered does not depend on their combination.
@pytest.fixture(params=(KINDS[0], KINDS[-1]), ids=("node-json", "python-protobuf"))
def kind(request: pytest.FixtureRequest) -> Kind:
    """Run the test with both SDKs."""
    found: Kind = request.param
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SdkService]:
    """Run two processes with one history."""
    folder = tmp_path_factory.mktemp("service")
    with sdk_service(folder, "count=2, max_crashes=1000") as running:
        yield running


@pytest.fixture
def ann(service: SdkService, of_kind: Clients) -> SdkClient:
    """Connect the client that comes back."""
    return of_kind.connected(service.url)


@pytest.fixture
def bob(service: SdkService, of_kind: Clients) -> SdkClient:
    """Connect the client that publishes meanwhile."""
    return of_kind.connected(service.url)


def leave(client: SdkClient) -> None:
    """Disconnect; the SDK keeps the positions of its subscriptions."""
    client.do("disconnect")
    client.take("disconnected")


def publish(client: SdkClient, channel: str, *messages: object) -> None:
    for message in messages:
        client.do("publish", channel=channel, data=message)


def come_back(client: SdkClient, channel: str) -> tuple[bool, bool]:
    """Connect again, and tell whether the client asked for what it missed, and got it."""
    client.connect()
    told = client.take("subscribed", channel=channel)
    return told["was_recovering"], told["recovered"]


def nothing_follows(client: SdkClient) -> None:
    """Check that no message comes more than those that were taken."""
    client.do("rpc", method="echo", data=1)
    assert [one for one in client.events if one["event"] == "publication"] == []


def test_what_was_missed_follows(ann: SdkClient, bob: SdkClient, room: str) -> None:
    """It comes before what is published then."""
    channel = f"kept:{room}"
    told = ann.subscribe(channel)
    publish(bob, channel, "seen")
    assert ann.publications(channel, 1) == ["seen"]
    leave(ann)
    publish(bob, channel, 1, 2, 3)

    assert (told["recoverable"], told["positioned"]) == (True, True)
    assert come_back(ann, channel) == (True, True)
    publish(bob, channel, 4)
    assert ann.publications(channel, 4) == [1, 2, 3, 4]
    nothing_follows(ann)


def test_more_than_once(ann: SdkClient, bob: SdkClient, room: str) -> None:
    channel = f"kept:{room}"
    ann.subscribe(channel)
    for number in range(3):
        leave(ann)
        publish(bob, channel, number)
        assert come_back(ann, channel) == (True, True)
        assert ann.publications(channel, 1) == [number]
    nothing_follows(ann)


def test_no_message_was_seen_before(ann: SdkClient, bob: SdkClient, room: str) -> None:
    """The position is that of the subscription, though the channel was empty."""
    channel = f"kept:{room}"
    ann.subscribe(channel)
    leave(ann)
    publish(bob, channel, "first")

    assert come_back(ann, channel) == (True, True)
    assert ann.publications(channel, 1) == ["first"]


def test_nothing_was_missed(ann: SdkClient, bob: SdkClient, room: str) -> None:
    """That is a recovery, with an empty history and with one that was seen."""
    channel = f"kept:{room}"
    ann.subscribe(channel)
    leave(ann)
    assert come_back(ann, channel) == (True, True)
    publish(bob, channel, 1)
    assert ann.publications(channel, 1) == [1]
    leave(ann)
    assert come_back(ann, channel) == (True, True)
    nothing_follows(ann)


def test_as_much_as_is_kept(ann: SdkClient, bob: SdkClient, room: str) -> None:
    channel = f"kept:{room}"
    ann.subscribe(channel)
    publish(bob, channel, "seen")
    ann.publications(channel, 1)
    leave(ann)
    publish(bob, channel, *range(SIZE))

    assert come_back(ann, channel) == (True, True)
    assert ann.publications(channel, SIZE) == list(range(SIZE))


def test_more_than_is_kept(ann: SdkClient, bob: SdkClient, room: str) -> None:
    """Then the client gets nothing of it, is told, and goes on from there."""
    channel = f"kept:{room}"
    ann.subscribe(channel)
    publish(bob, channel, "seen")
    ann.publications(channel, 1)
    leave(ann)
    publish(bob, channel, *range(SIZE + 1))

    assert come_back(ann, channel) == (True, False)
    nothing_follows(ann)
    publish(bob, channel, "new")
    assert ann.publications(channel, 1) == ["new"]
    leave(ann)
    publish(bob, channel, "newer")
    assert come_back(ann, channel) == (True, True)
    assert ann.publications(channel, 1) == ["newer"]


def test_what_has_become_too_old(ann: SdkClient, bob: SdkClient, room: str) -> None:
    """The edge of age is like that of size."""
    channel = f"short:{room}"
    ann.subscribe(channel)
    publish(bob, channel, "seen")
    ann.publications(channel, 1)
    leave(ann)
    publish(bob, channel, "missed")
    until(lambda: not bob.do("history", channel=channel, limit=1)["publications"])

    assert come_back(ann, channel) == (True, False)
    nothing_follows(ann)


def test_nothing_was_published_and_all_is_old(ann: SdkClient, bob: SdkClient, room: str) -> None:
    """The client has seen the last message, which is gone: nothing is missing."""
    channel = f"short:{room}"
    ann.subscribe(channel)
    publish(bob, channel, "seen")
    ann.publications(channel, 1)
    leave(ann)
    until(lambda: not bob.do("history", channel=channel, limit=1)["publications"])

    assert come_back(ann, channel)[0]
    nothing_follows(ann)


def test_a_channel_that_is_not_recovered(ann: SdkClient, bob: SdkClient, room: str) -> None:
    channel = f"deaf:{room}"
    told = ann.subscribe(channel)
    leave(ann)
    publish(bob, channel, "missed")

    assert not told["recoverable"]
    assert come_back(ann, channel) == (False, False)
    nothing_follows(ann)
    assert len(ann.do("history", channel=channel, limit=9)["publications"]) == 1


def test_a_state_of_its_own(service: SdkService, of_kind: Clients, room: str) -> None:
    """``getState`` gives the position to begin at; it is asked again if that is lost."""
    channel = f"kept:{room}"
    bob = of_kind.connected(service.url)
    epoch, offset = bob.do("history", channel=channel)["position"]
    publish(bob, channel, 1, 2)
    position = bob.do("history", channel=channel)["position"]
    publish(bob, channel, 3)
    ann = of_kind.connected(service.url)
    ann.do("subscribe", channel=channel, states=[["unknown", 7], position, position])
    ann.take("state_asked")
    ann.take("state_asked")
    ann.take("subscribed", recovered=True)

    assert epoch == position[0]
    assert offset < position[1]
    assert ann.publications(channel, 1) == [3]
    leave(ann)
    publish(bob, channel, *range(SIZE + 1))
    fresh = bob.do("history", channel=channel)["position"]
    ann.connect()
    ann.take("state_asked")
    # The third position is too old as well; a real application would read a new one.
    assert fresh != position
    ann.take("error")


def test_a_connection_that_breaks(ann: SdkClient, bob: SdkClient, room: str) -> None:
    """Without a close frame, and without the application's doing anything."""
    channel = f"kept:{room}"
    ann.subscribe(channel)
    ann.begin("rpc", method="cut", data=None)
    ann.take("connecting", code=1)
    publish(bob, channel, "missed")

    assert ann.publications(channel, 1) == ["missed"]
    nothing_follows(ann)


def test_a_reload(service: SdkService, ann: SdkClient, bob: SdkClient, room: str) -> None:
    """It is a close code after which the SDK comes back, and nothing is lost."""
    channel = f"kept:{room}"
    ann.subscribe(channel)
    service.reload()
    ann.take("connecting", code=3001)
    publish(bob, channel, 1, 2)

    assert ann.publications(channel, 2) == [1, 2]
    nothing_follows(ann)


def test_a_process_that_is_killed(ann: SdkClient, bob: SdkClient, room: str) -> None:
    channel = f"kept:{room}"
    ann.subscribe(channel)
    os.kill(ann.do("rpc", method="pid", data=None), signal.SIGKILL)
    ann.take("connecting", code=1)
    publish(bob, channel, 1, 2)

    assert ann.publications(channel, 2) == [1, 2]
    nothing_follows(ann)
