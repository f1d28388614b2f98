"""The programs of ``docs/recipes.md`` are those of examples/recipes, and each does what it says."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from ..support.master import Master, master, until
from ..support.ports import free_port

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "recipes.md").read_text()
RECIPES = {path.stem: path.read_text() for path in (ROOT / "examples" / "recipes").glob("*.py")}

# Seconds; what a test waits for comes within much less.
SOON = 20


@contextmanager
def running(name: str, folder: Path, **replaced: str) -> Iterator[Master]:
    """Run a recipe, at a free port, with some of its text replaced."""
    script = RECIPES[name].replace("0.0.0.0:8282", "127.0.0.1:0")
    for old, new in replaced.items():
        assert old in script
        script = script.replace(old, new)
    with master(script, folder) as service:
        yield service


def client(service: Master, path: str = "") -> ClientConnection:
    """Connect a client."""
    return connect(f"ws://127.0.0.1:{service.port}/{path}")


def test_the_page_shows_the_programs() -> None:
    """All of them, whole, in its order."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    bodies = [re.sub(r'\A""".*?"""\n+', "", text, flags=re.DOTALL) for text in RECIPES.values()]

    assert set(bodies) <= set(blocks)
    assert len(blocks) == len(bodies) + 1  # One more of two lines.


def test_a_tcp_listener_survives_a_reload(tmp_path: Path) -> None:
    """The port is listened on by the new processes before the old ones leave."""
    port = free_port()
    with running("tcp_listener", tmp_path, **{"9000": str(port)}) as service:
        before = set(service.pids())
        for number in range(2):
            with client(service) as listener, socket.create_connection(("127.0.0.1", port)) as one:
                one.sendall(b"device %d\n" % number)
                assert listener.recv(timeout=SOON) == f"device {number}"
            if number == 0:
                assert service.command("reload").returncode == 0
                until(lambda: before.isdisjoint(service.pids()))
        assert "in use" not in service.stderr


def test_an_outgoing_connection_comes_back(tmp_path: Path) -> None:
    """One for the whole service, made anew when the other end has gone."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(SOON)
        port = server.getsockname()[1]
        replaced = {"9001": str(port)}
        with running("outgoing", tmp_path, **replaced) as service, client(service) as listener:
            for number in range(2):
                feed, _ = server.accept()
                feed.sendall(b"news %d\n" % number)
                assert listener.recv(timeout=SOON) == f"news {number}"
                feed.close()


def test_a_job_runs_at_its_time(tmp_path: Path) -> None:
    """Once, although the worker has two processes."""
    replaced = {"0 3 * * *": "*/4 * * * * *", "every(60": "every(4"}
    with running("cron", tmp_path, **replaced) as service, client(service) as listener:
        heard = [str(listener.recv(timeout=SOON)) for _ in range(4)]

    assert sorted(heard) == ["1 clients are here"] * 2 + ["a minute has passed"] * 2


def test_a_counter_is_shared(tmp_path: Path) -> None:
    """By four processes, which lose nothing of what the others count."""
    each = 25
    with running("counters", tmp_path) as service, ExitStack() as stack:
        clients = [stack.enter_context(client(service)) for _ in range(8)]
        for _ in range(each):
            for one in clients:
                one.send("visits")
        counted = [int(one.recv(timeout=SOON)) for one in clients for _ in range(each)]

    assert sorted(counted) == list(range(1, 8 * each + 1))


def test_a_message_waits_for_its_user(tmp_path: Path) -> None:
    """Until a client of that user says that it has it; also over a restart."""
    with running("offline", tmp_path) as service, client(service, "?uid=bert") as bert:
        for text in ("one", "two"):
            bert.send(json.dumps({"to": "ann", "text": text}))
        bert.send(json.dumps({"to": "bert", "text": "to myself"}))
        assert json.loads(bert.recv(timeout=SOON))["text"] == "to myself"
        with client(service, "?uid=ann") as ann:
            first, second = (json.loads(ann.recv(timeout=SOON)) for _ in range(2))
            assert [first["text"], second["text"]] == ["one", "two"]
            ann.send(json.dumps({"got": first["id"]}))
            ann.send(json.dumps({"to": "ann", "text": "done"}))
            assert json.loads(ann.recv(timeout=SOON))["text"] == "done"
    with running("offline", tmp_path) as service, client(service, "?uid=ann") as ann:
        assert [json.loads(ann.recv(timeout=SOON))["text"] for _ in range(2)] == ["two", "done"]


def end_of(one: ClientConnection) -> tuple[int, str]:
    """Wait for the end of a client."""
    with pytest.raises(ConnectionClosed) as caught:
        one.recv(timeout=SOON)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


def test_a_login_ends_with_its_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that is wrong, late, or expires is told by 4401, and a new one prolongs the login."""
    monkeypatch.setenv("TOKEN_KEY", "key")
    module: dict[str, object] = {}
    program = RECIPES["login"].replace("Worker.run_all()", "").partition("worker = ")
    source = program[0] + "KEY = " + program[2].partition("KEY = ")[2].partition("@worker")[0]
    exec(source, module)  # noqa: S102 - our own example
    make_token = module["make_token"]
    assert callable(make_token)
    with running("login", tmp_path, **{"after(10,": "after(1,"}) as service:
        with client(service) as one:
            assert end_of(one) == (4401, "no token in time")
        for wrong in ("nonsense", make_token("ann", -1), f"{make_token('ann', 60)}x"):
            with client(service) as one:
                one.send(f"token {wrong}")
                assert end_of(one) == (4401, "the token is not valid")
        with client(service) as one:
            one.send("too early")
            one.send(f"token {make_token('ann', 2)}")
            one.send("hello")
            assert [one.recv(timeout=SOON) for _ in range(2)] == ["welcome", "ann said hello"]
            one.send(f"token {make_token('ann', 3)}")
            assert one.recv(timeout=SOON) == "welcome"
            one.send(f"token {make_token('bert', 60)}")
            assert end_of(one) == (4401, "the token is not valid")
        with client(service) as one:
            one.send(f"token {make_token('ann', 2)}")
            assert one.recv(timeout=SOON) == "welcome"
            assert end_of(one) == (4401, "the token has expired")
