"""The interfaces of what higher layers add to a node: gateways, business workers, SDK clients."""

from typing import Protocol

from .confirmation import Confirmation
from .envelope import HubAction
from .names import NodeId


class NodeExtension(Protocol):
    """A higher layer that sends and receives its own messages on the bus of a node."""

    def take(self, source: NodeId, data: bytes) -> None:
        """Handle a message of another node's extension; raise EnvelopeError if it is malformed."""

    def returned(self) -> None:
        """Handle the return of the bus."""


class Subscriber(Protocol):
    """The service of SDK clients: for them, a group is a channel to which they subscribe."""

    def do(self, action: HubAction) -> Confirmation[None] | None:
        """Execute an action on an SDK client; ``None`` if the registry is to execute it."""
