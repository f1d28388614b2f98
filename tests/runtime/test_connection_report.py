"""What an operator reads of one connection."""

from gateman.connection import Connection, State
from gateman.runtime.connection_report import describe
from tests.support.members import FakeLink, connection


def made(state: State) -> Connection:
    return connection(7, FakeLink(), state)


def test_an_open_connection_has_an_age() -> None:
    client = made(State.OPEN)
    client.opened_at = 100.0

    assert describe(client, uid="ann", now=103.21) == {
        "id": 7,
        "client": client.remote_address,
        "proxy": None,
        "state": "open",
        "unsent": client.send_buffer_size,
        "received": None,
        "sent": None,
        "messages": 0,
        "age": 3.2,
        "uid": "ann",
    }


def test_a_client_behind_a_proxy_is_named_beside_it() -> None:
    client = made(State.CONNECTING)
    client.remote_ip = "203.0.113.7"
    described = describe(client, uid=None, now=None)

    assert described["client"].startswith("203.0.113.7")
    assert (described["proxy"], described["age"]) == ("127.0.0.1", None)
