"""The bytes between a process and a NATS server."""

import json

import pytest

from gateman.bus.nats_wire import NatsWire, connect
from gateman.bus.subjects import subject
from gateman.bus.wire import Broken, Event, Hello, Refused, Sign

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


def test_connect_asks_for_no_echo_and_no_extras() -> None:
    """What would have to be read and thrown away is not asked for."""
    line = connect({"auth_token": "s3cret"})

    assert line.startswith(b"CONNECT {")
    assert line.endswith(b"}\r\n")
    assert json.loads(line.removeprefix(b"CONNECT ")) == {
        "verbose": False,
        "pedantic": False,
        "protocol": 1,
        "echo": False,
        "headers": False,
        "no_responders": False,
        "lang": "python",
        "name": "gateman",
        "version": "1",
        "auth_token": "s3cret",
    }


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"PONG\r\nHTTP/1.1 400\r\n", [Sign.PONG, Broken("it does not speak NATS")]),
        (b"\r\n", [Broken("it does not speak NATS")]),
        (b"INFO nonsense\r\n", [Broken("its INFO cannot be read")]),
        (b"INFO []\r\n", [Broken("its INFO cannot be read")]),
        (b"INFO " + b"[" * 200_000 + b"\r\n", [Broken("its INFO cannot be read")]),
        (b"MSG x 1\r\n", [Broken("a message has no size that makes sense")]),
        (b"MSG x 1 y\r\n", [Broken("a message has no size that makes sense")]),
        (b"MSG x 1 -1\r\n", [Broken("a message has no size that makes sense")]),
        (b"MSG x 1 67108865\r\n", [Broken("a message has no size that makes sense")]),
        (b"MSG x 1 " + b"9" * 5000 + b"\r\n", [Broken("a message has no size that makes sense")]),
        (b"x" * (1 << 20) + b"y", [Broken("a line is too long")]),
    ],
)
def test_what_no_server_says_is_broken(data: bytes, events: list[Event]) -> None:
    """Nothing is waited for that cannot come, and nothing is believed that makes no sense."""
    assert NatsWire().feed(data) == events


def test_words_are_read_in_any_case() -> None:
    """The protocol allows it."""
    assert NatsWire().feed(b"ping\r\ninfo {}\r\n-err 'Stale Connection'\r\n-ERR\r\n") == [
        Sign.PING,
        Hello({}),
        Refused("Stale Connection"),
        Refused(""),
    ]
