"""What is kept of the channels of a service: its workers declare it together."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .base import BaseWorker
from .worker import Worker

if TYPE_CHECKING:
    from ..clients.channel import Channel
    from ..history.base import HistoryLimits


def history_limits_of(
    workers: Sequence[BaseWorker],
) -> "Callable[[str], HistoryLimits | None] | None":
    """Return what of a channel is kept; ``None`` if no worker has SDK clients."""
    declared = [
        one for one in workers if isinstance(one, Worker) and one.client_protocol is not None
    ]
    if not declared:
        return None
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
    rules = ChannelRules({pattern: options for pattern, (options, _) in patterns.items()})
    return rules.history_limits if rules.has_history else None
