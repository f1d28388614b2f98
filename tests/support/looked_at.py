"""
Servers for the doctor to look at: nginx with many faults at once, OpenSSL's, and small impostors.

Each listens on free loopback ports.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from gateman.doctor.network.judgement import judge
from gateman.doctor.network.probes import look
from gateman.doctor.network.url import parse
from gateman.doctor.target import Settings
from gateman.findings import Finding, Severity

from .deadlines import TIMEOUT
from .made_certificates import Made
from .ports import free_port
from .proxies import program, running

IS_AUTHORITY = {"2.5.29.19": bytes.fromhex("30030101ff")}
"""The extension basicConstraints of an authority."""

HAS_ISSUER_URL = {
    "1.3.6.1.5.5.7.1.1": bytes.fromhex("301a301806082b06010505073002860c") + b"http://a.tst"
}
"""authorityInfoAccess, as certificates of public authorities have it."""

_NGINX = """\
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{modules}
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {blocks}
}}
"""


def findings(
    url: str, *, ca: Path | None = None, address: str | None = "127.0.0.1", timeout: float = 10
) -> list[Finding]:
    """Look at a server, at an address in place of the name's."""
    target, settings = parse(url), Settings(ca_file=ca, address=address, timeout=timeout)
    seen = asyncio.run(look(target, settings, lambda _text: None))
    return judge(target, settings, seen, now=time.time())


def causes(url: str, **how: object) -> list[str]:
    """Look at a server: the codes of what keeps clients out, or of what remains undecided."""
    found = findings(url, **how)  # type: ignore[arg-type]
    return [one.code for one in found if one.severity in {Severity.CAUSE, Severity.UNDECIDED}]


def chain_of(*made: Made) -> bytes:
    return b"".join(one.certificate.public_bytes(Encoding.PEM) for one in made)


@contextmanager
def folder() -> Iterator[Path]:
    """Make a folder that servers can read, whose user is not root."""
    path = Path(tempfile.mkdtemp(prefix="gateman-doctor-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def write(path: Path, name: str, *, key: Made, chain: bytes | None = None) -> tuple[Path, Path]:
    """Write a certificate with its chain, and its key."""
    certificate, private = path / f"{name}.pem", path / f"{name}.key"
    certificate.write_bytes(key.pem if chain is None else chain)
    private.write_bytes(key.key_pem)
    return certificate, private


@contextmanager
def nginx(path: Path, blocks: Mapping[str, str], *, modules: str = "") -> Iterator[dict[str, int]]:
    """
    Run nginx.

    Args:
        path: A folder.
        blocks: What ``server { }`` holds by name; ``PORT`` stands for a free port.
        modules: Directives before ``http { }``.

    Yields:
        The ports by name.
    """
    ports = {name: free_port() for name in blocks}
    text = "\n".join(
        f"server {{ {block.replace('PORT', f'127.0.0.1:{ports[name]}')} }}"
        for name, block in blocks.items()
    )
    user = "user www-data;" if os.geteuid() == 0 else ""
    main = path / "nginx.conf"
    main.write_text(_NGINX.format(folder=path, user=user, blocks=text, modules=modules))
    log = path / "error.log"
    command = [program("nginx"), "-p", str(path), "-e", str(log), "-c", str(main)]
    with running(command, port=next(iter(ports.values())), log=log):
        yield ports


@contextmanager
def openssl(path: Path, key: Made, *options: str) -> Iterator[int]:
    """Run OpenSSL's own server, which answers HTTP with a page."""
    name = f"openssl-{free_port()}"
    certificate, private = write(path, name, key=key)
    port = free_port()
    command = [program("openssl"), "s_server", "-accept", str(port), "-www", "-quiet"]
    command += ["-cert", str(certificate), "-key", str(private), *options]
    with running(command, port=port, log=path / f"{name}.log"):
        yield port


@contextmanager
def impostor(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    *,
    context: ssl.SSLContext | None = None,
) -> Iterator[int]:
    """Serve each connection by a coroutine function, on a thread of its own."""
    started = threading.Event()
    loop = asyncio.new_event_loop()
    port = 0
    stop = asyncio.Event()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        except asyncio.CancelledError:
            # The end of the block; streams would report it.
            pass
        finally:
            writer.transport.abort()

    async def run() -> None:
        nonlocal port
        server = await asyncio.start_server(one, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        started.set()
        await stop.wait()
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Transports, and TLS on them, close in the next turns.
        for _ in range(5):
            await asyncio.sleep(0)

    thread = threading.Thread(target=loop.run_until_complete, args=[run()])
    thread.start()
    try:
        assert started.wait(30)
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def wait_for_tls(port: int, name: str) -> None:
    """Wait until a server has a certificate for a name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as raw:
                context.wrap_socket(raw, server_hostname=name).close()
        except OSError:
            assert time.monotonic() < deadline, name
            time.sleep(0.02)
        else:
            return
