"""The grammar of the Sec-WebSocket-Extensions header."""

from time import process_time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.exceptions import InvalidHeader
from websockets.headers import parse_extension

from gateman.errors import HandshakeError
from gateman.websocket.extensions import MAX_SIZE, Extension, parse_extensions


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        (["a"], [("a", [])]),
        (["a, b"], [("a", []), ("b", [])]),
        (["a", "b"], [("a", []), ("b", [])]),
        (["a; x"], [("a", [("x", None)])]),
        (["a;x=1;y"], [("a", [("x", "1"), ("y", None)])]),
        (['a; x="1"'], [("a", [("x", "1")])]),
        ([r'a; x="\1\0"'], [("a", [("x", "10")])]),
        (["a; x; x=1"], [("a", [("x", None), ("x", "1")])]),
        ([" \ta \t;\t x \t= 1 , b "], [("a", [("x", "1")]), ("b", [])]),
        ([",, a,,, b,"], [("a", []), ("b", [])]),
        (["a", ""], [("a", [])]),
        (["!#$%&'*+-.^_`|~09azAZ"], [("!#$%&'*+-.^_`|~09azAZ", [])]),
    ],
)
def test_headers(values: list[str], expected: list[Extension]) -> None:
    """Several fields are one list; spaces and empty elements do not matter."""
    assert parse_extensions(values) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        ",",
        ";",
        "=",
        "a b",
        "a;",
        "a;;x",
        "a; x=",
        "a; x=,b",
        "a; =1",
        "a; x==1",
        "a; x=1 2",
        "a=1",
        '"a"',
        'a; "x"',
        'a; x=""',
        'a; x="1',
        'a; x="1 2"',
        'a; x="1\\',
        'a; x="1"2',
        "a; x=(1)",
        "a\x00",
        "a\r\n",
        "é",
        'a "',
    ],
)
def test_malformed_headers_are_refused(value: str) -> None:
    """What breaks the grammar gets a 400, as RFC 6455, section 9.1 demands."""
    with pytest.raises(HandshakeError) as caught:
        parse_extensions([value])

    assert str(caught.value) == "400: The Sec-WebSocket-Extensions header is malformed."


@given(
    st.one_of(
        st.text(alphabet=' \t,;="\\ax1é\x00', max_size=30),
        st.lists(
            st.sampled_from(["a", "b", ",", ";", "=", " ", '"1"', '"\\1"', "x=1", "; x", '"']),
            max_size=12,
        ).map("".join),
    )
)
@example('a; x="\\\\"')
def test_arbitrary_headers_get_the_oracles_verdict(value: str) -> None:
    """On arbitrary text, websockets and we read the same or both refuse."""
    # No HTTP parser leaves spaces around the value.
    value = value.strip(" \t")
    expected: object
    try:
        expected = parse_extension(value)
    except InvalidHeader:
        expected = None
    actual: object
    try:
        actual = parse_extensions([value])
    except HandshakeError:
        actual = None

    assert actual == expected


@pytest.mark.parametrize(
    "shape",
    ["\\\\", "b", " ", ",", "a, ", "a; ", "a;b=c,", '"b"', '="', '\\"'],
)
@pytest.mark.parametrize("start", ["", "a", 'a; x="', "a; x="])
def test_time_is_linear(start: str, shape: str) -> None:
    """Sixteen times the characters take far less than 16 squared times the time."""

    def cost(count: int) -> float:
        value = start + shape * (count // len(shape))
        best = float("inf")
        for _ in range(3):
            started_at = process_time()
            for _ in range(5):
                try:
                    parse_extensions([value])
                except HandshakeError:
                    continue
            best = min(best, process_time() - started_at)
        return best

    # The floor is for what is refused at once, where clocks measure nothing.
    assert cost(2000) < 64 * max(cost(125), 1e-5)


def test_the_longest_header() -> None:
    """2048 characters are read, and one more is refused unread."""
    assert parse_extensions(["a" * MAX_SIZE]) == [("a" * MAX_SIZE, [])]

    with pytest.raises(HandshakeError) as caught:
        parse_extensions(["a" * 1024, "a" * 1023])

    assert str(caught.value) == "431: The Sec-WebSocket-Extensions header is too long."
