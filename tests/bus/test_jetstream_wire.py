"""What is said to JetStream, and how its answers are read."""

import base64
import json

import pytest

from gateman.bus.jetstream_wire import (
    JetStreamError,
    LogMessage,
    StreamNames,
    beginning_head,
    epoch_of,
    grown,
    is_last_of_page,
    message_head,
    page_request,
    read_answer,
    read_direct,
    read_live,
    read_message,
    removal_head,
    sequence,
)
from gateman.history.base import HistoryLimits
from gateman.history.wire import Live

NAMES = StreamNames("chat")
LIMITS = HistoryLimits(size=100, ttl=300.5)
TIME = "2026-11-30T13:17:26.850212916Z"
SECONDS = 1796044646.850212


def error(code: int, text: str) -> bytes:
    """Answer with an error."""
    return json.dumps({"error": {"code": 400, "err_code": code, "description": text}}).encode()


def test_names() -> None:
    """The prefix of the bus is that of the stream, so its permissions suffice."""
    assert NAMES.stream == "gateman-chat"
    assert NAMES.log("history.a=20b") == "gateman.chat.=log.a=20b"
    assert NAMES.api("STREAM.INFO") == b"$JS.API.STREAM.INFO.gateman-chat"


def test_the_stream_keeps_enough() -> None:
    """Two markers more than messages, and for a day, in which quiet channels can be recovered."""
    config = NAMES.config(LIMITS, "abc", replicas=3, max_bytes=1000)

    assert (config["max_msgs_per_subject"], config["max_age"]) == (102, 86_400 * 10**9)
    assert (config["num_replicas"], config["max_bytes"], config["max_msgs"]) == (3, 1000, -1)
    assert config["republish"] == {
        "src": "gateman.chat.=log.*",
        "dest": "gateman.chat.history.{{wildcard(1)}}",
    }
    assert grown(config, LIMITS) is None
    assert grown(config, HistoryLimits(size=200, ttl=1)) == {**config, "max_msgs_per_subject": 202}
    assert grown(config, HistoryLimits(size=1, ttl=1e12)) == {**config, "max_age": 31 * 10**17}
    # An operator may have set no limit.
    assert grown({"max_msgs_per_subject": -1, "max_age": 0}, LIMITS) is None


def test_headers() -> None:
    """A key is hashed, as it may contain anything, and is one of its channel."""
    keyed = message_head(LIMITS, "a", "x\r\nEvil: 1")

    assert message_head(LIMITS, "a", "") == b"NATS/1.0\r\nGateman-Kept: 100 300.5\r\n\r\n"
    assert keyed.count(b"\r\n") == 4
    assert keyed != message_head(LIMITS, "b", "x\r\nEvil: 1")
    assert b"Nats-Expected-Last-Subject-Sequence: 0\r\n" in beginning_head()
    assert removal_head(5) == (
        b"NATS/1.0\r\nGateman-Marker: 1\r\nGateman-Until: 5\r\nNats-Rollup: sub\r\n"
        b"Nats-Expected-Last-Subject-Sequence: 5\r\n\r\n"
    )


def test_a_message_of_a_page() -> None:
    """With its number, its time and the limits of its channel; headers of ours are not trusted."""
    data = (
        b"NATS/1.0\r\nGateman-Kept: 100 300.5\r\nNats-Sequence: 1\r\nNats-Sequence: 7\r\n"
        b"Nats-Time-Stamp: " + TIME.encode() + b"\r\nNats-Num-Pending: 3\r\n\r\nhello\r\n\r\nyou"
    )

    assert read_direct(data) == LogMessage(
        7, SECONDS, b"hello\r\n\r\nyou", LIMITS, is_marker=False, until=None
    )
    assert not is_last_of_page(data)
    assert is_last_of_page(data.replace(b"Nats-Num-Pending: 3\r\n", b""))
    for end in (b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\n\r\n", b"NATS/1.0 404 No\r\n\r\n"):
        assert (read_direct(end), is_last_of_page(end)) == (None, True)
    assert json.loads(page_request("log", 5, 10))["seq"] == 5


def test_a_message_of_the_leader() -> None:
    """Markers are told from messages."""
    head = base64.b64encode(removal_head(5)).decode()
    answer = {"message": {"seq": 7, "time": TIME, "hdrs": head}}
    marker = read_message(answer)
    plain = read_message({"message": {"seq": 7, "time": TIME, "data": "aGVsbG8="}})

    assert (marker.number, marker.is_marker, marker.until, marker.payload) == (7, True, 5, b"")
    assert [marker.proves(number) for number in (4, 5, 6, 7)] == [False, True, True, True]
    assert (plain.payload, plain.is_marker) == (b"hello", False)
    assert [plain.proves(number) for number in (5, 6, 7)] == [False, False, True]


def test_what_followers_receive() -> None:
    """Each with the number before it."""
    head = b"NATS/1.0\r\nNats-Sequence: 9\r\nNats-Last-Sequence: 4\r\n\r\n"

    assert read_live(head + b"hello") == Live(
        is_marker=False, previous=4, offset=9, payload=b"hello"
    )
    assert read_live(head.replace(b"Nats-S", b"Gateman-Marker: 1\r\nNats-S")).is_marker
    for data in (b"", b"hello", head[:-2], b"NATS/1.0\r\n\r\nhello", head.replace(b"4", b"x")):
        with pytest.raises(ValueError, match=r"it is not a message|invalid literal"):
            read_live(data)


def test_answers() -> None:
    """What can be done about an error is known by its code."""
    assert sequence(b'{"stream":"gateman-chat", "seq":3}') == 3
    assert read_answer(b'{"seq":3}') == {"seq": 3}
    causes = []
    for data in (
        error(10059, "stream not found"),
        error(10037, "no message found"),
        error(10071, "wrong last sequence: 1"),
        error(10058, "stream name already in use"),
        b"NATS/1.0 503\r\n\r\n",
        error(10023, "insufficient resources"),
    ):
        with pytest.raises(JetStreamError) as caught:
            read_answer(data)
        one = caught.value
        causes.append(
            (
                one.is_missing_stream,
                one.is_missing_message,
                one.is_wrong_last,
                one.is_name_in_use,
                one.is_without_answer,
            )
        )

    assert causes == [tuple(row == column for column in range(5)) for row in range(6)]
    assert one.text == "JetStream refuses: insufficient resources"


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"x", b"1", b"null", b'{"error": 1}', b"[" * 100_000, b'{"seq": 0}', b"{}"]
)
def test_what_is_no_answer(data: bytes) -> None:
    """It is an error of one sentence."""
    with pytest.raises(JetStreamError, match="JetStream's answer cannot be read"):
        sequence(data)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"message": 1},
        {"message": {"seq": "1", "time": TIME}},
        {"message": {"seq": 1, "time": "yesterday"}},
        {"message": {"seq": 1, "time": TIME, "data": "x"}},
        {
            "message": {
                "seq": 1,
                "time": TIME,
                "hdrs": base64.b64encode(b"NATS/1.0\r\nGateman-Kept: x\r\n\r\n").decode(),
            }
        },
    ],
)
def test_what_is_no_message(answer: dict[str, object]) -> None:
    """It is an error of one sentence."""
    with pytest.raises(JetStreamError, match="JetStream's answer cannot be read"):
        read_message(answer)


def test_a_stream_made_anew_has_another_epoch() -> None:
    """Which a client can be given; it is the same on servers that made it at another time."""
    times = [f"2026-11-30T13:17:2{digit}Z" for digit in range(10)]
    configs = [NAMES.config(LIMITS, token, replicas=1, max_bytes=1) for token in times]
    epochs = {epoch_of({"created": times[0], "config": config}) for config in configs}
    same = {epoch_of({"created": time, "config": configs[0]}) for time in times}
    described = {epoch_of({"created": time, "config": {"description": "ours"}}) for time in times}

    assert {len(epoch) for epoch in epochs} == {16}
    assert (len(epochs), len(same), len(described)) == (10, 1, 10)
