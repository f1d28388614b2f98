"""What a dispatch decides is compared by what it says."""

from typing import get_args

import pytest

from gateman.cluster.names import ClientId, NodeId
from gateman.gateway.actions import (
    DispatchAction,
    Log,
    Probe,
    Quarantine,
    Reply,
    ReplyToCommand,
    Resume,
    Send,
    StoreSession,
)
from gateman.gateway.protocol import Discover, HandshakeAnswer, OpenEvent

CLIENT = ClientId("gate-1")
ACTIONS: list[DispatchAction] = [
    Send(None, Discover()),
    Resume(CLIENT),
    Reply(CLIENT, HandshakeAnswer(0)),
    ReplyToCommand(CLIENT, b""),
    StoreSession(CLIENT, b""),
    Probe(NodeId("b1")),
    Quarantine(CLIENT, OpenEvent(CLIENT)),
    Log("warning", "text"),
]


def test_actions_are_compared_by_content() -> None:
    """Each equals itself, and none another."""
    assert {type(one) for one in ACTIONS} == set(get_args(DispatchAction))
    for place, action in enumerate(ACTIONS):
        assert [other == action for other in ACTIONS].index(True) == place


@pytest.mark.parametrize("action", ACTIONS, ids=lambda one: type(one).__name__)
def test_actions_do_not_change(action: DispatchAction) -> None:
    """What was decided stays."""
    name = type(action).__struct_fields__[0]
    with pytest.raises(AttributeError):
        setattr(action, name, None)
