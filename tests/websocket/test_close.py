"""Close codes and reasons, in and out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ProtocolError as OracleError
from websockets.frames import Close

from gateman.errors import ConfigError, ProtocolError
from gateman.websocket.close import check_close, parse_close

ON_THE_WIRE = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


def verdict(payload: bytes) -> tuple[int, str] | int:
    """Tell what came of a payload: code and reason, or the code to close with."""
    try:
        return parse_close(payload)
    except ProtocolError as error:
        return error.close_code


def oracle(payload: bytes) -> tuple[int, str] | int:
    """Tell the same with websockets' parser, which judges the reason before the code."""
    try:
        close = Close.parse(payload)
    except UnicodeDecodeError:
        return oracle(payload[:2]) if oracle(payload[:2]) == 1002 else 1007
    except OracleError:
        return 1002
    return close.code, close.reason


def test_every_code_is_accepted_or_refused_as_the_rfc_says() -> None:
    """Of all 65536 codes, exactly those that may be on the wire are accepted."""
    accepted = {code for code in range(65536) if verdict(code.to_bytes(2, "big")) == (code, "")}

    assert accepted == ON_THE_WIRE


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", (1005, "")),
        (b"\x03", 1002),
        (b"\x03\xe8", (1000, "")),
        (b"\x03\xe8bye", (1000, "bye")),
        (b"\x0f\xa0\xc3\xa9", (4000, "é")),
        (b"\x03\xe8" + b"x" * 123, (1000, "x" * 123)),
        (b"\x03\xe8\xc3", 1007),
        (b"\x03\xe8\xed\xa0\x80", 1007),
        (b"\x03\xe8\xc0\x80", 1007),
        # The code is judged first.
        (b"\x03\xed\xff", 1002),
    ],
)
def test_payloads(payload: bytes, expected: tuple[int, str] | int) -> None:
    """A payload is empty, or a code and UTF-8; anything else names its close code."""
    assert verdict(payload) == expected
    assert verdict(payload) == oracle(payload)


def test_a_memoryview_is_read_like_bytes() -> None:
    """The engine's view of its buffer need not be copied first."""
    assert parse_close(memoryview(b"\x03\xe9gone")) == (1001, "gone")


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"\x03", "1002: invalid close code"),
        (b"\x03\xe8\xff", "1007: the close reason is not UTF-8"),
    ],
)
def test_errors_say_what_is_wrong(payload: bytes, text: str) -> None:
    """The sentence names the fault and carries nothing of the payload."""
    with pytest.raises(ProtocolError) as caught:
        parse_close(payload)

    assert str(caught.value) == text


@given(st.binary(max_size=125))
def test_arbitrary_payloads_get_the_oracles_verdict(payload: bytes) -> None:
    """On arbitrary bytes, websockets and we agree."""
    assert verdict(payload) == oracle(payload)


@given(st.sampled_from(sorted(ON_THE_WIRE)), st.binary(max_size=123))
def test_arbitrary_reasons_get_the_oracles_verdict(code: int, reason: bytes) -> None:
    """On arbitrary reasons behind a good code, websockets and we agree."""
    payload = code.to_bytes(2, "big") + reason

    assert verdict(payload) == oracle(payload)


def test_an_application_may_send_what_a_server_may() -> None:
    """All codes of the wire but 1010, which is a client's."""
    accepted = set()
    for code in range(-1, 70000):
        try:
            check_close(code, "")
        except ConfigError:
            continue
        accepted.add(code)

    assert accepted == ON_THE_WIRE - {1010}


@pytest.mark.parametrize("reason", ["", "x" * 123, "é" * 61, "😀" * 30])
def test_reasons_that_fit_may_be_sent(reason: str) -> None:
    """Up to 123 bytes of UTF-8 are accepted."""
    check_close(1000, reason)


@pytest.mark.parametrize(
    ("code", "reason", "text"),
    [
        (
            1006,
            "",
            ("close code 1006 may not be sent: use 1000, or one of your own from 4000 to 4999."),
        ),
        (
            1000.0,
            "",
            ("close code 1000.0 may not be sent: use 1000, or one of your own from 4000 to 4999."),
        ),
        (1000, b"bye", "close reason b'bye' is not a str: write it as text."),
        (
            1000,
            "\ud800",
            "close reason '\\ud800' has a lone surrogate: write text that UTF-8 can encode.",
        ),
        (
            1000,
            "é" * 62,
            (
                "the close reason has 124 bytes of UTF-8, and a frame has room for 123: shorten it,"
                " or send it as a message before closing."
            ),
        ),
    ],
)
def test_what_may_not_be_sent_is_refused_in_one_sentence(
    code: object, reason: object, text: str
) -> None:
    """A wrong code or reason is the application's mistake and says what to write instead."""
    with pytest.raises(ConfigError) as caught:
        check_close(code, reason)

    assert str(caught.value) == text
