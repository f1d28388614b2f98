"""
Answers to challenges, where an authority looks for them: files of the storage, records in the DNS.

The serving processes read the files when the authority connects. TXT records are set by a command
of the user's, which has a deadline, and whose output is read with a bound.
"""

import hashlib
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import IO

from .challenges import Challenge
from .options import DNS_01, HTTP_01, DnsCommand, challenge_server_name
from .readiness import AnswerFile
from .storage import Storage

# What a command says last is what it failed with.
_MAX_OUTPUT = 500  # bytes
_OUTPUT_TIMEOUT = 0.5  # seconds; a process that the command has left running may hold its output


class DnsCommandFailed(Exception):
    """The user's command has not done what it was called for."""

    def __init__(self, name: str, command: str, reason: str) -> None:
        super().__init__(name, command, reason)
        self.name = name  # of the record
        self.command = command  # as one would type it
        self.reason = reason  # how it ended


@contextmanager
def published(
    challenges: Sequence[Challenge],
    storage: Storage,
    dns: DnsCommand | None,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[tuple[AnswerFile, ...]]:
    """Give the answers, and take them back at the end of the block."""
    files: list[AnswerFile] = []
    with ExitStack() as stack:
        for one in challenges:
            if one.kind == DNS_01:
                assert dns is not None
                stack.callback(_clear, dns, one)
                run_dns_command(dns, "set", one.dns_name, one.dns_value)
            else:
                name, answer = _file_of(one)
                stack.callback(storage.remove_challenge, one.kind, name)
                storage.write_challenge(one.kind, name, answer)
                digest = hashlib.sha256(answer).hexdigest()
                files.append(AnswerFile(kind=one.kind, name=name, digest=digest))
        if dns is not None and any(one.kind == DNS_01 for one in challenges):
            sleep(dns.wait)
        yield tuple(files)


def _file_of(challenge: Challenge) -> tuple[str, bytes]:
    """Return the name and the content of the file that answers a challenge."""
    if challenge.kind == HTTP_01:
        return challenge.token, challenge.key_authorization.encode()
    return challenge_server_name(challenge.name), challenge.tls_certificate(time.time())


def _clear(dns: DnsCommand, challenge: Challenge) -> None:
    # A record that stays proves nothing: the next order has another value.
    with suppress(DnsCommandFailed):
        run_dns_command(dns, "clear", challenge.dns_name, challenge.dns_value)


def run_dns_command(dns: DnsCommand, verb: str, name: str, value: str) -> None:
    """Run ``command VERB NAME VALUE``; raises DnsCommandFailed."""
    command = [*dns.command, verb, name, value]

    def failed(reason: str) -> DnsCommandFailed:
        return DnsCommandFailed(name, shlex.join(command), reason)

    try:
        process = subprocess.Popen(  # noqa: S603 - the user's own
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise failed(f"it cannot be started: {reason}") from error
    assert process.stdout is not None
    tail = bytearray()
    reader = threading.Thread(target=_keep_tail, args=(process.stdout, tail), daemon=True)
    reader.start()
    try:
        status = process.wait(dns.timeout)
    except BaseException as error:
        # Also if this process is told to end.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        raise failed(f"it has not ended within {dns.timeout:g} seconds") from None
    if status != 0:
        reader.join(_OUTPUT_TIMEOUT)
        said = " ".join(bytes(tail).decode(errors="replace").split())
        raise failed(f"it has ended with {status}" + (f" and said: {said}" if said else ""))


def _keep_tail(output: IO[bytes], tail: bytearray) -> None:
    with output:
        while part := os.read(output.fileno(), 1 << 16):
            tail += part
            del tail[:-_MAX_OUTPUT]
