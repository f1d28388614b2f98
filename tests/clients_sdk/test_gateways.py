"""Official SDKs at gateways: business workers answer, and may be replaced, and so may gateways."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.support.master import Master, master, until
from tests.support.sdk import Driver, Kind, SdkError

SCRIPT = """
import os
from gateman import BusinessWorker, Channel, ClientError, Gateway, hub

gateway = Gateway(
    "websocket://127.0.0.1:0",
    count=2,
    max_crashes=100,
    client_protocol="centrifuge",
    channels={
        "chat:*": Channel(
            subscribe=True, publish=True, history=True, presence=True,
            history_size=100, history_ttl=600,
        ),
    },
)
business = BusinessWorker(count=1, max_crashes=100)

@business.on_client_connect
def connect(client_id, token, data):
    hub.bind_uid(client_id, data["user"])
    return {"welcome": data["user"]}

@business.on_subscribe
def subscribe(client_id, channel, data):
    if channel == "chat:closed":
        raise ClientError(410, "closed")

@business.on_rpc
async def answer(client_id, method, data):
    if method == "notify":
        hub.send_to_uid(data["user"], data["text"])
        return None
    return {"pid": os.getpid(), "method": method, "data": data}

Gateway.run_all()
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    with master(SCRIPT, tmp_path_factory.mktemp("gateways")) as running:
        yield running


@pytest.fixture
def driver(kind: Kind, drivers: Callable[[str], Driver]) -> Driver:
    return drivers(kind.name)


def pids(service: Master, name: str) -> list[int]:
    """Return the processes of a worker, when all of them serve."""

    def serving() -> list[int]:
        slots = service.status()["slots"]
        if any(slot["state"] != "running" for slot in slots):
            return []
        of_worker = [slot for slot in slots if slot["worker"] == name]
        return [process["pid"] for slot in of_worker for process in slot["processes"]]

    found: list[int] = until(serving)
    return found


def test_features_and_a_reload(service: Master, driver: Driver, kind: Kind) -> None:
    """The reload replaces the business process, and the SDK sees nothing of it."""
    channel, user = f"chat:{kind}", f"user of {kind}"
    client = driver.client(f"ws://127.0.0.1:{service.port}", data={"user": user}, **kind.options)
    connected = client.connect()
    assert connected["data"] == {"welcome": user}
    client.subscribe(channel)
    before = client.do("rpc", method="m", data={"a": [1]})
    assert (before["method"], before["data"]) == ("m", {"a": [1]})
    client.do("rpc", method="notify", data={"user": user, "text": "hé"})
    assert client.take("publication", channel=f"#{user}")["data"] == "hé"
    client.do("subscribe", channel="chat:closed")
    assert client.take("unsubscribed", channel="chat:closed")["code"] == 410
    with pytest.raises(SdkError) as refused:
        client.do("publish", channel="other", data=1)
    assert refused.value.code == 103

    client.events.clear()
    assert service.gateman("reload").returncode == 0

    after = client.do("rpc", method="m", data=None)
    assert after["pid"] != before["pid"]
    client.do("publish", channel=channel, data={"n": 1})
    assert client.publications(channel, 1) == [{"n": 1}]
    assert not [one for one in client.events if one["event"] in {"connecting", "disconnected"}]
    client.do("disconnect")


def test_a_killed_gateway_and_a_killed_business_worker(
    service: Master, driver: Driver, kind: Kind
) -> None:
    """Clients come back through another gateway, and recover what they have missed."""
    channel = f"chat:killed {kind}"
    url = f"ws://127.0.0.1:{service.port}"
    clients = [driver.client(url, data={"user": name}, **kind.options) for name in ("ann", "bob")]
    for client in clients:
        client.connect()
        client.subscribe(channel)
    clients[0].do("publish", channel=channel, data=0)

    for pid in [*pids(service, "gateway"), *pids(service, "business")]:
        os.kill(pid, signal.SIGKILL)
    for client in clients:
        client.take("connecting")
        client.take("connected")
        client.take("subscribed", channel=channel)
    for number in (1, 2):
        clients[1].do("publish", channel=channel, data=number)

    for client in clients:
        assert client.publications(channel, 3) == [0, 1, 2]
    assert clients[0].do("rpc", method="m", data=5)["data"] == 5
    for client in clients:
        client.do("disconnect")
