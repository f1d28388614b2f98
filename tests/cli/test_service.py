"""``gateman start``, ``stop`` and others, on a real master."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateman.ops.certificates import development_certificate
from tests.support import command_line
from tests.support.deadlines import TIMEOUT
from tests.support.made_certificates import PUBLIC, Made, make
from tests.support.master import (
    GATEMAN,
    ask,
    echo,
    files_beside,
    is_alive,
    master,
    open_to,
    run,
    slots,
    until,
)


@pytest.mark.parametrize(
    "target",
    ["server.py", "server"],
    ids=["file", "module"],
)
@pytest.mark.parametrize("ending", ["Worker.run_all()\n", ""], ids=["run_all", "declares only"])
def test_the_command_serves_the_same(tmp_path: Path, target: str, ending: str) -> None:
    """``gateman start`` takes a file or a module, and needs no ``run_all`` in it."""
    script = echo().replace("Worker.run_all()\n", ending)
    with master(script, tmp_path, command=[*GATEMAN, "start", target]) as service:
        assert ask(service.port)[1:] == ["1", "hello"]
        stopped = run([*GATEMAN, "stop", target], tmp_path, service.environment)

        assert (stopped.returncode, stopped.stdout, stopped.stderr) == (0, "stopped\n", "")
        assert service.wait() == 0


@pytest.mark.parametrize("target", ["server.py", "./server.py", "package.module"])
def test_a_script_without_a_command_is_started(tmp_path: Path, target: str) -> None:
    """``gateman server.py`` serves, and takes what ``gateman start`` takes."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "module.py").write_text(echo())
    with master(echo(), tmp_path, command=[*GATEMAN, target, "-q"], listens=False) as service:
        until(lambda: run([*GATEMAN, "status", target], tmp_path).returncode == 0)
        stopped = run([*GATEMAN, "stop", target], tmp_path)

        assert (stopped.returncode, stopped.stderr) == (0, "")
        assert service.wait() == 0
        assert service.stderr == ""


def test_a_word_that_is_not_a_command(tmp_path: Path) -> None:
    """A name that is not a file either is refused, and nothing is started."""
    (tmp_path / "server.py").write_text(echo())
    asked = run([*GATEMAN, "serve", "server.py"], tmp_path)

    assert asked.returncode == 2
    assert "No such command 'serve'." in asked.stderr


def test_a_word_that_is_nearly_a_command(tmp_path: Path) -> None:
    """The one that was meant is named."""
    asked = run([*GATEMAN, "strat", "server"], tmp_path)

    assert asked.returncode == 2
    assert "No such command 'strat'. Did you mean 'start'?" in asked.stderr


def test_stop_by_command(tmp_path: Path) -> None:
    """It returns when nothing is left: no process, no file, no socket."""
    with master(echo(), tmp_path) as service:
        pids = service.pids()
        stopped = service.command("stop")

        assert (stopped.returncode, stopped.stdout, stopped.stderr) == (0, "stopped\n", "")
        assert not any(map(is_alive, pids))
        assert files_beside(service.path) == []
        assert service.wait() == 0
        with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
            probe.connect(("127.0.0.1", service.port))


def test_a_process_that_does_not_end_is_ended(tmp_path: Path) -> None:
    """A callback that never returns delays a stop by ``timeouts.shutdown``, and no more."""
    script = echo(options="timeouts={'shutdown': 0.2}").replace(
        "    connection.send", "    import time; time.sleep(1000)\n    connection.send"
    )
    with master(script, tmp_path) as service, connect(f"ws://127.0.0.1:{service.port}") as client:
        client.send("stick")
        until(lambda: [one["status"] for one in service.processes()] == ["busy"])
        started_at = time.monotonic()

        assert service.command("stop").returncode == 0
        assert time.monotonic() - started_at > 0.2
        service.wait_for("does not end: killed")


def test_restart(tmp_path: Path) -> None:
    """It stops what runs, and serves in its place; a new address is taken up."""
    with master(echo(), tmp_path) as service:
        (tmp_path / "server.py").write_text(echo().replace("VERSION = 1", "VERSION = 2"))
        script = (tmp_path / "server.py").read_text()
        with master(script, tmp_path, "restart") as other:
            assert service.wait() == 0
            assert ask(other.port)[1] == "2"


def test_restart_starts_what_does_not_run(tmp_path: Path) -> None:
    """As Workerman does."""
    with master(echo(), tmp_path, "restart") as service:
        assert ask(service.port)[1] == "1"


def test_a_restart_with_a_broken_script_stops_nothing(tmp_path: Path) -> None:
    """What is wrong is said before anything is ended."""
    with master(echo(), tmp_path) as service:
        (tmp_path / "server.py").write_text(echo(listen="websocket://127.0.0.1:x"))

        assert service.command("restart").returncode == 78
        assert ask(service.port)[1] == "1"


@pytest.mark.parametrize(
    "words", [["stop"], ["stop", "-g"], ["reload"], ["reload", "-g"], ["status"], ["connections"]]
)
def test_commands_need_a_running_service(tmp_path: Path, words: list[str]) -> None:
    """One sentence, and exit code 3, both ways."""
    path = tmp_path / "server.py"
    path.write_text(echo())
    for command in (
        [sys.executable, "server.py", *words],
        [*GATEMAN, words[0], "server.py", *words[1:]],
    ):
        asked = run(command, tmp_path)

        assert (asked.returncode, asked.stdout) == (3, "")
        assert asked.stderr.endswith("server.py is not running.\n")
        assert len(asked.stderr.splitlines()) == 1


BROKEN = {
    "syntax": ("from gateman import Worker\ndef (:\n", 4, "server.py:2: invalid syntax."),
    "raises": (
        "from gateman import Worker\n1 / 0\n",
        4,
        "server.py could not be loaded: ZeroDivisionError.",
    ),
    "nothing declared": (
        "from gateman import Worker\nWorker.run_all()\n",
        78,
        'no worker is declared: write Worker("websocket://0.0.0.0:8282").',
    ),
    "declared twice": (
        "from gateman import Worker\n"
        "Worker('websocket://127.0.0.1:7001')\nWorker('ws://127.0.0.1:7001')\nWorker.run_all()\n",
        78,
        "two workers listen on websocket://127.0.0.1:7001: give each an address of its own;"
        " count=2 is one worker with two processes.",
    ),
    "declared beside everywhere": (
        "from gateman import Worker\n"
        "Worker('websocket://0.0.0.0:7001')\nWorker('ws://127.0.0.1:7001')\nWorker.run_all()\n",
        78,
        "two workers listen on one port: websocket://0.0.0.0:7001 and websocket://127.0.0.1:7001:"
        " give each an address of its own; count=2 is one worker with two processes.",
    ),
    "no certificate": (
        "from gateman import Worker\nWorker('wss://127.0.0.1:0')\nWorker.run_all()\n",
        78,
        "worker 'worker' has transport='ssl', but no certificate",
    ),
    "no such user": (
        "from gateman import Worker\nWorker('ws://127.0.0.1:0', user='nobody-of-this-name')\n",
        78,
        "user='nobody-of-this-name': there is no such user: create it (useradd --system"
        " nobody-of-this-name), or name another.",
    ),
}


@pytest.mark.parametrize("command", ["start", "check", "restart"])
@pytest.mark.parametrize("case", BROKEN)
def test_a_script_that_cannot_be_served(tmp_path: Path, case: str, command: str) -> None:
    """The problem is the last line, and the exit code is that of its kind."""
    script, code, sentence = BROKEN[case]
    (tmp_path / "server.py").write_text(script)
    asked = command_line.run([command, "server.py"], tmp_path, os.environ, TIMEOUT)

    assert asked.returncode == code
    assert sentence in asked.stderr.splitlines()[-1]
    assert files_beside(tmp_path / "server.py") == ["" for _ in tmp_path.glob("__pycache__")]


def test_a_traceback_shows_their_code_only(tmp_path: Path) -> None:
    """These commands do not load the script."""
    (tmp_path / "server.py").write_text(BROKEN["raises"][0])
    asked = run([*GATEMAN, "start", "server.py"], tmp_path)

    assert asked.stderr.splitlines()[:3] == [
        "Traceback (most recent call last):",
        f'  File "{tmp_path}/server.py", line 2, in <module>',
        "    1 / 0",
    ]
    assert asked.stderr.count("File ") == 1


@pytest.mark.parametrize("name", ["missing.py", "missing", "missing.module", "./folder/missing"])
def test_a_script_that_does_not_exist(tmp_path: Path, name: str) -> None:
    """One sentence, and exit code 4, for whatever command."""
    for command in ("start", "stop", "status", "check"):
        asked = run([*GATEMAN, command, name], tmp_path)

        assert (asked.returncode, asked.stdout) == (4, "")
        assert asked.stderr.startswith("gateman: there is no file ")
        assert len(asked.stderr.splitlines()) == 1


def test_check(tmp_path: Path) -> None:
    """A good script is checked without anything being bound."""
    path = tmp_path / "server.py"
    path.write_text(echo("websocket://127.0.0.1:7001", "count=2"))
    checked = run([*GATEMAN, "check", "server.py"], tmp_path)

    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == (
        "server.py: chat would listen on websocket://127.0.0.1:7001 with 2 processes\n"
    )


def test_channels_and_a_weak_secret_are_shown(tmp_path: Path) -> None:
    """By the check; the weak secret also by a service that starts."""
    channels = "{'chat:*': {'subscribe': True, 'history_size': 9}, '#*': {}}"
    options = f"client_protocol='centrifuge', tokens={{'secret': 'weak'}}, channels={channels}"
    script = echo("websocket://127.0.0.1:0", options)
    (tmp_path / "server.py").write_text(script)
    sentence = (
        "tokens.secret has 4 bytes, and can be guessed from a token: use at least 32 random ones,"
        " such as those of `openssl rand -hex 32`"
    )
    checked = run([*GATEMAN, "check", "server.py"], tmp_path)

    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.splitlines()[1:] == [
        "    channel chat:*: subscribe=True, history_size=9",
        "    channel #*: the defaults",
        f"    warning: {sentence}",
    ]
    with master(script, tmp_path) as service:
        service.wait_for(f"WARNING chat: {sentence}")


def test_check_shows_what_the_environment_sets(tmp_path: Path) -> None:
    """Each option with its variable; and what is nearly one."""
    (tmp_path / "server.py").write_text(echo("websocket://127.0.0.1:7001"))
    variables = {"GATEMAN_CHAT_COUNT": "3", "GATEMAN_CHAT_CUONT": "4"}
    checked = run([*GATEMAN, "check", "server.py"], tmp_path, {**os.environ, **variables})

    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.splitlines() == [
        "server.py: chat would listen on websocket://127.0.0.1:7001 with 3 processes",
        "server.py: count of chat is from GATEMAN_CHAT_COUNT",
        "server.py: GATEMAN_CHAT_CUONT is not a variable of this service: did you mean"
        " GATEMAN_CHAT_COUNT?",
    ]


def test_the_environment_beats_the_script(tmp_path: Path) -> None:
    """In the master and in its processes, and after a reload."""
    variables = {
        "GATEMAN_CHAT_COUNT": "1",
        "GATEMAN_CHAT_LIMITS_MAX_MESSAGE_SIZE": "5",
        "GATEMAN_X": "",
    }
    with master(echo(), tmp_path, environment=variables) as service:
        for _ in range(2):
            with open_to(service) as client:
                client.send("longer")
                with pytest.raises(ConnectionClosed, match="1009"):
                    client.recv()
            assert len(slots(service)) == 1
            assert service.command("reload").returncode == 0
        service.wait_for("GATEMAN_X is not a variable of this service")


def test_a_wrong_value_in_the_environment(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(echo())
    variables = {**os.environ, "GATEMAN_CHAT_COUNT": "many"}
    started = run([*GATEMAN, "start", "server.py"], tmp_path, variables)

    assert started.returncode == 78
    assert started.stderr.splitlines()[-1].endswith(
        "GATEMAN_CHAT_COUNT='many' is not a value of count: write a whole number."
    )


def test_check_of_a_gateway_and_its_business(tmp_path: Path) -> None:
    """What listens nowhere serves all the same."""
    (tmp_path / "server.py").write_text(
        "from gateman import BusinessWorker, Gateway\n"
        "Gateway('websocket://127.0.0.1:7001')\n"
        "BusinessWorker(count=4)\n"
    )
    checked = run([*GATEMAN, "check", "server.py"], tmp_path)

    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.splitlines() == [
        "server.py: gateway would listen on websocket://127.0.0.1:7001 with 1 process",
        "server.py: business would serve with 4 processes",
    ]


NAMED = "ssl.local_cert names {path}, whose certificate"


@pytest.mark.parametrize(
    ("made", "code", "line"),
    [
        (
            make("a.test", issuer=make("root")),
            0,
            f"note: {NAMED} is from 'root', whose own certificate is not in the file: append it,"
            " unless it is a root that your clients were told to trust",
        ),
        (
            make("a.test", issuer=make("R11"), policies=PUBLIC),
            0,
            f"warning: {NAMED} is from 'R11', whose own certificate is not sent with it, and"
            " clients refuse it, for it does not say where they could download that: append it; of"
            " Let's Encrypt's files, take fullchain.pem and not cert.pem",
        ),
        (
            make("a.test"),
            0,
            f"warning: {NAMED} is signed by itself, and clients refuse it unless they were told to"
            " trust it: get one from a public authority; for development, `gateman cert dev` makes"
            " one and tells how to trust it",
        ),
        (
            make("a.test", issuer=make("root"), names=()),
            1,
            f"warning: {NAMED} names no domain and no address (subjectAltName), and clients refuse"
            " it, as they no longer read its common name: get one that names the domain",
        ),
    ],
    ids=["private", "no intermediate", "self-signed", "no names"],
)
def test_check_judges_certificates(made: Made, code: int, line: str, tmp_path: Path) -> None:
    """What is wrong is printed, and what every client refuses is a failure of the command."""
    checked, path = check_certificate(made, tmp_path)

    assert checked.stdout.splitlines()[1:3] == [
        f"    {path}: 88 days left",
        f"    {line.format(path=path)}",
    ]
    assert (checked.returncode, bool(checked.stderr)) == (code, code != 0)


def test_check_of_an_expired_certificate_fails(tmp_path: Path) -> None:
    """A deployment that checks first does not go on."""
    checked, path = check_certificate(make("a.test", days=0.5), tmp_path)

    assert checked.returncode == 1
    assert checked.stdout.splitlines()[1] == f"    {path}: expired"
    assert checked.stdout.splitlines()[2].endswith("UTC, and clients refuse it: renew it")
    assert checked.stderr == ("gateman: clients refuse a certificate of this service: see above.\n")


def check_certificate(made: Made, folder: Path) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Run `check` on a worker with a certificate."""
    path = folder / "made.pem"
    path.write_bytes(made.pem + made.key_pem)
    context = {"ssl": {"local_cert": str(path)}}
    (folder / "server.py").write_text(
        f"from gateman import Worker\nWorker('wss://127.0.0.1:7001', {context!r})\n"
    )
    return run([*GATEMAN, "check", "server.py"], folder), path


def test_check_names_the_address_as_clients_reach_it(tmp_path: Path) -> None:
    """A worker with TLS listens on wss://, however it was declared, and has a name in any case."""
    subject = development_certificate([], tmp_path, data=tmp_path / "authority")
    context = {"ssl": {"local_cert": str(subject.certificate), "local_pk": str(subject.key)}}
    (tmp_path / "server.py").write_text(
        "from gateman import Worker\n"
        f"pages = Worker('websocket://127.0.0.1:7001', {context!r}, name='pages')\n"
        f"lines = Worker('text://127.0.0.1:7002', {context!r}, name='lines')\n"
        "pages.transport = lines.transport = 'ssl'\n"
    )
    checked = run([*GATEMAN, "check", "server.py"], tmp_path)

    assert (checked.returncode, checked.stderr) == (0, "")
    assert [line for line in checked.stdout.splitlines() if "would" in line] == [
        "server.py: pages would listen on wss://127.0.0.1:7001 with 1 process",
        "server.py: lines would listen on text://127.0.0.1:7002 (TLS) with 1 process",
    ]


@pytest.mark.parametrize(
    "command", ["start", "stop", "restart", "reload", "status", "connections", "check"]
)
def test_help(tmp_path: Path, command: str) -> None:
    """Every command explains itself, both ways."""
    (tmp_path / "server.py").write_text(echo())
    ours = run([*GATEMAN, command, "--help"], tmp_path)
    theirs = run([sys.executable, "server.py", command, "--help"], tmp_path)

    assert (ours.returncode, theirs.returncode) == (0, 0)
    assert ours.stdout.startswith(f"Usage: gateman {command} [OPTIONS] SCRIPT\n")
    assert theirs.stdout.startswith(f"Usage: python server.py {command}")
