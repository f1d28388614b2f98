"""Who speaks on a process's bus beside its hub: gateways and business workers."""

from typing import Protocol

from .envelope import ClientAction
from .names import NodeId


class Tenant(Protocol):
    """What a row above does on the bus beside the hub."""

    def take(self, source: NodeId, data: bytes) -> None:
        """
        Take what another process's tenant sent.

        Args:
            source: Who.
            data: What.

        Raises:
            EnvelopeError: It is malformed.
        """

    def returned(self) -> None:
        """Take note that the bus was away, and is back."""

    def do_early(self, action: ClientAction) -> bool:
        """
        Do something with a client that is on its way in.

        Args:
            action: What.

        Returns:
            Whether there is such a client; then it is done as soon as it can be.
        """
