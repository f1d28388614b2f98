"""The command ``gateman cert``: what it prints, and where it writes."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateman.cli.cert import cert
from gateman.errors import ConfigError
from gateman.ops.certificates import development_certificate, trust_instructions


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of the test's own, with an authority of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


def run(*arguments: str) -> Result:
    """Run ``gateman cert``."""
    return CliRunner().invoke(cert, arguments)


def test_dev_prints_what_it_made(home: Path) -> None:
    """Names and paths first, then how to trust the authority."""
    result = run("dev", "--domain", "a.test", "--domain", "b.test", "--out", "tls")
    made = development_certificate(["a.test"], home / "tls")
    until = datetime.fromtimestamp(made.expires_at, UTC)

    assert result.exit_code == 0
    assert made.domains[:2] == ("a.test", "b.test")
    assert result.output == (
        f"Made a certificate, valid until {until:%Y-%m-%d}:\n"
        f"    for          {', '.join(made.domains)}\n"
        f"    certificate  {home}/tls/server.pem\n"
        f"    key          {home}/tls/server.key\n"
        f"    authority    {made.authority} (new: devices do not trust it yet)\n"
        "\n"
        f"{trust_instructions(made)}"
    )


def test_dev_prints_what_it_kept(home: Path) -> None:
    """The second time nothing changes; the working directory is the default."""
    run("dev")
    before = (home / "server.pem").read_bytes()
    result = run("dev")

    assert result.output.startswith("Kept a certificate, valid until ")
    assert "ca.pem\n" in result.output
    assert (home / "server.pem").read_bytes() == before


def test_a_mistake_is_left_to_the_command_line() -> None:
    """It prints one sentence for it and exits with 78."""
    error = run("dev", "--domain", "a b").exception

    assert isinstance(error, ConfigError)
    assert str(error).startswith("'a b' is not a name for a certificate: ")


@pytest.mark.parametrize("arguments", [["--help"], ["dev", "--help"]])
def test_help_describes_the_command(arguments: list[str]) -> None:
    """Both levels have help."""
    result = run(*arguments)

    assert result.exit_code == 0
    assert "Make " in result.output
