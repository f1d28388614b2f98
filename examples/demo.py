"""
A small chat over wss: everybody sees what everybody writes.

    make demo                          then open https://localhost:8282/
    PORT=9443 make demo                on another port
    ADDRESS=192.168.1.20 make demo     on this address of the machine, for a phone beside it

The certificate is for development: an authority of your own signs it, and the demo says how to
make a browser trust that. The page is gateman's test page.
"""

import itertools
import os
import sys

from gateman import Connection, Worker
from gateman.ops.certificates import data_folder, development_certificate, trust_instructions

ADDRESS = os.environ.get("ADDRESS", "localhost")
PORT = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("PORT", "8282")

certificate = development_certificate([ADDRESS], data_folder() / "demo")
worker = Worker(
    f"websocket://{'127.0.0.1' if ADDRESS == 'localhost' else ADDRESS}:{PORT}",
    {"ssl": {"local_cert": str(certificate.certificate), "local_pk": str(certificate.key)}},
    name="chat",
)
worker.transport = "ssl"
worker.test_page = True

numbers = itertools.count(1)
names: dict[Connection, str] = {}


def tell_everybody(message: str | bytes) -> None:
    """Send to all who are here."""
    for connection in names:
        connection.send(message)


@worker.on_worker_start
def explain(_: Worker) -> None:
    """Tell people what to do now."""
    print(trust_instructions(certificate))
    print("Until then the browser warns, which you may accept for this page. For a phone, run")
    print("it with ADDRESS=... in front, an address of this machine that the phone can reach.\n")
    print(f"The chat: open https://{ADDRESS}:{PORT}/ in two windows, connect, and write.")
    print("Ctrl-C ends it.\n", flush=True)


@worker.on_open
def welcome(connection: Connection) -> None:
    """Name whoever comes."""
    names[connection] = f"guest {next(numbers)}"
    tell_everybody(f"{names[connection]} is here, which makes {len(names)}")


@worker.on_message
def pass_on(connection: Connection, message: str | bytes) -> None:
    """Pass on what somebody writes, also to whoever wrote it; bytes as they are."""
    if isinstance(message, str):
        message = f"{names[connection]}: {message}"
    tell_everybody(message)


@worker.on_close
def part(connection: Connection, code: int, reason: str) -> None:
    """Say who left; who never got in is no guest."""
    if name := names.pop(connection, None):
        tell_everybody(f"{name} left ({code}{reason and f', {reason}'})")


Worker.run_all()
