"""What a callback of the client protocol returns to say more than yes. Pure."""

from dataclasses import dataclass, replace
from typing import Any

from ..errors import ConfigError
from ..options import fixed, is_positive

# Seconds; more does not fit into the protocol.
MAX_SECONDS = (1 << 32) - 1


@fixed("Allow", "Allow({name}={value})")
@dataclass(frozen=True, kw_only=True, slots=True)
class Allow:
    """
    Allow what a client asks for, and say more about it.

        @worker.on_subscribe
        def subscribe(connection, channel, data):
            return Allow(data={"topic": "tea"}, expires_in=3600)

    Args:
        data: For the client: ``data`` of the answer to its connect or subscribe command; in
            ``on_publish``, what is published instead of what it sent.
        info: What other clients see of this client in presence, joins and publications: everywhere
            if ``on_client_connect`` returns it, in the channel if ``on_subscribe`` does.
        expires_in: Seconds after which the client has to refresh; ``None`` for never.
        publish: In ``on_subscribe``: whether this client may publish in the channel; ``None`` for
            what its pattern says.
        history: The same for reading its history.
        presence: The same for asking who is in it.

    Raises:
        ConfigError: ``expires_in`` is not a number of seconds.
    """

    data: Any = None
    info: Any = None
    expires_in: float | None = None
    publish: bool | None = None
    history: bool | None = None
    presence: bool | None = None

    def __post_init__(self) -> None:
        if self.expires_in is not None and not is_positive(self.expires_in, MAX_SECONDS):
            raise ConfigError(
                f"Allow(expires_in={self.expires_in!r}) cannot work",
                f"give it in seconds, up to {MAX_SECONDS}",
            )


def allow_of(result: object) -> "Allow | None":
    """Read what a callback returned; ``None`` if it refuses."""
    if result is False:
        return None
    if isinstance(result, Allow):
        return result
    return Allow() if result is None or result is True else Allow(data=result)


def merged(allowed: Allow, known: Allow) -> Allow:
    """Add what a token says to what a callback said, which comes first."""
    if allowed.expires_in is None and known.expires_in is not None:
        allowed = replace(allowed, expires_in=known.expires_in)
    if allowed.info is None and known.info is not None:
        allowed = replace(allowed, info=known.info)
    return allowed
