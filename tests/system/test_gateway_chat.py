"""``examples/gateway_chat.py``: a chat that is renewed while people chat."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.support.master import Master, master

SCRIPT = (Path(__file__).parents[2] / "examples" / "gateway_chat.py").read_text()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Master]:
    """The example, on a free port."""
    script = SCRIPT.replace("127.0.0.1:8282", "127.0.0.1:0")
    # A reload hands clients over for half a minute by default.
    variables = {"GATEMAN_CHAT_DRAIN_WINDOW": "0.5"}
    with master(script, tmp_path, environment=variables) as running:
        running.wait_for("chat serves, 2 processes")
        yield running


def open_as(service: Master, user: str, room: str = "room") -> ClientConnection:
    """Connect somebody, whom the others see."""
    return connect(f"ws://127.0.0.1:{service.port}/{room}?token=secret-of-{user}")


def test_people_chat_and_the_code_is_renewed(service: Master) -> None:
    """Whoever is in a room reads it, before and after a reload, and sessions go on."""
    with open_as(service, "ann") as ann:
        assert ann.recv() == "in this room: ann"
        with open_as(service, "bob") as bob:
            assert bob.recv() == "in this room: ann, bob"
            ann.send("hello")
            assert (ann.recv(), bob.recv()) == ("ann 1: hello", "ann 1: hello")

            code = service.path.read_text().replace("{session['lines']}: ", "{session['lines']}> ")
            service.path.write_text(code)
            assert service.gateman("reload").stdout == "reloaded\n"

            ann.send("again")
            assert (ann.recv(), bob.recv()) == ("ann 2> again", "ann 2> again")
        assert ann.recv() == "bob has left"


def test_unauthenticated_clients_are_refused(service: Master) -> None:
    """The handshake waits for what the business worker says."""
    with pytest.raises(InvalidStatus) as refused:
        open_as(service, "eve")

    assert refused.value.response.status_code == 401
