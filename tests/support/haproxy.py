"""
A real HAProxy in front of a worker, that sends PROXY headers and asks for its health.

It runs as a child process in the foreground, on a free loopback port, with its files in a folder of
its own. What it thinks of the worker is read from its administration socket.
"""

import csv
import io
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .certificates import Issued
from .deadlines import TIMEOUT
from .ports import free_port
from .proxies import program, running

_CONFIGURATION = """\
global
    stats socket {folder}/admin.sock
    ssl-server-verify none
defaults
    mode {mode}
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout check 2s
    unique-id-format %{{+X}}o%ci-%cp-%Ts-%rt
frontend clients
    {binds}
    default_backend workers
backend workers
    {lines}
    server worker {worker} inter 100ms rise 1 fall 1 {options}
"""


@dataclass(frozen=True, slots=True)
class HAProxy:
    """
    A running HAProxy.

    Attributes:
        address: Where it listens.
        admin: Its administration socket.
    """

    address: tuple[str, int]
    admin: Path

    def verdict(self) -> str:
        """
        Wait until it has checked the worker.

        Returns:
            What it thinks: the state and what the check gave, such as ``"UP L7OK 200"``.
        """
        deadline = time.monotonic() + TIMEOUT
        while True:
            row = self._worker()
            # "* L7OK": a check is under way, and this was the last one's result.
            found = [row["status"], row["check_status"].removeprefix("* "), row["check_code"]]
            # "UP 0/1" is between the two.
            if found[0] in {"UP", "DOWN"} and found[1] not in {"", "INI"}:
                return " ".join(filter(None, found))
            assert time.monotonic() < deadline, row
            time.sleep(0.02)

    def _worker(self) -> dict[str, str]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect(str(self.admin))
            sock.sendall(b"show stat\n")
            text = b"".join(iter(lambda: sock.recv(1 << 16), b"")).decode()
        rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
        return next(row for row in rows if row["svname"] == "worker")


@contextmanager
def haproxy(
    worker: int | Path,
    options: str,
    *,
    lines: Sequence[str] = (),
    mode: str = "tcp",
    host: str = "127.0.0.1",
    certificate: Issued | None = None,
) -> Iterator[HAProxy]:
    """
    Run HAProxy in front of a worker while the block runs.

    Args:
        worker: The worker's port on 127.0.0.1, or its unix socket.
        options: What its ``server`` line ends in, such as ``"send-proxy-v2"``.
        lines: More lines for the backend.
        mode: ``"tcp"`` or ``"http"``.
        host: Where it listens beside 127.0.0.1.
        certificate: What it does TLS with; ``None`` to pass on what comes.

    Yields:
        The proxy.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="gateman-haproxy-") as name:
        folder = Path(name)
        suffix = ""
        if certificate is not None:
            pem = folder / "frontend.pem"
            pem.write_bytes(certificate.certificate.read_bytes() + certificate.key.read_bytes())
            suffix = f" ssl crt {pem}"
        hosts = dict.fromkeys(["127.0.0.1", f"[{host}]" if ":" in host else host])
        (folder / "haproxy.cfg").write_text(
            _CONFIGURATION.format(
                folder=folder,
                mode=mode,
                binds="\n    ".join(f"bind {where}:{port}{suffix}" for where in hosts),
                lines="\n    ".join(lines),
                worker=worker if isinstance(worker, Path) else f"127.0.0.1:{worker}",
                options=options,
            )
        )
        command = [program("haproxy"), "-db", "-q", "-f", str(folder / "haproxy.cfg")]
        with running(command, port=port, log=folder / "log"):
            admin = folder / "admin.sock"
            # It gets its name a moment after the ports are listened on.
            deadline = time.monotonic() + TIMEOUT
            while not admin.exists():
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.01)
            yield HAProxy((host, port), admin)
