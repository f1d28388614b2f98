"""What a node tells of itself in its hellos, and what it takes from those of others."""

from msgspec import structs

from ..bus import Bus
from ..log import logger
from .channels import EVERYBODY, Channel
from .envelope import Hello
from .exclusive import ExclusiveLogins
from .node_channels import NodeChannels
from .publisher import Publisher
from .services import Outline, Services, label


class NodeHellos:
    """Makes and reads hellos; :mod:`.node_liveness` says when one is sent."""

    def __init__(
        self,
        bus: Bus | None,
        service: Outline,
        *,
        publisher: Publisher,
        exclusive: ExclusiveLogins,
        channels: NodeChannels,
    ) -> None:
        self.away_seconds = 0.0
        self._bus = bus
        self._service = service
        self._services = Services(service)
        self._publisher = publisher
        self._exclusive = exclusive
        self._channels = channels

    def send(self, channel: Channel, hello: Hello) -> None:
        """Send a hello with all that others want to know."""
        # A new node announces its service to all, and each of them answers it.
        is_full = hello.is_new or channel != EVERYBODY
        envelope = structs.replace(
            hello,
            away=self.away_seconds if hello.was_away else hello.away,
            clock=self._exclusive.logins.clock,
            claims=self._exclusive.count,
            service=self._service if is_full else (),
            kept=self._channels.rules if is_full else (),
        )
        self._publisher.publish(channel, envelope)

    def on_hello(self, hello: Hello) -> None:
        """Learn which channels have history, and whether another service is on this bus."""
        if hello.has_clients or hello.kept:
            self._channels.learn(hello.kept)
        if self._services.detect_other(hello.service):
            logger.warning(
                "%s is on the bus %s too, as is %s: if these are two services, they reach each"
                " other's users; give each a name of its own in its bus's URL",
                label(hello.service),
                "" if self._bus is None else self._bus.url,
                label(self._service),
            )
