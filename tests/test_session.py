"""The type of sessions costs nothing when a program runs; ``tests/typing`` has what it is for."""

from typing import TypedDict, get_type_hints

from gateman import BusinessWorker, Connection, Gateway, Worker, current_client
from gateman.gateway.current import Current


class Session(TypedDict):
    """What an application knows of a client."""

    user: str


def test_a_class_with_a_type_is_the_class_itself() -> None:
    one: type[Connection[Session]] = Connection[Session]

    assert one is Connection
    assert type(Worker[Session]("websocket://127.0.0.1:1")) is Worker
    assert type(Gateway[Session]("websocket://127.0.0.1:1")) is Gateway
    assert type(BusinessWorker[Session]()) is BusinessWorker
    assert Current[Session] is Current


def test_annotations_can_be_read() -> None:
    def answer(connection: Connection[Session]) -> None:
        del connection

    assert get_type_hints(answer)["connection"] is Connection


def test_a_business_worker_has_the_current_client_of_all() -> None:
    assert BusinessWorker().current_client is current_client
