"""Messages that are in the stream, and do not come."""

from pathlib import Path

from gateman.bus.jetstream import JetStreamHistory

from ..support.jetstream import ask, operator, served
from ..support.loop import eventually, on_loop
from ..support.nats import newest_nats
from .contract_of_history import Member, fill


@on_loop
async def test_what_servers_lost_on_the_way_is_noticed(tmp_path: Path) -> None:
    """A message that is in the stream and did not come ends the following of a quiet channel."""
    async with served(tmp_path, 1, command=newest_nats()) as (bus,):
        member, level = Member(bus), Member(bus, "level")
        await member.follow()
        await level.follow()
        client = await operator(bus)
        # Between servers, a message is lost like this: it is stored, and not published again.
        info = await ask(client, "STREAM.INFO.gateman-test")
        config = info["config"]
        assert isinstance(config, dict)
        await ask(client, "STREAM.UPDATE.gateman-test", **{**config, "republish": None})
        await fill(bus, 1)
        await client.publish("$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.gateman-test", b"{}")
        await eventually(lambda: member.lost_count == 1)
        await client.close()

    assert isinstance(bus.history, JetStreamHistory)
    assert (member.got, level.lost_count) == ([], 0)
