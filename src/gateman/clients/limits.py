"""What one SDK client may make the service hold and do, as options; and rates. PURE."""

from dataclasses import dataclass

from ..options import Numbers, fixed, option


@fixed("client_limits", "worker.client_limits = {{'{name}': {value}}}")
@dataclass(frozen=True, kw_only=True, slots=True)
class ClientLimits(Numbers):
    """What one client of an SDK may make the service hold and do."""

    max_subscriptions: int = option(
        128,
        "channels",
        "The channels to which a client may subscribe at the same time. A further subscribe gets"
        " error 106. Precedent: Centrifugo, 128.",
    )
    max_channel_size: int = option(
        255,
        "bytes",
        "The name of a channel, in UTF-8. A longer one gets error 107. Precedent: Centrifugo, 255;"
        " groups have the same limit.",
    )
    max_commands_per_frame: int = option(
        1000,
        "commands",
        "The commands that a client may put into one frame; more than these close the connection"
        " with 3501. An SDK sends a subscribe per channel in its first frame.",
    )
    max_pending_commands: int = option(
        512,
        "commands",
        "The commands that wait for their answers. A further one gets error 111, after which SDKs"
        " repeat a subscribe by themselves.",
    )
    max_commands_per_second: int = option(
        1000,
        "commands per second",
        "The commands of one connection. More than these close it with 3013, after which the SDK"
        " comes back after a while.",
    )
    max_publishes_per_second: int = option(
        100,
        "publishes per second",
        "The publish commands of one connection, which are sent on to all subscribers. Further ones"
        " get error 111.",
    )
    max_recovered_publications: int = option(
        300,
        "publications",
        "The publications that a recovery may send to a client. If it has missed more, or more than"
        " half of ``limits.max_send_buffer_size``, the SDK is told that they are lost. Precedent:"
        " Centrifugo, 300.",
    )
    max_history_publications: int = option(
        300,
        "publications",
        "The publications that a client may ask for in one history command; if it asks for more,"
        " it gets these. Precedent: Centrifugo, 300.",
    )
    max_token_size: int = option(
        8192,
        "bytes",
        "A connection token or subscription token. A longer one is not valid. Tokens with a"
        " certificate chain have about 5 KiB.",
    )
    connect_timeout: float = option(
        10.0,
        "seconds",
        "From the 101 until the connect command has arrived. A client that has not sent it is"
        " closed with 3502. SDKs send it at once.",
    )
    refresh_grace: float = option(
        25.0,
        "seconds",
        "After the end of a token's life, for the refresh with a new one. Otherwise the connection"
        " is closed with 3005, or the subscription ends with 2501. Precedent: Centrifugo, 25 s.",
    )


class Rate:
    """A token bucket of one second's amount, full at first."""

    __slots__ = ("_at", "_left", "_per_second")

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._left = float(per_second)
        self._at = float("-inf")

    def take(self, now: float) -> bool:
        """Take one; False if none is left."""
        if now > self._at:
            gained = (now - self._at) * self._per_second
            self._left = min(self._per_second, self._left + gained)
            self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
