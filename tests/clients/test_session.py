"""The state of one client: what is asked, answered, refused and ended, by equality."""

import json
from typing import Any

import pytest
from msgspec import Raw

from gateman.clients.codec import Codec
from gateman.clients.json_codec import JSON
from gateman.clients.limits import ClientLimits
from gateman.clients.messages import (
    ConnectRequest,
    ConnectResult,
    HistoryRequest,
    HistoryResult,
    PresenceResult,
    PresenceStatsResult,
    Publication,
    PublishRequest,
    PublishResult,
    RefreshRequest,
    RpcRequest,
    RpcResult,
    SendRequest,
    SubRefreshRequest,
    Subscribe,
    SubscribeRequest,
    SubscribeResult,
)
from gateman.clients.session import (
    Action,
    Ask,
    ClientSession,
    Close,
    Send,
    State,
    Unsubscribed,
)


class Driver:
    """A session, with what it makes as Python values."""

    def __init__(self, codec: Codec = JSON, **limits: Any) -> None:
        self.now = 100.0
        self.session = ClientSession(codec, ClientLimits(**limits), self.now)

    def receive(self, *commands: dict[str, Any]) -> list[Any]:
        return said(self.session.receive("\n".join(map(json.dumps, commands)), self.now))

    def connect(self, **result: Any) -> list[Any]:
        self.receive({"id": 1, "connect": {}})
        return said(self.session.connected(1, ConnectResult(client="c", **result), self.now))

    def subscribe(self, channel: str, number: int = 2, ttl: float | None = None) -> list[Any]:
        asked = self.receive({"id": number, "subscribe": {"channel": channel}})
        assert asked == [Ask(number, SubscribeRequest(channel=channel))]
        return said(self.session.subscribed(number, SubscribeResult(), self.now, ttl=ttl))


def said(actions: list[Action]) -> list[Any]:
    """Show what is sent as Python values."""
    return [
        json.loads(action.payload) if isinstance(action, Send) else action for action in actions
    ]


def error(number: int, code: int, message: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "error": {"code": code, "message": message, **more}}


@pytest.fixture
def driver() -> Driver:
    """A client that is connected."""
    driver = Driver()
    driver.connect()
    return driver


def test_connect() -> None:
    driver = Driver()

    assert driver.receive({"id": 1, "connect": {"token": "t"}}) == [
        Ask(1, ConnectRequest(token="t"))
    ]
    assert said(
        driver.session.connected(
            1,
            ConnectResult(
                client="n-1",
                data=Raw(b"[1]"),
                subs={"a": SubscribeResult(recoverable=True, epoch="e", offset=3)},
            ),
            100.0,
            ttl=60.9,
        )
    ) == [
        {
            "id": 1,
            "connect": {
                "client": "n-1",
                "expires": True,
                "ttl": 60,
                "data": [1],
                "subs": {"a": {"recoverable": True, "epoch": "e", "offset": 3}},
                "ping": 25,
                "pong": True,
            },
        }
    ]
    assert driver.session.is_subscribed("a")
    assert driver.session.connected(1, ConnectResult(), 100.0) == []


def test_a_refused_connect_may_be_repeated() -> None:
    driver = Driver()
    driver.receive({"id": 1, "connect": {}}, {"id": 2, "rpc": {}}, {"send": {"data": 1}})

    assert said(driver.session.refused(1, 109)) == [
        error(1, 109, "token expired"),
        error(2, 101, "unauthorized"),
    ]
    assert driver.session.state is State.NEW
    assert driver.receive({"id": 3, "connect": {}}) == [Ask(3, ConnectRequest())]


def test_commands_wait_for_the_answer_to_connect() -> None:
    driver = Driver()
    driver.receive({"id": 1, "connect": {}})

    assert driver.receive({"id": 2, "subscribe": {"channel": "a"}}, {"send": {"data": 1}}) == []
    assert driver.connect()[1:] == []  # a second connect has closed it


@pytest.mark.parametrize(
    "commands",
    [
        [{"id": 1, "rpc": {}}],
        [{"id": 1, "params": {}}],  # Version 1 of the protocol.
        [{"send": {"data": 1}}],
        [{"connect": {}}],
        [{"id": 1, "connect": {}}, {"id": 2, "connect": {}}],
        [{"id": 1, "connect": {}, "rpc": {}}],
        [{"id": 1, "connect": {}}, {"id": 1, "rpc": {}}],
        [{"id": 1, "connect": {}}, {"rpc": {}}],
    ],
)
def test_what_breaks_the_protocol_ends_the_connection(commands: list[dict[str, Any]]) -> None:
    driver = Driver()

    assert driver.receive(*commands)[-1] == Close(3501, "bad request")
    assert driver.session.state is State.CLOSED
    assert driver.receive({"id": 7, "connect": {}}) == []
    assert driver.session.connected(1, ConnectResult(), 100.0) == []


def test_malformed_frames_end_the_connection(driver: Driver) -> None:
    assert driver.session.receive("{", 100.0) == [Close(3501, "bad request")]
    assert driver.session.disconnect(3000) == []


def test_a_pong_and_commands_of_later_versions(driver: Driver) -> None:
    assert driver.receive({}, {"id": 5, "later": {}}, {"id": 6, "ping": {}}) == [
        error(5, 104, "method not found"),
        {"id": 6, "ping": {}},
    ]


def test_requests_and_their_answers(driver: Driver) -> None:
    session = driver.session
    asked = driver.receive(
        {"id": 2, "publish": {"channel": "a", "data": {"x": 1}}},
        {"id": 3, "history": {"channel": "a", "limit": 2}},
        {"id": 4, "presence": {"channel": "a"}},
        {"id": 5, "presence_stats": {"channel": "a"}},
        {"id": 6, "rpc": {"method": "m", "data": 1}},
        {"send": {"data": 2}},
        {"id": 8, "refresh": {"token": "t"}},
    )

    assert [ask.id for ask in asked] == [2, 3, 4, 5, 6, 0, 8]
    assert asked[0] == Ask(2, PublishRequest(channel="a", data=Raw(b'{"x": 1}')))
    assert asked[1] == Ask(3, HistoryRequest(channel="a", limit=2))
    assert asked[4:] == [
        Ask(6, RpcRequest(method="m", data=Raw(b"1"))),
        Ask(0, SendRequest(data=Raw(b"2"))),
        Ask(8, RefreshRequest(token="t")),
    ]
    assert said(
        [
            *session.answered(6, RpcResult(data=Raw(b"[]"))),
            *session.answered(2, PublishResult()),
            *session.answered(
                3,
                HistoryResult(
                    publications=[Publication(data=Raw(b"1"), offset=4)], epoch="e", offset=4
                ),
            ),
            *session.answered(4, PresenceResult()),
            *session.answered(5, PresenceStatsResult(num_clients=2, num_users=1)),
            *session.refreshed(8, 100.0, ttl=30),
            *session.answered(2, PublishResult()),
        ]
    ) == [
        {"id": 6, "rpc": {"data": []}},
        {"id": 2, "publish": {}},
        {
            "id": 3,
            "history": {"publications": [{"data": 1, "offset": 4}], "epoch": "e", "offset": 4},
        },
        {"id": 4, "presence": {}},
        {"id": 5, "presence_stats": {"num_clients": 2, "num_users": 1}},
        {"id": 8, "refresh": {"expires": True, "ttl": 30}},
    ]


def test_errors_of_the_protocol_and_of_the_application(driver: Driver) -> None:
    driver.receive({"id": 2, "rpc": {}}, {"id": 3, "rpc": {}}, {"id": 4, "rpc": {}})
    session = driver.session

    assert said(session.refused(2, 100) + session.refused(3, 400, "no", is_temporary=True)) == [
        error(2, 100, "internal server error", temporary=True),
        error(3, 400, "no", temporary=True),
    ]
    assert said(session.refused(4, 103)) == [error(4, 103, "permission denied")]
    assert session.refused(4, 103) == []


def test_subscribe_and_unsubscribe(driver: Driver) -> None:
    assert driver.subscribe("a") == [{"id": 2, "subscribe": {}}]
    assert driver.session.is_subscribed("a")
    assert driver.receive({"id": 3, "subscribe": {"channel": "a"}}) == [
        error(3, 105, "already subscribed")
    ]
    assert driver.receive({"id": 4, "unsubscribe": {"channel": "a"}}) == [
        Unsubscribed("a", 0, "client unsubscribed"),
        {"id": 4, "unsubscribe": {}},
    ]
    assert driver.receive({"id": 5, "unsubscribe": {"channel": "a"}}) == [
        {"id": 5, "unsubscribe": {}}
    ]
    assert driver.subscribe("a", 6) == [{"id": 6, "subscribe": {}}]


def test_a_refused_subscribe(driver: Driver) -> None:
    driver.receive({"id": 2, "subscribe": {"channel": "a"}})

    assert not driver.session.is_subscribed("a")
    assert said(driver.session.refused(2, 103)) == [error(2, 103, "permission denied")]
    assert driver.subscribe("a", 3) == [{"id": 3, "subscribe": {}}]


def test_what_follows_a_subscribe_in_progress_waits(driver: Driver) -> None:
    """As if each command had been answered before the next."""
    session = driver.session
    driver.receive(
        {"id": 2, "subscribe": {"channel": "a"}},
        {"id": 3, "unsubscribe": {"channel": "a"}},
        {"id": 4, "subscribe": {"channel": "a"}},
        {"id": 5, "subscribe": {"channel": "a"}},
        {"id": 6, "unsubscribe": {"channel": "a"}},
    )

    assert said(session.subscribed(2, SubscribeResult(), 100.0)) == [
        {"id": 2, "subscribe": {}},
        Unsubscribed("a", 0, "client unsubscribed"),
        {"id": 3, "unsubscribe": {}},
        Ask(4, SubscribeRequest(channel="a")),
    ]
    assert said(session.refused(4, 103)) == [
        error(4, 103, "permission denied"),
        Ask(5, SubscribeRequest(channel="a")),
    ]
    assert said(session.subscribed(5, SubscribeResult(), 100.0)) == [
        {"id": 5, "subscribe": {}},
        Unsubscribed("a", 0, "client unsubscribed"),
        {"id": 6, "unsubscribe": {}},
    ]
    assert session.subscriptions == {}


def test_server_side_subscriptions(driver: Driver) -> None:
    session = driver.session

    assert said(session.push_subscribe("a", Subscribe(recoverable=True, epoch="e"))) == [
        {"push": {"channel": "a", "subscribe": {"recoverable": True, "epoch": "e"}}}
    ]
    assert session.push_subscribe("a", Subscribe()) == []
    assert driver.receive(
        {"id": 2, "subscribe": {"channel": "a"}}, {"id": 3, "unsubscribe": {"channel": "a"}}
    ) == [error(2, 105, "already subscribed"), error(3, 103, "permission denied")]
    assert said(session.push_unsubscribe("a", 2000)) == [
        Unsubscribed("a", 2000, "server unsubscribe"),
        {"push": {"channel": "a", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}},
    ]
    assert session.push_unsubscribe("a", 2000) == []


@pytest.mark.parametrize("is_accepted", [False, True])
def test_the_server_subscribes_while_the_client_s_subscribe_waits(
    driver: Driver, *, is_accepted: bool
) -> None:
    session = driver.session
    driver.receive({"id": 2, "subscribe": {"channel": "a"}})
    session.push_subscribe("a", Subscribe())

    answer = (
        session.subscribed(2, SubscribeResult(), 100.0) if is_accepted else session.refused(2, 103)
    )

    assert [message["error"]["code"] for message in said(answer)] == [105 if is_accepted else 103]
    assert session.subscriptions["a"].is_server_side


def test_the_server_subscribes_and_unsubscribes_while_the_client_s_subscribe_waits(
    driver: Driver,
) -> None:
    session = driver.session
    driver.receive(
        {"id": 2, "subscribe": {"channel": "a"}}, {"id": 3, "subscribe": {"channel": "b"}}
    )
    for channel in ("a", "b"):
        session.push_subscribe(channel, Subscribe())
        session.push_unsubscribe(channel, 2000)
    driver.receive({"id": 4, "subscribe": {"channel": "b"}})

    assert not session.is_subscribing(2)
    assert said(session.subscribed(2, SubscribeResult(), 100.0)) == [
        error(2, 103, "permission denied")
    ]
    assert said(session.refused(3, 103)) == [error(3, 103, "permission denied")]
    assert session.is_subscribing(4)
    assert said(session.subscribed(4, SubscribeResult(), 100.0)) == [{"id": 4, "subscribe": {}}]


def test_the_server_unsubscribes_while_the_subscribe_waits(driver: Driver) -> None:
    """SDKs take no notice of it before the answer."""
    session = driver.session
    driver.receive({"id": 2, "subscribe": {"channel": "a"}})

    assert session.push_unsubscribe("a", 2500) == []
    assert said(session.subscribed(2, SubscribeResult(), 100.0)) == [
        {"id": 2, "subscribe": {}},
        Unsubscribed("a", 2500, "insufficient state"),
        {"push": {"channel": "a", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}},
    ]


def test_nothing_is_sent_after_the_end(driver: Driver) -> None:
    session = driver.session
    driver.receive({"id": 2, "rpc": {}})

    assert session.disconnect(4500, "bye") == [Close(4500, "bye")]
    assert session.answered(2, RpcResult()) == []
    assert session.push_subscribe("a", Subscribe()) == []


def test_nothing_is_pushed_before_the_connection() -> None:
    driver = Driver()

    assert driver.session.push_subscribe("a", Subscribe()) == []
    assert driver.session.push_unsubscribe("a", 2000) == []


@pytest.mark.parametrize("channel", ["", "é" * 128])
@pytest.mark.parametrize(
    "name", ["subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history"]
)
def test_names_of_channels_are_bounded(driver: Driver, name: str, channel: str) -> None:
    assert driver.receive({"id": 2, name: {"channel": channel, "data": 1}}) == [
        error(2, 107, "bad request")
    ]


def test_nothing_is_not_published(driver: Driver) -> None:
    assert driver.receive({"id": 2, "publish": {"channel": "a"}}) == [error(2, 107, "bad request")]


def test_subscriptions_are_bounded() -> None:
    driver = Driver(max_subscriptions=1)
    driver.connect(subs={"of-server": SubscribeResult()})
    driver.subscribe("a")

    assert driver.receive({"id": 3, "subscribe": {"channel": "b"}}) == [
        error(3, 106, "limit exceeded")
    ]


def test_pending_commands_are_bounded() -> None:
    driver = Driver(max_pending_commands=2)
    driver.receive({"id": 1, "connect": {}}, {"id": 2, "rpc": {}})

    assert driver.receive({"id": 3, "rpc": {}}) == [
        error(3, 111, "too many requests", temporary=True)
    ]
    assert said(driver.session.connected(1, ConnectResult(), 100.0))[1:] == [Ask(2, RpcRequest())]
    assert driver.receive({"id": 3, "rpc": {}}, {"id": 4, "rpc": {}}) == [
        Ask(3, RpcRequest()),
        error(4, 111, "too many requests", temporary=True),
    ]
    driver.session.answered(2, RpcResult())
    assert driver.receive({"id": 2, "rpc": {}}) == [Ask(2, RpcRequest())]


def test_rates_are_bounded() -> None:
    driver = Driver(max_commands_per_second=4, max_publishes_per_second=1)
    driver.connect()
    publish = {"publish": {"channel": "a", "data": 1}}

    assert driver.receive({"id": 2, **publish}, {"id": 3, **publish})[1:] == [
        error(3, 111, "too many requests", temporary=True)
    ]
    driver.now += 0.25
    assert driver.receive({"id": 4, "rpc": {}}, {"id": 5, "rpc": {}}, {"id": 6, "rpc": {}}) == [
        Ask(4, RpcRequest()),
        Ask(5, RpcRequest()),
        Close(3013, "too many requests"),
    ]


def test_a_client_that_does_not_connect() -> None:
    session = Driver(connect_timeout=5).session

    assert session.deadline() == 105.0
    assert session.tick(104.9) == []
    assert session.tick(105.0) == [Close(3502, "stale")]
    assert session.deadline() is None
    assert session.tick(200.0) == []


def test_a_connection_that_is_not_refreshed() -> None:
    driver = Driver(refresh_grace=5)
    driver.receive({"id": 1, "connect": {}})
    session = driver.session
    assert session.deadline() is None
    session.connected(1, ConnectResult(), 100.0, ttl=10)

    assert session.deadline() == 115.0
    assert session.tick(114.9) == []
    driver.receive({"id": 2, "refresh": {"token": "t"}})
    session.refreshed(2, 112.0, ttl=10)
    assert session.tick(126.9) == []
    assert session.tick(127.0) == [Close(3005, "connection expired")]


def test_a_subscription_that_is_not_refreshed(driver: Driver) -> None:
    session = driver.session
    assert session.deadline() is None
    driver.subscribe("a", 2, ttl=0.5)
    driver.subscribe("b", 3)
    assert driver.receive({"id": 4, "sub_refresh": {"channel": "a", "token": "t"}}) == [
        Ask(4, SubRefreshRequest(channel="a", token="t"))
    ]

    assert session.deadline() == 125.5
    assert said(session.refreshed(4, 100.0, ttl=1.5)) == [
        {"id": 4, "sub_refresh": {"expires": True, "ttl": 1}}
    ]
    assert session.tick(126.4) == []
    assert said(session.tick(126.5)) == [
        Unsubscribed("a", 2501, "subscription expired"),
        {"push": {"channel": "a", "unsubscribe": {"code": 2501, "reason": "subscription expired"}}},
    ]
    assert session.tick(200.0) == []


def test_a_life_without_end_after_a_refresh(driver: Driver) -> None:
    driver.subscribe("a", 2, ttl=1)
    driver.receive({"id": 3, "sub_refresh": {"channel": "a"}}, {"id": 4, "refresh": {}})

    assert said(driver.session.refreshed(3, 100.0, ttl=None)) == [{"id": 3, "sub_refresh": {}}]
    assert said(driver.session.refreshed(4, 100.0, ttl=None)) == [{"id": 4, "refresh": {}}]
    assert driver.session.deadline() is None


def test_only_own_subscriptions_are_refreshed(driver: Driver) -> None:
    driver.session.push_subscribe("server", Subscribe())
    driver.subscribe("a", 2, ttl=1)
    driver.receive({"id": 3, "sub_refresh": {"channel": "a"}})
    driver.receive({"id": 4, "unsubscribe": {"channel": "a"}})

    assert said(driver.session.refreshed(3, 100.0, ttl=9)) == [error(3, 103, "permission denied")]
    assert driver.receive(
        {"id": 5, "sub_refresh": {"channel": "server"}}, {"id": 6, "sub_refresh": {"channel": "b"}}
    ) == [error(5, 103, "permission denied"), error(6, 103, "permission denied")]
