"""`current` tells of the client whose event is handled, and of nobody elsewhere."""

from contextvars import copy_context

import pytest

from gateman.cluster.names import ClientId
from gateman.errors import HubError
from gateman.gateway.current import current, guest
from gateman.gateway.handlers import Guest


@pytest.mark.parametrize("name", ["client_id", "remote_ip", "remote_port", "session"])
def test_outside_a_handler_there_is_nobody(name: str) -> None:
    """A mistake is told, not guessed around."""
    with pytest.raises(HubError) as caught:
        getattr(current, name)

    assert str(caught.value) == (
        "`current` tells of a client while a handler of a business worker runs."
    )


def test_inside_it_is_the_client() -> None:
    """Its id, its address, and its session to change."""
    ann = Guest(ClientId("gate-1"), "10.0.0.1", 5000)

    def look() -> tuple[object, ...]:
        guest.set(ann)
        current.session["name"] = "Ann"
        return current.client_id, current.remote_ip, current.remote_port, current.session

    seen = copy_context().run(look)

    assert seen == ("gate-1", "10.0.0.1", 5000, {"name": "Ann"})
    assert guest.get() is None
