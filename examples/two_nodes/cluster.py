"""
A cluster on one machine: a NATS server and two nodes, as they would be on three machines.

    python cluster.py                                   needs nats-server; Ctrl-C ends all of it
    python cluster.py --nats 4333 --nodes 9001 9002     on other ports
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

NODE = Path(__file__).with_name("node.py")


@contextmanager
def running(
    words: Sequence[str], port: int, environment: Mapping[str, str] = os.environ
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block; it listens when the block begins."""
    if listens(port):
        sys.exit(f"Somebody listens on port {port} already: see --help.")
    # A session of its own: Ctrl-C goes to this script only, which ends the programs in order.
    process = subprocess.Popen(words, env=environment, start_new_session=True)
    try:
        while process.poll() is None and not listens(port):
            time.sleep(0.05)
        if process.poll() is not None:
            sys.exit(f"{words[0]} ended at once: see above.")
        yield process
    finally:
        process.terminate()
        process.wait()


def listens(port: int) -> bool:
    """Tell whether a program listens on the port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def node(name: str, port: int, bus: str, folder: str) -> dict[str, str]:
    """Describe a node; on a separate machine it would not need a separate folder."""
    own = {"NAME": name, "PORT": f"{port}", "BUS": bus, "RUNTIME_DIRECTORY": f"{folder}/{name}"}
    return {**os.environ, **own}


def main() -> None:
    """Start everything, print what to do, and end everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nats", type=int, default=4222)
    parser.add_argument("--nodes", type=int, nargs=2, default=[8282, 8283])
    options = parser.parse_args()
    # Debian has nats-server where only root looks.
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    if shutil.which("nats-server") is None:
        sys.exit("There is no nats-server: install it first.")
    one, two = options.nodes
    bus = f"nats://127.0.0.1:{options.nats}?name=two-nodes"
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit())
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="two-nodes-"))
        nats = ["nats-server", "-a", "127.0.0.1", "-p", f"{options.nats}"]
        programs = [stack.enter_context(running(nats, options.nats))]
        for name, port in (("one", one), ("two", two)):
            script = [sys.executable, str(NODE)]
            environment = node(name, port, bus, folder)
            programs.append(stack.enter_context(running(script, port, environment)))
        print(
            f"""
Open http://127.0.0.1:{one}/ and http://127.0.0.1:{two}/ in two windows, connect, and write:
each hears what is written on the other node. Then, in another terminal:

    gateman who --bus {bus} --group everybody
    gateman push --bus {bus} --group everybody "Hello from outside"
    kill -STOP {programs[0].pid}; sleep 15; kill -CONT {programs[0].pid}
        Without NATS, each node goes on alone. The log says what they did not hear of each other.

Ctrl-C ends all of it.
""",
            flush=True,
        )
        while all(program.poll() is None for program in programs):
            time.sleep(0.2)


if __name__ == "__main__":
    main()
