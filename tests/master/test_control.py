"""The control socket: a request and an answer, whose it is, and what it makes of nonsense."""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateman.errors import CommandError, MasterSilent, NotRunning
from gateman.master.control import ControlClient, ControlServer, connect_to_master
from gateman.master.control_requests import (
    ControlAnswer,
    GetStatus,
    Reload,
    Request,
    StatusAnswer,
    Stop,
    StopAnswer,
)
from gateman.master.runtime_files import RuntimeFiles, candidates
from gateman.master.script import Script
from gateman.master.selector_loop import run_once
from tests.support.deadlines import TIMEOUT
from tests.support.master import GATEMAN, ask_control, echo, master, run
from tests.support.suspend import suspend
from tests.support.users import NOBODY, folder_of, needs_root, open_to_all

ANOTHER_VERSION = "the answer is not valid for this version of gateman: `restart` the service."
ENVIRONMENT: dict[str, str] = {}
STATUS = b'{"command": "status"}\n'


class Answering:
    """
    A master of nothing but a control socket; a loop's turns are the test's.

    Attributes:
        script: Whose master it is.
        asked: What was asked, and by whom.
    """

    def __init__(self, folder: Path) -> None:
        self.script = Script(folder / "server.py")
        self.asked: list[tuple[Request, ControlClient]] = []
        self._runtime_files = RuntimeFiles.acquire(self.script.path, ENVIRONMENT)
        self._selector = selectors.DefaultSelector()
        self.control = ControlServer(
            self._runtime_files.listen(),
            self._selector,
            lambda request, client: self.asked.append((request, client)),
        )

    def run_once(self, patience: float = 0) -> int:
        """Do what is ready; gives how much it was."""
        return run_once(self._selector, patience)

    def settle(self) -> None:
        """Do what is ready until nothing is."""
        for _ in range(1000):
            if not self.run_once():
                return
        raise AssertionError("the loop never sleeps")

    @contextmanager
    def client(self, said: bytes = b"") -> Iterator[socket.socket]:
        """Connect, and say something."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(TIMEOUT)
            folder = os.open(self._runtime_files.files.folder, os.O_PATH)
            sock.connect(f"/proc/self/fd/{folder}/{self._runtime_files.files.control.name}")
            os.close(folder)
            sock.sendall(said)
            self.settle()
            yield sock

    def close(self) -> None:
        """End it."""
        self._runtime_files.release()
        self.control.close()
        self._selector.close()


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Answering]:
    """A control socket, and nothing behind it."""
    made = Answering(tmp_path)
    yield made
    made.close()


# Requests and answers.


def test_a_request_is_handed_on_and_answered(answering: Answering) -> None:
    """The answer may come later; it says whether the command succeeded."""
    with answering.client(b'{"command": "status"}\n') as one:
        with answering.client(b'{"command": "stop", "graceful": true}\n') as other:
            (first, its), (second, others) = answering.asked
            others.answer(error="no.")
            its.answer(pid=7)

            assert (first, second) == (GetStatus(), Stop(graceful=True))
            assert other.recv(100) == b'{"ok":false,"error":"no."}\n'
        assert one.recv(100) == b'{"ok":true,"pid":7}\n'


def test_a_request_may_come_in_pieces(answering: Answering) -> None:
    """Nothing is asked before its line has ended; behind it nothing is asked any more."""
    with answering.client(b'{"comm') as sock:
        assert answering.asked == []
        sock.sendall(b'and": "status"}\n{"command": "stop"}\n')
        answering.settle()
        sock.sendall(b'{"command": "stop"}\n')
        answering.settle()

        assert [request for request, _ in answering.asked] == [GetStatus()]


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\n",
        b"\n",
        b"\xff\n",
        b"x" * 4097,
        b'{"a": "' + b"x" * 4100,
        b'{"command": "status", "a": ' + b"[" * 4000 + b"\n",
    ],
)
def test_invalid_data_closes_the_connection(answering: Answering, said: bytes) -> None:
    """It is not a request, and gets no answer; other clients are served as before."""
    with answering.client(said) as sock:
        assert read_to_end(sock) == b""
    with answering.client(STATUS):
        assert [request for request, _ in answering.asked] == [GetStatus()]


@pytest.mark.parametrize(
    "said",
    [
        b"[" * 4090 + b"\n",
        b"[]\n",
        b"{}\n",
        b'{"command": "explode"}\n',
        b'{"command": ["status"]}\n',
        b'{"command": "connections", "limit": "all"}\n',
        b'{"command": "connections", "limit": 0}\n',
        b'{"command": "stop", "graceful": 1}\n',
    ],
    ids=lambda said: repr(said[:40]),
)
def test_an_invalid_request_gets_an_error(answering: Answering, said: bytes) -> None:
    """It is well-formed, and nothing that this master knows."""
    with answering.client(said) as sock:
        assert json.loads(sock.recv(200)) == {
            "ok": False,
            "error": "the running master does not know this command, or its arguments.",
        }
    assert answering.asked == []


def read_to_end(sock: socket.socket) -> bytes:
    """Read until the end, however it comes."""
    read = b""
    try:
        while data := sock.recv(1 << 16):
            read += data
    except ConnectionResetError:
        pass  # What was not read at the other end makes it one.
    return read


def test_an_answer_to_a_client_that_has_left(answering: Answering) -> None:
    """The command was interrupted; the master continues."""
    with answering.client(STATUS):
        pass
    ((_, client),) = answering.asked
    client.answer()
    answering.settle()
    client.answer()
    client.close()

    assert answering.run_once() == 0


def test_a_long_answer_to_a_slow_reader(answering: Answering) -> None:
    """The master neither waits for it nor wakes up for data that the client sends meanwhile."""
    with answering.client(STATUS) as sock:
        ((_, client),) = answering.asked
        client.answer(text="x" * (4 << 20))
        sock.sendall(b"{}\n")
        sock.shutdown(socket.SHUT_WR)
        answering.settle()
        read = bytearray()
        while not read.endswith(b"\n"):
            read += sock.recv(1 << 16)
            answering.settle()

        assert json.loads(read) == {"ok": True, "text": "x" * (4 << 20)}


def test_clients_are_counted(answering: Answering) -> None:
    """A client above the limit is closed; when another one has left, there is room again."""
    with answering.client() as first:
        clients = [answering.client() for _ in range(31)]
        for client in clients:
            client.__enter__()
        with answering.client(b"") as refused:
            assert refused.recv(1) == b""
        first.close()
        answering.settle()
        with answering.client(STATUS):
            assert len(answering.asked) == 1
        for client in clients:
            client.__exit__(None, None, None)


def test_slow_clients_are_closed(answering: Answering) -> None:
    """A client that sends no request in time is closed if others come; a waiting one is not."""
    with answering.client(STATUS), answering.client():
        ((_, asked),) = answering.asked
        ours, theirs = socket.socketpair()
        with selectors.DefaultSelector() as selector, theirs:
            silent = ControlClient(ours, selector, lambda *_: None, lambda _: None, now=100.0)

            assert [silent.is_overdue(now) for now in (109.0, 110.0, 110.1)] == [
                False,
                False,
                True,
            ]
            silent.close()
        assert not asked.is_overdue(1e12)


# The command's side.


def test_no_process_is_there(tmp_path: Path) -> None:
    """Without a socket, and with one that a killed master left."""
    script = Script(tmp_path / "server.py")
    with pytest.raises(NotRunning), connect_to_master(script, ENVIRONMENT):
        pass
    runtime_files = RuntimeFiles.acquire(script.path, ENVIRONMENT)
    runtime_files.listen().close()
    with pytest.raises(NotRunning), connect_to_master(script, ENVIRONMENT):
        pass
    runtime_files.release()


@contextmanager
def served(answering: Answering, answer: dict[str, Any] | None) -> Iterator[None]:
    """Answer one request from a thread, or end without an answer, and then end."""

    def serve() -> None:
        while not answering.asked:
            answering.run_once(10)
        if answer is not None:
            answering.asked[0][1].answer(**answer)
        answering.control.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join(10)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"pid": 7}, {"ok": True, "pid": 7}),
        ({"error": "the master stops"}, "the master stops."),
        (None, "the master ended before it answered."),
        ({"pid": "7"}, ANOTHER_VERSION),
        ({}, ANOTHER_VERSION),
    ],
)
def test_a_conversation(tmp_path: Path, answer: dict[str, Any] | None, expected: object) -> None:
    """An answer, one that is a refusal, and none; and then the end is waited for."""
    answering = Answering(tmp_path)
    with served(answering, answer), connect_to_master(answering.script, ENVIRONMENT) as conversing:
        try:
            found: object = conversing.request(Stop(graceful=True), StopAnswer)
        except CommandError as error:
            found = str(error)
        conversing.wait_for_end()
    request, _ = answering.asked[0]

    assert found == expected
    assert request == Stop(graceful=True)


def test_a_master_that_does_not_answer(answering: Answering) -> None:
    with (
        connect_to_master(answering.script, ENVIRONMENT) as conversing,
        pytest.raises(MasterSilent) as silent,
    ):
        conversing.request(GetStatus(), StatusAnswer, 0.01)

    assert str(silent.value) == str(MasterSilent(os.getpid()))


def test_a_master_that_accepts_no_command_any_more(answering: Answering) -> None:
    """The kernel's queue of its socket is full: another command would wait without end."""

    def fill() -> None:
        with ExitStack() as waiting:
            for _ in range(10_000):
                waiting.enter_context(connect_to_master(answering.script, ENVIRONMENT))

    with pytest.raises(MasterSilent) as silent:
        fill()

    assert silent.value.pid == os.getpid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_may_not_ask(answering: Answering, tmp_path: Path) -> None:
    """The system refuses the connection, and the command reports it."""
    open_to_all(tmp_path)
    tmp_path.chmod(0o755)
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from gateman.errors import CommandError\n"
        "from gateman.master.control import connect_to_master\n"
        "from gateman.master.script import Script\n"
        "os.setgroups([])\nos.setgid(65534)\nos.setuid(65534)\n"
        "try:\n"
        "    with connect_to_master(Script(Path(sys.argv[1])), {}):\n        pass\n"
        "except CommandError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", code, str(answering.script.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT)

    (path,) = tmp_path.glob("*.sock")
    assert done.stdout == (
        f"CommandError this user may not connect to the master's socket {path}.\n"
    )


# A real master.


def test_a_real_master_continues(tmp_path: Path) -> None:
    """Whatever is sent to its control socket, the next command is answered."""
    with master(echo(), tmp_path) as service:
        answers = [
            ask_control(service.path, said)
            for said in (b'{"command": "explode"}\n', b'{"limit": 7}\n', b"{}\n")
        ]
        with pytest.raises(json.JSONDecodeError):
            ask_control(service.path, b"nonsense\n")

        assert (
            answers
            == [
                {
                    "ok": False,
                    "error": "the running master does not know this command, or its arguments.",
                }
            ]
            * 3
        )
        assert service.status()["ok"]


@pytest.mark.skipif(sys.platform != "linux", reason="the state of a process is read from /proc")
def test_a_real_master_that_was_stopped(tmp_path: Path) -> None:
    """Also a request that takes its time tells so, and the master answers when it continues."""
    with master(echo(), tmp_path) as service:
        script, pid = Script.find(str(service.path)), service.status()["master"]["pid"]
        suspend(pid)
        try:
            for request in (GetStatus(), Reload()):
                with (
                    pytest.raises(MasterSilent) as silent,
                    connect_to_master(script, service.environment) as conversing,
                ):
                    conversing.request(request, ControlAnswer)

                assert str(silent.value) == str(MasterSilent(pid, is_stopped=True))
        finally:
            os.kill(pid, signal.SIGCONT)

        assert service.status()["ok"]


# Listens as another user in place of a master, and answers yes to everything, in colours.
POSES = """
import os, socket, sys
os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
sock = socket.socket(socket.AF_UNIX)
for path in sys.argv[1:]:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
print("ready", flush=True)
while True:
    client, _ = sock.accept()
    client.recv(4096)
    client.sendall(b'{{"ok": true, "pid": 1, "bus": "local:///tmp/a\\\\u001b[2J"}}\\n')
    client.close()
"""


@needs_root
@pytest.mark.parametrize("location", ["common", "beside"])
def test_another_user_is_not_taken_for_the_master(tmp_path: Path, location: str) -> None:
    """Root's commands do not use the socket of a user that may write to the folder."""
    open_to_all(tmp_path)
    temporary = folder_of(0, tmp_path / "tmp", 0o1777)
    folder = temporary if location == "beside" else folder_of(0, tmp_path / "service")
    script = folder / "server.py"
    script.write_text(echo())
    stem = next(candidates(script, {})).stem
    where = temporary if location == "beside" else temporary / "gateman-0"
    environment = {**os.environ, "TMPDIR": str(temporary)}
    code = POSES.format(nobody=NOBODY)
    command = [sys.executable, "-c", code, str(where / f"{stem}.sock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout is not None
        stranger.stdout.readline()
        words = [["stop", str(script)], ["push", "--all", "hi", "--service", str(script)]]
        answers = [run([*GATEMAN, *one], tmp_path, environment) for one in words]
        stranger.kill()

    for answer in answers:
        assert (answer.returncode, answer.stdout) == (3, "")
        assert answer.stderr.startswith(f"gateman: {os.path.relpath(script, tmp_path)} is not runn")
        assert ("belongs to another user (uid" in answer.stderr) == (location == "beside")
