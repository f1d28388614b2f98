"""Every feature of the client protocol, with the unmodified SDKs, in JSON and in Protobuf."""

from collections.abc import Iterator

import centrifuge
import pytest

from tests.support.sdk import SdkClient, SdkError
from tests.support.sdk_service import SdkService, sdk_service

from .conftest import Clients as OfKind


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SdkService]:
    """Run one process for all tests, which have channels of their own."""
    with sdk_service(tmp_path_factory.mktemp("service")) as running:
        yield running


class Clients:
    """Makes clients of this service."""

    def __init__(self, service: SdkService, of_kind: OfKind) -> None:
        self._url = service.url
        self._of_kind = of_kind
        self.kind = of_kind.kind

    def __call__(self, **options: object) -> SdkClient:
        """Make one that is connected."""
        return self._of_kind.connected(self._url, **options)

    def idle(self, **options: object) -> SdkClient:
        """Make one that is not."""
        return self._of_kind.idle(self._url, **options)


@pytest.fixture
def clients(service: SdkService, of_kind: OfKind) -> Clients:
    """Make clients of each kind."""
    return Clients(service, of_kind)


def refused(client: SdkClient, verb: str, **fields: object) -> tuple[int | None, str]:
    """Execute a command that is refused, and tell how."""
    with pytest.raises(SdkError) as caught:
        client.do(verb, **fields)
    return caught.value.code, caught.value.message


def test_connect(clients: Clients) -> None:
    client = clients.idle(data={"echo": {"née": [1, None, True]}})
    connected = client.connect()

    assert connected["data"] == {"née": [1, None, True]}
    assert connected["id"]
    assert client.do("rpc", method="echo", data={"a": ["é", 1.5, None]}) == {"a": ["é", 1.5, None]}


@pytest.mark.parametrize("how", ["refuse", "end"])
def test_a_connect_that_is_refused(clients: Clients, how: str) -> None:
    code = {"refuse": 403, "end": 4500}[how]
    client = clients.idle(data={how: [code, "not today"]})
    client.do("connect")

    assert client.take("disconnected") == {
        "event": "disconnected",
        "code": code,
        "reason": "not today",
    }


def test_nothing_is_allowed_by_itself(clients: Clients, room: str) -> None:
    client = clients()
    client.do("subscribe", channel=f"other:{room}")
    ended = client.take("unsubscribed", channel=f"other:{room}")
    client.subscribe(f"mute:{room}")

    assert ended["code"] == 103
    for verb, fields in (("publish", {"data": 1}), ("history", {}), ("presence", {})):
        for channel in (f"other:{room}", f"mute:{room}"):
            # What has no history or presence is not available, whoever asks.
            assert refused(client, verb, channel=channel, **fields)[0] in (103, 108)
    # True is for subscribers.
    assert refused(client, "publish", channel=f"open:{room}", data=1)[0] == 103
    client.do("subscribe", channel="#ann")
    assert client.take("unsubscribed", channel="#ann")["code"] == 103


def test_publish(clients: Clients, room: str) -> None:
    """A message comes to all subscribers, its sender included, with what is known of it."""
    ann = clients(data={"uid": f"ann-{room}", "info": {"name": "Ann"}})
    bob = clients()
    channel = f"open:{room}"
    ann.subscribe(channel)
    bob.subscribe(channel)
    ann.do("publish", channel=channel, data={"text": "hé\n", "n": 1.5})

    for client in (ann, bob):
        told = client.take("publication", channel=channel)
        assert told["data"] == {"text": "hé\n", "n": 1.5}
        assert told["info"]["user"] == f"ann-{room}"
        assert told["info"]["conn_info"] == {"name": "Ann"}
        assert told["offset"] == 0
    bob.do("unsubscribe", channel=channel)
    bob.take("unsubscribed", channel=channel)
    ann.do("publish", channel=channel, data="later")
    ann.take("publication", data="later")
    bob.do("rpc", method="echo", data=1)
    assert not [one for one in bob.events if one["event"] == "publication"]


@pytest.mark.parametrize("value", [{"a": [1, "é", None]}, "text", 7, 1.5, True, None, [], "a\nb"])
def test_what_the_hub_sends(clients: Clients, room: str, value: object) -> None:
    client = clients()
    client.subscribe(f"open:{room}")
    client.do("rpc", method="group", data=[f"open:{room}", value])

    assert client.take("publication")["data"] == value


def test_bytes(clients: Clients, room: str) -> None:
    """They need Protobuf; for a JSON client they are counted, and it gets what follows."""
    client = clients()
    client.subscribe(f"open:{room}")
    before = sum(client.do("rpc", method="counts", data=None).values())
    client.do("rpc", method="group bytes", data=f"open:{room}")
    client.do("rpc", method="group", data=[f"open:{room}", "after"])
    first = client.take("publication")["data"]

    if clients.kind.is_protobuf:
        assert first == {"base64": "AP8="}
    else:
        assert first == "after"
        assert sum(client.do("rpc", method="counts", data=None).values()) > before


def test_what_a_callback_refuses_or_changes(clients: Clients, room: str) -> None:
    client = clients()
    channel = f"open:{room}"
    client.do("subscribe", channel=channel, data={"refuse": [1401, "full"]})
    ended = client.take("unsubscribed", channel=channel)
    client.do("forget", channel=channel)

    assert (ended["code"], ended["reason"]) == (1401, "full")
    told = client.subscribe(channel, data={"allow": {"data": {"topic": "tea"}}})
    assert told["data"] == {"topic": "tea"}
    refusal = {"refuse": [1402, "no"]}
    assert refused(client, "publish", channel=channel, data=refusal) == (1402, "no")
    client.do("publish", channel=channel, data={"replace": "other"})
    assert client.take("publication")["data"] == "other"
    # A callback may allow what no pattern allows.
    client.subscribe(f"own:{room}", data={"allow": {"publish": True}})
    client.do("publish", channel=f"own:{room}", data=1)
    client.take("publication", channel=f"own:{room}")


def test_rpc(clients: Clients) -> None:
    client = clients()

    assert refused(client, "rpc", method="refuse", data=[1999, "so"]) == (1999, "so")
    assert refused(client, "rpc", method="nothing", data=1) == (404, "no such method")
    code, message = refused(client, "rpc", method="fail", data=1)
    assert code == 100
    assert "secret" not in message


def test_send(clients: Clients) -> None:
    """The SDK for Python has neither."""
    if clients.kind.name == "python":
        assert not hasattr(centrifuge.Client, "send")
        return
    client = clients()
    client.do("send", data={"a": 1})

    assert client.take("message")["data"] == {"a": 1}


def test_subscriptions_of_the_server(clients: Clients, room: str) -> None:
    """A member of a group is subscribed, from the connect reply on or later, until it leaves."""
    client = clients.idle(data={"join": [f"first:{room}"]})
    client.connect()
    client.take("subscribed", channel=f"first:{room}", server=True)
    client.do("rpc", method="join", data=f"second:{room}")
    client.take("subscribed", channel=f"second:{room}", server=True)
    for channel in (f"first:{room}", f"second:{room}"):
        client.do("rpc", method="group", data=[channel, channel])
        told = client.take("publication", channel=channel)
        assert (told["data"], told["server"]) == (channel, True)
    client.do("rpc", method="leave", data=f"second:{room}")
    client.take("unsubscribed", channel=f"second:{room}", server=True)


def test_a_subscription_of_the_server_recovers(clients: Clients, room: str) -> None:
    channel = f"kept:{room}"
    ann = clients(data={"join": [channel]})
    ann.take("subscribed", channel=channel)
    bob = clients()
    bob.subscribe(channel)
    ann.do("disconnect")
    ann.take("disconnected")
    bob.do("publish", channel=channel, data="missed")
    ann.connect()

    assert ann.take("publication", channel=channel)["data"] == "missed"


def test_a_message_to_a_user(clients: Clients, room: str) -> None:
    """It comes to all connections of that user, and is not lost while one is away."""
    uid = f"uid-{room}"
    ann = clients(data={"uid": uid})
    bob = clients()
    bob.do("rpc", method="uid", data=[uid, "one"])
    assert ann.take("publication")["data"] == "one"
    ann.do("disconnect")
    ann.take("disconnected")
    bob.do("rpc", method="uid", data=[uid, "two"])
    ann.connect()

    assert ann.take("publication")["data"] == "two"
    assert not [one for one in bob.events if one["event"] == "publication"]


def test_history(clients: Clients, room: str) -> None:
    client = clients()
    channel = f"kept:{room}"
    for number in range(7):
        client.do("publish", channel=channel, data=number)

    def numbers(**fields: object) -> list[int]:
        found = client.do("history", channel=channel, **fields)
        return [one["data"] for one in found["publications"]]

    assert numbers(limit=10) == [2, 3, 4, 5, 6]
    assert numbers(limit=2) == [2, 3]
    assert numbers(limit=2, reverse=True) == [6, 5]
    top = client.do("history", channel=channel)
    assert top["publications"] == []
    assert numbers(limit=10, since=top["position"]) == []
    first = client.do("history", channel=channel, limit=1)["publications"][0]
    assert numbers(limit=10, since=[top["position"][0], first["offset"]]) == [3, 4, 5, 6]
    assert refused(client, "history", channel=channel, limit=1, since=["other", 1])[0] == 112


def test_presence(clients: Clients, room: str) -> None:
    channel = f"seen:{room}"
    ann = clients(data={"uid": "ann", "info": {"name": "Ann"}})
    ann.subscribe(channel, data={"allow": {"info": {"role": "host"}}})
    bob = clients.idle(data={"uid": "bob"})
    bob_id = bob.connect()["id"]
    bob.subscribe(channel)
    info = {"client": bob_id, "user": "bob", "conn_info": None, "chan_info": None}
    ann.take("join", channel=channel, info=info)
    there = bob.do("presence", channel=channel)

    assert sorted((one["user"], one["conn_info"], one["chan_info"]) for one in there.values()) == [
        ("ann", {"name": "Ann"}, {"role": "host"}),
        ("bob", None, None),
    ]
    assert bob_id in there
    assert bob.do("presence_stats", channel=channel) == {"clients": 2, "users": 2}
    bob.do("disconnect")
    assert ann.take("leave", channel=channel)["info"]["client"] == bob_id
    assert ann.do("presence_stats", channel=channel) == {"clients": 1, "users": 1}


def test_many_commands_at_once(clients: Clients, room: str) -> None:
    """What is subscribed to before the connection is there goes out in one frame."""
    client = clients.idle()
    names = [f"open:{room}-{number}" for number in range(20)]
    for name in names:
        client.do("subscribe", channel=name)
    client.do("connect")

    for name in names:
        client.take("subscribed", channel=name)


def test_limits(clients: Clients, room: str) -> None:
    client = clients()
    client.do("subscribe", channel="open:" + "x" * 251)

    assert client.take("unsubscribed")["code"] == 107
    for number in range(128):
        client.do("subscribe", channel=f"open:{room}-{number}")
    for number in range(128):
        client.take("subscribed", channel=f"open:{room}-{number}")
    client.do("subscribe", channel=f"open:{room}")
    assert client.take("unsubscribed", channel=f"open:{room}")["code"] == 106


@pytest.mark.parametrize("code", [4000, 4500])
def test_the_end_that_the_application_wants(clients: Clients, code: int) -> None:
    """Codes from 4500 on are final; after the others the SDK comes back."""
    client = clients()
    client.begin("rpc", method="end", data=[code, "enough"])

    if code < 4500:
        client.take("connecting", code=code, reason="enough")
        client.take("connected")
    else:
        client.take("disconnected", code=code, reason="enough")


def test_an_expired_connection(clients: Clients) -> None:
    """The SDK asks its application for a token as long as that has one."""
    client = clients.idle(data={"expires_in": 1}, given_tokens=["first", "good"])
    client.connect()
    assert client.do("rpc", method="echo", data=1) == 1
    ended = clients.idle(data={"expires_in": 1}, given_tokens=["first"])
    ended.connect()
    ended.take("disconnected", code=1)

    assert client.do("rpc", method="echo", data=1) == 1
    assert not [one for one in client.events if one["event"] == "disconnected"]


def test_an_expired_subscription(clients: Clients, room: str) -> None:
    client = clients()
    allowed = {"allow": {"expires_in": 1}}
    client.subscribe(f"open:{room}", data=allowed, given_tokens=["first", "good"])
    client.subscribe(f"open:{room}-2", data=allowed, given_tokens=["first"])
    client.take("unsubscribed", channel=f"open:{room}-2", code=1)
    client.do("publish", channel=f"open:{room}", data="on")

    assert client.take("publication")["data"] == "on"
