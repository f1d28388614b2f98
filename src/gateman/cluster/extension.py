"""The interface of what a higher layer adds to a node: gateways and business workers."""

from typing import Protocol

from .names import NodeId


class NodeExtension(Protocol):
    """A higher layer that sends and receives its own messages on the bus of a node."""

    def take(self, source: NodeId, data: bytes) -> None:
        """Handle a message of another node's extension; raise EnvelopeError if it is malformed."""

    def returned(self) -> None:
        """Handle the return of the bus."""
