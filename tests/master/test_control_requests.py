"""What commands and masters say to each other: each side takes what the other may say, only."""

import msgspec
import pytest

from gateman.master.channel import decode, line
from gateman.master.control_requests import (
    BusAnswer,
    ControlAnswer,
    GetArrivals,
    GetBus,
    GetStatus,
    HangUp,
    ListAnswer,
    ListArrivalsAnswer,
    ListConnections,
    Reload,
    Request,
    StatusAnswer,
    Stop,
    StopAnswer,
    requests,
)

from .test_channel import ARRIVAL, CAUSE, CONNECTION, NONCE, REPORT

LISTED = {**CONNECTION, "pid": 7, "worker": "chat", "slot": 0}
PID = {"pid": 7, "worker": "chat"}
PROCESS = {"pid": 7, "status": "idle", "uptime": 1.5, **REPORT}
SLOT = {
    "worker": "chat",
    "listen": "ws://127.0.0.1:1",
    "slot": 0,
    "state": "running",
    "respawn_in": None,
    "restarts": 0,
    "last_exit": None,
    "last_lines": [],
    "processes": [PROCESS, {**PROCESS, **dict.fromkeys(REPORT)}],
}
MASTER = {"pid": 1, "script": "/a.py", "state": "running", "uptime": 2.0, "started_time": 1.0e9}


@pytest.mark.parametrize(
    "request_",
    [
        GetStatus(),
        ListConnections(7),
        Stop(graceful=True),
        Reload(gently=True, all=True),
        GetBus(),
        HangUp(),
        GetArrivals(NONCE),
    ],
)
def test_requests_are_understood(request_: Request) -> None:
    """They arrive as they were."""
    assert decode(requests, line(request_)) == request_


def test_what_a_request_leaves_out() -> None:
    """It is what the command line has by default."""
    said = [b'{"command":"connections"}', b'{"command":"stop"}', b'{"command":"reload"}']

    assert [decode(requests, one) for one in said] == [ListConnections(1000), Stop(), Reload()]


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (ControlAnswer, {}),
        (StopAnswer, {"pid": 7}),
        (BusAnswer, {"bus": None}),
        (BusAnswer, {"bus": "local:///a.bus"}),
        (BusAnswer, {"bus": {"url": "nats://a", "name": "chat"}}),
        (ListAnswer, {"connections": [LISTED], "total": 1, "silent": [8]}),
        (
            ListArrivalsAnswer,
            {"arrivals": [{**ARRIVAL, **PID}], "causes": [{**CAUSE, **PID}], "silent": []},
        ),
        (StatusAnswer, {"master": MASTER, "workers": [], "slots": [SLOT]}),
    ],
)
def test_answers_are_understood(kind: type, answer: dict[str, object]) -> None:
    """They arrive as they were; each part of one has to be there, and what is new is left out."""
    complete = {"ok": True, **answer}
    decoder: msgspec.json.Decoder[object] = msgspec.json.Decoder(kind)

    assert decode(decoder, line({**complete, "new": 1})) == complete
    for name in complete:
        with pytest.raises(ValueError, match="missing required field"):
            decode(decoder, line({key: complete[key] for key in complete if key != name}))
