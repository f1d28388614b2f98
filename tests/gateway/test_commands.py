"""Questions about commands of SDK clients, and answers, on their way between processes."""

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateman import Allow
from gateman.config.callbacks import BUSINESS_CLIENT_SIGNATURES
from gateman.errors import EnvelopeError
from gateman.gateway.commands import (
    CALLBACKS,
    NotDeclared,
    decode_question,
    decode_result,
    encode_not_declared,
    encode_question,
    encode_result,
)
from gateman.runtime.client_callbacks import INTERNAL, Disconnected, Refused

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def test_the_callbacks_of_commands_are_those_of_business_workers() -> None:
    assert {*BUSINESS_CLIENT_SIGNATURES, "on_message"} == CALLBACKS


@pytest.mark.parametrize(
    ("callback", "arguments"),
    [
        ("on_client_connect", ("token", {"a": [1, None]})),
        ("on_client_connect", ("", None)),
        ("on_refresh", ("token",)),
        ("on_sub_refresh", ("chat:é", "token")),
        ("on_subscribe", ("chat", "text")),
        ("on_publish", ("chat", b"\xff")),
        ("on_rpc", ("method", 2**70)),
        ("on_message", (1.5,)),
    ],
)
def test_questions(callback: str, arguments: tuple[Any, ...]) -> None:
    question = encode_question(7, callback, arguments)

    assert decode_question(question) == (7, callback, list(arguments))
    for cut in range(len(question)):
        with pytest.raises(EnvelopeError):
            decode_question(question[:cut])


@pytest.mark.parametrize(
    "result",
    [
        None,
        True,
        False,
        "text",
        b"\xff",
        {"a": 1},
        Allow(),
        Allow(data=b"1", info={"name": "Ann"}, expires_in=3.5, publish=True, presence=False),
        Refused(404, "no such room", is_temporary=True),
        INTERNAL,
        Disconnected(4500, "banned"),
    ],
)
def test_answers(result: object) -> None:
    reply = encode_result(7, result)

    assert decode_result(reply) == (7, result)
    for cut in range(len(reply)):
        with pytest.raises(EnvelopeError):
            decode_result(reply[:cut])


def test_a_process_without_the_callback() -> None:
    assert decode_result(encode_not_declared(7)) == (7, NotDeclared())


@given(JSON)
def test_any_json_is_carried(value: object) -> None:
    assert decode_question(encode_question(1, "on_rpc", ("m", value)))[2][1] == value
    assert decode_result(encode_result(1, value))[1] == value


@pytest.mark.parametrize("value", [object(), {1j: 2}, Allow(data=object())])
def test_what_cannot_be_sent(value: object) -> None:
    with pytest.raises(TypeError):
        encode_result(1, value)


def test_only_callbacks_of_commands_are_asked() -> None:
    forged = msgspec.msgpack.encode([1, "on_close", [], []])

    with pytest.raises(EnvelopeError, match="there is no callback 'on_close' for commands"):
        decode_question(forged)


@given(st.binary())
def test_anything_is_a_question_and_an_answer_or_an_error(data: bytes) -> None:
    for decode in (decode_question, decode_result):
        with contextlib.suppress(EnvelopeError):
            decode(data)
