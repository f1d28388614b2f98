"""Requests of the HTTP API: what server libraries send is read, and anything else refused."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from gateman.clients import server_api as api
from gateman.clients.codes import ErrorCode
from gateman.clients.server_api import ApiError


def refusal(method: str, body: bytes) -> tuple[int, str]:
    with pytest.raises(ApiError) as caught:
        api.decode(method, body)
    return caught.value.code, caught.value.message


@pytest.mark.parametrize(
    ("method", "body", "expected"),
    [
        (
            "broadcast",
            b'{"channels":["a","b"],"data":1,"idempotency_key":"k","delta":true}',
            api.Broadcast(channels=["a", "b"], data=Raw(b"1"), idempotency_key="k"),
        ),
        ("subscribe", b'{"user":"42","channel":"a"}', api.Subscribe(user="42", channel="a")),
        (
            "unsubscribe",
            b'{"client":"x-1","channel":"a"}',
            api.Unsubscribe(client="x-1", channel="a"),
        ),
        (
            "disconnect",
            b'{"user":"42","whitelist":["x-1"],"disconnect":{"code":4000,"reason":"bye"}}',
            api.Disconnect(user="42", whitelist=["x-1"], disconnect=api.DisconnectAs(4000, "bye")),
        ),
        ("refresh", b'{"user":"42","expired":true}', api.Refresh(user="42", expired=True)),
        ("presence", b'{"channel":"a"}', api.Presence(channel="a")),
        ("presence_stats", b'{"channel":"a"}', api.PresenceStats(channel="a")),
        (
            "history",
            b'{"channel":"a","limit":5,"since":{"offset":3,"epoch":"e"},"reverse":true}',
            api.History(channel="a", limit=5, since=api.Since(3, "e"), reverse=True),
        ),
        ("history_remove", b'{"channel":"a"}', api.HistoryRemove(channel="a")),
        ("channels", b"{}", api.Channels()),
        ("channels", b'{"pattern":"chat:*"}', api.Channels(pattern="chat:*")),
        ("info", b"", api.Info()),
        ("info", b"[]", api.Info()),
        ("rpc", b'{"method":"now"}', api.Rpc(method="now")),
    ],
)
def test_requests_are_read(method: str, body: bytes, expected: api.Request) -> None:
    assert repr(api.decode(method, body)) == repr(expected) or api.decode(method, body) == expected


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ({"data": {"text": "hi", "n": [1, None]}}, {"text": "hi", "n": [1, None]}),
        ({"data": "text"}, "text"),
        ({"data": None}, None),
        ({"data": {}, "b64data": "/wA="}, b"\xff\x00"),
    ],
)
def test_data_is_a_json_value_or_bytes(fields: dict[str, object], value: object) -> None:
    request = api.decode("publish", json.dumps({"channel": "a", **fields}).encode())

    assert isinstance(request, api.Publish)
    assert request.value() == value


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"channel":"a"}', "data is missing"),
        (b'{"channel":"a","b64data":"?"}', "bad request: b64data is not base64"),
    ],
)
def test_missing_and_malformed_data_is_refused(body: bytes, message: str) -> None:
    request = api.decode("publish", body)
    assert isinstance(request, api.Publish)

    with pytest.raises(ApiError) as caught:
        request.value()

    assert (caught.value.code, caught.value.message) == (107, message)


@pytest.mark.parametrize(
    ("method", "body", "code", "message"),
    [
        ("fly", b"{}", 104, "method not found"),
        ("publish", b"{", 107, "bad request: Input data was truncated"),
        ("publish", b'{"data":1}', 107, "bad request: Object missing required field `channel`"),
        ("disconnect", b"{}", 107, "bad request: user is missing"),
        ("presence", b"\xff", 107, "bad request: JSON is malformed: invalid character (byte 0)"),
    ],
)
def test_what_is_wrong_is_said(method: str, body: bytes, code: int, message: str) -> None:
    assert refusal(method, body) == (code, message)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ({}, "bad request: a command is an object with one method"),
        (
            {"info": Raw(b"{}"), "channels": Raw(b"{}")},
            "bad request: a command is an object with one method",
        ),
        ({"batch": Raw(b"{}")}, "bad request: a batch has no batches"),
        ({"fly": Raw(b"{}")}, "method not found"),
    ],
)
def test_commands_of_a_batch_have_one_method(command: dict[str, Raw], message: str) -> None:
    with pytest.raises(ApiError) as caught:
        api.command(command)

    assert caught.value.message == message


def test_a_broadcast_and_a_batch_are_bounded() -> None:
    many = json.dumps({"channels": ["a"] * 10_001, "data": 1}).encode()
    commands = json.dumps({"commands": [{"info": {}}] * 10_001}).encode()

    assert [refusal("broadcast", many)[0], refusal("batch", commands)[0]] == [107, 107]


@given(method=st.sampled_from(sorted(api.METHODS)), body=st.binary(max_size=60))
def test_whatever_comes_is_read_or_refused(method: str, body: bytes) -> None:
    with suppress(ApiError):
        assert isinstance(api.decode(method, body), api.METHODS[method])


@pytest.mark.parametrize("size", range(40))
def test_a_part_of_a_body_is_refused(size: int) -> None:
    body = b'{"channel":"room","data":{"text":"hi"}}'

    if size < len(body):
        assert size == 0 or refusal("publish", body[:size])[0] == 107
    else:
        assert isinstance(api.decode("publish", body), api.Publish)


def test_what_applications_attach_is_passed_on_as_json() -> None:
    assert api.json_value(b"") is None
    values = [api.json_value(b'{"name": "Ann"}'), api.json_value(b"\xff\x00")]
    assert api.encode(values) == b'[{"name": "Ann"},"/wA="]'


def test_errors_have_a_status_for_those_who_want_one() -> None:
    assert [ApiError(code).status for code in ErrorCode] == [
        500, 401, 404, 403, 404, 400, 400, 400, 501, 400, 400, 429, 416,
    ]  # fmt: skip
    assert api.error(ApiError(ErrorCode.NOT_AVAILABLE)) == {
        "error": {"code": 108, "message": "not available"}
    }


@pytest.mark.parametrize("data", [b"1e999", b'"\xff"', b"[" * 900 + b"1e999" + b"]" * 900])
def test_data_that_python_cannot_read_are_refused(data: bytes) -> None:
    """They are skipped when the request is read."""
    request = api.decode("publish", b'{"channel":"a","data":' + data + b"}")
    assert isinstance(request, api.Publish)
    with pytest.raises(ApiError) as caught:
        request.value()
    assert caught.value.code == ErrorCode.BAD_REQUEST


def test_nobody_is_subscribed_to_the_channel_of_another() -> None:
    assert refusal("subscribe", b'{"user":"ann","channel":"#tom"}') == (
        107,
        "bad request: a personal channel is for its user alone",
    )
