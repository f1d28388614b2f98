"""What the storage of ``acme`` says to ``certificates`` and ``check``."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateman.acme.options import AcmeOptions
from gateman.acme.policy import after_failure
from gateman.acme.state import CertificateState
from gateman.acme.storage import Storage
from gateman.cli.stored_certificates import check_lines, rows_of
from gateman.errors import CommandError
from gateman.findings.acme import ACME_UNREACHABLE
from tests.support.made_certificates import make

NOW = 1_800_000_000.0


def declared(folder: Path, name: str) -> AcmeOptions:
    return AcmeOptions(domains=(name,), storage=str(folder))


def test_check_says_where_they_are_and_how_they_do(tmp_path: Path) -> None:
    storage = Storage.prepare(tmp_path / "acme")
    issued, missing = (declared(storage.folder, name) for name in ("localhost", "new.example"))
    made = make(starts_at=datetime.fromtimestamp(NOW, UTC), days=90)
    storage.write_certificate(issued.id, made.pem + made.key_pem)
    failed = ACME_UNREACHABLE.found(authority="ca.example", reason="timed out")
    storage.write_state(
        missing.id, after_failure(CertificateState(), missing, failed, now=NOW, jitter=0.0)
    )
    lines = list(check_lines([issued, missing], NOW))

    assert lines[0] == f"acme: keys and certificates are in {storage.folder}"
    assert lines[1].startswith(f"warning: acme.storage, {storage.folder}, is ")
    assert lines[2].startswith("localhost: 90 days left, renewed 2027-03-")
    assert lines[3:] == [
        "new.example: not issued yet, ordered when the service runs",
        f"warning: new.example: {failed} (ACME_UNREACHABLE; 1 failure, the last 2027-01-15 08:00"
        " UTC)",
    ]


def test_a_storage_that_cannot_be_read(tmp_path: Path) -> None:
    """`check` goes on without."""
    options = declared(tmp_path / "acme", "example.com")
    state = tmp_path / "acme" / "state" / f"{options.id}.json"
    state.parent.mkdir(parents=True)
    os.mkfifo(state)
    is_none = rows_of([options], NOW)[0]["problem"]
    state.unlink()
    # Root may read everything, but not open what is no device.
    os.mknod(state, 0o600 | 0o140000)
    with pytest.raises(CommandError) as refused:
        rows_of([options], NOW)

    assert is_none is None
    assert str(refused.value) == (
        f"{state} cannot be read (no such device or address): run this as root, or as the user of"
        " the service."
    )
    assert list(check_lines([options], NOW))[-1] == f"note: {refused.value.problem}"
