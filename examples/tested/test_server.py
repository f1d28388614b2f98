"""Tests of server.py: `python -m unittest`, or `pytest`."""

from unittest import IsolatedAsyncioTestCase

from server import worker

from gateman import testing


class TestChat(IsolatedAsyncioTestCase):
    async def test_a_message_reaches_all(self):
        async with (
            testing.connect(worker, "/?token=secret") as ann,
            testing.connect(worker, "/?token=secret") as bob,
        ):
            await ann.send("hi ")
            assert await bob.receive() == "hi"

    async def test_a_wrong_token_is_refused(self):
        refused = await testing.refused(worker, "/?token=wrong")
        assert refused.status == 401

    async def test_a_silent_client_is_asked(self):
        async with testing.connect(worker, "/?token=secret") as client:
            await testing.advance(59)
            await client.receive_nothing()
            await testing.advance(1)
            assert await client.receive() == "Are you still there?"

    async def test_an_empty_message_is_an_error(self):
        async with testing.connect(worker, "/?token=secret") as client:
            with testing.expected(ValueError):
                await client.send(" ")
                await client.wait_closed()
