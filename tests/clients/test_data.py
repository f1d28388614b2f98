"""The data of clients: what is JSON, and what it is for the application."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateman.clients.data import one_line_of_json, read_data, read_json


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"a":1.50}', b'{"a":1.50}'),
        (b' "x" ', b'"x"'),
        (b'{\n  "a": [1,\r\n 2]\n}', b'{"a":[1,2]}'),
        (b"null", b"null"),
        (b"", None),
        (b"abc", None),
        (b"\x00\x01", None),
        (b'"\xff"', None),
        (b"1 2", None),
        (b"[" * 500_000 + b"]" * 500_000, None),
    ],
)
def test_bytes_that_are_json(data: bytes, text: bytes | None) -> None:
    """So data of an SDK that has only Protobuf reach JSON clients."""
    assert one_line_of_json(data) == text


@pytest.mark.parametrize(
    ("data", "value"),
    [(b'{"a":1}', {"a": 1}), (b"\xff", b"\xff"), (b"1e999", b"1e999"), (b"", None)],
)
def test_values_for_the_application(data: bytes, value: object) -> None:
    assert read_data(data) == value


def test_numbers_that_python_has_not() -> None:
    with pytest.raises(ValueError, match="the data are not JSON that can be read"):
        read_json(b"1e999")


@given(st.binary())
def test_anything_is_one_line_of_json_or_none(data: bytes) -> None:
    text = one_line_of_json(data)

    if text is not None:
        assert b"\n" not in text
        json.loads(text)


@given(st.lists(st.none() | st.integers() | st.text(), max_size=3))
def test_what_is_json_stays_the_same(value: object) -> None:
    text = one_line_of_json(json.dumps(value, indent=1).encode())

    assert text is not None
    assert json.loads(text) == value == read_json(json.dumps(value).encode())
