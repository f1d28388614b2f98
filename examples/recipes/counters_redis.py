"""Values that all processes on all machines share, in Redis."""

import functools

from redis.asyncio import Redis

from gateman import Worker

worker = Worker("websocket://0.0.0.0:8282", count=2)

# Redis runs a script as a whole: no other client comes between its commands.
SWAP = """
if redis.call("GET", KEYS[1]) ~= ARGV[1] then return 0 end
redis.call("SET", KEYS[1], ARGV[2], "KEEPTTL")
return 1
"""


@functools.cache
def store():
    return Redis.from_url("redis://127.0.0.1:6379", decode_responses=True, socket_timeout=5)


async def add(name, number=1):
    return await store().incrby(name, number)


async def swap(name, old, new):
    """Replace a value if it is still the old one; tell whether it was."""
    return bool(await store().eval(SWAP, 1, name, old, new))


async def keep(name, value, seconds):
    """Store a value that expires, unless there is one; tell whether it was stored."""
    return bool(await store().set(name, value, nx=True, px=round(float(seconds) * 1000)))


@worker.on_message
async def handle(connection, message):
    match message.split():
        case ["add", name]:
            connection.send(str(await add(name)))
        case ["swap", name, old, new]:
            connection.send(str(await swap(name, old, new)))
        case ["keep", name, value, seconds]:
            connection.send(str(await keep(name, value, seconds)))


@worker.on_worker_stop
async def disconnect(worker):
    await store().aclose()


Worker.run_all()
