"""What is declared for channels, by patterns."""

from typing import Any

import pytest

from gateman import Channel, ConfigError
from gateman.clients.channel import (
    DEFAULT,
    PERSONAL_DEFAULT,
    ChannelRules,
    check_patterns,
    is_personal,
)
from gateman.history.base import HistoryLimits

ALL, CHAT, ROOM, ONE = (Channel(history_size=size) for size in (1, 2, 3, 4))
RULES = ChannelRules({"*": ALL, "chat:*": CHAT, "chat:room:*": ROOM, "chat:room:1": ONE})


@pytest.mark.parametrize(
    ("channel", "options"),
    [
        ("chat:room:1", ONE),
        ("chat:room:11", ROOM),
        ("chat:room:", ROOM),
        ("chat:", CHAT),
        ("chat", ALL),
        ("#42", PERSONAL_DEFAULT),
    ],
)
def test_the_most_specific_pattern_decides(channel: str, options: Channel) -> None:
    assert RULES.options_of(channel) is options


def test_without_a_pattern_nothing_is_allowed() -> None:
    """Personal channels have a history that is declared by us, and may be declared anew."""
    rules = ChannelRules()

    assert rules.options_of("chat") is DEFAULT
    assert (DEFAULT.subscribe, DEFAULT.publish, DEFAULT.history, DEFAULT.presence) == (
        False, "", "", "",
    )  # fmt: skip
    assert rules.kept() == {"#*": HistoryLimits(100, 300.0)}
    assert ChannelRules({"#*": Channel(), "chat": Channel()}).kept() == {}
    assert ChannelRules({"chat": Channel()}).kept()["chat"] is None
    assert is_personal("#42")


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        (False, ""),
        (True, "subscribers"),
        ("subscribers", "subscribers"),
        ("everyone", "everyone"),
    ],
)
def test_a_permission_has_a_short_form(value: Any, meaning: str) -> None:
    """``True`` is the narrower one."""
    channel = Channel(publish=value, history=value, presence=value, history_size=1)

    assert (channel.publish, channel.history, channel.presence) == (meaning,) * 3


WRONG: list[tuple[Any, str]] = [
    (["chat"], "channels=['chat'] is not a mapping"),
    ([], "channels=[] is not a mapping"),
    ({1: Channel()}, "1 in channels is not a pattern"),
    ({"": Channel()}, "'' in channels is not a pattern"),
    ({"a*b": Channel()}, "the pattern 'a*b' in channels has a '*' that is not at its end"),
    ({"#42": Channel()}, "the pattern '#42' in channels begins with '#'"),
    ({"#*": Channel(subscribe=True)}, "a personal channel is its user's alone"),
    ({"#*": Channel(publish="everyone")}, "a personal channel is its user's alone"),
    ({"x" * 256: Channel()}, "in channels is too long"),
    ({"chat": 5}, "channels['chat']=5 is not a Channel"),
    ({"chat": {"publsh": True}}, "'publsh' is not an option of the channel 'chat': did you mean"),
]


@pytest.mark.parametrize(("value", "problem"), WRONG)
def test_wrong_patterns_are_refused(value: Any, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_patterns(value)

    assert problem in str(caught.value)


def test_patterns_may_be_written_as_mappings() -> None:
    """As in a file."""
    assert check_patterns({"chat:*": {"subscribe": True}}) == {"chat:*": Channel(subscribe=True)}
    assert check_patterns(None) == {}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"subscribe": "yes"}, "Channel.subscribe='yes' is neither True nor False"),
        ({"publish": "all"}, "'all' is not a value of Channel.publish"),
        ({"publish": "server"}, "'server' is not a value of Channel.publish"),
        ({"publish": 1}, "1 is not a value of Channel.publish"),
        ({"history_size": -1}, "Channel.history_size=-1 is not a number of messages"),
        ({"history_size": True}, "Channel.history_size=True is not a number of messages"),
        ({"history_size": 10**6}, "Channel.history_size is too large"),
        ({"history_ttl": 0}, "Channel.history_ttl=0 cannot work"),
        ({"leave_delay": 61}, "Channel.leave_delay=61 cannot work"),
        ({"history": True}, "Channel.history allows clients to read what is kept"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Channel(**options)

    assert problem in str(caught.value)
