"""Where the output of a command goes: full disks, closed descriptors, terminals without UTF-8."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.deadlines import TIMEOUT
from tests.support.master import GATEMAN, run

EXPLAIN = [*GATEMAN, "doctor", "--explain", "URL_FRAGMENT"]


@pytest.mark.parametrize("words", [EXPLAIN, [*GATEMAN, "--help"], [*GATEMAN, "--version"]])
def test_a_full_disk_is_one_sentence(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT, check=False
        )

    assert done.stderr == "gateman: the output cannot be written: no space left on device.\n"
    assert done.returncode == 1


def test_a_reader_that_has_gone_is_no_error_text() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        done = subprocess.run(
            EXPLAIN, stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT, check=False
        )

    assert (done.returncode, done.stderr) == (1, "")


def test_a_terminal_without_utf_8_gets_escapes(tmp_path: Path) -> None:
    done = run(EXPLAIN, tmp_path, {**os.environ, "PYTHONIOENCODING": "latin-1"})

    assert (done.returncode, done.stderr) == (0, "")
    assert r"the URL has a fragment (#\u2026)" in done.stdout.replace("The", "the")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_closed_descriptors_do_not_matter(closed: str, tmp_path: Path) -> None:
    url = "ws://127.0.0.1:1/"
    done = run(["sh", "-c", f'"$@" {closed}', "sh", *GATEMAN, "doctor", url], tmp_path)

    assert (done.returncode, done.stderr) == (1, "")
    assert (url in done.stdout) == (closed != ">&-")


@pytest.mark.parametrize("text", ["-", b"\xff"])
def test_only_text_is_pushed(text: str | bytes) -> None:
    words = [*GATEMAN, "push", text, "--all", "--bus", "nats://127.0.0.1:1"]
    done = subprocess.run(words, input=b"\xff", capture_output=True, timeout=TIMEOUT, check=False)

    assert done.stderr == b"gateman: the text is not valid UTF-8.\n"
    assert (done.returncode, done.stdout) == (1, b"")
