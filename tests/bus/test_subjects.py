"""Subjects are made of any text, and none is taken for another or for a command."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateman.bus.subjects import MAX_TOKEN_LENGTH, escape, subject

# Also lone surrogates, and what the separators and escapes of subjects are made of.
NAMES = st.text() | st.text(alphabet=".*>= \r\n\t$hAF0\ud800é", max_size=300)


def unescape(token: str) -> str | None:
    """Decode a token; ``None`` if it is a hash."""
    if token.startswith("=h"):
        return None
    data = re.sub(
        rb"=([0-9A-F]{2})", lambda match: bytes.fromhex(match[1].decode()), token.encode()
    )
    return "" if token == "=" else data.decode("utf-8", "surrogatepass")


@pytest.mark.parametrize(
    ("name", "token"),
    [
        ("room-1", "room-1"),
        ("Room_2", "Room_2"),
        ("", "="),
        (".", "=2E"),
        ("a.b *", "a=2Eb=20=2A"),
        (">", "=3E"),
        ("=", "=3D"),
        ("é", "=C3=A9"),
        ("\r\n", "=0D=0A"),
        ("\ud800", "=ED=A0=80"),
        ("x" * 200, "x" * 200),
        ("é" * 33, "=C3=A9" * 33),
    ],
)
def test_a_token_says_its_name(name: str, token: str) -> None:
    """Letters, digits, hyphens and underscores stand for themselves, the rest for bytes."""
    assert escape(name) == token
    assert unescape(token) == name


@pytest.mark.parametrize("name", ["x" * 201, "é" * 34, "房" * 1000])
def test_a_long_name_is_hashed(name: str) -> None:
    """What would be too long is a hash, from which nothing is read back."""
    token = escape(name)

    assert re.fullmatch("=h[0-9a-f]{64}", token)
    assert unescape(token) is None


def test_the_hash_does_not_change() -> None:
    """Processes of several versions of gateman have to agree on it."""
    assert escape("x" * 201) == (
        "=h84a0678c90937f5dcf9994d5866668da6b995109c8ad845410559b48a4ecafed"
    )


@given(NAMES)
def test_every_token_is_harmless(name: str) -> None:
    """A token is short, and has no character that means anything to a bus."""
    assert re.fullmatch(rf"[A-Za-z0-9_=-]{{1,{MAX_TOKEN_LENGTH}}}", escape(name))


@given(NAMES)
def test_names_are_read_back(name: str) -> None:
    """A token gives its name, or says that it cannot."""
    assert unescape(escape(name)) in {name, None}


@given(NAMES, NAMES)
def test_different_names_have_different_tokens(one: str, other: str) -> None:
    """No name can be chosen that is taken for another's."""
    assert (escape(one) == escape(other)) == (one == other)


@given(st.lists(NAMES, min_size=1, max_size=4), st.lists(NAMES, min_size=1, max_size=4))
def test_different_paths_have_different_subjects(one: list[str], other: list[str]) -> None:
    """A dot in a name does not end it."""
    assert (subject(*one) == subject(*other)) == (one == other)


def test_a_subject_has_a_token_for_each_name() -> None:
    """Names go from the general to the particular."""
    assert subject("gateman", "group", "a.b") == "gateman.group.a=2Eb"
