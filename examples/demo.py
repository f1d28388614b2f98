"""
A chat over wss with history, names and who is here, served by two processes.

    make demo                          then open https://localhost:8282/
    PORT=9443 make demo                on another port
    ADDRESS=192.168.1.20 make demo     on this address of the machine, for a phone beside it
    python examples/demo.py start -d   in the background; then status, reload and stop

The page uses the official client of the Centrifuge protocol (chat/centrifuge.js). Reload the code
with its button, or kill a process: the page comes back and has every message.

The certificate is for development: an authority of your own signs it, and the demo says how to
make a browser trust that.
"""

import os
import signal
from pathlib import Path

from gateman import Allow, Channel, ClientError, Worker
from gateman.ops.certificates import data_folder, development_certificate, trust_instructions

ADDRESS = os.environ.get("ADDRESS", "localhost")
PORT = os.environ.get("PORT", "8282")

FOLDER = Path(__file__).parent / "chat"
FILES = {
    "/": (b"text/html; charset=utf-8", (FOLDER / "page.html").read_bytes()),
    "/centrifuge.js": (b"text/javascript", (FOLDER / "centrifuge.js").read_bytes()),
}
MAX_LENGTH = 40  # characters of a name
MAX_TEXT_LENGTH = 500  # characters of a message


async def site(scope, receive, send):
    """Serve the page: any ASGI application may stand here, such as FastAPI's or Django's."""
    if scope["type"] == "lifespan":
        return
    kind, body = FILES.get(scope["path"], (b"text/plain", b"There is no such page."))
    status = 200 if scope["path"] in FILES else 404
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


certificate = development_certificate([ADDRESS], data_folder() / "demo")
worker = Worker(
    f"websocket://{'127.0.0.1' if ADDRESS == 'localhost' else ADDRESS}:{PORT}",
    {"ssl": {"local_cert": str(certificate.certificate), "local_pk": str(certificate.key)}},
    name="chat",
    count=2,
    http=site,
    client_protocol="centrifuge",
    channels={
        "room:*": Channel(
            subscribe=True,
            publish=True,
            history="everyone",
            history_size=100,
            history_ttl=3600,
            presence=True,
            join_leave=True,
        )
    },
)
worker.transport = "ssl"


@worker.on_worker_start
def explain(started):
    """Print what to do now, once, in one process."""
    if started.id == 0:
        print(trust_instructions(certificate))
        print("Until then the browser warns, which you may accept for this page. For a phone, run")
        print("it with ADDRESS=... in front, an address of this machine that it can reach.\n")
        print(f"The chat: open https://{ADDRESS}:{PORT}/ in two windows, and write.")
        print("Two processes serve it, and you need not know which. Ctrl-C ends it.\n", flush=True)


@worker.on_client_connect
def enter(connection, token, data):
    """Take the name that the client gives itself; a real service looks at the token."""
    name = data.get("name") if isinstance(data, dict) else None
    name = name.strip()[:MAX_LENGTH] if isinstance(name, str) else ""
    return Allow(info={"name": name or "guest"}, data={"may_experiment": ADDRESS == "localhost"})


@worker.on_publish
def take(connection, channel, data):
    """Take what the page sends: a text, with the number that it has for its sender."""
    match data:
        case {"from": str(sender), "number": int(), "text": str(text)}:
            if len(sender) <= MAX_LENGTH and 0 < len(text) <= MAX_TEXT_LENGTH:
                return
    raise ClientError(400, f"a message is a text of up to {MAX_TEXT_LENGTH} characters")


@worker.on_rpc
def experiment(connection, method, data):
    """Reload the code, or kill this process: for a demo on your own machine."""
    if ADDRESS != "localhost":
        raise ClientError(403, "only on localhost")
    if method == "reload":
        os.kill(os.getppid(), signal.SIGUSR1)
    if method == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


Worker.run_all()
