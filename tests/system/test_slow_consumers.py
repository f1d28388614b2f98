"""Sending to peers that read slowly, in any order, loses only what is counted."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateman import Deflate
from tests.support.loop import turns
from tests.support.raw import (
    CLOSE,
    close_payload,
)
from tests.support.server import Journal, serve
from tests.support.slow import (
    CHUNK_COST,
    DEFLATE,
    EXAMPLES,
    LIMIT,
    Reader,
    block,
    both,
    held_size,
    numbered,
    slow,
)


@st.composite
def acts(draw: st.DrawFn) -> list[int]:
    """Draw what happens: sizes to send, or -1 for a turn of the loop, -2 to read a while."""
    sizes = st.sampled_from([-2, -1, -1, 0, 1, 100, 125, 126, 5000, 9000, 30_000, 66_000, 150_000])
    return draw(st.lists(sizes, min_size=5, max_size=60))


async def play(steps: list[int], policy: str, deflate: Deflate | None, *, secure: bool) -> None:
    """Send and read as drawn; what arrives is what was not dropped, in order."""
    journal = Journal()
    async with serve(
        secure=secure,
        limits={"max_send_buffer_size": LIMIT},
        slow_consumer=policy,
        compression=deflate,
        **journal.callbacks(),
    ) as server:
        connection, client = await slow(server, DEFLATE)
        kept: list[int] = [*range(1, block(connection) + 1)]
        refused = 0
        for step in steps:
            if step == -2:
                client.go_on_reading()
                await turns(4)
                client.stop_reading()
            elif step == -1:
                await turns(1)
            else:
                number = 1000 + len(kept) + connection.dropped
                if connection.send(numbered(number, step)):
                    kept.append(number)
                else:
                    refused += 1
                assert held_size(connection) <= LIMIT + CHUNK_COST
        dropped = connection.dropped - refused
        client.go_on_reading()
        connection.close(4000)
        takeover = deflate is not None and deflate.context_takeover
        reader = Reader(client, takeover=takeover)
        drops_oldest = policy == "drop_oldest" and not takeover
        assert dropped == 0 or drops_oldest
        numbers = await reader.read_numbers(len(kept) - dropped)
        found = await client.read_frame()
        assert (found.opcode, found.payload[:20]) == (CLOSE, close_payload(4000))
        if drops_oldest:
            assert numbers == sorted(numbers)
            assert set(numbers) <= set(kept)
        else:
            assert numbers == kept
        server.lines()


COMPRESSIONS: list[Deflate | None] = [
    None,
    Deflate(min_size=1),
    Deflate(min_size=1, context_takeover=True),
]


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=["plain", "deflate", "takeover"])
@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
@both
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(steps=acts())
def test_any_order_of_sending_and_reading(
    steps: list[int], policy: str, compression: Deflate | None, *, secure: bool
) -> None:
    """Nothing is lost but what is counted, nothing overtakes, and the bound holds."""
    asyncio.run(play(steps, policy, compression, secure=secure))
