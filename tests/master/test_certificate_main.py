"""The program of the process that orders certificates, as another user and in a process group."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from gateman.acme.job import Job, Report
from gateman.acme.options import parse
from gateman.acme.storage import Storage
from gateman.master.privileges import Identity, account
from tests.support.deadlines import TIMEOUT
from tests.support.ports import free_port

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")


def start(identity: Identity | None = None) -> "subprocess.Popen[bytes]":
    """Start it as the master does, with pipes."""
    code = "import sys; from gateman.master.certificate_main import main; sys.exit(main())"
    user = [] if identity is None else [msgspec.json.encode(identity).decode()]
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, *user], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def job(storage: Path) -> bytes:
    """Order from an authority that is away."""
    value = {
        "domains": "a.test",
        "directory": f"https://127.0.0.1:{free_port()}/dir",
        "storage": str(storage),
    }
    certificates = parse(value, folder=storage, default_storage=storage)
    return msgspec.json.encode(Job(certificates=certificates))


@needs_root
def test_it_is_the_user_of_the_service(tmp_path: Path) -> None:
    """What it writes is that user's; root has prepared the folder."""
    user = account("nobody")
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(0o755)
    folder = Storage.prepare(tmp_path / "acme", uid=user.uid, gid=user.gid).folder
    with start(user) as process:
        output, _ = process.communicate(job(folder), timeout=TIMEOUT)

    [state] = (folder / "state").glob("*.json")
    assert (state.stat().st_uid, state.stat().st_mode & 0o777) == (user.uid, 0o600)
    assert msgspec.json.decode(output, type=Report).log


def test_signals_for_the_whole_group_do_not_end_it(tmp_path: Path) -> None:
    """It is the master that ends it: a reload or a drain lets it finish."""
    folder = Storage.prepare(tmp_path / "acme").folder
    with start() as process:
        assert process.stdin is not None
        # It has begun when it reads: a pipe takes 64 KiB.
        process.stdin.write(b" " * (70 << 10))
        process.stdin.flush()
        for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
            process.send_signal(number)
        output, _ = process.communicate(job(folder), timeout=TIMEOUT)

    assert process.returncode == 0
    assert msgspec.json.decode(output, type=Report).log


def test_sigterm_ends_it(tmp_path: Path) -> None:
    Storage.prepare(tmp_path / "acme")
    with start() as process:
        assert process.stdin is not None
        process.stdin.write(b" " * (70 << 10))
        process.stdin.flush()
        process.terminate()
        process.communicate(timeout=TIMEOUT)

    assert process.returncode == 128 + signal.SIGTERM
