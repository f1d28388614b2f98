"""Values that all processes on all machines share, in NATS's key-value store."""

import nats
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError

from gateman import Worker

worker = Worker("websocket://0.0.0.0:8282", count=2)
open_stores = {}


@worker.on_worker_start
async def connect(worker):
    client = await nats.connect("nats://127.0.0.1:4222", max_reconnect_attempts=-1)
    stream = client.jetstream(timeout=5)
    open_stores["client"] = client
    open_stores["counters"] = await stream.create_key_value(bucket="counters")
    # Each value of this bucket expires, so many seconds after it was stored.
    open_stores["kept"] = await stream.create_key_value(bucket="kept", ttl=60)


async def read(name):
    """Return a value and its revision; 0 is the revision of what is not there."""
    try:
        entry = await open_stores["counters"].get(name)
    except KeyNotFoundError as missing:
        return b"0", missing.entry.revision if missing.entry else 0
    return entry.value, entry.revision


async def write(name, value, revision):
    """Store a value if its revision is still this one; tell whether it was."""
    try:
        await open_stores["counters"].update(name, value, last=revision)
    except KeyWrongLastSequenceError:
        return False
    return True


async def add(name, number=1):
    while True:  # Each turn that fails is one in which another process has written.
        value, revision = await read(name)
        total = int(value) + number
        if await write(name, str(total).encode(), revision):
            return total


async def swap(name, old, new):
    """Replace a value if it is still the old one; tell whether it was."""
    value, revision = await read(name)
    return value == old.encode() and await write(name, new.encode(), revision)


async def keep(name, value):
    """Store a value that expires, unless there is one; tell whether it was stored."""
    try:
        # Revision 0: there is none. `create` fails if the value expires meanwhile.
        await open_stores["kept"].update(name, value.encode(), last=0)
    except KeyWrongLastSequenceError:
        return False
    return True


@worker.on_message
async def handle(connection, message):
    match message.split():
        case ["add", name]:
            connection.send(str(await add(name)))
        case ["swap", name, old, new]:
            connection.send(str(await swap(name, old, new)))
        case ["keep", name, value]:
            connection.send(str(await keep(name, value)))


@worker.on_worker_stop
async def disconnect(worker):
    await open_stores["client"].close()


Worker.run_all()
