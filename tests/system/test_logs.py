"""What a service writes to its log: in which form, where, and never what clients keep secret."""

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.deadlines import TIMEOUT
from tests.support.loop import on_loop
from tests.support.master import GATEMAN, echo, master, until, written
from tests.support.server import authority, ssl_options

SECRET = "s3cr3t"

# Fails in every callback, with everything that it knows in the message.
TALKATIVE = f"""
import sys
from gateman import Refuse, Worker

worker = Worker(
    "wss://127.0.0.1:0",
    {{"ssl": {ssl_options()!r}}},
    name="chat",
    limits={{"max_message_size": 1000}},
    timeouts={{"handshake": 0.5}},
)

@worker.on_websocket_connect
def decide(connection, request):
    if request.path == "/refused":
        raise Refuse(403)
    if request.path == "/failed":
        raise ValueError(f"no such user: {{request.path}}?token={{request.query['token']}}")

@worker.on_message
async def fail(connection, message):
    print("printed by the application", file=sys.stderr)
    raise KeyError(connection)

Worker.run_all()
"""


async def be_a_nuisance(port: int) -> None:
    """Do what leaves lines in a log, with a secret in every place that a client has for one."""
    tls = authority().trusting_client()
    query = f"token={SECRET}&access_token={SECRET}"
    headers = {"Cookie": f"session={SECRET}", "Authorization": f"Bearer {SECRET}"}
    base = f"wss://localhost:{port}"
    for path in ("/refused", "/failed"):
        with pytest.raises(InvalidStatus):
            await connect(f"{base}{path}?{query}", ssl=tls, additional_headers=headers)
    for message in (SECRET, SECRET * 1000):
        async with connect(f"{base}/?{query}", ssl=tls, additional_headers=headers) as client:
            await client.send(message)
            with pytest.raises(ConnectionClosed):
                await client.recv()
    for head in (
        f"GET /?{query} HTTP/1.1\r\n\r\n",
        f"GET /?{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
        f"\x16\x03{SECRET}\r\n\r\n",
        f"GET /?{query}\x1b[2J HTTP/9.9\r\nX: {SECRET}\r\n\r\n",
    ):
        for context in (tls, None):
            await say(port, head.encode(), context)


async def say(port: int, head: bytes, context: ssl.SSLContext | None) -> None:
    """Send bytes, with TLS or without, and wait for the end."""
    name = None if context is None else "localhost"
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=name
    )
    writer.write(head)
    await asyncio.wait_for(reader.read(), TIMEOUT)
    writer.close()


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_of_clients_are_in_no_line(form: str, tmp_path: Path) -> None:
    """Neither of a query, a header or a message, whatever goes wrong, in the two formats."""
    with master(TALKATIVE, tmp_path, "start", "--log-format", form) as service:
        on_loop(be_a_nuisance)(service.port if form == "text" else _port(service.stderr))
        service.command("stop")
        code = service.wait()

    assert code == 0
    assert SECRET not in service.stderr
    # What was to be found has been looked for in lines about it.
    for part in ("no such user: /failed?token=***", "KeyError", "printed by the application"):
        assert part in service.stderr


def _port(text: str) -> int:
    (line,) = [one for one in text.splitlines() if "listens on" in one]
    return int(json.loads(line)["message"].rpartition(":")[2])


def test_every_line_of_a_json_log_is_an_object(tmp_path: Path) -> None:
    """Those of the master, of its processes, and what the application writes, with tracebacks."""
    with master(TALKATIVE, tmp_path, "start", "--log-format", "json") as service:
        on_loop(be_a_nuisance)(_port(service.stderr))
        service.command("stop")
        service.wait()

    lines = [json.loads(line) for line in service.stderr.splitlines()]
    workers = {line["message"]: line["worker"] for line in lines}
    failures = [line for line in lines if "KeyError" in line.get("traceback", "")]
    assert workers["printed by the application"] == "chat/0"
    assert workers["stopping"] is None
    assert [line["level"] for line in failures] == ["error"]
    assert {line["pid"] for line in lines if line["worker"] is None} == {service.pid}


def test_a_log_file_may_be_rotated(tmp_path: Path) -> None:
    """After SIGHUP the master and its processes write to the new one, and nothing is lost."""
    log = tmp_path / "chat.log"
    both = echo(options="count=2")
    script = f"import sys, os\nsys.stderr.write(f'loaded {{os.getpid()}}\\n')\n{both}"
    with master(script, tmp_path, "start", "--log-file", "chat.log", listens=False) as service:
        until(lambda: "listens on" in written(log))
        pids = service.pids()
        log.rename(tmp_path / "old.log")
        service.signal(signal.SIGHUP)
        until(lambda: "re-reading" in written(log))
        reloaded = service.command("reload")
        # Those of before end after `reload` has.
        new_pids = until(lambda: set(found := service.pids()).isdisjoint(pids) and found)
        service.command("stop")
        code = service.wait()

    old, new = (tmp_path / "old.log").read_text(), log.read_text()
    assert (code, reloaded.returncode) == (0, 0)
    assert all(f"loaded {pid}\n" in old for pid in pids)
    assert all(f"loaded {pid}\n" in new for pid in new_pids)
    assert "INFO stopping\n" in new
    # What it wrote before it knew where its log is.
    assert service.stderr == f"loaded {service.pid}"
    assert os.stat(log).st_mode & 0o777 == 0o640  # noqa: PTH116 - symmetrical to what is set


def test_a_log_file_that_cannot_be_written_to_is_a_mistake(tmp_path: Path) -> None:
    """One sentence, where the terminal is, and nothing listens."""
    options = ("start", "--log-file", str(tmp_path / "missing" / "chat.log"))
    with master(echo(), tmp_path, *options, listens=False) as service:
        code = service.wait()

    assert code == 78
    assert "cannot be written to: No such file or directory" in service.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["server.py"]


MISTAKES = {
    "none": "",
    "an option": "worker.count = 0",
    "its own error": "raise LookupError('bug')",
    "its start": "worker.on_worker_start = lambda worker: {}['x']",
}


@pytest.mark.parametrize("command", [[sys.executable], [*GATEMAN, "start"]], ids=["own", "ours"])
@pytest.mark.parametrize("kind", MISTAKES)
def test_all_that_is_written_is_json(kind: str, command: list[str], tmp_path: Path) -> None:
    """Usage, mistakes and tracebacks, too, however the service is started; each is one line."""
    script = tmp_path / "server.py"
    script.write_text(
        "from gateman import Worker\n"
        "worker = Worker('websocket://127.0.0.1:0', max_crashes=1)\n"
        f"{MISTAKES[kind]}\n"
        "Worker.run_all()\n"
    )
    environment = {**os.environ, "GATEMAN_LOG_FORMAT": "json"}
    with subprocess.Popen(
        [*command, str(script)], stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    ) as process:
        assert process.stderr is not None
        lines = []
        # Python gives up by itself in all cases but two.
        for line in process.stderr:
            lines.append(json.loads(line))
            message = lines[-1]["message"]
            is_last = ("every origin" if "start" in command else "usage: ") in message
            if (kind == "none" and is_last) or "on_worker_start failed" in message:
                process.terminate()

    wanted = {
        "none": "listens on",
        "an option": "count=0 is not a number of processes: use 1 or more.",
        "its own error": "LookupError",
        "its start": "on_worker_start failed",
    }
    assert any(wanted[kind] in line["message"] for line in lines)
    assert ("traceback" in str(lines)) == (kind in {"its own error", "its start"})
