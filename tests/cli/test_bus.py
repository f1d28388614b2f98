"""``gateman bus``, and which bus other commands are about."""

import os
from pathlib import Path

from websockets.sync.client import connect

from gateman import SyncHub
from tests.support.master import GATEMAN, master, run
from tests.support.nats import nats_server

from .test_push import ROOMS


def test_it_prints_what_a_program_connects_to(tmp_path: Path) -> None:
    """The URL, with which a hub outside of the service finds its clients."""
    with master(ROOMS, tmp_path) as service:
        done = run([*GATEMAN, "bus", str(service.path)], tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        with SyncHub(done.stdout.strip()) as hub, connect(f"ws://127.0.0.1:{service.port}"):
            assert hub.count_clients() == 1


def test_what_is_secret_of_a_bus_is_not_printed(tmp_path: Path) -> None:
    """A terminal may be watched, and its text kept."""
    with nats_server(tmp_path, "authorization { user: ann, password: opensesame }") as server:
        url = server.url.replace("//", "//ann:opensesame@")
        with master(ROOMS.replace("count=2", f"bus={url!r}"), tmp_path) as service:
            done = run([*GATEMAN, "bus", str(service.path)], tmp_path)

            assert (done.returncode, done.stdout, done.stderr) == (0, f"{server.url}\n", "")


def test_a_variable_may_say_it(tmp_path: Path) -> None:
    """A shell for one service names it once."""
    with master(ROOMS, tmp_path) as service:
        bus = next(tmp_path.glob("*.bus"))
        environment = {**os.environ, "GATEMAN_BUS": f"local://{bus}"}
        done = run([*GATEMAN, "who"], tmp_path, environment)
        same = run([*GATEMAN, "who", "--bus", f"local://{bus}"], tmp_path)

        assert (done.returncode, done.stdout, done.stderr) == (
            0,
            "clients  0\nusers    0\ngroups   0\n",
            "",
        )
        assert same.stdout == done.stdout
        assert service.command("stop").returncode == 0


def test_a_service_has_to_be_named(tmp_path: Path) -> None:
    """The command does not guess a service."""
    environment = {name: os.environ[name] for name in os.environ if name != "GATEMAN_BUS"}
    done = run([*GATEMAN, "who"], tmp_path, environment)

    assert (done.returncode, done.stdout, done.stderr) == (
        78,
        "",
        "gateman: no service is named: write --service server.py or --bus"
        " nats://host:4222?name=chat.\n",
    )


def test_what_cannot_be_reached_is_one_sentence(tmp_path: Path) -> None:
    """A service that does not run, a bus that is not there, and one that cannot be."""
    (tmp_path / "server.py").write_text(ROOMS)
    cases = [
        (["--service", "server.py"], 3, "gateman: server.py is not running.\n"),
        (
            ["--bus", "nats://127.0.0.1:1?name=test"],
            1,
            "gateman: the bus nats://127.0.0.1:1?name=test: ",
        ),
        (["--bus", "local:///nobody/here"], 1, "gateman: the bus local:///nobody/here: "),
        (["--bus", "redis://127.0.0.1"], 78, "gateman: the bus's URL is of an unknown kind"),
    ]
    for words, code, error in cases:
        done = run([*GATEMAN, "who", *words], tmp_path)

        assert (done.returncode, done.stdout) == (code, ""), words
        assert done.stderr.startswith(error), done.stderr


def test_a_service_without_a_bus_is_an_error(tmp_path: Path) -> None:
    """One whose processes are alone cannot be reached."""
    script = ROOMS.replace("count=2", 'bus="memory://"')
    with master(script, tmp_path) as service:
        done = run([*GATEMAN, "who", "--service", str(service.path)], tmp_path)

        assert (done.returncode, done.stderr) == (
            1,
            f"gateman: {service.path} runs without a bus.\n",
        )
