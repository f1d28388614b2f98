"""The command line in processes that are forked (:mod:`.forks`)."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile

from . import forks
from .deadlines import TIMEOUT

COMMANDS = (
    *("bus", "cert", "certificates", "check", "client", "connections", "doctor", "proxy", "push"),
    *("reload", "status", "stop", "systemd", "who"),
)
"""Those that can be forked always: they start no process that runs the same program again."""


def run(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float
) -> "subprocess.CompletedProcess[str]":
    """Run a command, or a script with one, to its end, as ``subprocess.run`` would."""
    with TemporaryFile() as stdout, TemporaryFile() as stderr:
        process = forks.start(
            "command",
            words,
            folder=folder,
            environment=environment,
            stdout=stdout.fileno(),
            stderr=stderr.fileno(),
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(TIMEOUT)
            raise
        texts = [_text(file.fileno()) for file in (stdout, stderr)]
    return subprocess.CompletedProcess(words, code, *texts)


def _text(fd: int) -> str:
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, closefd=False) as file:
        return file.read()
