"""
Build and run the load generators (``load.c``, ``crowd.c``).

They are compiled at the first use, with the system's compiler, into ``bench/.build``; nothing
else here writes outside that folder.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE / ".build"
SOURCE = HERE / "load.c"


class MissingTool(Exception):
    """What the system lacks, in one sentence with the remedy."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """
    What one run of the generator measured.

    Attributes:
        messages: Echoes that came back and were right, within ``seconds``.
        seconds: Length of the measured window.
        rate: ``messages`` per second.
        p50_us: Median latency in microseconds; ``p99_us``, ``p999_us`` and ``max_us`` alike.
        errors: Connections that failed: a wrong byte, a lost echo, an early end.
        cpu_seconds: What the generator itself used.
        busy: Share of the window that it spent outside ``epoll_wait``.
        queued_seconds: What it waited for its core, because something else ran there.
        server_cpu_seconds: What the watched process used.
        server_queued_seconds: What that process waited for its core.
    """

    messages: int
    seconds: float
    rate: float
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float
    errors: int
    cpu_seconds: float
    busy: float
    queued_seconds: float
    server_cpu_seconds: float
    server_queued_seconds: float

    @property
    def per_cpu_second(self) -> float:
        """Messages per second of the server's CPU time."""
        return self.messages / self.server_cpu_seconds

    @property
    def server_load(self) -> float:
        """Share of the window in which the server ran or wanted to."""
        return (self.server_cpu_seconds + self.server_queued_seconds) / self.seconds

    @property
    def generator_load(self) -> float:
        """Share of the window in which the generator ran or wanted to."""
        return self.busy + self.queued_seconds / self.seconds

    @property
    def was_disturbed(self) -> bool:
        """Whether other processes took more than a little of the two cores."""
        queued = max(self.queued_seconds, self.server_queued_seconds)
        return queued > 0.05 * self.seconds

    @property
    def was_generator_bottleneck(self) -> bool:
        """Whether the generator, and not the server, set the rate."""
        return self.generator_load > max(self.server_load, 0.9)


def build(source: Path = SOURCE) -> Path:
    """
    Compile a generator, if its source is newer than the binary.

    Args:
        source: Which.

    Returns:
        The binary.

    Raises:
        MissingTool: No compiler, or no OpenSSL headers.
    """
    binary = BUILD / source.stem
    if binary.exists() and binary.stat().st_mtime > source.stat().st_mtime:
        return binary
    compiler = shutil.which("cc")
    if compiler is None:
        raise MissingTool("the load generator needs a C compiler: apt-get install gcc libc6-dev")
    probe = subprocess.run(
        [compiler, "-E", "-"],
        input="#include <openssl/ssl.h>\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode != 0:
        raise MissingTool(
            "the load generator needs the headers of OpenSSL: apt-get install libssl-dev"
        )
    BUILD.mkdir(exist_ok=True)
    command = [compiler, "-O2", "-o", str(binary), str(source), "-lssl", "-lcrypto"]
    subprocess.run(command, check=True)
    return binary


def command(port: int, *, secure: bool, **options: float | bool) -> list[str]:
    """
    Write the generator's command line.

    Args:
        port: Where the server listens on loopback.
        secure: Whether it speaks wss.
        options: As ``load --help`` lists them, with underscores; ``True`` is a bare flag.
    """
    words = [str(build()), f"--port={port}"]
    if secure:
        words.append("--tls")
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif value is not False:
            words.append(f"{flag}={value}")
    return words


def run(port: int, *, secure: bool, **options: float | bool) -> Load:
    """
    Run the generator to its end.

    Args:
        port: Where the server listens on loopback.
        secure: Whether it speaks wss.
        options: See :func:`command`.

    Raises:
        SystemExit: The generator could not measure; it has said why on standard error.
    """
    done = subprocess.run(
        command(port, secure=secure, **options),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=600,
    )
    if not done.stdout:
        sys.exit("the load generator measured nothing (see above)")
    return Load(**json.loads(done.stdout))


@contextmanager
def idle_connections(port: int, count: int, *, secure: bool, touch: bool) -> Iterator[None]:
    """
    Hold connections open, from a process of their own.

    Args:
        port: Where the server listens on loopback.
        count: How many.
        secure: Whether it speaks wss.
        touch: Whether each echoes one message first.
    """
    words = command(port, secure=secure, idle=True, touch=touch, connections=count, duration=120)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if not process.stdout.readline():
                sys.exit(f"{count} idle connections could not be opened (see above)")
            yield
        finally:
            process.stdin.close()
            process.wait(30)


if __name__ == "__main__":
    try:
        print(build())
    except MissingTool as missing:
        sys.exit(str(missing))
