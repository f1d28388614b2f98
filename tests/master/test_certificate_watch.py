"""A process takes up certificates that are renewed; one of them logs what is wrong with them."""

from pathlib import Path

import pytest

from gateman.master.certificate_watch import CertificateWatch
from gateman.tls.contexts import TlsContexts
from tests.support.certificates import Authority
from tests.support.clock import Clock
from tests.support.steady_clients import replaced


async def watch(contexts: TlsContexts, *, is_first: bool) -> CertificateWatch:
    return CertificateWatch("chat", contexts, user="nobody", is_first=is_first)


def load(folder: Path, domain: str) -> TlsContexts:
    Authority().issue(folder, domain)
    options = {"local_cert": str(folder / "server.pem"), "local_pk": str(folder / "server.key")}
    return TlsContexts.load(options, now=1.8e9)


@pytest.mark.parametrize("is_first", [True, False])
def test_one_process_logs_the_warnings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_first: bool
) -> None:
    """All processes of a worker have the same certificates."""
    caplog.set_level("INFO")
    contexts = load(tmp_path, "chat.example")
    (tmp_path / "server.key").unlink()
    loop = Clock()
    loop.run_until_complete(watch(contexts, is_first=is_first))
    loop.close()

    logged = [record.message for record in caplog.records]
    unreadable = f"chat: user nobody may not read {tmp_path / 'server.key'}: "
    assert any(message.startswith(unreadable) for message in logged) is is_first
    assert any("not in the file" in message for message in logged) is is_first


def test_a_renewed_certificate_is_taken_up(tmp_path: Path) -> None:
    contexts = load(tmp_path, "old.example")
    loop = Clock()
    certificate_watch = loop.run_until_complete(watch(contexts, is_first=True))
    (tmp_path / "new").mkdir()
    load(tmp_path / "new", "new.example")
    for file in ("server.pem", "server.key"):
        replaced(tmp_path / file, (tmp_path / "new" / file).read_bytes())
    loop.advance(2.5 * certificate_watch.certificate_reload.interval)
    loop.close()

    assert [certificate.domains for certificate in contexts.certificates] == [("new.example",)]
