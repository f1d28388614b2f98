"""What a user declares, in the ways in which it can be, and what is wrong with it."""

import os
import socket
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import websockets.sync.client

from gateman import ConfigError, Connection, Worker
from gateman.acme.options import AcmeOptions
from gateman.acme.storage_folder import default_folder
from gateman.config.base import BaseWorker
from gateman.config.environment import apply as apply_environment
from gateman.config.worker import certificates_of, settings_of
from tests.support.certificates import Authority, for_threads
from tests.support.deadlines import TIMEOUT
from tests.support.server import authority, certificate, child, ssl_options

PLAIN = "websocket://127.0.0.1:0"


def worker(listen: str = PLAIN, *args: Any, **options: Any) -> Worker:
    """Declare one."""
    return Worker(listen, *args, **options)


def refusal(made: Worker) -> str:
    """Check a worker that cannot be served; gives the sentence."""
    with pytest.raises(ConfigError) as caught:
        settings_of(made, now=time.time())
    return str(caught.value)


def take(_connection: Connection, _message: str) -> None:
    """Take a message."""


# Callbacks.


def test_callback_is_declared_by_decorating() -> None:
    """The function stays what it was."""
    made = worker()

    assert made.on_message(take) is take
    assert made.callbacks == {"on_message": take}
    assert made.on_message.function is take


def test_callback_is_declared_by_assigning() -> None:
    """As in Workerman; the last one counts, and ``None`` takes it back."""
    made = worker()
    made.on_message = lambda _connection, _message: None
    made.on_message = take
    assert made.callbacks == {"on_message": take}
    made.on_message = None
    made.on_close = None

    assert (made.callbacks, made.on_message.function) == ({}, None)


def test_callbacks_are_each_workers_own() -> None:
    """Two workers share nothing."""
    one, other = worker(), worker()
    one.on_message(take)

    assert (len(one.callbacks), len(other.callbacks)) == (1, 0)


def test_callback_with_other_arguments_is_refused() -> None:
    """Where it is declared, not when the first message comes."""
    made = worker()
    with pytest.raises(ConfigError) as caught:

        @made.on_message  # type: ignore[arg-type]
        def answer(message: str) -> None:
            """Take too little."""

    assert str(caught.value) == (
        "on_message is called with (connection, message), but answer takes (message: str) -> None:"
        " let it take (connection, message)."
    )


# Options.


def test_unknown_option_has_the_nearest_name() -> None:
    """Passed or assigned, a typo is not an option that does nothing."""
    with pytest.raises(
        ConfigError, match="'transprot' is not an option of Worker: did you mean 'tra"
    ):
        Worker(PLAIN, transprot="ssl")  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=r"'host' is .* Worker: write the address as one: "):
        Worker(host="0.0.0.0", port=8282)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=r"'ssl' is .* Worker: write the context: \{"):
        Worker(PLAIN, ssl={})  # type: ignore[call-arg]
    made = worker()
    with pytest.raises(
        ConfigError, match="'on_mesage' is not an option of Worker: did you mean 'on_m"
    ):
        made.on_mesage = take


def test_scheme_is_the_transport() -> None:
    """``wss://`` is TLS, until something else is said."""
    transports = [
        worker(listen).transport
        for listen in (PLAIN, "ws://a:1", "wss://a:1", "websocket+unix:///a")
    ]

    assert transports == ["tcp", "tcp", "ssl", "tcp"]


def test_everything_may_be_assigned_until_it_runs() -> None:
    """What counts is what is there in the end."""
    made = worker("websocket://0.0.0.0:1", {"ssl": ssl_options()})
    made.transport = "ssl"
    made.listen = "websocket://0.0.0.0:2"
    made.limits = {"max_head_size": 9999}
    made.allowed_origins = ["https://Example.com"]
    settings = settings_of(made, now=time.time())

    assert settings.contexts is not None
    assert (settings.listen.port, settings.limits.max_head_size) == (2, 9999)
    assert settings.allowed_origins == frozenset(["https://example.com"])


def test_worker_that_is_refused_is_not_declared(declared: list[BaseWorker]) -> None:
    """A mistake that is caught leaves nothing behind."""
    before = list(declared)
    with pytest.raises(ConfigError):
        Worker("websocket://nowhere")

    assert declared == before


# What does not fit together.


def test_tls_without_a_certificate() -> None:
    """The error says how to get one."""
    made = worker("wss://127.0.0.1:0", name="chat")

    assert refusal(made).startswith("worker 'chat' has transport='ssl', but no certificate: pass")


def test_certificate_without_tls() -> None:
    """A certificate without the transport is not served in plain text."""
    assert refusal(worker(PLAIN, {"ssl": ssl_options()})) == (
        "worker 'worker' has a certificate, but transport='tcp': set worker.transport = 'ssl', or"
        " remove the certificate."
    )


def test_scheme_of_tls_with_a_plain_transport() -> None:
    """``wss://`` is never served in the clear."""
    made = worker("wss://127.0.0.1:0", transport="tcp")

    assert refusal(made) == (
        "worker 'worker' listens on wss://, but transport='tcp': write websocket:// if a proxy"
        " does the TLS."
    )


@pytest.mark.parametrize(
    ("context", "sentence"),
    [
        (
            {"local_cert": "a"},
            "'local_cert' is not a part of a worker's context: there is only ssl, with the options"
            " of TLS: {'ssl': {'local_cert': …}}.",
        ),
        ({"ssl": "server.pem"}, "ssl is not a mapping of options but of type str"),
        (
            {"ssl": {"local_crt": "a"}},
            "'local_crt' is not an option of ssl: did you mean 'local_cert'?",
        ),
    ],
)
def test_context_of_none(context: Any, sentence: str) -> None:
    """Of PHP's contexts there is ``ssl``, and its options are named as there."""
    assert refusal(worker("wss://127.0.0.1:0", context)).startswith(sentence)


# As programs.

FIVE_LINES = """\
from gateman import Worker
pair = {"local_cert": "server.pem", "local_pk": "server.key"}
worker = Worker("websocket://127.0.0.1:0", {"ssl": pair})
worker.transport = "ssl"

@worker.on_message
def answer(connection, message):
    connection.send("ok")

Worker.run_all()
"""


def test_five_lines_are_a_wss_service(tmp_path: Path) -> None:
    """The program of the README, but for its port, with its certificate beside it."""
    (tmp_path / "server.pem").symlink_to(certificate().certificate)
    (tmp_path / "server.key").symlink_to(certificate().key)
    with (
        child(FIVE_LINES, tmp_path) as process,
        websockets.sync.client.connect(
            f"wss://localhost:{process.port}", ssl=for_threads(authority().trusting_client())
        ) as client,
    ):
        client.send("hello")

        assert client.recv(timeout=TIMEOUT) == "ok"


def run(script: str, folder: Path) -> tuple[int, str]:
    """Run a program that ends by itself; gives its exit code and what it wrote."""
    (folder / "server.py").write_text(script)
    ended = subprocess.run(
        [sys.executable, "server.py", "start"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    return ended.returncode, ended.stderr


MISTAKES = {
    "a typo in run_all": (
        "Worker('ws://127.0.0.1:0')\nWorker.run_all(metrcis='127.0.0.1:0')",
        "'metrcis' is not an option of run_all: did you mean 'metrics'?",
    ),
    "an argument of run_all": (
        "Worker('ws://127.0.0.1:0')\nWorker.run_all(5)",
        "Worker.run_all() takes no positional arguments: write Worker.run_all(option=value)",
    ),
    "no worker": ("Worker.run_all()", "no worker is declared: write Worker("),
    "scheme": ("Worker('htp://0.0.0.0:8282')", "'htp' is not a scheme to listen on"),
    "option": (
        "Worker('ws://127.0.0.1:0', cuont=4)",
        "'cuont' is not an option of Worker: did you",
    ),
    "arguments": (
        "worker = Worker('ws://127.0.0.1:0')\nworker.on_message = lambda message: None",
        "on_message is called with (connection, message), but",
    ),
    "certificate": (
        "Worker('wss://127.0.0.1:0', {'ssl': {'local_cert': 'none.pem'}})\nWorker.run_all()",
        "none.pem",
    ),
    "key": (
        "Worker('wss://127.0.0.1:0', {'ssl': {'local_cert': 'a.pem', 'local_pk': 'b.key'}})\n"
        "Worker.run_all()",
        "b.key",
    ),
    "address": (
        "Worker('ws://192.0.2.1:8282')\nWorker.run_all()",
        "is not an address of this machine",
    ),
}


@pytest.mark.parametrize(("lines", "sentence"), MISTAKES.values(), ids=list(MISTAKES))
def test_mistake_is_one_sentence_and_78(lines: str, sentence: str, tmp_path: Path) -> None:
    """No traceback, and nothing listens."""
    other = Authority()
    other.issue(tmp_path, stem="a")
    other.issue(tmp_path, stem="b")
    code, written = run(f"from gateman import Worker\n{lines}\n", tmp_path)

    assert code == os.EX_CONFIG
    assert sentence in written
    assert "Traceback" not in written
    assert written.count("\n") == 1


def test_second_address_that_is_taken_leaves_the_first_alone(tmp_path: Path) -> None:
    """Nothing is half served."""
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        lines = (
            "from gateman import Worker\n"
            f"Worker('ws://127.0.0.1:{port}')\n"
            f"Worker('ws://127.0.0.1:{taken.getsockname()[1]}')\n"
            "Worker.run_all()\n"
        )
        code, written = run(lines, tmp_path)

        assert (code, "the port is in use by another program" in written) == (os.EX_CONFIG, True)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)


def test_expired_certificate_is_a_warning(tmp_path: Path) -> None:
    """The service runs, for clients that accept it, and the log names the problem."""
    past = datetime(2020, 1, 1, tzinfo=UTC)
    Authority().issue(tmp_path, starts_at=past, expires_at=past + timedelta(days=1))
    with child(FIVE_LINES, tmp_path) as process:
        context = for_threads(ssl.create_default_context())
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        url = f"wss://localhost:{process.port}"
        with websockets.sync.client.connect(url, ssl=context):
            assert "WARNING" in process.wait_for("expired")


# Certificates that are ordered.


def test_certificates_may_be_declared_in_two_places() -> None:
    """As an option, in the context, or by the environment; all mean the same."""
    by_variable = worker("wss://127.0.0.1:1", name="chat")
    apply_environment([by_variable], {"GATEMAN_CHAT_ACME": "a.test, b.test"})
    declared = [
        by_variable,
        worker("wss://127.0.0.1:1", acme=["a.test", "b.test"]),
        worker("wss://127.0.0.1:1", acme={"domains": ("a.test", "b.test")}),
        worker("wss://127.0.0.1:1", {"ssl": {"acme": {"domains": ["a.test", "b.test"]}}}),
    ]
    found = {certificates_of(one) for one in declared}

    assert found == {
        (AcmeOptions(domains=("a.test", "b.test"), storage=str(default_folder())),),
    }
    assert certificates_of(worker()) == ()


def test_certificates_are_declared_once() -> None:
    made = worker("wss://127.0.0.1:1", {"ssl": {"acme": "a.test"}}, acme="a.test")

    assert refusal(made) == (
        "worker 'worker' has acme twice: as an option, and in its context: keep one of them."
    )


def test_the_storage_is_that_of_the_user() -> None:
    made = worker("wss://127.0.0.1:1", acme="a.test", user="www-data")

    assert certificates_of(made)[0].storage == str(default_folder("www-data"))


def test_a_mistake_in_acme_is_told_where_it_is_assigned() -> None:
    with pytest.raises(ConfigError) as caught:
        worker("wss://127.0.0.1:1", acme={"domain": "a.test"})

    assert str(caught.value) == "'domain' is not an option of acme: did you mean 'domains'?"
