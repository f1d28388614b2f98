"""``gateman doctor``, on a real service: what it prints, and how it ends."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateman.findings.catalogue import CATALOGUE
from tests.support.master import GATEMAN, Master, echo, master, run
from tests.support.ports import free_port


def doctor(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return run([*GATEMAN, "doctor", *words], folder)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    with master(echo(options="count=1"), tmp_path_factory.mktemp("service")) as running:
        yield running


def test_a_healthy_service(service: Master, tmp_path: Path) -> None:
    seen = doctor(tmp_path, f"ws://127.0.0.1:{service.port}/")

    assert (seen.returncode, seen.stderr) == (0, "")
    assert seen.stdout.startswith(f"✓ ws://127.0.0.1:{service.port}/ is healthy")


@pytest.mark.parametrize(
    ("change", "mistake"),
    [
        ("\nx = = 1", "invalid syntax"),
        ("\n1 / 0", "could not be loaded: ZeroDivisionError"),
        ("\nWorker(cuont=3)", "did you mean 'count'"),
    ],
)
def test_a_script_that_was_broken_while_the_service_runs(
    service: Master, change: str, mistake: str
) -> None:
    """Clients come in; that it would not start again is a warning."""
    before = service.path.read_text()
    service.path.write_text(before.replace("Worker.run_all()", f"{change}\nWorker.run_all()"))
    try:
        seen = doctor(service.path.parent, "server.py", f"ws://127.0.0.1:{service.port}/", "--json")
    finally:
        service.path.write_text(before)
    document = json.loads(seen.stdout)
    (warning,) = (one for one in document["warnings"] if one["code"] == "SERVICE_INVALID")

    assert seen.returncode == 0
    assert document["verdict"]["state"] == "healthy"
    assert mistake in warning["sentence"]


def test_a_script_that_cannot_be_loaded(tmp_path: Path) -> None:
    """It is the cause, and not the port where nothing listens for that reason."""
    (tmp_path / "server.py").write_text("this is broken")
    seen = doctor(tmp_path, "server.py", f"ws://127.0.0.1:{free_port()}/", "--json")

    assert [one["code"] for one in json.loads(seen.stdout)["causes"]] == [
        *("SERVICE_INVALID", "SERVICE_NOT_RUNNING")
    ]


def test_a_closed_port(tmp_path: Path) -> None:
    """The cause comes first, then its code, fix and clients."""
    url = f"ws://127.0.0.1:{free_port()}/"
    seen = doctor(tmp_path, url)
    lines = seen.stdout.splitlines()

    assert (seen.returncode, seen.stderr) == (1, "")
    assert lines[0].startswith(f"✗ {url}: connections to 127.0.0.1 port ")
    assert [line.split()[0] for line in lines[2:] if re.match(r"  [A-Z]", line)] == [
        *("Code", "Fix", "Who", "Seen")
    ]


def test_json_and_nothing_else(tmp_path: Path) -> None:
    seen = doctor(tmp_path, f"ws://127.0.0.1:{free_port()}/?token=secret", "--json")
    document = json.loads(seen.stdout)

    assert seen.returncode == 1
    assert document["verdict"]["state"] == "cause"
    assert [one["code"] for one in document["causes"]] == ["TCP_REFUSED"]
    assert "secret" not in seen.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "give a wss:// URL, a script, or both"),
        (["https://a.test/"], "write wss://a.test/"),
        (["ws://a.test/", "ws://b.test/"], "give one URL"),
        (["a.test"], "a.test is not a script: for a service there, write wss://a.test"),
        (["a.test/chat", "ws://b.test/"], "write wss://a.test/chat"),
        (["localhost:8282"], "write wss://localhost:8282"),
        (["a.py", "b.py"], "give one script, not a.py and b.py"),
        (["ws://a.test/", "--header", "Cookie"], "give it as 'Name: value'"),
        (["ws://a.test/", "--timeout", "0"], "'--timeout'"),
        (["ws://a.test/", "--address", "b.test"], "--address b.test is not an IP address"),
        (["ws://a.test/", "--page", "a.test"], "--page a.test is not the URL of a page"),
        (["ws://a.test/", "--page", "http://["], "--page http://[ is not the URL of a page"),
        (["ws://a.test/", "--page", "http://a:b"], "--page http://a:b is not the URL of a page"),
        (["ws://a.test/", "--ca", "missing.pem"], "missing.pem"),
        (["--explain", "TCP_REFUZED"], "did you mean TCP_REFUSED?"),
        (["ws://a.test/", "--wat"], "--wat"),
    ],
)
def test_usage(tmp_path: Path, words: list[str], sentence: str) -> None:
    seen = doctor(tmp_path, *words)

    assert seen.returncode == 2
    assert seen.stdout == ""
    assert sentence in seen.stderr


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_every_code_is_explained(code: str) -> None:
    """In the words of the page."""
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()

    assert f"\n### {code}\n" in page


def test_explain(tmp_path: Path) -> None:
    seen = doctor(tmp_path, "--explain", "tcp_refused")

    assert (seen.returncode, seen.stderr) == (0, "")
    assert seen.stdout.startswith("### TCP_REFUSED\n")


def test_a_progress_line_on_a_terminal_only(tmp_path: Path) -> None:
    """It is wiped at the end."""
    program = (
        "import os, pty, sys\n"
        "status = pty.spawn([sys.executable, '-m', 'gateman', 'doctor', sys.argv[1]])\n"
        "sys.exit(os.waitstatus_to_exitcode(status))\n"
    )
    seen = subprocess.run(
        [sys.executable, "-c", program, f"ws://127.0.0.1:{free_port()}/"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert seen.returncode == 1
    assert "… connecting to 127.0.0.1" in seen.stdout
    assert "\x1b[K\x1b[31m✗" in seen.stdout
