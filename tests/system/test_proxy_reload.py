"""What a reload of Nginx does to clients, with what the printed configuration says about it."""

import asyncio
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from gateman.ops import proxy
from tests.support import proxies
from tests.support.certificates import Authority
from tests.support.deadlines import TIMEOUT
from tests.support.ports import free_port
from tests.support.service import DOMAIN, serve

ECHO = """
import sys
from gateman import Worker

worker = Worker(sys.argv[1])
worker.on_message = lambda connection, message: connection.send(message)
Worker.run_all()
"""


@contextmanager
def nginx(site: proxy.Site, port: int, grace: str) -> Iterator[list[str]]:
    """
    Run Nginx with all that is printed, also what belongs outside of ``http { }``.

    Args:
        site: What to serve.
        port: Its port on loopback.
        grace: In place of the printed ``worker_shutdown_timeout``.

    Yields:
        The command that reloads it.
    """
    text = proxy.nginx(site, version=proxy.installed_nginx())
    (printed,) = re.findall(r"(?m)^#     (worker_shutdown_timeout \w+;)", text)
    with tempfile.TemporaryDirectory(prefix="gateman-proxy-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        command = proxies.nginx_command(folder, text)
        main = folder / "nginx.conf"
        main.write_text(re.sub(r"\w+;", f"{grace};", printed) + "\n" + main.read_text())
        with proxies.running(command, port=port, log=folder / "error.log"):
            yield [*command, "-s", "reload"]


async def say(client: ClientConnection, message: str) -> str | bytes:
    """Send a message, and give the answer."""
    await client.send(message)
    return await client.recv()


def test_a_reload_of_nginx_keeps_clients_for_the_printed_time(tmp_path: Path) -> None:
    """Row 60: without it, a client would keep an old process of Nginx as long as it likes."""
    authority = Authority()
    issued = authority.issue(tmp_path, DOMAIN)
    port = free_port()

    async def stay(url: str, reload: list[str]) -> list[str | bytes]:
        async with asyncio.timeout(TIMEOUT):
            trusting = authority.trusting_client()
            async with connect(url, ssl=trusting, host="127.0.0.1", proxy=None) as client:
                heard = [await say(client, "before")]
                await asyncio.to_thread(subprocess.run, reload, check=True, capture_output=True)
                heard.append(await say(client, "behind"))
                with pytest.raises(ConnectionClosedError):
                    await client.recv()
            async with connect(url, ssl=trusting, host="127.0.0.1", proxy=None) as again:
                return [*heard, await say(again, "again")]

    with serve(ECHO, tmp_path) as service:
        site = proxy.Site(
            domain=DOMAIN,
            upstream=f"127.0.0.1:{service.port}",
            certificate=str(issued.certificate),
            key=str(issued.key),
            listen=f"127.0.0.1:{port}",
        )
        with nginx(site, port, "2s") as reload:
            heard = asyncio.run(stay(f"wss://{DOMAIN}:{port}/wss", reload))

    assert heard == ["before", "behind", "again"]
