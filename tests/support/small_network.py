"""
A network of two machines in namespaces of their own: a client, and a router with servers.

Packets leave neither of them. It takes root and ``ip``.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from .deadlines import TIMEOUT
from .looked_at import folder
from .proxies import program

CLIENT, ROUTER = "10.9.0.1", "10.9.0.2"
_NAME_SERVER = Path(__file__).with_name("name_server.py")

_SERVER = """
import socketserver, sys
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 426 x\\r\\nContent-Length: 0\\r\\n\\r\\n")
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    def __init__(self, address):
        self.address_family = 10 if ":" in address else 2
        super().__init__((address, 8282), Handler)
import threading
servers = [Server(one) for one in sys.argv[1:]]
for one in servers:
    threading.Thread(target=one.serve_forever).start()
print("ready", flush=True)
"""

# The first packets on a new link are lost until both sides know each other.
_REACH = """
import contextlib, socket, sys, time
for address in sys.argv[2:]:
    until = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection((address, 8282), 0.2):
            break
    else:
        sys.exit(f"{address} cannot be reached")
"""

_LOOK = """
import asyncio, json, sys, time
from gateman.doctor.network.judgement import judge
from gateman.doctor.network.probes import look
from gateman.doctor.network.url import parse
from gateman.doctor.target import Settings
async def one(url):
    target, settings = parse(url), Settings(timeout=8)
    seen = await look(target, settings, lambda _: None)
    found = judge(target, settings, seen, now=time.time())
    return [[item.severity.value, item.code, str(item)] for item in found]
async def main():
    return dict(zip(sys.argv[1:], await asyncio.gather(*map(one, sys.argv[1:]))))
print(json.dumps(asyncio.run(main())))
"""

Looked = dict[str, list[list[str]]]


class SmallNetwork:
    def __init__(self, client: str, router: str) -> None:
        self._client = client
        self._router = router
        self._processes: list[subprocess.Popen[str]] = []

    def look(self, urls: Sequence[str]) -> Looked:
        """Look at URLs from the client, all at once: severities, codes and sentences."""
        command = ["ip", "netns", "exec", self._client, sys.executable, "-c", _LOOK, *urls]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        assert done.returncode == 0, done.stderr
        found: Looked = json.loads(done.stdout)
        return found

    def serve(self, addresses: Sequence[str], *, on_client: bool = False) -> None:
        """Serve HTTP on port 8282 of addresses."""
        place = self._client if on_client else self._router
        command = ["ip", "netns", "exec", place, sys.executable, "-c", _SERVER, *addresses]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        reach = ["ip", "netns", "exec", self._client, sys.executable, "-c", _REACH, str(TIMEOUT)]
        subprocess.run([*reach, *addresses], check=True)

    def serve_names(self, zone: Path) -> None:
        command = ["ip", "netns", "exec", self._router, sys.executable, str(_NAME_SERVER)]
        self._processes.append(subprocess.Popen([*command, ROUTER, str(zone)], text=True))

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@contextmanager
def small_network(
    zone: Mapping[str, object], client: Sequence[str], router: Sequence[str]
) -> Iterator[SmallNetwork]:
    """
    Make the network.

    Args:
        zone: The names that its name server knows (``name_server.py``).
        client: ``ip`` commands for the client, such as ``"route add …"``.
        router: The same for the router.
    """
    program("ip")
    if os.geteuid() != 0:
        pytest.skip("a network namespace takes root")
    names = [f"gateman-{os.getpid()}-{one}" for one in ("client", "router")]
    links = [f"gm{os.getpid()}{one}" for one in "cr"]
    settings = Path("/etc/netns") / names[0]
    with folder() as path:
        (path / "zone.json").write_text(json.dumps(zone))
        try:
            for name in names:
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
            first = ["link", "add", links[0], "netns", names[0], "type", "veth"]
            _ip(*first, "peer", "name", links[1], "netns", names[1])
            for name, link, number in zip(names, links, (1, 2), strict=True):
                _ip("-n", name, "addr", "add", f"10.9.0.{number}/24", "dev", link)
                _ip("-n", name, "addr", "add", f"2001:db8:9::{number}/64", "dev", link, "nodad")
                _ip("-n", name, "link", "set", link, "up")
            _ip("netns", "exec", names[1], "sysctl", "-qw", "net.ipv4.ip_forward=1")
            _ip("netns", "exec", names[1], "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
            for name, commands in zip(names, (client, router), strict=True):
                for command in commands:
                    _ip("-n", name, *command.format(link=links[0]).split())
            settings.mkdir(parents=True)
            (settings / "resolv.conf").write_text(f"nameserver {ROUTER}\noptions timeout:5\n")
            (settings / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
            made = SmallNetwork(*names)
            made.serve_names(path / "zone.json")
            try:
                yield made
            finally:
                made.end()
        finally:
            shutil.rmtree(settings, ignore_errors=True)
            for name in names:
                subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
