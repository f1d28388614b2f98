"""``examples/two_nodes``: a cluster that one script starts, and ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.support.deadlines import TIMEOUT
from tests.support.loop import eventually, on_loop
from tests.support.master import GATEMAN, descendants, is_alive, run
from tests.support.ports import free_port
from tests.support.proxies import program

SCRIPT = Path(__file__).parents[2] / "examples" / "two_nodes" / "cluster.py"


class Cluster:
    """
    The running script.

    Attributes:
        process: Its process.
        nats: The port of the NATS server.
        nodes: Those of the nodes.
        said: What it printed until everything ran.
    """

    def __init__(self) -> None:
        self.nats, *self.nodes = free_port(), free_port(), free_port()
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(SCRIPT),
                "--nats",
                f"{self.nats}",
                "--nodes",
                *map(str, self.nodes),
            ],
            # As ordinary users of Debian have it.
            env=os.environ | {"PATH": "/usr/local/bin:/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.said = ""

    def wait_until_it_runs(self) -> None:
        """Read what it prints; the test's own deadline ends this if it never comes."""
        assert self.process.stdout is not None
        while "Ctrl-C ends" not in self.said:
            line = self.process.stdout.readline()
            assert line, self.said
            self.said += line

    def end(self) -> None:
        """End it in any case, and what it has started with it."""
        children = descendants(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(TIMEOUT)
        for pid in filter(is_alive, children):
            os.kill(pid, signal.SIGKILL)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Start it."""
    program("nats-server")
    started = Cluster()
    try:
        started.wait_until_it_runs()
        yield started
    finally:
        started.end()


def test_the_nodes_hear_each_other(cluster: Cluster, tmp_path: Path) -> None:
    """What is written on one is read on the other, and the commands that it names work."""
    one, two = (f"ws://127.0.0.1:{port}" for port in cluster.nodes)
    bus = f"nats://127.0.0.1:{cluster.nats}?name=two-nodes"
    with connect(one) as ann, connect(two) as bob:
        welcomes = [str(client.recv(TIMEOUT)) for client in (ann, bob)]
        ann.send("Hello")
        heard = [client.recv(TIMEOUT) for client in (ann, bob)]
        bob.send(b"\x00")
        heard += [client.recv(TIMEOUT) for client in (ann, bob)]
        who = run([*GATEMAN, "who", "--bus", bus, "--group", "everybody"], tmp_path)
        run(
            [*GATEMAN, "push", "--bus", bus, "--group", "everybody", "Hello from outside"], tmp_path
        )
        heard += [client.recv(TIMEOUT) for client in (ann, bob)]

    assert [welcome.partition(",")[0] for welcome in welcomes] == ["This is one", "This is two"]
    assert heard == [*["one: 'Hello'"] * 2, *["two: b'\\x00'"] * 2, *["Hello from outside"] * 2]
    assert len(who.stdout.splitlines()) == 2
    for text in (f"http://127.0.0.1:{cluster.nodes[0]}/", f"--bus {bus} --group everybody"):
        assert text in cluster.said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_all_that_it_started(cluster: Cluster, number: signal.Signals) -> None:
    """Neither a node nor the NATS server is left behind, and clients are told."""
    children = descendants(cluster.process.pid)
    with connect(f"ws://127.0.0.1:{cluster.nodes[0]}") as client:
        client.recv(TIMEOUT)
        cluster.process.send_signal(number)
        code = cluster.process.wait(TIMEOUT)
        for _ in client:
            pass

    @on_loop
    async def all_end() -> None:
        await eventually(lambda: not any(map(is_alive, children)))

    all_end()
    assert (code, client.close_code) == (0, 1001)
    # NATS and two masters; their processes may not have been started yet.
    assert len(children) >= 3


def test_a_port_that_is_taken_is_told(cluster: Cluster) -> None:
    """Nothing of the other cluster is touched."""
    words = [sys.executable, str(SCRIPT), "--nats", f"{cluster.nats}", "--nodes", "1", "2"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, check=False)

    assert (done.returncode, done.stderr) == (
        1,
        f"Somebody listens on port {cluster.nats} already: see --help.\n",
    )
