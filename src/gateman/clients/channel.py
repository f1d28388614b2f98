"""
What clients may do in a channel, and what is kept of it: declared once, by pattern. Pure.

A channel is a group as SDK clients see it. The most specific pattern decides: the name itself
before a prefix, and a longer prefix before a shorter one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from ..cluster.names import MAX_NAME_SIZE, PERSONAL
from ..cluster.patterns import Patterns
from ..errors import ConfigError
from ..history.base import HistoryLimits
from ..options import check_flag, check_names, fixed, is_positive, option

NOBODY = ""
SUBSCRIBERS = "subscribers"
EVERYONE = "everyone"
SERVER = "server"

# Messages; a store keeps them for each channel.
_MAX_HISTORY_SIZE = 100_000
# Seconds; a year.
_MAX_HISTORY_TTL = 366 * 86_400

# Seconds; the others would see somebody who is long gone.
_MAX_LEAVE_DELAY = 60

_PERMISSIONS = {
    False: NOBODY,
    True: SUBSCRIBERS,
    NOBODY: NOBODY,
    SUBSCRIBERS: SUBSCRIBERS,
    EVERYONE: EVERYONE,
}


@fixed("channels", 'channels={{"chat:*": Channel({name}={value})}}')
@dataclass(frozen=True, kw_only=True, slots=True)
class Channel:
    """
    What SDK clients may do in the channels of a pattern, and what is kept of them.

        Worker(..., client_protocol="centrifuge", channels={"chat:*": Channel(subscribe=True)})

    Each client is refused what is not allowed here, by a token, or by a callback.

    Raises:
        ConfigError: A value is not valid, or two of them contradict each other.
    """

    subscribe: bool = option(
        default=False,
        reason="Whether every client may subscribe.",
    )
    publish: bool | str = option(
        default=False,
        reason='Who may publish: ``False`` for no client, ``True`` or ``"subscribers"`` for those'
        ' who are subscribed, ``"everyone"`` for every client.',
    )
    history_size: int = option(
        0,
        "messages",
        "The messages that are kept, the newest ones; 0 keeps none, and clients cannot recover.",
    )
    history_ttl: float = option(
        300.0,
        "seconds",
        "How long a message is kept. Precedent: the time in which a phone comes back from a tunnel"
        " or a lift, and some.",
    )
    history: bool | str = option(
        default=False,
        reason="Who may ask for the messages that are kept; as ``publish``. Recovery after a"
        " reconnect needs no permission beside ``subscribe``.",
    )
    recover: bool = option(
        default=True,
        reason="Whether a client that comes back gets what it has missed, if there is history. The"
        " client need not ask for it.",
    )
    presence: bool | str = option(
        default=False,
        reason="Whether it is known who is subscribed, and who may ask for it: ``True`` or"
        ' ``"subscribers"``, ``"everyone"``, or ``"server"`` for the application alone.',
    )
    join_leave: bool = option(
        default=False,
        reason="Whether subscribers are told who joins and leaves.",
    )
    leave_delay: float = option(
        3.0,
        "seconds",
        "How long a client that lost its connection may take to come back before the others are"
        " told that it left. SDKs come back within a second or two.",
    )

    def __post_init__(self) -> None:
        for name in ("subscribe", "recover", "join_leave"):
            check_flag(f"Channel.{name}", getattr(self, name))
        for name in ("publish", "history", "presence"):
            object.__setattr__(self, name, _permission(name, getattr(self, name)))
        size = self.history_size
        if type(size) is not int or size < 0:
            raise ConfigError(
                f"Channel.history_size={size!r} is not a number of messages", "use 0 or more"
            )
        if size > _MAX_HISTORY_SIZE:
            raise ConfigError(
                "Channel.history_size is too large", f"use {_MAX_HISTORY_SIZE} or less"
            )
        if not is_positive(self.history_ttl, _MAX_HISTORY_TTL):
            raise ConfigError(
                f"Channel.history_ttl={self.history_ttl!r} cannot work",
                f"give it in seconds, up to {_MAX_HISTORY_TTL}",
            )
        if self.leave_delay != 0 and not is_positive(self.leave_delay, _MAX_LEAVE_DELAY):
            raise ConfigError(
                f"Channel.leave_delay={self.leave_delay!r} cannot work",
                f"give it in seconds, from 0 to {_MAX_LEAVE_DELAY}",
            )
        if self.history and not size:
            raise ConfigError(
                "Channel.history allows clients to read what is kept, and history_size keeps none",
                "set history_size, such as history_size=100",
            )

    def __str__(self) -> str:
        """Show the options that are not the defaults."""
        values = {
            one.name: (getattr(self, one.name), getattr(DEFAULT, one.name)) for one in fields(self)
        }
        return ", ".join(f"{name}={own!r}" for name, (own, usual) in values.items() if own != usual)


def _permission(name: str, value: object) -> str:
    if name == "presence" and value == SERVER:
        return SERVER
    if not isinstance(value, (bool, str)) or value not in _PERMISSIONS:
        known = [one for one in _PERMISSIONS if isinstance(one, str) and one]
        if name == "presence":
            known.append(SERVER)
        raise ConfigError.unknown(f"value of Channel.{name}", value, known)
    return _PERMISSIONS[value]


DEFAULT = Channel()
"""Of a channel that no pattern names: clients may do nothing, and nothing is kept."""

PERSONAL_DEFAULT = Channel(history_size=100, history_ttl=300.0)
"""Of users' personal channels; the pattern ``#*`` replaces it."""


class ChannelRules:
    """The options of every channel, by the patterns of a service."""

    def __init__(self, patterns: Mapping[str, Channel] | None = None) -> None:
        self._declared = {PERSONAL + "*": PERSONAL_DEFAULT, **(patterns or {})}
        self._patterns = Patterns(self._declared)

    def options_of(self, channel: str) -> Channel:
        return self._patterns.get(channel) or DEFAULT

    def kept(self) -> dict[str, HistoryLimits | None]:
        """Get what is kept of channels, by pattern; nothing if no channel has history."""
        kept = {
            pattern: HistoryLimits(one.history_size, one.history_ttl) if one.history_size else None
            for pattern, one in self._declared.items()
        }
        return kept if any(kept.values()) else {}

    @property
    def has_join_leave(self) -> bool:
        """Whether in any channel it is told who joins and leaves."""
        return any(one.join_leave for one in self._declared.values())


def is_personal(channel: str) -> bool:
    return channel.startswith(PERSONAL)


def check_patterns(value: object) -> dict[str, Channel]:
    """Check the option ``channels``; raises :class:`ConfigError`."""
    example = 'write channels={"chat:*": Channel(subscribe=True)}'
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"channels={value!r} is not a mapping", example)
    patterns: dict[str, Channel] = {}
    for pattern, options in value.items():
        if not isinstance(pattern, str) or not pattern:
            raise ConfigError(f"{pattern!r} in channels is not a pattern", example)
        if len(pattern.encode("utf-8", "replace")) > MAX_NAME_SIZE:
            raise ConfigError(
                f"the pattern {pattern:.40}… in channels is too long",
                f"use {MAX_NAME_SIZE} bytes or less",
            )
        if "*" in pattern[:-1]:
            raise ConfigError(
                f"the pattern {pattern!r} in channels has a '*' that is not at its end",
                "write a name, or the beginning of names and a '*'",
            )
        if is_personal(pattern) and pattern != PERSONAL + "*":
            raise ConfigError(
                f"the pattern {pattern!r} in channels begins with '#', as personal channels do",
                "configure all of them with '#*', or use another name",
            )
        patterns[pattern] = _options(pattern, options)
    return patterns


def _options(pattern: str, options: object) -> Channel:
    if isinstance(options, Mapping):
        known = {declared.name for declared in fields(Channel)}
        check_names(f"option of the channel {pattern!r}", options, known)
        options = Channel(**options)
    if not isinstance(options, Channel):
        raise ConfigError(
            f"channels[{pattern!r}]={options!r} is not a Channel", "write Channel(subscribe=True)"
        )
    if is_personal(pattern) and (options.subscribe or options.publish == EVERYONE):
        raise ConfigError(
            "a personal channel is its user's alone, and '#*' in channels opens it to others",
            "leave subscribe out, and do not let everyone publish",
        )
    return options
