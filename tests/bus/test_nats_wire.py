"""The bytes between a process and a NATS server."""

import json

import pytest

from gateman.bus.nats_wire import NatsWire, connect
from gateman.bus.subjects import subject
from gateman.bus.wire import Broken, BrokerEvent, BrokerHello, BrokerRefusal, Control, NoSubscribers

ROOM = subject("group", "a b")


def test_lines_are_written_as_documented() -> None:
    """Names are escaped, and each subscription has a number, which is not used again."""
    wire = NatsWire()

    assert wire.publish(ROOM, b"he\r\n") == b"PUB group.a=20b 4\r\nhe\r\n\r\n"
    assert wire.publish(ROOM, b"") == b"PUB group.a=20b 0\r\n\r\n"
    assert wire.subscribe(ROOM) == b"SUB group.a=20b 1\r\n"
    assert wire.unsubscribe(ROOM) == b"UNSUB 1\r\n"
    assert wire.subscribe(ROOM) == b"SUB group.a=20b 2\r\n"
    assert (wire.ping, wire.pong) == (b"PING\r\n", b"PONG\r\n")


@pytest.mark.parametrize("has_headers", [False, True])
def test_connect_asks_for_no_echo_and_no_extras(*, has_headers: bool) -> None:
    """What would have to be read and thrown away is not asked for, nor what is not there."""
    line = connect({"auth_token": "s3cret"}, has_headers=has_headers)

    assert line.startswith(b"CONNECT {")
    assert line.endswith(b"}\r\n")
    assert json.loads(line.removeprefix(b"CONNECT ")) == {
        "verbose": False,
        "pedantic": False,
        "protocol": 1,
        "echo": False,
        "headers": has_headers,
        "no_responders": has_headers,
        "lang": "python",
        "name": "gateman",
        "version": "1",
        "auth_token": "s3cret",
    }


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"PONG\r\nHTTP/1.1 400\r\n", [Control.PONG, Broken("it does not speak NATS")]),
        (b"\r\n", [Broken("it does not speak NATS")]),
        (b"INFO nonsense\r\n", [Broken("its INFO cannot be read")]),
        (b"INFO []\r\n", [Broken("its INFO cannot be read")]),
        (b"INFO " + b"[" * 200_000 + b"\r\n", [Broken("its INFO cannot be read")]),
        (b"MSG x 1\r\n", [Broken("a message has an invalid size")]),
        (b"MSG x 1 y\r\n", [Broken("a message has an invalid size")]),
        (b"MSG x 1 -1\r\n", [Broken("a message has an invalid size")]),
        (b"MSG x 1 67108865\r\n", [Broken("a message has an invalid size")]),
        (b"MSG x 1 " + b"9" * 5000 + b"\r\n", [Broken("a message has an invalid size")]),
        (b"HMSG \r\n", [Broken("a message has invalid sizes")]),
        (b"HMSG 1 2\r\n", [Broken("a message has invalid sizes")]),
        (b"HMSG x 1 5\r\n", [Broken("a message has invalid sizes")]),
        (b"HMSG x 1 y z 16 16\r\n", [Broken("a message has invalid sizes")]),
        (b"HMSG x 1 6 5\r\n", [Broken("a message has invalid sizes")]),
        (b"HMSG x 1 -1 5\r\n", [Broken("a message has invalid sizes")]),
        (b"HMSG x 1 1 67108865\r\n", [Broken("a message has invalid sizes")]),
        (b"x" * (1 << 20) + b"y", [Broken("a line is too long")]),
    ],
)
def test_what_no_server_says_is_broken(data: bytes, events: list[BrokerEvent]) -> None:
    """Nothing is waited for that cannot come, and nothing is believed that makes no sense."""
    assert NatsWire().feed(data) == events


def test_words_are_read_in_any_case() -> None:
    """The protocol allows it."""
    assert NatsWire().feed(b"ping\r\ninfo {}\r\n-err 'Stale Connection'\r\n-ERR\r\n") == [
        Control.PING,
        BrokerHello({}),
        BrokerRefusal("Stale Connection"),
        BrokerRefusal(""),
    ]


QUESTION = b"33 33\r\nNATS/1.0\r\nGateman-Question: 1\r\n\r\n\r\n"


def denied(number: bytes) -> bytes:
    """Say what a server says if nobody gets what was sent."""
    return b"HMSG =answers.%b 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n" % number


def test_a_query_is_a_message_that_may_have_no_subscriber() -> None:
    """Until it was heard once that nobody is where nobody can be, silence means nothing."""
    wire = NatsWire()
    wire.has_headers = True
    first, second = wire.ask(ROOM, 1), wire.ask(ROOM, 2)
    before = wire.can_confirm
    events = wire.feed(denied(b"0") + denied(b"2"))
    third = wire.ask(ROOM, 3)

    nowhere = b"HPUB =nowhere =answers.0 " + QUESTION
    assert first == (b"SUB =answers.* 1\r\n" + nowhere + b"HPUB group.a=20b =answers.1 " + QUESTION)
    assert second == nowhere + b"HPUB group.a=20b =answers.2 " + QUESTION
    assert third == b"HPUB group.a=20b =answers.3 " + QUESTION
    assert (before, events, wire.can_confirm) == (False, [NoSubscribers(2)], True)


def test_a_prefix_is_on_the_server_only() -> None:
    """It is written before every subject, and taken from every subject that is read."""
    wire = NatsWire(b"gateman.chat.")
    wire.has_headers = True
    asked = wire.ask(ROOM, 7)

    assert wire.publish(ROOM, b"x") == b"PUB gateman.chat.group.a=20b 1\r\nx\r\n"
    assert asked == (
        b"SUB gateman.chat.=answers.* 1\r\n"
        b"HPUB gateman.chat.=nowhere gateman.chat.=answers.0 "
        + QUESTION
        + b"HPUB gateman.chat.group.a=20b gateman.chat.=answers.7 "
        + QUESTION
    )
    assert wire.subscribe(ROOM) == b"SUB gateman.chat.group.a=20b 2\r\n"
    assert wire.feed(
        b"MSG gateman.chat.group.a 2 1\r\nx\r\nHMSG gateman.chat.group.b 2 0 1\r\ny\r\n"
        b"HMSG gateman.chat.=answers.7 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
    ) == [("group.a", b"x"), ("group.b", b"y"), NoSubscribers(7)]


def test_without_headers_nothing_is_asked() -> None:
    """A server that does not know them would end the connection."""
    wire = NatsWire()

    assert (wire.ask(ROOM, 1), wire.can_confirm) == (b"", False)


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"HMSG group.x 1 reply " + QUESTION, []),
        (b"HMSG group.x 1 0 5\r\nhello\r\n", [("group.x", b"hello")]),
        (b"HMSG group.x 1 16 18\r\nNATS/1.0 503\r\n\r\nhi\r\n", [("group.x", b"hi")]),
        (b"HMSG =answers.1 1 16 16\r\nNATS/1.0 200\r\n\r\n\r\n", []),
        (b"HMSG =answers.1 1 0 0\r\n\r\n", []),
        *((denied(number), []) for number in (b"", b"x", b"\xb2", b"-1", b"1.1", b"9" * 19)),
        (denied(b"9" * 18), [NoSubscribers(10**18 - 1)]),
    ],
)
def test_heads_are_read_only_where_they_mean_something(
    data: bytes, events: list[BrokerEvent]
) -> None:
    """Those of other clients are cut off, and a reader is not told of questions."""
    assert NatsWire().feed(data + b"PING\r\n") == [*events, Control.PING]


def test_our_own_subscription_may_be_refused() -> None:
    """That is not the failure of a subscription that somebody waits for."""
    text = "Permissions Violation for Subscription to"

    assert NatsWire().feed(f"-ERR '{text} \"=answers.*\"'\r\n-ERR '{text} \"x\"'\r\n".encode()) == [
        BrokerRefusal(f'{text} "=answers.*"'),
        BrokerRefusal(f'{text} "x"', is_of_subscribing=True),
    ]


def test_requests_about_history_are_answered_to_one_connection() -> None:
    """The subscription goes before the first; answers keep their headers."""
    wire = NatsWire(b"gateman.test.", "t0ken")
    first = wire.request(b"$JS.API.INFO", 7, b"{}")
    second = wire.request(b"gateman.test.=log.room", 8, b"hi", b"NATS/1.0\r\nA: b\r\n\r\n")

    assert first == (
        b"SUB gateman.test.=replies.t0ken.* 1\r\n"
        b"PUB $JS.API.INFO gateman.test.=replies.t0ken.7 2\r\n{}\r\n"
    )
    assert second == (
        b"HPUB gateman.test.=log.room gateman.test.=replies.t0ken.8 18 20\r\n"
        b"NATS/1.0\r\nA: b\r\n\r\nhi\r\n"
    )
    assert wire.listen(b"$JS.EVENT.x") == b"SUB $JS.EVENT.x 2\r\n"
    events = wire.feed(
        b"MSG gateman.test.=replies.t0ken.7 1 2\r\n{}\r\n"
        b"HMSG gateman.test.=replies.t0ken.8 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
        b"HMSG gateman.test.history.room 3 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"
    )
    assert events == [
        ("=replies.t0ken.7", b"{}"),
        ("=replies.t0ken.8", b"NATS/1.0 503\r\n\r\n"),
        ("history.room", b"NATS/1.0\r\n\r\nhi"),
    ]
    assert [
        wire.reply_number(subject)
        for subject in ("=replies.t0ken.7", "=replies.other.7", "room", "=replies.t0ken.x")
    ] == [7, 0, 0, 0]
