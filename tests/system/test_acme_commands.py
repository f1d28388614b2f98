"""``gateman certificates`` and ``status`` beside a service that orders from a real authority."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.master import GATEMAN, master, run
from tests.support.pebble import Pebble, pebble

EXAMPLE = (Path(__file__).parents[2] / "examples" / "wss_by_domain.py").read_text()


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Pebble]:
    with pebble(tmp_path) as server:
        yield server


def rows(folder: Path) -> list[dict[str, Any]]:
    listed = run([*GATEMAN, "certificates", "server.py", "--json"], folder)
    found: list[dict[str, Any]] = json.loads(listed.stdout)["certificates"]
    return found


def test_commands_show_and_renew_what_the_service_orders(authority: Pebble, tmp_path: Path) -> None:
    """In the storage of the running service, wherever its environment says that it is."""
    acme = {
        "domains": "a.test",
        "directory": authority.directory,
        "directory_cafile": str(authority.cafile),
    }
    declared = '"wss://0.0.0.0:443", acme="example.com"'
    assert declared in EXAMPLE
    script = EXAMPLE.replace(declared, f'"wss://127.0.0.1:{authority.tls_port}", acme={acme!r}')
    environment = {"STATE_DIRECTORY": str(tmp_path / "state")}
    with master(script, tmp_path, environment=environment) as service:
        service.wait_for("has issued a certificate")
        listed = rows(tmp_path)
        renewed = run([*GATEMAN, "certificates", "server.py", "--renew"], tmp_path)
        after = rows(tmp_path)
        unknown = run(
            [*GATEMAN, "certificates", "server.py", "--renew", "--name", "b.test"], tmp_path
        )
        status = json.loads(service.command("status", "--json").stdout)["certificates"]

    assert [(one["names"], one["source"], one["problem"]) for one in listed] == [
        (["a.test"], "acme", None)
    ]
    assert listed[0]["path"].startswith(str(tmp_path / "state" / "acme" / "certificates"))
    assert (renewed.returncode, renewed.stderr) == (0, "")
    # Without a check, if the authority reuses the last one.
    assert "acme: a.test: 127.0.0.1 has issued a certificate" in renewed.stdout
    assert after[0]["renewal_at"] != listed[0]["renewal_at"]
    assert [(one["names"], one["path"]) for one in status] == [(["a.test"], after[0]["path"])]
    assert (unknown.returncode, unknown.stderr) == (
        1,
        "gateman: no certificate of acme is for b.test.\n",
    )
