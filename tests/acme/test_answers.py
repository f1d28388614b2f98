"""Answers to challenges: they are there while the authority looks, and the command has bounds."""

import sys
import time
from pathlib import Path

import pytest

from gateman.acme.answers import DnsCommandFailed, published, run_dns_command
from gateman.acme.challenges import Challenge
from gateman.acme.options import DNS_01, HTTP_01, TLS_ALPN_01, DnsCommand
from gateman.acme.storage import Storage


def challenge(kind: str, name: str = "a.test") -> Challenge:
    return Challenge(kind=kind, name=name, token="t" * 22, key_authorization="t" * 22 + ".thumb")


def test_answers_are_there_until_the_end(storage: Storage) -> None:
    """An address is found by its reverse name, and HTTP-01 by its token."""
    challenges = [
        challenge(TLS_ALPN_01),
        challenge(TLS_ALPN_01, "192.0.2.1"),
        challenge(HTTP_01),
    ]

    with published(challenges, storage, None) as files:
        names = [(one.kind, one.name) for one in files]
        written = [storage.read_challenge(*name) for name in names]
    after = [storage.read_challenge(*name) for name in names]

    assert names == [
        ("tls-alpn-01", "a.test"),
        ("tls-alpn-01", "1.2.0.192.in-addr.arpa"),
        ("http-01", "t" * 22),
    ]
    assert written[0] is not None
    assert written[0].startswith(b"-----BEGIN PRIVATE KEY-----")
    assert written[2] == b"t" * 22 + b".thumb"
    assert after == [None, None, None]


def recorder(folder: Path, more: str = "") -> DnsCommand:
    """Return a command that writes what it is called with to a file."""
    script = folder / "dns.py"
    script.write_text(
        f"import sys\nopen({str(folder / 'calls')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        + more
    )
    return DnsCommand(command=(sys.executable, str(script), "--zone", "x"), wait=7.0)


def calls(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "calls").read_text().splitlines()]


def test_a_record_is_set_awaited_and_cleared(storage: Storage, tmp_path: Path) -> None:
    one = challenge(DNS_01)
    waited: list[float] = []

    with published([one], storage, recorder(tmp_path), sleep=waited.append) as files:
        during = calls(tmp_path)

    record = ["_acme-challenge.a.test", one.dns_value]
    assert files == ()
    assert waited == [7.0]
    assert during == [["--zone", "x", "set", *record]]
    assert calls(tmp_path)[1:] == [["--zone", "x", "clear", *record]]


def test_what_was_set_is_cleared_if_the_next_one_fails(storage: Storage, tmp_path: Path) -> None:
    dns = recorder(tmp_path, "sys.exit('b.test' in sys.argv[4])")

    with (
        pytest.raises(DnsCommandFailed, match="it has ended with 1"),
        published([challenge(DNS_01), challenge(DNS_01, "b.test")], storage, dns),
    ):
        pass

    assert [(call[2], call[3].removeprefix("_acme-challenge.")) for call in calls(tmp_path)] == [
        ("set", "a.test"),
        ("set", "b.test"),
        # It may have done half of it.
        ("clear", "b.test"),
        ("clear", "a.test"),
    ]


def failure(*command: str, timeout: float = 60.0) -> DnsCommandFailed:
    dns = DnsCommand(command=command, timeout=timeout)
    with pytest.raises(DnsCommandFailed) as raised:
        run_dns_command(dns, "set", "_acme-challenge.a.test", "value")
    return raised.value


def test_a_command_that_does_not_exist() -> None:
    failed = failure("/nonexistent/dns")

    assert failed.reason == "it cannot be started: No such file or directory"
    assert failed.command == "/nonexistent/dns set _acme-challenge.a.test value"


def test_a_command_that_does_not_end_is_killed_with_what_it_has_started() -> None:
    start = time.monotonic()

    failed = failure("sh", "-c", "sleep 600 & sleep 600", timeout=0.2)

    assert failed.reason == "it has not ended within 0.2 seconds"
    assert time.monotonic() - start < 30


def test_a_command_that_says_too_much_is_heard_to_the_end() -> None:
    """Its last words are kept, and it is not blocked by a full pipe."""
    failed = failure("sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo 'no zone'; exit 5")

    assert failed.reason.startswith("it has ended with 5 and said: xxx")
    assert failed.reason.endswith("xno zone")
    assert len(failed.reason) < 600


def test_a_command_may_leave_a_process_running() -> None:
    """Its output stays open, and is not waited for."""
    start = time.monotonic()

    dns = DnsCommand(command=("sh", "-c", "sleep 60 & exit 0"))
    run_dns_command(dns, "set", "name", "value")

    assert time.monotonic() - start < 30
