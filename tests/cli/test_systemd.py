"""``gateman systemd`` as it is typed."""

import subprocess
from pathlib import Path

from tests.support.master import GATEMAN, run

SCRIPT = """
from gateman import Worker

Worker("websocket://127.0.0.1:443")
Worker.run_all()
"""


def printed(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in a folder with a script."""
    (folder / "server.py").write_text(SCRIPT)
    return run([*GATEMAN, "systemd", "server.py", *words], folder)


def test_the_unit_is_all_that_is_printed(tmp_path: Path) -> None:
    """Its first line names the unit; the script was loaded for its port, and not run."""
    ended = printed(tmp_path, "--name", "chat", "--user", "root")
    lines = ended.stdout.splitlines()

    assert (ended.returncode, ended.stderr) == (0, "")
    assert lines[0] == f"# chat.service: {tmp_path / 'server.py'}, kept up by systemd."
    assert f"WorkingDirectory={tmp_path}" in lines
    assert "User=root" in lines
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in lines
    assert [path.name for path in tmp_path.iterdir()] == ["server.py"]


def test_what_the_service_cannot_read_is_a_warning(tmp_path: Path) -> None:
    """On standard error, so that the unit can go into a file."""
    (tmp_path / "server.py").touch(0o600)
    ended = printed(tmp_path, "--user", "nobody")
    warnings = [line for line in ended.stderr.splitlines() if "server.py" in line]

    assert ended.returncode == 0
    assert ended.stdout.startswith("# server.service: ")
    assert [line.partition(" to read ")[0] for line in warnings] == [
        "warning: user nobody will not be able"
    ]


def test_a_mistake_is_one_sentence(tmp_path: Path) -> None:
    """With the exit code of a wrong configuration."""
    ended = printed(tmp_path, "--name", "my chat")

    assert (ended.returncode, ended.stdout, ended.stderr) == (
        78,
        "",
        "gateman: 'my chat' is not a name for a unit: use letters, digits, '-', '_' and '.'.\n",
    )
