"""Certificate files that change are taken up once they have settled."""

import logging
import shutil
from pathlib import Path

import pytest

from gateman.tls.contexts import TlsContexts
from gateman.tls.reload import CertificateReload
from tests.support.certificates import Authority
from tests.support.steady_clients import replaced

NOW = 1.8e9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Put a certificate into a folder, and its successor into another."""
    (tmp_path / "new").mkdir()
    authority = Authority()
    authority.issue(tmp_path, "old.example")
    authority.issue(tmp_path / "new", "new.example")
    return tmp_path


def load(folder: Path) -> TlsContexts:
    """Load the certificate."""
    options = {"local_cert": str(folder / "server.pem"), "local_pk": str(folder / "server.key")}
    return TlsContexts.load(options, now=NOW)


def names(contexts: TlsContexts) -> list[tuple[str, ...]]:
    """Tell whom the certificates in service are for."""
    return [certificate.domains for certificate in contexts.certificates]


def renew(folder: Path, *files: str) -> None:
    """Put files of the successor in their places."""
    for file in files:
        replaced(folder / file, (folder / "new" / file).read_bytes())


def test_files_are_taken_up_when_they_have_settled(folder: Path) -> None:
    """Not at the first look that sees a change, but at the next if there is no further one."""
    contexts = load(folder)
    certificate_reload = CertificateReload("chat", contexts)
    certificate_reload.look()
    renew(folder, "server.pem", "server.key")
    certificate_reload.look()

    assert names(contexts) == [("old.example",)]
    certificate_reload.look()
    assert names(contexts) == [("new.example",)]


def test_files_that_do_not_fit_together_yet(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Between the certificate and its key the old pair serves, and is complained about once."""
    contexts = load(folder)
    certificate_reload = CertificateReload("chat", contexts)
    renew(folder, "server.pem")
    for _ in range(5):
        certificate_reload.look()

    assert names(contexts) == [("old.example",)]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.message.startswith("chat: the old certificate stays in service: ")

    renew(folder, "server.key")
    for _ in range(2):
        certificate_reload.look()
    assert names(contexts) == [("new.example",)]


def test_files_that_vanish_are_not_missed(folder: Path) -> None:
    """What is in service stays; what comes back is taken up."""
    contexts = load(folder)
    certificate_reload = CertificateReload("chat", contexts)
    (folder / "server.pem").unlink()
    for _ in range(3):
        certificate_reload.look()
    assert names(contexts) == [("old.example",)]

    renew(folder, "server.pem", "server.key")
    for _ in range(2):
        certificate_reload.look()
    assert names(contexts) == [("new.example",)]


def test_links_are_followed(folder: Path) -> None:
    """As certbot renews: the link changes, and the files that it led to do not."""
    live = folder / "live"
    live.mkdir()
    for file in ("server.pem", "server.key"):
        (live / file).symlink_to(folder / file)
    contexts = load(live)
    certificate_reload = CertificateReload("chat", contexts)
    for file in ("server.pem", "server.key"):
        (live / file).unlink()
        (live / file).symlink_to(folder / "new" / file)
    for _ in range(2):
        certificate_reload.look()

    assert names(contexts) == [("new.example",)]


def test_a_signal_does_not_wait(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who asks for it gets it at once, and sees in the log that it was done."""
    caplog.set_level(logging.INFO, "gateman")
    contexts = load(folder)
    certificate_reload = CertificateReload("chat", contexts)
    renew(folder, "server.pem", "server.key")
    certificate_reload.reload()

    assert names(contexts) == [("new.example",)]
    assert caplog.messages == ["chat: the certificate files were read anew"]
    for _ in range(3):
        certificate_reload.look()
    assert len(caplog.messages) == 1


def test_nothing_is_read_while_nothing_changes(folder: Path) -> None:
    """Files of which only the time of reading changes are left alone."""
    contexts = load(folder)
    certificate_reload = CertificateReload("chat", contexts)
    before = contexts.select(None)
    shutil.copy(folder / "server.pem", folder / "copy.pem")
    for _ in range(3):
        certificate_reload.look()

    assert contexts.select(None) is before


def test_a_certificate_that_expires_is_told_each_day(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A service that runs for months hears of it before its clients do; of one process only."""
    contexts = load(folder)
    expires_at = contexts.certificates[0].expires_at
    assert expires_at is not None
    silent = CertificateReload("chat", contexts)
    certificate_reload = CertificateReload("chat", contexts, warns_of_dates=True)
    for days in (20, 5, 4.9, 4, -1):
        silent.look(expires_at - days * 86_400)
        certificate_reload.look(expires_at - days * 86_400)

    assert [line.partition(": renew it")[0].rpartition(", ")[2] for line in caplog.messages] == [
        "in 5 days",
        "in 4 days",
        "and clients refuse it",
    ]
