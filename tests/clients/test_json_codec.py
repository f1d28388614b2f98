"""Commands and replies as JSON, by equality, and what is not a command."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from gateman.clients.json_codec import JSON
from gateman.clients.messages import (
    ClientInfo,
    Command,
    ConnectRequest,
    Error,
    HistoryRequest,
    Join,
    Publication,
    PublishRequest,
    Push,
    Reply,
    SendRequest,
    StreamPosition,
    SubscribeRequest,
    UnsubscribeResult,
)
from gateman.errors import PacketError

COMMANDS = [
    (
        '{"id":1,"connect":{"token":"t","data":{"a": [1]},"name":"js","subs":{"x":{"recover":true,'
        '"offset":7,"epoch":"e"}},"headers":{"a":"b"}}}',
        Command(
            id=1,
            connect=ConnectRequest(
                token="t",
                data=Raw(b'{"a": [1]}'),
                name="js",
                subs={"x": SubscribeRequest(recover=True, offset=7, epoch="e")},
                headers={"a": "b"},
            ),
        ),
    ),
    (
        '{"subscribe":{"channel":"é","flag":1,"tf":{"op":"eq"}},"id":2}',
        Command(id=2, subscribe=SubscribeRequest(channel="é", flag=1)),
    ),
    (
        '{"id":3,"publish":{"channel":"c","data":null}}',
        Command(id=3, publish=PublishRequest(channel="c", data=Raw(b"null"))),
    ),
    (
        '{"id":4,"history":{"channel":"c","limit":-1,"since":{"offset":1,"epoch":"e"}}}',
        Command(
            id=4,
            history=HistoryRequest(
                channel="c", limit=-1, since=StreamPosition(offset=1, epoch="e")
            ),
        ),
    ),
    ('{"send":{"data":"x"}}', Command(send=SendRequest(data=Raw(b'"x"')))),
    ("{}", Command()),
]


@pytest.mark.parametrize(("text", "command"), COMMANDS)
def test_commands(text: str, command: Command) -> None:
    assert JSON.decode(text, 1) == [command]


def test_batches_have_a_command_a_line() -> None:
    texts = [text for text, _ in COMMANDS]

    assert JSON.decode("\n\n".join(texts) + "\n", 6) == [command for _, command in COMMANDS]


@pytest.mark.parametrize(
    ("frame", "cause"),
    [
        (b"{}", "binary_frame"),
        ("", "empty_frame"),
        (" \n\r\n", "empty_frame"),
        ("{}\n{}\n{}", "batch_too_big"),
        ("\n" * 100, "batch_too_big"),
        ("[]", "bad_command"),
        ("null", "bad_command"),
        ('{"id":"1"}', "bad_command"),
        ('{"id":-1}', "bad_command"),
        ('{"id":4294967296}', "bad_command"),
        ('{"id":1,"rpc":{"data":["\\ud800",NaN]}}', "bad_command"),
        ('{"id":1,"subscribe":{"channel":"a","offset":9223372036854775808}}', "bad_command"),
        ('{"id":1,"rpc":{"data":' + "[" * 500_000 + "]" * 500_000 + "}}", "bad_command"),
        ('{"new":' + "[" * 500_000 + "]" * 500_000 + "}", "bad_command"),
        ("\ud800", "bad_command"),
    ],
)
def test_what_is_not_a_frame_of_commands(frame: str | bytes, cause: str) -> None:
    with pytest.raises(PacketError) as caught:
        JSON.decode(frame, 2)
    assert caught.value.cause == cause


def test_half_an_emoji_is_replaced() -> None:
    """What JSON.stringify makes of a text that was cut within one."""
    assert JSON.decode('{"id":1,"publish":{"channel":"é","data":"a\\ud83d"}}', 1) == [
        Command(id=1, publish=PublishRequest(channel="é", data=Raw(b'"a?"')))
    ]


def test_cut_at_every_character() -> None:
    """A part of a command is none."""
    for text, _ in COMMANDS:
        for cut in range(len(text)):
            with pytest.raises(PacketError):
                JSON.decode(text[:cut], 1)


def test_replies_have_one_a_line() -> None:
    replies = [
        Reply(),
        Reply(id=1, error=Error(code=100, message="internal server error", temporary=True)),
        Reply(id=2, unsubscribe=UnsubscribeResult()),
        Reply(
            push=Push(
                channel="c",
                pub=Publication(
                    data=Raw(b'{"a":1}'), offset=5, info=ClientInfo(client="x"), tags={"a": "b"}
                ),
            )
        ),
        Reply(push=Push(channel="c", join=Join(info=ClientInfo(user="u", chan_info=Raw(b"1"))))),
    ]

    assert [json.loads(line) for line in JSON.encode(replies).split(b"\n")] == [
        {},
        {"id": 1, "error": {"code": 100, "message": "internal server error", "temporary": True}},
        {"id": 2, "unsubscribe": {}},
        {
            "push": {
                "channel": "c",
                "pub": {
                    "data": {"a": 1},
                    "offset": 5,
                    "info": {"client": "x"},
                    "tags": {"a": "b"},
                },
            }
        },
        {"push": {"channel": "c", "join": {"info": {"user": "u", "chan_info": 1}}}},
    ]
    assert JSON.join([JSON.encode([reply]) for reply in replies]) == JSON.encode(replies)
    assert JSON.encode([Reply()]) == JSON.ping


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@given(JSON_VALUES)
def test_data_are_carried_as_they_are(value: Any) -> None:
    text = json.dumps(value)
    (command,) = JSON.decode(f'{{"send":{{"data":{text}}}}}', 1)

    assert command.send is not None
    assert bytes(command.send.data) == text.encode()


@given(
    st.text()
    | st.dictionaries(
        st.sampled_from(["id", "connect", "subscribe", "rpc", "send", "history"]),
        JSON_VALUES,
        max_size=2,
    ).map(json.dumps)
)
def test_anything_is_commands_or_an_error(frame: str) -> None:
    try:
        commands = JSON.decode(frame, 10)
    except PacketError:
        return
    assert 0 < len(commands) <= 10
