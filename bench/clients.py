"""
SDK clients: what fan-out, an idle connection and a resume of thousands at once cost the server.

The server has one process and the master's router. The clients speak the JSON form of the client
protocol, and are in one channel. *Fan-out* publishes 100 bytes to all of them, again and again, and
divides the deliveries by the CPU time of the process: to a plain group, to a channel without
history, and to one with history. *Memory* is the PSS of the process per connection that is idle.
*Resume* cuts all clients at once; they come back as fast as they can and recover one message
each, and the figure is the time until the last of them has it.

    python bench/clients.py              about a minute
    QUICK=1 python bench/clients.py      about 15 seconds
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from generator import HERE
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

sys.path.insert(0, str(HERE.parent))

from tests.support.master import Master, master

QUICK = bool(os.environ.get("QUICK"))
MEMBERS = 200  # of the channel that is published to
CONNECTING = 100  # handshakes at once
TICKS = os.sysconf("SC_CLK_TCK")

SERVER = """
from gateman import Channel, Worker, hub

LIMITS = {"max_connections_per_ip": None, "max_handshakes_per_second": None}
OPEN = dict(subscribe=True, publish="everyone")
plain = Worker("websocket://127.0.0.1:PORT0", name="plain", limits=LIMITS)
plain.on_open = lambda connection: connection.join("plain")
sdk = Worker("websocket://127.0.0.1:PORT1", name="sdk", limits=LIMITS)
sdk.client_protocol = "centrifuge"
sdk.channels = {"live": Channel(**OPEN), "kept": Channel(**OPEN, history_size=1000)}


async def publish(channel, count):
    for _ in range(count):
        await hub.send_to_group(channel, "x" * 100)


@plain.on_message
async def plainly(connection, message):
    await publish("plain", int(message))


@sdk.on_rpc
async def rpc(connection, method, data):
    if method == "cut":
        for other in list(sdk.connections.values()):
            if other is not connection:
                other.destroy()
    else:
        await publish(method, data)


Worker.run_all()
"""
PORTS = ("PORT0", "PORT1")


class Client(WSListener):
    """A connection that counts what it gets."""

    def __init__(self) -> None:
        self.transport: WSTransport | None = None
        self.received = 0
        self.position: dict[str, object] = {}
        self.replies: asyncio.Queue[bytes] = asyncio.Queue()
        self.lost = asyncio.Event()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 - picows'
        self.lost.set()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is not WSMsgType.TEXT:
            if frame.msg_type is WSMsgType.PING:
                transport.send_pong(frame.get_payload_as_bytes())
            return
        payload = frame.get_payload_as_bytes()
        if payload == b"{}":
            transport.send(WSMsgType.TEXT, b"{}")
        elif payload.startswith(b'{"id"'):
            self.replies.put_nowait(payload)
        else:
            # Several publications may be in one frame.
            self.received += payload.count(b"\n") + 1 - payload.endswith(b"\n")

    async def ask(self, command: str) -> bytes:
        """Send commands, and wait for the answer to the last one."""
        assert self.transport is not None
        self.transport.send(WSMsgType.TEXT, command.encode())
        answer = b""
        for _ in range(command.count("\n") + 1):
            answer = await self.replies.get()
        return answer


async def connected(
    port: int, channel: str = "", position: dict[str, object] | None = None
) -> Client:
    """Connect a client, and subscribe it with the position that it has."""
    client = Client()
    await ws_connect(lambda: client, f"ws://127.0.0.1:{port}/", enable_auto_ping=False)
    if channel:
        recover = {} if position is None else {"recover": True, **position}
        subscribe = json.dumps({"id": 2, "subscribe": {"channel": channel, **recover}})
        answer = await client.ask(f'{{"id":1,"connect":{{}}}}\n{subscribe}')
        assert b'"error"' not in answer, answer
        assert position is None or b'"recovered":true' in answer, answer
        told = json.loads(answer)["subscribe"]
        client.position = {name: told[name] for name in ("epoch", "offset") if name in told}
    return client


async def many(
    count: int, port: int, channel: str = "", position: dict[str, object] | None = None
) -> list[Client]:
    """Connect clients, some at a time."""
    gate = asyncio.Semaphore(CONNECTING)

    async def one() -> Client:
        async with gate:
            return await connected(port, channel, position)

    return await asyncio.gather(*(one() for _ in range(count)))


def cpu_time(pid: int) -> float:
    """Read the CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def pss(pid: int) -> int:
    """Read the memory of a process, in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no Pss of {pid}")


async def end(clients: list[Client]) -> None:
    """Disconnect them."""
    for client in clients:
        assert client.transport is not None
        client.transport.disconnect()
    await asyncio.gather(*(client.lost.wait() for client in clients))


async def fan_out(pid: int, port: int, channel: str, count: int) -> float:
    """Measure deliveries per CPU second of the process."""
    clients = await many(MEMBERS, port, "" if channel == "plain" else channel)
    first = clients[0]
    before = cpu_time(pid)
    assert first.transport is not None
    if channel == "plain":
        first.transport.send(WSMsgType.TEXT, str(count).encode())
    else:
        await first.ask(json.dumps({"id": 3, "rpc": {"method": channel, "data": count}}))
    while min(client.received for client in clients) < count:  # noqa: ASYNC110 - no event of theirs
        await asyncio.sleep(0.01)
    spent = cpu_time(pid) - before
    await end(clients)
    return MEMBERS * count / spent


async def idle(pid: int, port: int, channel: str, count: int) -> float:
    """Measure KiB per connection."""
    few = await many(20, port, channel)
    before = pss(pid)
    clients = await many(count, port, channel)
    cost = (pss(pid) - before) / count / 1024
    await end(few + clients)
    return cost


async def resume(pid: int, port: int, count: int) -> tuple[float, float]:
    """Measure the seconds until all clients have what they missed, and those of the CPU."""
    control = await connected(port, "kept")
    await control.ask(json.dumps({"id": 3, "rpc": {"method": "kept", "data": 1}}))
    clients = await many(count, port, "kept")
    position = clients[0].position
    await control.ask(json.dumps({"id": 5, "rpc": {"method": "cut", "data": None}}))
    await asyncio.gather(*(client.lost.wait() for client in clients))
    await control.ask(json.dumps({"id": 6, "rpc": {"method": "kept", "data": 1}}))
    before, start = cpu_time(pid), time.perf_counter()
    back = await many(count, port, "kept", position)
    taken = time.perf_counter() - start, cpu_time(pid) - before
    await end([*back, control])
    return taken


async def measure(service: Master, ports: tuple[int, int], *, clients: int, count: int) -> None:
    """Ask all questions, and print the answers."""
    pids = {slot["worker"]: slot["processes"][0]["pid"] for slot in service.status()["slots"]}
    print(f"fan-out to {MEMBERS} clients, deliveries per CPU second of the process")
    figures = {
        channel: await fan_out(
            pids["plain" if channel == "plain" else "sdk"],
            ports[channel != "plain"],
            channel,
            count,
        )
        for channel in ("plain", "live", "kept")
    }
    names = {"plain": "plain group", "live": "channel", "kept": "channel with history"}
    for channel, figure in figures.items():
        print(f"  {names[channel]:22} {figure:10,.0f}   {figure / figures['plain']:.2f}")
    plain = await idle(pids["plain"], ports[0], "", clients)
    sdk = await idle(pids["sdk"], ports[1], "live", clients)
    print(f"idle memory, KiB per connection of {clients:,}: plain {plain:.1f}, SDK {sdk:.1f}")
    seconds, spent = await resume(pids["sdk"], ports[1], clients)
    print(f"resume of {clients:,} clients at once: {seconds:.1f} s", end=", ")
    print(f"{clients / spent:,.0f} per CPU second of the process")


def main() -> None:
    """Read the arguments, run the server, and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=500 if QUICK else 5000)
    parser.add_argument("--messages", type=int, default=200 if QUICK else 2000)
    arguments = parser.parse_args()
    from tests.support.ports import free_port

    ports = (free_port(), free_port())
    script = SERVER
    for name, port in zip(PORTS, ports, strict=True):
        script = script.replace(name, str(port))
    with tempfile.TemporaryDirectory() as folder, master(script, Path(folder)) as service:
        service.wait_for("sdk listens on")
        asyncio.run(measure(service, ports, clients=arguments.clients, count=arguments.messages))


if __name__ == "__main__":
    main()
