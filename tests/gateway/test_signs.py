"""Signs of life, and for how long their absence is forgiven."""

import pytest

from gateman.gateway.signs import BEAT_INTERVAL, STEP, patience


@pytest.mark.parametrize(
    ("url", "seconds"),
    [("local:/run/chat/bus", 0.0), ("nats://localhost:4222", 1.5), ("tls://a:1,tls://b:1", 1.5)],
)
def test_a_bus_of_many_servers_is_not_believed_at_once(url: str, seconds: float) -> None:
    """A process that has lost one server finds another; a machine has one router."""
    assert patience(url) == seconds


def test_it_is_looked_more_often_than_signs_come() -> None:
    """So that a silence is noticed soon after it is one."""
    assert STEP < BEAT_INTERVAL
