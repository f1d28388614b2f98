"""
What users write, for the type checker: it is never run.

``mypy --strict`` takes the whole page. A line with an ignore is a mistake that has to be found: an
ignore that is not needed is an error.
"""

from typing import Any, assert_type

from gateman import (
    Allow,
    BusinessWorker,
    Channel,
    ClientError,
    CloseCode,
    ConfigError,
    Connection,
    Deflate,
    Disconnect,
    ExitCode,
    GatemanError,
    Gateway,
    Limits,
    PacketProtocol,
    ProtocolError,
    Refuse,
    Request,
    SendResult,
    SlowConsumer,
    State,
    Timeouts,
    Timer,
    Worker,
    hub,
    metrics,
)

# Declaring.

worker = Worker("websocket://0.0.0.0:8282")
worker = Worker(
    "wss://[::]:443",
    {"ssl": {"local_cert": "server.pem", "local_pk": "server.key", "verify_peer": False}},
    name="chat",
    count=4,
    transport="ssl",
    limits=Limits(max_message_size=1 << 16),
    timeouts={"ping_interval": None, "close": 2.5},
    trusted_proxies=["10.0.0.0/8"],
    allowed_origins={"https://example.com"},
    subprotocols=("chat.v2", "chat.v1"),
    health_path=None,
    test_page=True,
    slow_consumer="drop_oldest",
    compression=Deflate(),
    proxy_protocol="off",
)
Worker("wss://0.0.0.0:443", acme="example.com")
Worker("wss://0.0.0.0:443", acme=["example.com", "www.example.com"])
Worker("wss://0.0.0.0:443", acme={"domains": ["example.com"], "dns": {"command": "x", "wait": 5}})
Worker("wss://0.0.0.0:443", acme=443)  # type: ignore[arg-type]
worker.transport = "ssl"
worker.count = 2
worker.limits = {"max_head_size": 4096}
worker.timeouts = Timeouts(close=1.0)
worker.slow_consumer = SlowConsumer.CLOSE
worker.health_path = "/up"
worker.live_path = None

Worker(8282)  # type: ignore[arg-type]
Worker("ws://a:1", None, "chat")  # type: ignore[call-arg]
Worker("ws://a:1", count="4")  # type: ignore[arg-type]
Worker("ws://a:1", cuont=3)  # type: ignore[call-arg]
Worker("ws://a:1", on_message=print)  # type: ignore[call-arg]
Worker("ws://a:1", slow_consumer=5)  # type: ignore[arg-type]
worker.limits = 5  # type: ignore[assignment]
worker.count = None  # type: ignore[assignment]
assert_type(worker.limits, Limits)
assert_type(worker.timeouts, Timeouts)
assert_type(worker.slow_consumer, SlowConsumer)
assert_type(worker.transport, str)
assert_type(worker.max_lifetime, float | None)


# Callbacks, by decorator: plain or async, with or without annotations of their own.


@worker.on_worker_start
async def prepare(started: Worker) -> None:
    """Open a pool."""
    assert_type(started.connections, dict[int, Connection])
    assert_type(started.id, int)


@worker.on_health
async def look(checked: Worker) -> bool:
    """Say whether this process is ready."""
    return len(checked.connections) < 1000


@worker.on_event("prices")
async def renew(prices: dict[str, float]) -> None:
    """Take what another process tells."""
    hub.send_event("seen", list(prices))
    assert_type(await hub.send_to_uid("42", "x"), int)
    assert_type(await hub.close_uid("42", 4003, "banned"), None)


@worker.on_event(7)  # type: ignore[arg-type]
def wrong(data: object) -> None:
    """Take what cannot be."""


@worker.on_event("prices")  # type: ignore[type-var]
def takes_nothing() -> None:
    """Take too little."""


@worker.on_connect
def arrived(connection: Connection) -> None:
    """Look at who comes."""
    assert_type(connection.peer_ip, str)
    assert_type(connection.remote_port, int)
    assert_type(connection.is_secure, bool)


@worker.on_websocket_connect
async def decide(connection: Connection, request: Request) -> None:
    """Let in, or not."""
    assert_type(request.path, str)
    assert_type(request.query.get("token"), str | None)
    assert_type(request.headers.getall("X-Forwarded-For", []), list[str])
    assert_type(request.cookies, dict[str, str])
    assert_type(request.subprotocols, tuple[str, ...])
    assert_type(request.origin, str | None)
    if request.cookies.get("session") != "secret":
        raise Refuse(403, "Log in first.", {"Set-Cookie": "a=b"})
    connection.subprotocol = request.subprotocols[0]
    connection.response_headers["X-Served-By"] = "one"
    connection.session["user"] = "ann"


@worker.on_open
def opened(connection: Connection) -> None:
    """Greet."""
    fate = connection.send("welcome")
    assert_type(fate, SendResult)
    if fate is SendResult.DROPPED or not fate:
        connection.close(CloseCode.TRY_AGAIN_LATER, "slow", message="goodbye")


@worker.on_message
async def answer(connection: Connection, message: str | bytes) -> None:
    """Send everything back to everybody."""
    for other in connection.worker.connections.values():
        other.send(message)
    await connection.drain()
    assert_type(connection.send_buffer_size, int)


@worker.on_close
def closed(connection: Connection, code: int, reason: str) -> None:
    """Say goodbye."""
    print(connection.id, connection.state is State.CLOSED, code, reason)  # noqa: T201


@worker.on_error
def failed(_connection: Connection, error: Exception) -> None:
    """Tell a mistake of the peer's from one of ours."""
    if isinstance(error, ProtocolError):
        assert_type(error.close_code, int)


# What is decorated can be called as before.
assert_type(closed(worker.connections[1], 1000, ""), None)


@worker.on_message  # type: ignore[arg-type]
def too_little(connection: Connection) -> None:
    """Take no message."""


@worker.on_close  # type: ignore[arg-type]
async def too_much(connection: Connection, code: int, reason: str, more: int) -> None:
    """Take what no close has."""


@worker.on_websocket_connect  # type: ignore[arg-type]
def other_types(connection: Request, request: Connection) -> None:
    """Take them in the wrong order."""


@worker.every(60)  # type: ignore[type-var]
def every_with_arguments(started: Worker) -> None:
    """Take what no timer gives."""


# Callbacks, by assignment.


class Chat:
    """Handlers with something in common."""

    def __init__(self, name: str) -> None:
        self.name = name

    def on_message(self, connection: Connection, message: Any) -> None:
        """Take text as well as bytes."""
        connection.send(bytearray(message, "utf-8"))
        connection.send(memoryview(b"view"))
        connection.pause_recv()
        connection.resume_recv()
        Timer.delete(connection.after(1.5, connection.close, 4401, "no login"))

    async def on_buffer_full(self, connection: Connection) -> None:
        """Cut off who is slow."""
        connection.destroy()


chat = Chat("chat")
worker.on_message = chat.on_message
worker.on_buffer_full = chat.on_buffer_full
worker.on_buffer_drain = lambda connection: connection.send("fast again")
worker.on_worker_stop = None

worker.on_open = lambda: None  # type: ignore[assignment]
worker.on_close = chat.on_buffer_full  # type: ignore[assignment]


@worker.every(60)
async def tidy_up() -> None:
    """Run now and then."""


number = Timer.add(1.5, tidy_up)
Timer.delete(number)

# Gateways and business workers.

gateway = Gateway("wss://[::]:443", {"ssl": {}}, count=2, without_business="refuse")
gateway.reloadable = True
business = BusinessWorker(name="chat", count=4, timeouts={"shutdown": 5}, max_memory=1 << 30)

Gateway()  # type: ignore[call-arg]
BusinessWorker("chat")  # type: ignore[call-arg]
BusinessWorker(limits=Limits())  # type: ignore[call-arg]
Gateway("ws://a:1", without_busines="wait")  # type: ignore[call-arg]


@business.on_worker_start
def ready(started: BusinessWorker) -> None:
    """Open a pool."""
    assert_type(started.id, int)


@business.on_websocket_connect
async def admit(client_id: str, request: Request) -> None:
    """Let in, or not."""
    if not request.query.get("token"):
        raise Refuse(403, f"{client_id} has to log in first.")


@business.on_message
def handle(client_id: str, message: str | bytes) -> None:
    """Take text as well as bytes."""


business.on_close = lambda _client_id, _code, _reason: None
business.on_open = lambda: None  # type: ignore[assignment]


@business.on_message  # type: ignore[arg-type]
def of_a_worker(connection: Connection, message: str) -> None:
    """Take the connection, which another process has."""


business.every(1)(tidy_up)
BusinessWorker.run_all()


# Sending what is no message.

one = worker.connections[1]
one.send(5)  # type: ignore[arg-type]
one.send(None)  # type: ignore[arg-type]
one.close("bye")  # type: ignore[arg-type]


# SDK clients.

sdk = Worker(
    "websocket://0.0.0.0:8283",
    client_protocol="centrifuge",
    channels={"chat:*": Channel(subscribe=True, publish="subscribers", history_size=100)},
    client_limits={"max_subscriptions": 10},
    tokens={"jwks_url": "https://example.com/keys"},
)
Worker("ws://a:1", channels=["chat"])  # type: ignore[arg-type]


@sdk.on_client_connect
def connect(connection: Connection, token: str, data: Any) -> Allow:
    connection.bind(token)
    return Allow(data=data, expires_in=60)


@sdk.on_subscribe
async def subscribe(connection: Connection, channel: str, data: Any) -> bool:
    return channel.startswith(connection.client_id) and bool(data)


@sdk.on_rpc
def call(connection: Connection, method: str, data: Any) -> Any:
    raise ClientError(404, f"{connection.id} has no {method} for {data}")


@sdk.on_publish  # type: ignore[arg-type]
def publish(connection: Connection, channel: str) -> None:
    raise Disconnect(4500, f"{connection.id} {channel}")


async def use_channels() -> None:
    hub.send_to_group("chat:1", {"text": "hi", "at": [1, 2.5, None]})
    hub.send_to_uid("42", value := True)
    hub.send_to_all(object())  # type: ignore[arg-type]
    position = await hub.publish("chat:1", value, tags={"kind": "test"})
    found = await hub.history("chat:1", limit=10, since=position)
    assert_type(found.publications[0].offset, int)


# Errors.


def main() -> None:
    """Run it, and do something about what cannot be."""
    try:
        Worker.run_all()
    except ConfigError as error:
        assert_type(error.problem, str)
        assert_type(error.remedy, str)
        raise SystemExit(ExitCode.CONFIG) from error
    except GatemanError:
        raise


# Metrics.

orders = metrics.counter("orders_total", "Orders placed.", labels=["kind"])
orders.inc(kind="card")
orders.inc(2.5, kind=7)
assert_type(orders.value(kind="card"), float)
rooms = metrics.gauge("rooms", "Rooms.", combine="max")
rooms.set(3)
metrics.gauge("rooms", "Rooms.", combine="mean")  # type: ignore[arg-type]
waits = metrics.histogram("wait_seconds", "Waits.", buckets=(0.1, 1))
waits.observe(0.2)
waits.observe("0.2")  # type: ignore[arg-type]
assert_type(metrics.text(), str)
Worker.run_all(metrics="127.0.0.1:9095")
Worker.run_all("127.0.0.1:9095")  # type: ignore[arg-type]
Worker.run_all(metrcis="127.0.0.1:9095")  # type: ignore[arg-type]


# A protocol of one's own.


class Pairs:
    def packet_size(self, data: bytearray) -> int | None:
        return None if len(data) < 2 else 2

    def decode(self, packet: bytes) -> tuple[int, int]:
        return packet[0], packet[1]

    def encode(self, message: tuple[int, int]) -> bytes:
        return bytes(message)


class NoProtocol:
    def packet_size(self, data: bytearray) -> str:
        return str(data)


protocol: PacketProtocol = Pairs()
Worker("tcp://0.0.0.0:8284", protocol=Pairs)
pairs = Worker("tcp://0.0.0.0:8284", protocol=protocol)
pairs.protocol = Pairs
Worker("tcp://0.0.0.0:8284", protocol=NoProtocol)  # type: ignore[arg-type]


@pairs.on_message
def swap(connection: Connection, message: Any) -> None:
    connection.send(message[::-1])
