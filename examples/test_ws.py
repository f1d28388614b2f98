"""A test of ws.py, which needs no port and no proxy: `pytest -o asyncio_mode=auto`."""

from gateman import testing

worker = testing.load("ws.py").worker


async def test_the_answer_is_ok():
    async with testing.connect(worker) as client:
        await client.send("hi")
        assert await client.receive() == "ok"
