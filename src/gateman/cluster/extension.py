"""Who speaks on a process's bus beside its hub: gateways and business workers."""

from typing import Protocol

from .names import NodeId


class NodeExtension(Protocol):
    """What a row above does on the bus beside the hub."""

    def take(self, source: NodeId, data: bytes) -> None:
        """
        Take what another process's tenant sent.

        Raises:
            EnvelopeError: It is malformed.
        """

    def returned(self) -> None:
        """Take note that the bus was away, and is back."""
