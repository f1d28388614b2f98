"""What clients, users and groups may be called, and what is said of other names."""

import pytest

from gateman.cluster.names import (
    ClientId,
    NodeId,
    check_channel,
    check_client_id,
    check_group,
    check_uid,
    client_id,
    node_of,
)
from gateman.errors import ConfigError

GOOD = ["a", "42", "room 1", "*.>", "\n", "a" * 255, "ü" * 127, "你好", "\x00"]


@pytest.mark.parametrize("name", GOOD)
def test_any_text_of_255_bytes_is_a_name(name: str) -> None:
    """Nothing that users call themselves or their rooms means anything to us."""
    assert check_uid(name) == name
    assert check_group(name) == name


BAD = [
    ("", "a group cannot be empty: give it a name of 1 to 255 bytes."),
    (42, "the group 42 is not text: write str(42)."),
    (True, "the group True is not text: use a str."),
    (None, "the group None is not text: use a str."),
    (b"room", "the group b'room' is not text: use a str."),
    (
        "a" * 256,
        f"the group '{'a' * 36}... has 256 bytes: use a name of at most 255, such as a hash of"
        " this one.",
    ),
    (
        "ü" * 128,
        f"the group '{'ü' * 36}... has 256 bytes: use a name of at most 255, such as a hash of"
        " this one.",
    ),
    (
        "\ud800",
        "the group '\\ud800' has a lone surrogate: use text that UTF-8 can carry.",
    ),
]


@pytest.mark.parametrize(("name", "sentence"), BAD)
def test_invalid_names_are_refused_with_one_sentence(name: object, sentence: str) -> None:
    """A caller learns what is wrong with a name, and what to do."""
    with pytest.raises(ConfigError) as caught:
        check_group(name)

    assert str(caught.value) == sentence


@pytest.mark.parametrize("uid", ["ann", "änn", ""])
def test_a_personal_channel_is_no_group(uid: str) -> None:
    """Nobody would be in it: the clients of a user are reached by the uid."""
    with pytest.raises(ConfigError) as caught:
        check_group(f"#{uid}")

    assert str(caught.value) == (
        f"'#{uid}' is a user's personal channel and not a group: use the uid '{uid}' with bind() or"
        " send_to_uid(), or give the group a name without #."
    )
    assert (check_channel("#ann"), check_uid("#ann"), check_group("a#")) == ("#ann", "#ann", "a#")


def test_a_uid_is_called_a_uid() -> None:
    """The sentence names what the name was for."""
    with pytest.raises(ConfigError) as caught:
        check_uid(7)

    assert str(caught.value) == "the uid 7 is not text: write str(7)."


def test_a_client_id_tells_its_process() -> None:
    """Whoever has a client's id knows where to send."""
    client = client_id(NodeId("k3f9"), 42)

    assert client == "k3f9-42"
    assert node_of(client) == "k3f9"
    assert check_client_id("k3f9-42") == ClientId("k3f9-42")
    assert check_client_id(f"{'f' * 32}-{'9' * 31}")


@pytest.mark.parametrize(
    "name",
    [
        *("", "-", "k3f9", "k3f9-", "-1", "k3f9-x", "k3f9-٣", 7, None),
        *("ü-1", "\ud800-1", "a.b-1", "a b-1", f"{'a' * 33}-1", f"{'a' * 28}-{'1' * 36}"),
    ],
)
def test_invalid_client_ids_are_refused(name: object) -> None:
    """A uid or a number in place of a client id is noticed at once."""
    with pytest.raises(ConfigError) as caught:
        check_client_id(name)

    shown = repr(name) if len(repr(name)) <= 40 else f"{repr(name)[:37]}..."
    assert str(caught.value) == (
        f"{shown} is not a client id: take it from connection.client_id, as it is."
    )
