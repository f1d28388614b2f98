"""
The servers under measurement: each a process of its own, on loopback, pinned to one core.

A server is a file in ``servers/`` that takes ``--port`` and ``--certificate``; ``peers.py`` lists
those that echo.
"""

import datetime as dt
import importlib.metadata
import ipaddress
import os
import platform
import re
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from generator import BUILD, HERE, Unmeasured

sys.path.insert(0, str(HERE.parent))

from tests.support.ports import free_port

START_TIMEOUT = 20.0  # seconds until a server must listen
# What the command line of a process of gateman has in it; the second is how it was called before.
WORKER = r"child_main\.py|launch\.py"

STOP_TIMEOUT = 20.0  # seconds from SIGTERM to SIGKILL
SETTLE_TIMEOUT = 3.0 if os.environ.get("QUICK") else 15.0  # seconds until memory stops moving


@dataclass(frozen=True, kw_only=True)
class Server:
    """
    A server that can be measured.

    Attributes:
        name: For tables.
        script: Its file in ``servers/``.
        arguments: What it is told besides port and certificate.
        package: The distribution that it is made of, if it may be missing.
        worker: What the command lines of the processes that serve match, if those are
            children of the process that was started; else gateman's are looked for, and it serves
            itself if there are none.
        load: Options of the generator that it needs, by name.
        can_compress: Whether it takes ``--compress``.
        python_path: What it imports from before anything else, if not from what is installed.
    """

    name: str
    script: str
    arguments: tuple[str, ...] = ()
    package: str = ""
    worker: str = ""
    load: tuple[tuple[str, str | bool], ...] = ()
    can_compress: bool = False
    python_path: str = ""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """
    A server that runs.

    Attributes:
        pid: The process that serves; the first of them, where there are several.
        port: Where it listens on 127.0.0.1.
        pids: All processes that serve, and what connects them.
    """

    pid: int
    port: int
    pids: tuple[int, ...] = ()

    def pss(self) -> int:
        """Read what the process holds in memory, its share of shared pages included."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("smaps_rollup has no Pss line")

    def settled_pss(self, *, timeout: float = SETTLE_TIMEOUT) -> int:
        """Read the memory when it has stopped moving."""
        until = time.monotonic() + timeout
        readings = [self.pss()]
        while time.monotonic() < until:
            time.sleep(0.4)
            readings.append(self.pss())
            if len(readings) >= 3 and max(readings[-3:]) - min(readings[-3:]) <= 16 << 10:
                break
        return readings[-1]


def cores() -> tuple[int, int]:
    """Choose the server's core and the generator's."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def certificate() -> Path:
    """Make the servers' certificate once: ECDSA P-256, self-signed, nobody verifies it."""
    path = BUILD / "certificate.pem"
    now = dt.datetime.now(dt.UTC)
    if path.exists():
        known = x509.load_pem_x509_certificate(path.read_bytes())
        if known.not_valid_after_utc > now + dt.timedelta(days=1):
            return path
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
        .sign(key, hashes.SHA256())
    )
    BUILD.mkdir(exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def _is_listening(port: int) -> bool:
    # proc(5): the local address is hexadecimal, host in network order; state 0A is LISTEN.
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state = line.split(maxsplit=4)[:4]
        if state == "0A" and local.endswith(f":{port:04X}"):
            return True
    return False


def _workers(pid: int, mark: str) -> list[int]:
    """Find the processes that serve under a master; beside them it may have others."""
    words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    commands = {int(word): Path(f"/proc/{word}/cmdline").read_text() for word in words}
    return [child for child, command in commands.items() if re.search(mark, command)]


def _wait_until_serving(
    process: subprocess.Popen[bytes], port: int, server: Server, log: Path
) -> list[int]:
    until = time.monotonic() + START_TIMEOUT
    while time.monotonic() < until:
        if process.poll() is not None:
            said = log.read_text(errors="replace").strip().splitlines() or ["nothing"]
            raise Unmeasured(f"it ended with {process.returncode}, and said: {said[-1]}")
        # Not by connecting: a connection that ends before TLS is a traceback in picows' log.
        if _is_listening(port):
            pids = _workers(process.pid, server.worker or WORKER)
            if pids or not server.worker:
                return pids or [process.pid]
        time.sleep(0.02)
    raise Unmeasured(f"it did not listen within {START_TIMEOUT:.0f} s")


@contextmanager
def running(server: Server, *, secure: bool) -> Iterator[Subject]:
    """
    Start a server on its core, and end it.

    Raises:
        Unmeasured: It did not start.
    """
    port = free_port()
    words = ["taskset", "-c", str(cores()[0]), sys.executable]
    words += [str(HERE / "servers" / server.script), f"--port={port}", *server.arguments]
    if secure:
        words.append(f"--certificate={certificate()}")
    with tempfile.TemporaryDirectory() as folder:
        # Two of one script may run at once: a pid file each.
        surroundings = {**os.environ, "RUNTIME_DIRECTORY": folder}
        if server.python_path:
            surroundings["PYTHONPATH"] = server.python_path
        log = Path(folder) / "log"
        with log.open("wb") as said:
            process = subprocess.Popen(words, env=surroundings, stdout=said, stderr=said)
        try:
            pids = _wait_until_serving(process, port, server, log)
            yield Subject(pid=pids[0], port=port, pids=tuple(pids))
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def conditions() -> str:
    """Say in one line what the figures depend on."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("picows", "aiofastnet")]
    python = f"{platform.python_implementation()} {platform.python_version()}"
    tls = " ".join(ssl.OPENSSL_VERSION.split()[:2])
    system = f"{platform.system()} {platform.release()}, {os.cpu_count()} cores"
    return ", ".join([python, *versions, tls, system])
