"""The history within one process: what is particular to it."""

from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.bus.memory_history import MemoryHistory

from ..support.loop import eventually, on_loop
from .contract_of_history import Member, fill


@on_loop
async def test_a_slow_follower_is_told() -> None:
    """It follows again, and recovers."""
    broker = MemoryBroker()
    here, there = MemoryBus(broker=broker), MemoryBus(broker=broker, max_pending_size=100)
    await here.start()
    await there.start()
    member = Member(there)
    position = await member.follow()
    await fill(here, 90)
    await eventually(lambda: member.lost_count == 1)
    missed = await there.history.since("room", position, 100)
    await here.stop()
    await there.stop()

    assert isinstance(there.history, MemoryHistory)
    assert missed.is_complete
    assert len(missed.messages) == 90
    assert 0 < len(member.got) < 90
