"""Pages that say what the code says: their tables are generated, or held against it."""

import pkgutil
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gateman import Worker
from gateman.config.worker import certificates_of
from gateman.errors import ConfigError
from gateman.options import Limits, Timeouts
from gateman.tls.contexts import TlsContexts
from gateman.tls.ssl_options import Options

from .support.certificates import Authority

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TLS = (DOCS / "tls.md").read_text()


def python_blocks(page: str) -> list[str]:
    """Read the programs of a page, also those within a list."""
    found = re.findall(r"(?ms)^( *)```python\n(.*?)^ *```$", (DOCS / page).read_text())
    return [re.sub(f"(?m)^{indent}", "", block) for indent, block in found]


def ssl_table(title: str) -> list[str]:
    """Read the first column of a table of ``tls.md``, by the title of its last column."""
    _, table = TLS.split(f"| {title} |\n|---|---|---|\n")
    rows = table.partition("\n\n")[0].splitlines()
    return [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def refusal_of(options: dict[str, object]) -> str:
    """Take TLS options; empty if they are accepted."""
    try:
        Options.of_server(options, folder=ROOT)
    except ConfigError as error:
        return str(error)
    return ""


def test_generated_tables_are_those_of_the_code(tmp_path: Path) -> None:
    """If this fails, run ``.venv/bin/python scripts/generate-docs.py``."""
    subprocess.run([sys.executable, ROOT / "scripts" / "generate-docs.py", tmp_path], check=True)
    generated = {page.name: page.read_text() for page in tmp_path.iterdir()}

    assert sorted(generated) == [
        "doctor.md",
        "exit-codes.md",
        "monitoring.md",
        "options.md",
        "tls.md",
    ]
    assert {name: (DOCS / name).read_text() for name in generated} == generated


def test_options_are_written_as_shown() -> None:
    """The example of ``options.md`` declares a worker."""
    block, channels = python_blocks("options.md")
    program = f"from gateman import Channel, Worker\n{channels}{block}print(worker.timeouts.pong)"
    ended = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )

    assert ended.stdout == "10\n"


def test_a_mistake_is_told_as_shown() -> None:
    """The sentence in ``exit-codes.md`` is the one that is written."""
    with pytest.raises(ConfigError) as caught:
        Timeouts.of({"ping_intervall": 20})

    assert f"\n/srv/chat/server.py:5: {caught.value}\n" in (DOCS / "exit-codes.md").read_text()


def test_the_program_with_tls_is_the_example() -> None:
    """What ``tls.md`` shows is run by the tests of the examples."""
    for name in ("wss_by_domain", "wss"):
        example = (ROOT / "examples" / f"{name}.py").read_text()

        assert any(example.endswith(f"\n\n{block}") for block in python_blocks("tls.md"))


def test_certificates_by_acme_are_declared_as_shown() -> None:
    """Each line of ``tls.md`` that declares a worker names its certificates."""
    declared = [
        certificates_of(worker)
        for block in python_blocks("tls.md")
        if "run_all" not in block and "Worker(" in block
        for worker in workers_of(block)
    ]

    assert len(declared) > 7
    assert [one for one in declared if not one] == []
    # Three ways to write the same.
    assert declared[0] == declared[1] == declared[2]


def workers_of(block: str) -> list[Worker]:
    """Declare the workers of a program."""
    declared = Worker._declared  # noqa: SLF001 - a block has no names for them
    before = len(declared)
    exec(f"from gateman import Worker\n{block}")  # noqa: S102 - what the page shows
    return [one for one in declared[before:] if isinstance(one, Worker)]


def test_the_contexts_of_tls_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those for several domains, and for clients with certificates, load as they are shown."""
    monkeypatch.chdir(tmp_path)
    authority = Authority()
    for stem in ("server", "example.com", "example.org", "example.net-with-key"):
        issued = authority.issue(tmp_path, "localhost", stem=stem)
    both = issued.certificate.read_text() + issued.key.read_text()
    (tmp_path / "example.net-with-key.pem").write_text(both)
    (tmp_path / "our-authority.pem").write_text(authority.pem)
    found = []
    for block in python_blocks("tls.md"):
        if "context = {" not in block:
            continue
        names: dict[str, Any] = {}
        exec(block, names)  # noqa: S102 - what the page shows
        contexts = TlsContexts.load(names["context"]["ssl"], now=time.time())
        found.append([served.path.name for served in contexts.certificates])

    assert found == [
        ["example.com.pem", "example.org.pem", "example.net-with-key.pem"],
        ["server.pem"],
    ]


def test_every_tls_option_is_in_one_table() -> None:
    """No option is missing, and none is invented."""
    known = refusal_of({"?": True}).removeprefix("'?' is not an option of ssl: there are ")
    named = ssl_table("what it does") + ssl_table("because") + ssl_table("instead")

    assert sorted(named) == known.removesuffix(".").split(", ")


@pytest.mark.parametrize("name", ssl_table("what it does"))
def test_honoured_options(name: str) -> None:
    """The first table has what a user may choose."""
    assert refusal_of({name: True}) == ""


@pytest.mark.parametrize("name", ssl_table("because"))
def test_fixed_options(name: str) -> None:
    """The second table has what may be said, but not changed, and its value."""
    (row,) = (row for row in TLS.splitlines() if row.startswith("|") and f"`{name}`" in row)
    truth = row.split("|")[2].strip(" `") == "True"

    assert refusal_of({name: truth}) == ""
    assert refusal_of({name: not truth}).startswith(f"ssl.{name} cannot be {not truth}: ")


@pytest.mark.parametrize("name", ssl_table("instead"))
def test_refused_options(name: str) -> None:
    """The third table has what cannot be honoured."""
    assert refusal_of({name: True}).startswith(f"ssl.{name} cannot be honoured, as ")
    assert refusal_of({name: None}) == ""


def test_options_of_workerman_s_examples_may_stay() -> None:
    """The context that everybody has copied from its manual is accepted."""
    context = {
        "local_cert": "server.pem",
        "local_pk": "server.key",
        "verify_peer": False,
        "allow_self_signed": True,
    }

    assert refusal_of({**context}) == ""


CONFORMANCE = (DOCS / "conformance.md").read_text()


def test_tests_that_the_page_of_conformance_names_exist() -> None:
    """Who doubts a row finds what proves it."""
    files = list((ROOT / "tests").rglob("*.py"))
    existing = {f"{path.stem}.py" for path in files}
    for path in files:
        existing.update(re.findall(r"def (test_\w+)", path.read_text()))
    named = set(re.findall(r"`(?:tests/\w+/)?(test_\w+(?:\.py)?)`", CONFORMANCE))

    assert len(named) > 200
    assert named - existing == set()


def test_every_row_of_the_attack_list_is_there_and_has_a_test() -> None:
    """Each of the sixty once, and no other."""
    tables = [part for part in CONFORMANCE.split("\n\n") if part.startswith("| # |")]
    rows = re.findall(r"(?m)^\| (\d+) \|.*\|([^|]*)\|$", "\n".join(tables))

    assert sorted(int(number) for number, _ in rows) == list(range(1, 61))
    assert [number for number, tests in rows if "`test_" not in tests] == []


@pytest.mark.parametrize(
    ("options", "name", "told"),
    [
        (options, name, told)
        for options, name, told in re.findall(
            r"(?m)^\| `(limits|timeouts)\.(\w+)` \| (\d[^|]*) \|", CONFORMANCE
        )
    ],
)
def test_limits_are_told_as_they_are(options: str, name: str, told: str) -> None:
    """The tables say why a default is what it is, so it had better be that."""
    number, _, unit = re.sub(r"(\d) (\d)", r"\1\2", told).partition(" ")
    size = {"KiB": 1 << 10, "MiB": 1 << 20}.get(unit, 1)

    assert getattr({"limits": Limits(), "timeouts": Timeouts()}[options], name) == (
        int(number) * size
    )


ARCHITECTURE = (DOCS / "architecture.md").read_text()


def test_architecture_lists_the_packages() -> None:
    """The layout is that of the package."""
    _, layout = ARCHITECTURE.split("```\ngateman/\n")
    listed = re.findall(r"(?m)^    ([\w.]+)", layout.partition("```")[0])
    existing = [path.name for path in (ROOT / "src" / "gateman").iterdir()]

    assert sorted(listed) == sorted(set(existing) - {"__pycache__"})


def test_architecture_names_what_exists() -> None:
    """Each module and class that the page names can be imported."""
    modules = {path.stem for path in (ROOT / "src" / "gateman").iterdir()}
    named = [
        name
        for name in re.findall(r"`(\w+(?:\.\w+)+)`", ARCHITECTURE)
        if name.partition(".")[0] in modules and not name.endswith((".py", ".md"))
    ]

    assert len(named) > 60
    for name in named:
        assert pkgutil.resolve_name(f"gateman.{name}") is not None


def test_steps_of_the_architecture_begin_with_a_module() -> None:
    """Each step names who acts, or in which process."""
    steps = re.findall(r"(?m)^\d\. (.*)$", ARCHITECTURE)

    assert len(steps) > 30
    assert [step for step in steps if not re.match(r"`\w+(\.\w+)+`", step)] == []


def test_messages_that_pages_quote_are_written() -> None:
    """Somebody who searches a page for a line of the log finds it."""
    _, table = (DOCS / "proxy.md").read_text().split("## Troubleshooting")
    quoted = [text.partition(" '")[0] for text in re.findall(r'"([a-z][^"]+ [^"]+)"', table)]
    quoted += re.findall(r"get 503 with `([^`]+)`", (DOCS / "gateway.md").read_text())
    source = "".join(path.read_text() for path in (ROOT / "src" / "gateman").rglob("*.py"))

    assert len(quoted) >= 4
    assert [text for text in quoted if text not in source and "its address" not in text] == []
