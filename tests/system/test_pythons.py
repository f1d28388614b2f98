"""The Pythons that gateman is for: found wherever they are, and the same in every place."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.deadlines import TIMEOUT

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAMED = [
    found[1]
    for line in PROJECT["classifiers"]
    if (found := re.fullmatch(r"Programming Language :: Python :: (3\.[0-9]+)", line))
]


def find(*arguments: str, **environ: str) -> tuple[int, list[str]]:
    """Run the script; gives its exit code and the lines that it printed."""
    ended = subprocess.run(
        [ROOT / "scripts" / "find-python", *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        check=False,
        text=True,
        timeout=TIMEOUT,
    )
    return ended.returncode, ended.stdout.splitlines()


def python(path: Path, version: str) -> Path:
    """Make a program that answers as a Python of that version does; "" for one that refuses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\ncase $2 in *\"'{version}'\"*) exit 0 ;; esac\nexit 1\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Have two empty places where Pythons may be, beside a shell."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("dirname", "sed"):
        tools.joinpath(name).symlink_to(shutil.which(name) or "")
    return {"PATH": f"{tmp_path / 'bin'}:{tools}", "PYENV_ROOT": str(tmp_path / "pyenv")}


def test_this_one_is_found() -> None:
    """By its version, if it is one of those that are named."""
    mine = "{}.{}".format(*sys.version_info)
    code, (program,) = find(mine)
    told = subprocess.run(
        [program, "-V"], capture_output=True, check=True, text=True, timeout=TIMEOUT
    )

    assert code == 0
    assert told.stdout.startswith(f"Python {mine}.")
    assert find() == (0, [version for version in NAMED if find(version)[0] == 0])


def test_pythons_are_on_path_and_in_pyenv_s_folder(tmp_path: Path, environ: dict[str, str]) -> None:
    """A command of pyenv is on PATH also for a version that it does not let run."""
    first = python(tmp_path / "bin" / "python3.11", "3.11")
    python(tmp_path / "bin" / "python3.13", "")
    last = python(tmp_path / "pyenv/versions/3.13.0/bin/python", "3.13")

    assert find(**environ) == (0, ["3.11", "3.13"])
    assert find("3.11", **environ) == (0, ["python3.11"])
    assert find("3.13", **environ) == (0, [str(last)])
    assert find("3.12", **environ) == (1, [])
    assert first.exists()


def test_none_is_no_error(environ: dict[str, str]) -> None:
    """Who asks decides what that means."""
    assert find(**environ) == (0, [])


def test_the_same_versions_are_named_everywhere() -> None:
    """By the classifiers, by what pip checks, and by the pages."""
    listed = f"{', '.join(NAMED[:-1])} {{}} {NAMED[-1]}"

    assert PROJECT["requires-python"] == f">={NAMED[0]}"
    assert f"CPython {listed.format('and')}" in (ROOT / "README.md").read_text()
    assert f"Python {listed.format('or')}" in (ROOT / "CONTRIBUTING.md").read_text()
