"""What all handshakes of one worker share."""

from collections.abc import Callable

from ..connection import Link
from ..request import Request
from .admission import Admission
from .events import Wiring
from .forwarded import TrustedProxies
from .response import Response


class Door:
    """
    How one worker treats those who knock; shared by all its connections.

    Attributes:
        wiring: The worker's wiring.
        worker: What ``connection.worker`` is.
        admission: Counts who comes in.
        allowed_origins: As :mod:`gateman.net.origins` reads them; ``None`` for any.
        subprotocols: What the worker speaks, in its order of preference.
        trusted_proxies: Whose word on the client's address is believed.
        answer_plain: Answers a request that is no handshake.
        strangers: Those who are told that they may not come in, and are still there.
    """

    __slots__ = (
        "_last_id",
        "admission",
        "allowed_origins",
        "answer_plain",
        "strangers",
        "subprotocols",
        "trusted_proxies",
        "wiring",
        "worker",
    )

    def __init__(
        self,
        wiring: Wiring,
        worker: object,
        *,
        admission: Admission,
        allowed_origins: frozenset[str] | None,
        subprotocols: tuple[str, ...],
        trusted_proxies: TrustedProxies,
        answer_plain: Callable[[Request], Response],
    ) -> None:
        """
        Declare it.

        Args:
            wiring: The worker's wiring.
            worker: What ``connection.worker`` is.
            admission: Counts who comes in.
            allowed_origins: As :mod:`gateman.net.origins` reads them; ``None`` for any.
            subprotocols: What the worker speaks, in its order of preference.
            trusted_proxies: Whose word on the client's address is believed.
            answer_plain: Answers a request that is no handshake.
        """
        self.wiring = wiring
        self.worker = worker
        self.admission = admission
        self.allowed_origins = allowed_origins
        self.subprotocols = subprotocols
        self.trusted_proxies = trusted_proxies
        self.answer_plain = answer_plain
        self.strangers: set[Link] = set()
        self._last_id = 0

    def next_id(self) -> int:
        """Number the next connection."""
        self._last_id += 1
        return self._last_id
