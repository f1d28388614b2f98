"""What an outgoing connection may be given."""

import re
import ssl
from typing import Any

import pytest

from gateman import ConfigError, Gateway, SendResult, Worker
from gateman.config.outgoing import redacted

LISTEN = "websocket://127.0.0.1:1"


def _ignore(_connection: object, _message: object) -> None:
    """Take a message."""


@pytest.mark.parametrize(
    ("url", "options", "sentence"),
    [
        ("feed.example", {}, "connect('feed.example') has no scheme"),
        ("http://feed.example/", {}, "http"),
        ("wss:///prices", {}, "connect('wss:///prices') has no host: write"),
        ("tcp://feed.example", {}, "connect('tcp://feed.example') has no port: write"),
        ("text://feed.example:1/path", {}, "has a path: write host and port only"),
        ("tcp://feed.example:99999", {}, "is not the address of a server"),
        (5, {}, "connect(5) is not the address of a server"),
        ("tcp://a:1", {"headers": {"a": "b"}}, "headers and subprotocols are for ws:// and wss://"),
        ("ws://a", {"ssl": True}, "connect('ws://a') has ssl: write wss:// for TLS"),
        ("wss://a", {"ssl": False}, "ssl=False does not go with wss://"),
        ("tcp://a:1", {"ssl": "yes"}, "ssl='yes' is not an ssl.SSLContext"),
        ("tcp://a:1", {"max_delay": 0}, "max_delay=0 is not a positive number"),
        (
            "tcp://a:1",
            {"max_dely": 5},
            "'max_dely' is not an option of connect: did you mean 'max_",
        ),
        ("wss://a b", {}, "is not the address of a server"),
        ("tcp://a:0", {}, "is not the address of a server"),
        ("wss://a/?token=1#b", {}, "connect('wss://a/') has a fragment"),
        ("wss://name@a", {}, "connect('wss://a') has a user without a password"),
        ("tcp://name:secret@a:1", {}, "connect('tcp://a:1') has a user: only"),
        ("wss://a", {"subprotocols": "chat"}, "subprotocols='chat' are not names"),
        ("wss://a", {"subprotocols": ["a b"]}, "subprotocols=['a b'] are not names"),
        ("wss://a", {"headers": "X: 1"}, "the headers of connect are not a mapping"),
        ("wss://a", {"headers": {"X": 1}}, "the headers of connect are not a mapping"),
        ("wss://a", {"headers": {"X": "1\r\nY: 2"}}, "the headers of connect are not a mapping"),
        ("wss://a", {"headers": {"X": "中"}}, "the headers of connect are not a mapping"),
        ("wss://a", {"headers": {"Host": "b"}}, "the header Host of connect is sent anyway"),
        (
            "wss://a",
            {"headers": {"Sec-WebSocket-Protocol": "b"}},
            "must not be sent twice: write subprotocols=[…]",
        ),
        ("wss://a", {"subprotocols": None}, "subprotocols=None are not names"),
        ("wss://a/\0", {}, "is not the address of a server"),
        ("wss://a..b", {}, "is not the address of a server"),
        ("wss://b:secret@a/?token=secret", {"max_delay": 0}, "connect('wss://a/'): max_delay=0"),
        ("wss://a", {"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, "is a context for servers"),
        ("wss://a", {"headers": lambda url: {"X": url}}, "nor a function without arguments"),
        ("wss://a", {"once": "no"}, "once='no' is neither True nor False"),
        ("wss://a", {"proxy": "http://p"}, "proxy='http://p' is neither True nor False"),
        ("tcp://a:1", {"max_message_size": 1.5}, "1.5 is not a whole number of bytes"),
        ("tcp://a:1", {"on_message": print, "on_open": lambda: 1}, "on_open is called with"),
    ],
)
def test_a_mistake_is_one_sentence(url: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        Worker(LISTEN).connect(url, **options)


def test_a_gateway_refuses_it() -> None:
    with pytest.raises(ConfigError, match="a Gateway runs no application code"):
        Gateway(LISTEN).connect("tcp://a:1")


def test_a_callback_is_declared_once() -> None:
    feed = Worker(LISTEN).connect("tcp://a:1", on_message=_ignore)
    with pytest.raises(ConfigError, match="on_message of tcp://a:1 is declared already"):
        feed.on_message(print)


def test_it_verifies_with_wss_and_where_it_is_told_to() -> None:
    worker, own = Worker(LISTEN), ssl.create_default_context()
    assert worker.connect("wss://a").tls is True
    assert worker.connect("tcp://a:1").tls is False
    assert worker.connect("tcp://a:1", ssl=True).tls is True
    assert worker.connect("tcp://a:1", ssl=own).tls is own


def test_before_it_is_open_nothing_is_sent() -> None:
    feed = Worker(LISTEN).connect("ws://user:secret@a/path?token=secret")
    assert (feed.is_open, feed.send("x")) == (False, SendResult.CLOSED)
    feed.close()
    assert "secret" not in f"{feed} {feed!r}"
    assert redacted("ws://user:secret@a:1/path?token=secret") == "ws://a:1/path"


def test_a_callback_may_be_assigned_and_a_misspelt_one_is_told() -> None:
    connection: Any = Worker(LISTEN).connect("tcp://a:1", on_message=print)
    connection.on_message = _ignore

    assert connection.callbacks == {"on_message": _ignore}
    with pytest.raises(ConfigError, match="on_message is called with"):
        connection.on_message = lambda: None
    with pytest.raises(ConfigError, match="'on_mesage' is not a callback of an outgoing"):
        connection.on_mesage = _ignore


def test_a_code_that_may_not_be_sent_is_refused() -> None:
    with pytest.raises(ConfigError, match="close code 99 may not be sent"):
        Worker(LISTEN).connect("tcp://a:1").close(99)
