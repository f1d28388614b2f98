"""A master with gateways and business workers: who is started, renewed, left alone and shown."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.support.deadlines import TIMEOUT
from tests.support.master import GATEMAN, Master, master, run, until

SCRIPT = """
from gateman import BusinessWorker, Gateway

gateway = Gateway("websocket://127.0.0.1:0", count=2)
business = BusinessWorker(count=2)

@business.on_message
def answer(client_id, message):
    pass

Gateway.run_all()
"""

GATEWAYS, BUSINESS = slice(0, 2), slice(2, 4)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Master]:
    """Two gateways and two business workers that serve."""
    with master(SCRIPT, tmp_path) as running:
        running.wait_for("business serves, 2 processes")
        yield running


def test_reload_renews_business_workers_only(service: Master) -> None:
    """The processes that hold connections stay; so does everybody who is connected."""
    before = service.pids()
    reloaded = service.gateman("reload")
    until(lambda: not set(service.pids()) & set(before[BUSINESS]))

    assert (reloaded.returncode, reloaded.stdout) == (0, "reloaded\n")
    assert service.pids()[GATEWAYS] == before[GATEWAYS]


def test_reload_of_all_renews_everybody(service: Master) -> None:
    """For new options of the gateways, or a new version of gateman."""
    before = service.pids()
    reloaded = service.command("reload", "--all")
    until(lambda: not set(service.pids()) & set(before))

    assert (reloaded.returncode, reloaded.stdout) == (0, "reloaded\n")
    assert len(service.pids()) == 4


def test_a_signal_renews_business_workers_only(service: Master) -> None:
    """As the command does."""
    before = service.pids()
    service.signal(signal.SIGUSR1)
    service.wait_for("reloaded")
    until(lambda: len(service.pids()) == 4)
    after = service.pids()

    assert after[GATEWAYS] == before[GATEWAYS]
    assert not set(after) & set(before[BUSINESS])


BROKEN = {
    "start": (
        SCRIPT.replace("Gateway.run", "business.on_worker_start = lambda _: 1 / 0\nGateway.run"),
        "ZeroDivisionError",
    ),
    "kind": (
        SCRIPT.replace("BusinessWorker(", "Gateway('websocket://127.0.0.1:7001', ").replace(
            "@business.on_message", ""
        ),
        "the script listens on websocket://127.0.0.1:7001, but a worker without an address is"
        " running: `restart` makes the change",
    ),
    "bus": (
        SCRIPT.replace("count=2", "count=2, bus='nats://10.0.0.7?name=test'"),
        "any program that reaches it could act as any client",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_version_leaves_the_old_one_in_service(service: Master, case: str) -> None:
    """The command exits with 1 and says why."""
    script, why = BROKEN[case]
    before = service.pids()
    service.path.write_text(script)
    reloaded = service.gateman("reload")

    assert reloaded.returncode == 1
    assert why in reloaded.stderr
    assert service.pids() == before


def test_status_shows_workers_without_an_address(service: Master) -> None:
    """A row like the others, with a dash for the address."""
    status = service.status()
    shown = service.gateman("status").stdout
    connections = json.loads(service.gateman("connections", "--json").stdout)

    assert [(one["name"], one["listen"], one["count"]) for one in status["workers"]] == [
        ("gateway", f"ws://127.0.0.1:{service.port}", 2),
        ("business", "-", 2),
    ]
    assert [process["messages"] for process in service.processes()] == [0, 0, 0, 0]
    assert "\nbusiness  -  " in shown
    assert "\nbusiness/1  " in shown
    assert (connections["connections"], connections["silent"]) == ([], [])


LEAVING = """
import os
from gateman import BusinessWorker, Gateway

gateway = Gateway("websocket://127.0.0.1:0", count=2, drain_window=0.2)
business = BusinessWorker(count=2)

@business.on_close
def note(client_id, code, reason):
    with open("closed.txt", "a") as file:
        print(code, file=file)

Gateway.run_all()
"""


@pytest.mark.parametrize("words", [[], ["-g"]], ids=["at once", "gracefully"])
def test_a_stop_is_told_to_the_application(tmp_path: Path, words: list[str]) -> None:
    """Gateways end first, so that each of their clients' ends is handled."""
    with master(LEAVING, tmp_path) as service, ExitStack() as clients:
        for _ in range(20):
            client = connect(f"ws://127.0.0.1:{service.port}", close_timeout=TIMEOUT)
            clients.enter_context(client)
        stopped = service.gateman("stop", *words)
        codes = (tmp_path / "closed.txt").read_text().split()

        assert stopped.returncode == 0
        assert codes == ["1012" if words else "1001"] * 20
        assert "not handled" not in service.stderr


def test_business_workers_may_be_alone(tmp_path: Path) -> None:
    """Their gateways may be elsewhere; there is a bus in any case."""
    script = "from gateman import BusinessWorker\nBusinessWorker()\n"
    with master(f"{script}BusinessWorker.run_all()\n", tmp_path, listens=False) as service:
        service.wait_for("business serves, 1 process")
        bus = service.gateman("bus").stdout

        assert bus.startswith(f"local://{tmp_path}/server-")
        assert service.gateman("reload").returncode == 0


def test_gateways_alone_have_nothing_to_renew(tmp_path: Path) -> None:
    """The sentence says what would renew them."""
    with master(
        "from gateman import Gateway\nGateway('websocket://127.0.0.1:0')\nGateway.run_all()\n",
        tmp_path,
    ) as service:
        before = service.pids()
        reloaded = service.gateman("reload")

        assert (reloaded.returncode, reloaded.stderr) == (
            1,
            "gateman: no worker is reloadable: `reload --all` renews all processes.\n",
        )
        assert service.pids() == before
        assert service.gateman("reload", "--all").returncode == 0


MISTAKES = {
    "code": (
        "Gateway('websocket://127.0.0.1:0').on_message = print",
        "on_message of print: a Gateway runs no application code: declare it on a BusinessWorker.",
    ),
    "buses": (
        "Gateway('websocket://127.0.0.1:0', bus='nats://127.0.0.1?name=test')\nBusinessWorker()",
        "'gateway' and 'business' have different buses and would not find each other:"
        " give all gateways and business workers the same bus=, or none.",
    ),
    "strangers": (
        "BusinessWorker(bus='nats://10.0.0.7?name=test')",
        "the bus nats://10.0.0.7:4222?name=test has no credentials, and 10.0.0.7:4222 is another"
        " machine: any program that reaches it could act as any client: let the server require"
        " a user and password, a token, an nkey or a certificate, and write them into bus=.",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_sentence_and_78(tmp_path: Path, case: str) -> None:
    """Before anything is started."""
    lines, sentence = MISTAKES[case]
    (tmp_path / "server.py").write_text(f"from gateman import BusinessWorker, Gateway\n{lines}\n")
    started = run([*GATEMAN, "start", "server.py"], tmp_path)

    assert (started.returncode, started.stderr) == (os.EX_CONFIG, f"gateman: {sentence}\n")
