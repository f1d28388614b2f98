"""What is inflated in one turn of the loop, and who waits for the next."""

import asyncio
import zlib

from gateman import Deflate
from gateman.net.inflation import InflateTurns, Inflation
from gateman.websocket.assembler import Assembler
from gateman.websocket.deflate import negotiate
from tests.support.deadlines import TIMEOUT
from tests.support.loop import on_loop, turns


class Client:
    """Takes a share whenever it may, until it has enough."""

    def __init__(self, budget: InflateTurns, name: str, log: list[str], count: int) -> None:
        self.budget, self.name, self.log, self.count = budget, name, log, count

    def proceed(self) -> None:
        """Take, or wait."""
        while self.count:
            if not self.budget.admits(is_light=False):
                self.budget.wait(self.proceed)
                return
            self.budget.spend(60)
            self.log.append(self.name)
            self.count -= 1


@on_loop
async def test_clients_take_turns() -> None:
    """In the order in which they wait, and what one turn has is bounded."""
    budget = InflateTurns(asyncio.get_running_loop(), 100)
    log: list[str] = []
    per_turn = []
    for name in "abc":
        Client(budget, name, log, 4).proceed()
    for _ in range(8):
        per_turn.append(len(log))
        await turns(1)

    assert "".join(log) == "aaaabbccbbcc"
    assert per_turn == [2, 4, 6, 8, 10, 12, 12, 12]


@on_loop
async def test_a_client_that_asks_little_does_not_wait_behind_those_that_ask_much() -> None:
    """But there is a bound for those, too."""
    budget = InflateTurns(asyncio.get_running_loop(), 100)
    budget.spend(100)
    seen = [budget.admits(is_light=False), budget.admits(is_light=True)]
    budget.spend(100)
    seen.append(budget.admits(is_light=True))
    await turns(1)
    seen.append(budget.admits(is_light=True))

    assert seen == [False, True, False, True]


def inflation_of(options: Deflate, proceed: list[int], *, turn: int = 1 << 20) -> Inflation:
    """Make a connection's."""
    agreement = negotiate(["permessage-deflate"], options)
    assert agreement is not None
    loop = asyncio.get_running_loop()
    return Inflation(agreement, loop, InflateTurns(loop, turn), lambda: proceed.append(1))


def packed(size: int) -> bytes:
    """Compress zeros."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (stream.compress(bytes(size)) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


@on_loop
async def test_the_budget_of_a_client() -> None:
    """What it uses too much has to come back first; then it is told to go on, once."""
    told: list[int] = []
    inflation = inflation_of(Deflate(max_inflated_per_second=200_000), told)
    assembler = Assembler(2_000_000, inflation.inflater)
    before = inflation.must_wait()
    message = inflation.feed(assembler, 2, packed(300_000), fin=True, rsv=4)
    after = inflation.must_wait()
    async with asyncio.timeout(TIMEOUT):
        while not told:
            await turns(1)

    assert (before, message, after) == (False, bytes(300_000), True)
    assert inflation.must_wait() is False


@on_loop
async def test_no_callback_runs_after_the_end() -> None:
    """Neither by the clock nor by the turn."""
    told: list[int] = []
    inflation = inflation_of(Deflate(max_inflated_per_second=1000), told, turn=10)
    assembler = Assembler(2_000_000, inflation.inflater)
    inflation.feed(assembler, 2, packed(1010), fin=True, rsv=4)
    by_the_clock = inflation.must_wait()
    # A timer that is left fails the test.
    inflation.stop()
    other = inflation_of(Deflate(), told, turn=10)
    other.feed(Assembler(2_000_000, other.inflater), 2, packed(1010), fin=True, rsv=4)
    by_the_turn = other.must_wait()
    other.stop()
    await turns(3)

    assert (by_the_clock, by_the_turn, told) == (True, True, [])
