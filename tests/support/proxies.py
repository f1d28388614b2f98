"""
Real proxies in front of a worker, running the configuration that ``gateman proxy`` prints.

Each runs as a child process in the foreground, on a free loopback port, with its files in a
folder of its own and nothing of the system's configuration. The wrapper around the printed text
is what a Debian package brings, as far as it could matter. Started by root, a proxy drops to
``www-data`` as it does in production: what it serves must be readable for everybody.

A new kind of proxy needs a function that writes its files and returns its command line, and
:func:`running`.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateman.ops import proxy

from .deadlines import TIMEOUT
from .ports import free_port

STOP_TIMEOUT = 2.0  # seconds until it is killed

APACHE_MODULES = Path("/usr/lib/apache2/modules")

# Where Debian keeps servers, also for those whose PATH does not say so.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])

_NGINX_MAIN = """\
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 256; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type text/plain;
    sendfile on;
    tcp_nopush on;
    gzip on;
    ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;
    ssl_prefer_server_ciphers on;
    {extra}
    include {folder}/site.conf;
}}
"""

# Debian's default modules, as far as they look at requests, and what mod_ssl depends on.
_APACHE_DEFAULT = (
    "authz_core deflate dir env filter mime mpm_event reqtimeout setenvif socache_shmcb"
)

_APACHE_MAIN = """\
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/apache.pid
ErrorLog {folder}/error.log
LogLevel info
ServerName localhost
{user}
Mutex pthread
{modules}
StartServers 1
ServerLimit 1
ThreadsPerChild 64
MaxRequestWorkers 64
Timeout 300
RequestReadTimeout header=20-40,minrate=500
RequestReadTimeout body=10,minrate=500
TypesConfig /dev/null
SSLProtocol all -SSLv3
SSLSessionCache shmcb:{folder}/ssl_scache(512000)
<Directory />
    Require all denied
</Directory>
{extra}
Include {folder}/site.conf
"""


def _unchanged(text: str) -> str:
    return text


@contextmanager
def nginx(
    site: proxy.Site, *, extra: str = "", edit: Callable[[str], str] = _unchanged
) -> Iterator[int]:
    """
    Run the printed configuration in Nginx.

    Args:
        site: What to serve; its ``listen`` is replaced by a free loopback port.
        extra: More directives for ``http { }``.
        edit: A change to the printed text, for a test of what the text is for.

    Yields:
        The port, on 127.0.0.1.
    """
    port = free_port()
    text = proxy.nginx(replace(site, listen=f"127.0.0.1:{port}"), version=proxy.installed_nginx())
    with _folder() as folder:
        command = nginx_command(folder, edit(text), extra=extra)
        with running(command, port=port, log=folder / "error.log"):
            yield port


@contextmanager
def apache(
    site: proxy.Site, *, extra: str = "", edit: Callable[[str], str] = _unchanged
) -> Iterator[int]:
    """
    Run the printed configuration in Apache, with the modules that it says to enable.

    Args:
        site: What to serve; its ``listen`` is replaced by a free loopback port.
        extra: More directives for the server.
        edit: A change to the printed text, for a test of what the text is for.

    Yields:
        The port, on 127.0.0.1.
    """
    port = free_port()
    text = proxy.apache(replace(site, listen=f"127.0.0.1:{port}"))
    with _folder() as folder:
        command = apache_command(folder, edit(text), extra=extra)
        with running([*command, "-DFOREGROUND"], port=port, log=folder / "error.log"):
            yield port


def nginx_command(folder: Path, text: str, *, extra: str = "") -> list[str]:
    """
    Write Nginx's files.

    Args:
        folder: Where to.
        text: What ``gateman proxy nginx`` prints.
        extra: More directives for ``http { }``.

    Returns:
        The command line that runs it; with ``-t``, that tests it.
    """
    user = "user www-data;" if os.geteuid() == 0 else ""
    main = folder / "nginx.conf"
    main.write_text(_NGINX_MAIN.format(folder=folder, user=user, extra=extra))
    (folder / "site.conf").write_text(text)
    log = str(folder / "error.log")
    return [program("nginx"), "-p", str(folder), "-e", log, "-c", str(main)]


def apache_command(folder: Path, text: str, *, extra: str = "") -> list[str]:
    """
    Write Apache's files.

    Args:
        folder: Where to.
        text: What ``gateman proxy apache`` prints.
        extra: More directives for the server.

    Returns:
        The command line that runs it, in the background; with ``-t``, that tests it.
    """
    enabled = re.search(r"a2enmod (.*)", text)
    names = [*_APACHE_DEFAULT.split(), *(enabled[1].split() if enabled else ())]
    modules = [f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so" for name in names]
    user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
    main = folder / "apache.conf"
    main.write_text(
        _APACHE_MAIN.format(folder=folder, user=user, modules="\n".join(modules), extra=extra)
    )
    (folder / "site.conf").write_text(text)
    return [program("apache2"), "-f", str(main)]


@contextmanager
def running(command: Sequence[str], *, port: int, log: Path) -> Iterator[None]:
    """
    Run a server from when it listens to the end of the block.

    Args:
        command: Its command line; it stays in the foreground.
        port: The port that it will listen on, on 127.0.0.1.
        log: Where what it prints is added; its own log may be the same file.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # A group of its own, so that its children end with it.
            start_new_session=True,
        )
    try:
        _wait_until_listening(process, port, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            # Apache waits long for open WebSockets.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(TIMEOUT)


def program(name: str) -> str:
    """
    Find a server, or skip the test that needs it.

    Args:
        name: Its command.

    Returns:
        Its path.
    """
    found = shutil.which(name, path=_PATH)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@contextmanager
def _folder() -> Iterator[Path]:
    # Not pytest's tmp_path, which only its owner may enter.
    folder = Path(tempfile.mkdtemp(prefix="gateman-proxy-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{process.args!r} does not listen:\n{said}")
        time.sleep(0.01)
