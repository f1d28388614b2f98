"""The storage: private, whole files, one process at a time, and nothing that a crash leaves."""

import os
import pwd
import stat
from pathlib import Path

import pytest

from gateman.acme.state import Attempt, CertificateState
from gateman.acme.storage import Account, Storage

NOBODY = pwd.getpwnam("nobody")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_user_can_read_it(tmp_path: Path) -> None:
    storage = Storage.prepare(tmp_path / "deep" / "acme")
    storage.write_certificate("example.com-1", b"key and chain")
    storage.write_challenge("tls-alpn-01", "example.com", b"answer")
    found = {
        str(path.relative_to(storage.folder)): oct(mode(path)) for path in storage.folder.rglob("*")
    }

    assert mode(storage.folder) == 0o700
    assert found == {
        "certificates": "0o700",
        "certificates/example.com-1.pem": "0o600",
        "challenges": "0o700",
        "challenges/tls-alpn-01": "0o700",
        "challenges/tls-alpn-01/example.com": "0o600",
    }


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    storage = Storage.prepare(tmp_path / "acme")
    state = CertificateState(
        domains=("example.com",), attempts=(Attempt(at=1.5, code="ACME_CAA"),), retry_at=7.0
    )
    storage.write_state("example.com-1", state)

    assert storage.read_state("example.com-1") == state
    assert storage.read_state("other-1") == CertificateState()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"failures": "x"}', b"\xff", b"0" * 2_000_000]
)
def test_a_state_that_cannot_be_read_is_empty(tmp_path: Path, data: bytes) -> None:
    storage = Storage.prepare(tmp_path / "acme")
    storage.write_state("a-1", CertificateState(retry_at=7.0))
    (storage.folder / "state" / "a-1.json").write_bytes(data)

    assert storage.read_state("a-1") == CertificateState()


def test_an_account_belongs_to_a_directory_and_a_customer(tmp_path: Path) -> None:
    storage = Storage.prepare(tmp_path / "acme")
    account = Account(directory="https://ca.example/dir", url="https://ca.example/1", key="{}")
    storage.write_account(account)

    assert storage.read_account("https://ca.example/dir") == account
    assert storage.read_account("https://ca.example/dir", "kid") is None
    assert storage.read_account("https://ca.example/other") is None

    storage.remove_account("https://ca.example/dir")

    assert storage.read_account("https://ca.example/dir") is None
