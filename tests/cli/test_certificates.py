"""``gateman certificates`` and ``check`` on scripts with certificates of both kinds."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateman.acme.options import AcmeOptions
from gateman.acme.policy import after_failure
from gateman.acme.state import CertificateState
from gateman.acme.storage import Storage
from gateman.findings.acme import ACME_UNREACHABLE
from tests.support.made_certificates import make
from tests.support.master import GATEMAN, run

SCRIPT = """\
from gateman import Worker
Worker("wss://127.0.0.1:8282", {{"ssl": {ssl!r}}})
Worker("websocket://127.0.0.1:8283", name="plain")
Worker.run_all()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a script that has two certificates of ACME and one in a file."""
    made = make("chat.test", days=90)
    (tmp_path / "server.pem").write_bytes(made.pem + made.key_pem)
    acme = [
        {"domains": "localhost", "storage": "acme"},
        {"domains": "new.example", "storage": "acme"},
    ]
    (tmp_path / "server.py").write_text(
        SCRIPT.format(ssl={"local_cert": "server.pem", "acme": acme})
    )
    issued = AcmeOptions(domains=("localhost",), storage=str(tmp_path / "acme"))
    storage = Storage.prepare(tmp_path / "acme")
    renewed = make(starts_at=datetime.now(UTC), days=90)
    storage.write_certificate(issued.id, renewed.pem + renewed.key_pem)
    failed = ACME_UNREACHABLE.found(authority="ca.example", reason="timed out")
    missing = AcmeOptions(domains=("new.example",), storage=str(tmp_path / "acme"))
    storage.write_state(
        missing.id, after_failure(CertificateState(), missing, failed, now=1.8e9, jitter=0.0)
    )
    return tmp_path


def test_the_list(folder: Path) -> None:
    listed = run([*GATEMAN, "certificates", "server.py"], folder)
    lines = listed.stdout.splitlines()

    assert (listed.returncode, listed.stderr) == (0, "")
    assert [line.split("  ")[0] for line in lines[:4]] == [
        "names",
        "localhost",
        "new.example",
        "chat.test",
    ]
    assert "89 days left" in lines[1]
    assert "not issued yet" in lines[2]
    assert "not renewed by gateman" in lines[3]
    assert lines[4].startswith(
        "new.example: the authority ca.example cannot be reached (timed out): "
    )
    assert "(ACME_UNREACHABLE; 1 failure, the last 2027-01-15 08:00 UTC)" in lines[4]


def test_the_program_has_the_same_command(folder: Path) -> None:
    listed = run(
        [GATEMAN[0], "server.py", "certificates", "--json", "--name", "new.example"], folder
    )
    found = json.loads(listed.stdout)["certificates"]

    assert (listed.returncode, listed.stderr) == (0, "")
    assert [(one["names"], one["source"], one["days_left"], one["failures"]) for one in found] == [
        (["new.example"], "acme", None, 1)
    ]
    assert found[0]["problem"]["code"] == "ACME_UNREACHABLE"
    assert found[0]["path"].startswith(str(folder / "acme" / "certificates" / "new.example-"))


def test_a_name_without_a_certificate(folder: Path) -> None:
    listed = run([*GATEMAN, "certificates", "server.py", "--name", "other.example"], folder)

    assert (listed.returncode, listed.stdout) == (1, "")
    assert listed.stderr == "gateman: server.py has no certificate for other.example.\n"


def test_check_tells_of_them(folder: Path) -> None:
    checked = run([*GATEMAN, "check", "server.py"], folder)
    lines = [line.strip() for line in checked.stdout.splitlines()]

    assert (checked.returncode, checked.stderr) == (0, "")
    assert lines[0] == "server.py: worker would listen on wss://127.0.0.1:8282 with 1 process"
    assert lines[1] == f"acme: keys and certificates are in {folder}/acme"
    assert lines[3].startswith("localhost: 89 days left, renewed 20")
    assert lines[6] == f"{folder}/server.pem: 88 days left"


def test_a_service_without_certificates(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(
        'from gateman import Worker\nWorker("websocket://127.0.0.1:8282")\nWorker.run_all()\n'
    )
    listed = run([*GATEMAN, "certificates", "server.py"], tmp_path)

    assert (listed.returncode, listed.stderr) == (0, "")
    assert listed.stdout == "no worker has a certificate; if clients use wss://, a proxy has it\n"
