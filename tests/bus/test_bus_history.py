"""What the stores of all brokers inherit."""

from gateman.bus.bus_history import BusHistory
from gateman.bus.jetstream import JetStreamHistory
from gateman.bus.memory_history import MemoryHistory
from gateman.bus.router_history import RouterHistory
from gateman.history.base import FollowingHistory


def test_every_store_follows_channels_in_one_way() -> None:
    """What is proved of it for one (``contract_of_history``) holds for all."""
    for kind in (JetStreamHistory, MemoryHistory, RouterHistory):
        assert issubclass(kind, BusHistory)
        assert kind.unfollow is BusHistory.unfollow
    following: list[type[FollowingHistory]] = [JetStreamHistory, MemoryHistory, RouterHistory]
    assert all(callable(kind.lose_all) for kind in following)
