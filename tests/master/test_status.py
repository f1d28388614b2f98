"""What ``status`` and ``connections`` say, of real processes."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from gateman.net.arrivals import NONCE_FIELD
from tests.support.deadlines import TIMEOUT
from tests.support.master import ask_control, echo, master, until

NONCE = "0123456789abcdef0123456789abcdef"


def test_status(tmp_path: Path) -> None:
    """It describes each slot and process."""
    with (
        master(echo(options="count=2"), tmp_path) as service,
        connect(f"ws://127.0.0.1:{service.port}") as client,
    ):
        client.send("hello")
        client.recv()
        status = service.status()

        assert status["master"]["pid"] == service.pid
        assert status["master"]["script"] == str(service.path)
        assert status["master"]["state"] == "running"
        assert status["workers"] == [
            {"name": "chat", "listen": f"ws://127.0.0.1:{service.port}", "count": 2}
        ]
        assert [(slot["slot"], slot["state"], slot["restarts"]) for slot in status["slots"]] == [
            (0, "running", 0),
            (1, "running", 0),
        ]
        processes = service.processes()
        assert [one["status"] for one in processes] == ["idle", "idle"]
        assert sum(one["connections"] for one in processes) == 1
        assert sum(one["messages"] for one in processes) == 1
        assert all(one["memory"] > 10 << 20 for one in processes)


def test_arrivals(tmp_path: Path) -> None:
    """It lists what all processes saw of the doctor's handshakes, from the first request on."""
    question = json.dumps({"command": "arrivals", "nonce": NONCE}).encode() + b"\n"
    with master(echo(options="count=2"), tmp_path) as service:
        assert ask_control(service.path, question) == {
            "ok": True,
            "arrivals": [],
            "causes": [],
            "silent": [],
        }
        fields = {NONCE_FIELD: NONCE}
        with connect(f"ws://127.0.0.1:{service.port}", additional_headers=fields):
            pass
        answer: dict[str, Any] = ask_control(service.path, question)
        [arrival] = answer["arrivals"]

        assert arrival["pid"] in service.pids()
        assert (arrival["worker"], arrival["status"]) == ("chat", 101)
        assert "error" in ask_control(service.path, b'{"command":"arrivals","nonce":"x"}\n')


def test_connections(tmp_path: Path) -> None:
    """It lists the connections, with what the system has counted."""
    with (
        master(echo(), tmp_path) as service,
        connect(f"ws://127.0.0.1:{service.port}") as client,
    ):
        client.send("hello")
        client.recv()
        answer = json.loads(service.command("connections", "--json").stdout)
        (connection,) = answer["connections"]

        assert answer["total"] == 1
        assert answer["silent"] == []
        assert connection["pid"] in service.pids()
        assert connection["client"] == "{}:{}".format(*client.local_address)
        assert connection["state"] == "open"
        assert connection["messages"] == 1
        assert connection["received"] > 100
        assert connection["sent"] > 100
        assert connection["uid"] is None


def test_connections_show_the_uid(tmp_path: Path) -> None:
    """The uid that the hub knows a client by, from the moment at which it is bound to it."""
    script = echo().replace(
        "    connection.send", "    connection.bind(message)\n    connection.send"
    )
    with master(script, tmp_path) as service, connect(f"ws://127.0.0.1:{service.port}") as client:
        client.send("ann")
        client.recv()
        answer = json.loads(service.command("connections", "--json").stdout)
        table = service.command("connections").stdout.splitlines()

    assert [one["uid"] for one in answer["connections"]] == ["ann"]
    assert (table[0].split()[-1], table[1].split()[-1]) == ("uid", "ann")


def test_a_long_callback_is_seen_in_the_next_status(tmp_path: Path) -> None:
    """A callback of 300 ms is reported as the event loop's lag, whenever it was."""
    script = echo(options="count=1").replace(
        "    connection.send", "    import time; time.sleep(0.3)\n    connection.send"
    )
    with master(script, tmp_path) as service, connect(f"ws://127.0.0.1:{service.port}") as client:
        client.send("hello")
        client.recv()
        (process,) = service.processes()

        assert 0.1 < process["lag"] < TIMEOUT


@pytest.mark.alone
def test_status_does_not_wait_for_a_stuck_process(tmp_path: Path) -> None:
    """It is busy; the others answer, all within 100 ms."""
    script = echo(options="count=2").replace(
        "    connection.send", "    import time; time.sleep(1000)\n    connection.send"
    )
    with master(script, tmp_path) as service, connect(f"ws://127.0.0.1:{service.port}") as client:
        client.send("stick")
        until(lambda: "busy" in [one["status"] for one in service.processes()])

        def is_at_once() -> bool:
            started_at = time.monotonic()
            assert ask_control(service.path, b'{"command": "status"}\n')["ok"]
            return time.monotonic() - started_at < 0.1

        # Once suffices: what else the machine does is not the master's.
        until(is_at_once)
        processes = service.processes()
        assert sorted(one["status"] for one in processes) == ["busy", "idle"]
        # It would keep the end of the master waiting for as long as a process may take.
        os.kill(next(one["pid"] for one in processes if one["status"] == "busy"), signal.SIGKILL)
