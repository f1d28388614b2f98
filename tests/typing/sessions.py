"""What users write who give their sessions and messages a type; see ``api.py``."""

from typing import Any, TypedDict, assert_type

from gateman import (
    BusinessWorker,
    Connection,
    Gateway,
    Request,
    Worker,
    current_client,
    hub,
    serve,
    testing,
)


class Session(TypedDict, total=False):
    """What the application knows of a client."""

    user: str
    lines: int


# A worker.

worker = Worker[Session]("websocket://0.0.0.0:8282", name="chat", count=4)
assert_type(worker, Worker[Session])
assert_type(worker.connections, dict[int, Connection[Session]])
rooms: dict[str, set[Connection[Session]]] = {}

Worker[Session](8282)  # type: ignore[arg-type]
Worker[int]("ws://a:1")  # type: ignore[type-var]


@worker.on_worker_start
def prepare(started: Worker[Session]) -> None:
    """Know the type."""
    assert_type(started.connections[1].session, Session)


@worker.on_websocket_connect
def log_in(connection: Connection[Session], request: Request) -> None:
    """Fill the session."""
    connection.session["user"] = request.query["user"]
    connection.session["user"] = 5  # type: ignore[typeddict-item]
    connection.session["uesr"] = "ann"  # type: ignore[typeddict-unknown-key]
    assert_type(connection.session.get("lines"), int | None)


@worker.on_open
async def opened(connection: Connection[Session]) -> None:
    """Use it."""
    helper(connection)
    reader(connection)
    other(connection)  # type: ignore[arg-type]


def helper(connection: Connection[Any]) -> None:
    """Take the connection of any worker."""
    connection.send("welcome")


def reader(connection: Connection[Session]) -> int:
    """Take one of this worker."""
    return connection.session.get("lines", 0)


def other(connection: Connection) -> None:
    """Take one of a worker without a type."""
    assert_type(connection.session, dict[str, Any])


@worker.on_close  # type: ignore[arg-type]
def of_another_type(connection: Connection, code: int, reason: str) -> None:
    """Take the connection of another worker."""


# Messages: text alone, binary alone, or both.


@worker.on_message
async def both(connection: Connection[Session], message: str | bytes) -> None:
    """Take all."""


worker.on_message = lambda connection, message: connection.send(message)


@worker.on_message
def text(connection: Connection[Session], message: str) -> None:
    """Take text."""


@worker.on_message
async def binary(connection: Connection[Session], message: bytes) -> None:
    """Take binary."""


@worker.on_message
def anything(connection: Connection[Session], message: Any) -> None:
    """Take whatever it is."""


@worker.on_message  # type: ignore[arg-type]
def number(connection: Connection[Session], message: int) -> None:
    """Take what no client can send."""


@worker.on_message  # type: ignore[arg-type]
def none(connection: Connection[Session]) -> None:
    """Take no message."""


def take_number(connection: Connection[Session], message: int) -> None:
    """Take what no client can send."""


def take_text(connection: Connection[Session], message: str) -> None:
    """Take text."""


worker.on_message = take_text
worker.on_message = take_number  # type: ignore[assignment]
assert_type(text(worker.connections[1], "hi"), None)


# Gateways and business workers.

gateway = Gateway[Session]("websocket://0.0.0.0:8282")
assert_type(gateway.connections[1].session, Session)
business = BusinessWorker[Session](name="chat", count=2)


@business.on_message
async def handle(client_id: str, message: str) -> None:
    """Know the session's type by the worker."""
    session = business.current_client.session
    assert_type(session, Session)
    session["lines"] = session.get("lines", 0) + 1
    session["lines"] = "many"  # type: ignore[typeddict-item]
    hub.send_to_client(client_id, message)


@business.on_message  # type: ignore[arg-type]
def of_a_number(client_id: str, message: float) -> None:
    """Take what no client can send."""


# Without a type, all is as before.

plain = Worker("websocket://0.0.0.0:8282")
assert_type(plain, Worker[dict[str, Any]])
assert_type(plain.connections[1].session, dict[str, Any])
assert_type(BusinessWorker().current_client.session, dict[str, Any])
assert_type(current_client.session, dict[str, Any])


# Tests of them.


async def test_it() -> None:
    """Connect a client."""
    async with (
        testing.service(gateway, business, processes={business: 2}) as service,
        testing.connect(gateway, "/chat") as client,
    ):
        assert_type(await client.receive(), str | bytes)
        [first, _] = service.processes(business)
        assert_type(await first.reload(), testing.Process)
    async with testing.connect(worker, headers={"Cookie": "a=b"}) as client:
        assert_type(client.closed, testing.Closed | None)
    await testing.refused(business)  # type: ignore[arg-type]
    async with serve(worker, plain):
        pass
