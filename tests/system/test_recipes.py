"""The programs of ``docs/recipes.md`` are those of examples/recipes, and each does what it says."""

import json
import re
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from ..support.child import Child, answers
from ..support.master import Master, master, until
from ..support.nats import nats_server
from ..support.ports import free_port
from ..support.proxies import program

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


def test_devices_with_lines_of_json_survive_a_reload(tmp_path: Path) -> None:
    """Their port belongs to the master: it is open all the time, and refuses nobody."""
    port = free_port()
    replaced = {"tcp://0.0.0.0:8283": f"tcp://127.0.0.1:{port}"}
    with running("json_lines", tmp_path, **replaced) as service:
        page_port = int(service.wait_for("listens on ws://").rpartition(":")[2])
        before = set(service.pids())
        for number in range(2):
            with (
                connect(f"ws://127.0.0.1:{page_port}/") as page,
                socket.create_connection(("127.0.0.1", port)) as device,
            ):
                wanted = {"from": "127.0.0.1", "value": {"degrees": number}}

                def arrives(number: int, device: socket.socket, page: ClientConnection) -> object:
                    # Again, until the process of the page is known to the other one.
                    device.sendall(b'{"degrees": %d}\n' % number)
                    try:
                        return json.loads(page.recv(timeout=0.2))
                    except TimeoutError:
                        return None

                found = until(partial(arrives, number, device, page))
                assert found == json.loads(device.makefile().readline()) == wanted
            if number == 0:
                assert service.command("reload").returncode == 0
                until(lambda: before.isdisjoint(service.pids()))


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


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """Run Redis without files, at a free port."""
    port = free_port()
    server = Child(
        [program("redis-server"), "--bind", "127.0.0.1", "--port", str(port), "--save", ""],
        log=folder / "redis.log",
        is_up=lambda: answers(socket.AF_INET, ("127.0.0.1", port)),
    )
    server.start()
    try:
        yield port
    finally:
        server.stop()


def ask(one: ClientConnection, text: str) -> str:
    """Send a message, and return the answer."""
    one.send(text)
    return str(one.recv(timeout=SOON))


@pytest.mark.parametrize("store", ["redis", "nats"])
def test_values_are_shared_by_a_store(store: str, tmp_path: Path) -> None:
    """Two processes add without a loss; one of many swaps wins; a value expires."""
    each = 25
    with ExitStack() as stack:
        if store == "redis":
            replaced = {"6379": str(stack.enter_context(redis_server(tmp_path)))}
            keep = "keep once yes 0.5"
        else:
            config = f'jetstream {{ store_dir: "{tmp_path}" }}'
            server = stack.enter_context(nats_server(tmp_path, config))
            replaced = {"4222": str(server.port), "ttl=60": "ttl=0.5"}
            keep = "keep once yes"
        service = stack.enter_context(running(f"counters_{store}", tmp_path, **replaced))
        clients = [stack.enter_context(client(service)) for _ in range(4)]
        for _ in range(each):
            for one in clients:
                one.send("add visits")
        counted = [int(one.recv(timeout=SOON)) for one in clients for _ in range(each)]

        assert sorted(counted) == list(range(1, len(clients) * each + 1))
        for number, one in enumerate(clients):
            one.send(f"swap visits {len(clients) * each} {1000 + number}")
        assert sorted(one.recv(timeout=SOON) for one in clients) == ["False"] * 3 + ["True"]
        assert ask(clients[0], "swap missing 1 2") == "False"
        assert [ask(one, keep) for one in clients[:2]] == ["True", "False"]
        until(lambda: ask(clients[0], keep) == "True")


def test_a_pipe_ends_with_either_side(tmp_path: Path) -> None:
    """Both directions carry text and bytes; without its server a client is refused."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(SOON)
        port = server.getsockname()[1]
        with running("pipe", tmp_path, **{"9002": str(port)}) as service:
            with client(service) as one:
                there, _ = server.accept()
                there.settimeout(SOON)
                one.send("text ")
                one.send(b"bytes")
                with there.makefile("rb") as stream:
                    assert stream.read(10) == b"text bytes"
                there.sendall(b"answer")
                assert one.recv(timeout=SOON) == b"answer"
            assert there.recv(1) == b""
            there.close()
            with client(service) as one:
                there, _ = server.accept()
                there.sendall(b"last words")
                there.close()
                assert one.recv(timeout=SOON) == b"last words"
                assert end_of(one) == (1000, "the server has ended")
            with client(service) as one:
                there, _ = server.accept()
                there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                there.close()
                assert end_of(one) == (1014, "the server is gone")
            server.close()
            with pytest.raises(InvalidStatus) as refused:
                client(service)
            assert refused.value.response.status_code == 502
            assert "Traceback" not in service.stderr


def test_a_pipe_makes_the_faster_side_wait(tmp_path: Path) -> None:
    """In both directions: the process holds little, and nothing is lost when the slow one reads."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(SOON)
        port = server.getsockname()[1]
        with running("pipe", tmp_path, **{"9002": str(port), "count=2": "count=1"}) as service:
            [pid] = service.pids()
            with raw_client(service.port) as one:
                there, _ = server.accept()
                with there:
                    before = resident_size(pid)
                    # A masked frame of 64 KiB with a mask of zeros.
                    frame = b"\x82\xff" + (65536).to_bytes(8) + bytes(4) + b"y" * 65536
                    sent = flood(one, frame)
                    assert resident_size(pid) - before < 2 << 20
                    whole = sent // len(frame) * 65536
                    assert len(drained(there, lambda data: len(data) >= whole)) == whole > 0
                    sent = flood(there, b"x" * 65536)
                    assert resident_size(pid) - before < 2 << 20
                    read = drained(one, lambda data: payload_size(data) >= sent)
                    assert payload_size(read) == sent > 0


def raw_client(port: int) -> socket.socket:
    """Connect a WebSocket that reads only when it is told to."""
    one = socket.create_connection(("127.0.0.1", port), timeout=SOON)
    one.sendall(
        b"GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += one.recv(1)
    assert head.startswith(b"HTTP/1.1 101 ")
    return one


def resident_size(pid: int) -> int:
    """Return the memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def flood(one: socket.socket, data: bytes) -> int:
    """Send until the other side has taken nothing for half a second; return the sum."""
    sent = 0
    one.settimeout(0)
    try:
        while select.select([], [one], [], 0.5)[1]:
            sent += one.send(data[sent % len(data) :])
            assert sent < 64 << 20
    finally:
        one.settimeout(SOON)
    return sent


def drained(one: socket.socket, is_enough: Callable[[bytearray], bool]) -> bytearray:
    """Read as much as is wanted, and then until nothing has come for half a second."""
    data = bytearray()
    while not is_enough(data) or select.select([one], [], [], 0.5)[0]:
        more = one.recv(1 << 20)
        assert more
        data += more
    return data


def payload_size(data: bytearray) -> int:
    """Sum what is in the frames of a server, which have 16 or 64 bits of length from 126 on."""
    total = start = 0
    while start + 2 <= len(data):
        size, start = data[start + 1], start + 2
        if size >= 126:
            wide = 2 if size == 126 else 8
            if start + wide > len(data):
                # The rest of the header has not come yet.
                break
            size, start = int.from_bytes(data[start : start + wide]), start + wide
        total, start = total + min(size, len(data) - start), start + size
    return total


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
