"""``gateman proxy`` as it is typed, and as ``docs/proxy.md`` shows it."""

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateman.cli import gateman
from gateman.ops.proxy import Site, apache, installed_nginx, nginx
from tests.support.deadlines import TIMEOUT

PAGE = Path(__file__).parents[2] / "docs" / "proxy.md"

FILES = ["--cert", "/etc/ssl/a.pem", "--key", "/etc/ssl/a.key"]
SITE = Site(
    domain="example.com",
    upstream="127.0.0.1:8282",
    certificate="/etc/ssl/a.pem",
    key="/etc/ssl/a.key",
)
EVERYTHING = replace(
    SITE,
    path="/chat",
    upstream="unix:/run/chat.sock",
    listen="8443",
    root="/srv/www",
    ping_interval=40.0,
)
OPTIONS = ["--path", "/chat", "--upstream", "unix:/run/chat.sock", "--listen", "8443"]
OPTIONS += ["--root", "/srv/www", "--ping-interval", "40"]


def printed(*arguments: str) -> str:
    """Run ``gateman proxy`` and return its standard output, which is all that it prints."""
    result = CliRunner().invoke(gateman, ["proxy", *arguments], catch_exceptions=False)

    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_the_defaults_are_the_documents() -> None:
    """A domain and two files are enough: port 443, ``/wss``, a worker on port 8282."""
    domain = ["--domain", "example.com", *FILES]

    assert printed("nginx", *domain) == nginx(SITE, version=installed_nginx())
    assert printed("apache", *domain) == apache(SITE)


def test_every_option_is_passed_on() -> None:
    """What is typed is what is printed."""
    options = ["--domain", "example.com", *FILES, *OPTIONS]

    assert printed("nginx", *options, "--nginx-version", "1.27") == nginx(
        EVERYTHING, version="1.27"
    )
    assert printed("apache", *options) == apache(EVERYTHING)


@pytest.mark.parametrize("server", ["nginx", "apache"])
def test_a_mistake_is_one_sentence_and_exit_code_78(server: str) -> None:
    """No traceback, and nothing on standard output that could end up in a file."""
    asked = subprocess.run(
        [sys.executable, "-m", "gateman", "proxy", server, "--domain", "a;b", *FILES],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )

    assert (asked.returncode, asked.stdout, asked.stderr) == (
        78,
        "",
        "gateman: 'a;b' is not a domain: write it as in example.com.\n",
    )


@pytest.mark.parametrize("server", ["nginx", "apache"])
def test_help_names_every_option(server: str) -> None:
    """The help and the page's table have the same options."""
    page = re.findall(r"^\| `--.*", PAGE.read_text(), re.MULTILINE)
    options = set(re.findall(r"--[a-z-]+", "\n".join(line.split("|")[1] for line in page)))
    if server == "apache":
        options.remove("--nginx-version")

    assert set(re.findall(r"--[a-z-]+", printed(server, "--help"))) == options | {"--help"}


@pytest.mark.parametrize(
    ("server", "version"), [("nginx", ["--nginx-version", "1.22"]), ("apache", [])]
)
def test_the_page_shows_what_is_printed(server: str, version: list[str]) -> None:
    """The command on the page, run as it stands there, prints the block below it."""
    page = PAGE.read_text()
    command = re.search(rf"gateman proxy {server} --domain(?:.*\\\n)*.*", page)
    block = re.search(rf"^```{server}\n(# wss://.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert command is not None
    assert block is not None
    words = shlex.split(command[0].replace("\\\n", " "))

    assert printed(*words[2 : words.index(">")], *version) == block[1]
