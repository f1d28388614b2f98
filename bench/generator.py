"""
Build and run the load generators (``load/``, ``crowd.c``).

They are compiled at the first use, with the system's compiler, into ``bench/.build``; nothing
else here writes outside that folder.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE / ".build"
SOURCE = HERE / "load"


class MissingTool(Exception):
    """What the system lacks, in one sentence with the remedy."""


class Unmeasured(Exception):
    """Why a server could not be measured, in one sentence."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """
    What one run of the generator measured.

    Attributes:
        messages: Echoes that came back and were right, or handshakes, within ``seconds``.
        seconds: Length of the measured window.
        rate: ``messages`` per second.
        p50_us: Median latency in microseconds; ``p99_us``, ``p999_us`` and ``max_us`` alike.
        errors: Connections that failed: a wrong byte, a lost echo, an early end.
        packed: How many of the echoes were compressed.
        packed_bytes: What those took.
        resumed: How many of the handshakes resumed a TLS session.
        cpu_seconds: What the generator itself used.
        busy: Share of the window that it spent outside ``epoll_wait``.
        queued_seconds: What it waited for its core, because something else ran there.
        server_cpu_seconds: What the watched processes used.
        server_queued_seconds: What these waited for their core, for each other too.
    """

    messages: int
    seconds: float
    rate: float
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float
    errors: int
    packed: int
    packed_bytes: int
    resumed: int
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
    def server_kept_waiting(self) -> float:
        """Seconds that other programs kept the server from its core, at most."""
        # The processes of one server wait for each other, too: not longer than others ran.
        return min(self.server_queued_seconds, max(0.0, self.seconds - self.server_cpu_seconds))

    @property
    def server_load(self) -> float:
        """Share of the window in which the server ran or wanted to."""
        return (self.server_cpu_seconds + self.server_kept_waiting) / self.seconds

    @property
    def generator_load(self) -> float:
        """Share of the window in which the generator ran or wanted to."""
        return self.busy + self.queued_seconds / self.seconds

    @property
    def was_disturbed(self) -> bool:
        """Whether other processes took more than a little of the two cores."""
        queued = max(self.queued_seconds, self.server_kept_waiting)
        return queued > 0.05 * self.seconds

    @property
    def was_starved(self) -> bool:
        """Whether the server or the generator hardly got a core, so that this says nothing."""
        queued = max(self.queued_seconds, self.server_kept_waiting)
        return not self.messages or not self.server_cpu_seconds or queued > 0.75 * self.seconds

    @property
    def was_generator_bottleneck(self) -> bool:
        """Whether the generator, and not the server, set the rate."""
        return self.generator_load > max(self.server_load, 0.9)


def build(source: Path = SOURCE) -> Path:
    """
    Compile a generator, if its source is newer than the binary.

    Raises:
        MissingTool: No compiler, or no headers of OpenSSL or zlib.
    """
    parts = sorted(source.glob("*.c")) if source.is_dir() else [source]
    newest = max(
        file.stat().st_mtime for file in (*parts, *source.parent.glob(f"{source.name}/*.h"))
    )
    binary = BUILD / source.stem
    if binary.is_file() and binary.stat().st_mtime > newest:
        return binary
    compiler = shutil.which("cc")
    if compiler is None:
        raise MissingTool("the load generator needs a C compiler: apt-get install gcc libc6-dev")
    for header, package in (("openssl/ssl.h", "libssl-dev"), ("zlib.h", "zlib1g-dev")):
        probe = subprocess.run(
            [compiler, "-E", "-"],
            input=f"#include <{header}>\n",
            capture_output=True,
            text=True,
            check=False,
        )
        if probe.returncode != 0:
            raise MissingTool(f"the load generator needs {header}: apt-get install {package}")
    BUILD.mkdir(exist_ok=True)
    fresh = binary.with_suffix(f".{os.getpid()}")
    libraries = ["-lssl", "-lcrypto", "-lz"]
    subprocess.run([compiler, "-O2", "-o", str(fresh), *map(str, parts), *libraries], check=True)
    # At once: another run may be starting the one before.
    fresh.replace(binary)
    return binary


Option = float | bool | str | Sequence[int]


def command(port: int, *, secure: bool, **options: Option) -> list[str]:
    """Write the generator's command line."""
    words = [str(build()), f"--port={port}"]
    if secure:
        words.append("--tls")
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            words += [f"{flag}={one}" for one in value]
        elif value is not False:
            words.append(f"{flag}={value}")
    return words


def run(port: int, *, secure: bool, **options: Option) -> Load:
    """
    Run the generator to its end.

    Raises:
        Unmeasured: It could not measure, or an echo was wrong.
    """
    done = subprocess.run(
        command(port, secure=secure, **options),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode != 0 or not done.stdout:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise Unmeasured(said[0])
    return Load(**json.loads(done.stdout))


@contextmanager
def idle_connections(
    port: int, count: int, *, secure: bool, touch: bool, **options: Option
) -> Iterator[float]:
    """
    Hold connections open, from a process of their own; give the seconds until the last was open.

    Raises:
        Unmeasured: They could not be opened.
    """
    words = command(
        port, secure=secure, idle=True, touch=touch, connections=count, duration=120, **options
    )
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise Unmeasured(process.stderr.readline().strip())
            yield json.loads(line)["seconds"]
        finally:
            process.stdin.close()
            process.wait(30)


if __name__ == "__main__":
    try:
        print(build())
    except MissingTool as missing:
        raise SystemExit(str(missing)) from None
