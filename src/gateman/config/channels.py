"""What is kept of the channels of a service: its workers declare it together."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .base import BaseWorker
from .worker import Worker

if TYPE_CHECKING:
    from ..clients.channel import Channel
    from ..history.base import HistoryLimits


def kept_by(workers: Sequence[BaseWorker]) -> "Mapping[str, HistoryLimits | None]":
    """Return what is kept of channels, by pattern; nothing if no worker has SDK clients."""
    declared = [
        one for one in workers if isinstance(one, Worker) and one.client_protocol is not None
    ]
    if not declared:
        return {}
    # Imported here: most services have no channels.
    from ..clients.channel import ChannelRules

    patterns: dict[str, tuple[Channel, Worker]] = {}
    for worker in declared:
        for pattern, options in worker.channels.items():
            known, other = patterns.setdefault(pattern, (options, worker))
            if (known.history_size, known.history_ttl) != (
                options.history_size,
                options.history_ttl,
            ):
                raise ConfigError(
                    f"the channels {pattern!r} keep one history, and {other.name!r} and"
                    f" {worker.name!r} say differently how much",
                    "give both the same history_size and history_ttl",
                )
    return ChannelRules({name: options for name, (options, _) in patterns.items()}).kept()
