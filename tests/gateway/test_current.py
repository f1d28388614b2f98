"""`current` tells of the client whose event is handled, and of nobody elsewhere."""

from contextvars import copy_context

import pytest

from gateman.cluster.names import ClientId
from gateman.errors import ConfigError, HubError
from gateman.gateway.client_context import GONE, ClientContext
from gateman.gateway.current import current_client, current_context


@pytest.mark.parametrize("name", ["client_id", "remote_ip", "remote_port", "session"])
def test_outside_a_handler_there_is_no_current_client(name: str) -> None:
    """A mistake is told, not guessed around."""
    with pytest.raises(HubError) as caught:
        getattr(current_client, name)

    assert str(caught.value) == (
        "current_client is only set while a handler of a business worker runs."
    )


def test_inside_it_is_the_client() -> None:
    """Its id, its address, and its session to change."""
    ann = ClientContext(ClientId("gate-1"), GONE, "10.0.0.1", 5000)

    def look() -> tuple[object, ...]:
        current_context.set(ann)
        current_client.session["name"] = "Ann"
        return (
            current_client.client_id,
            current_client.remote_ip,
            current_client.remote_port,
            current_client.session,
        )

    seen = copy_context().run(look)

    assert seen == ("gate-1", "10.0.0.1", 5000, {"name": "Ann"})
    assert current_context.get() is None


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("user", "write current_client.session['user'] = …"),
        (
            "session",
            "change what is in the session: current_client.session.update(…)",
        ),
    ],
)
def test_nothing_is_set_for_all_clients(name: str, remedy: str) -> None:
    """It is one object: the next client would have the user of the one before."""
    with pytest.raises(ConfigError) as caught:
        setattr(current_client, name, "ann")

    assert str(caught.value) == (
        f"current_client.{name} cannot be set: it is one object for all clients: {remedy}."
    )
