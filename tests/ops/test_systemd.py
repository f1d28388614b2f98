"""The unit that is printed: what is in it for which service, and that systemd takes it."""

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from gateman import BusinessWorker, ConfigError, Worker
from gateman.master.script import Script
from gateman.ops.systemd import UnitSettings, remedy, unit, unit_settings, unreadable
from tests.support.server import certificate, ssl_options

NOW = 1_790_000_000.0  # seconds since 1970

PYTHON = Path("/opt/chat/bin/python")
FACTS = UnitSettings(
    name="chat",
    program="/opt/chat/server.py",
    python=PYTHON,
    folder=Path("/opt/chat"),
    ports=(8282,),
    files=(Path("/opt/chat/server.py"), PYTHON),
)


@pytest.fixture
def worker() -> Worker:
    """A worker that nothing but the test knows."""
    return Worker("websocket://127.0.0.1:8282")


def settings(text: str) -> dict[str, str]:
    """Read a unit's settings; each is there once."""
    lines = re.findall(r"(?m)^([A-Za-z]+)=(.*)$", text)

    assert len(dict(lines)) == len(lines)
    return dict(lines)


def test_it_runs_and_reloads_the_script() -> None:
    """In its folder, with the interpreter that it was printed with."""
    written = settings(unit(FACTS))

    assert written["ExecStart"] == "/opt/chat/bin/python -m gateman start /opt/chat/server.py"
    assert written["ExecReload"] == "/opt/chat/bin/python -m gateman reload /opt/chat/server.py"
    assert written["WorkingDirectory"] == "/opt/chat"
    assert written["Type"] == "notify"
    assert written["RuntimeDirectory"] == "gateman/chat"


def test_another_attempt_is_made_only_where_it_helps() -> None:
    """A crash is one; a wrong configuration is none, and neither is a script that fails."""
    written = settings(unit(FACTS))

    assert (written["Restart"], written["RestartPreventExitStatus"]) == ("on-failure", "2 4 5 78")
    # More than systemd's StartLimitBurst of 5 in 10 seconds would be the end.
    assert int(written["RestartSec"]) * 5 > 10


def test_its_deadlines_are_later_than_the_worker_s() -> None:
    """A service that is about to be done is not killed."""
    written = settings(unit(replace(FACTS, start=120.0, shutdown=33.0)))

    assert (written["TimeoutStartSec"], written["TimeoutStopSec"]) == ("135", "48")
    assert written["KillMode"] == "mixed"


@pytest.mark.parametrize(("limit", "descriptors"), [(None, "524288"), (50_000, "51024")])
def test_there_are_descriptors_for_all_connections(limit: int | None, descriptors: str) -> None:
    """As many as ``limits.max_connections``, and some more; otherwise plenty."""
    assert settings(unit(replace(FACTS, max_connections=limit)))["LimitNOFILE"] == descriptors


@pytest.mark.parametrize("ports", [(), (8282,), (0,), (1024,)])
def test_nothing_may_be_done_that_needs_no_right(ports: tuple[int, ...]) -> None:
    """Ports from 1024 on need none, so the service has none at all."""
    written = settings(unit(replace(FACTS, ports=ports)))

    assert written["CapabilityBoundingSet"] == ""
    assert "AmbientCapabilities" not in written
    assert written["NoNewPrivileges"] == "yes"


def test_a_low_port_needs_one_right() -> None:
    """Which no other thing needs."""
    text = unit(replace(FACTS, ports=(443, 8282, 80)))

    assert settings(text)["CapabilityBoundingSet"] == "CAP_NET_BIND_SERVICE"
    assert settings(text)["AmbientCapabilities"] == "CAP_NET_BIND_SERVICE"
    assert "# For port 443, 80.\n" in text


def test_the_user_of_the_unit() -> None:
    """A user of systemd's own making, one that is named, or root with few rights."""
    made, named, root = (
        settings(unit(replace(FACTS, user=user, changes_user=changes, ports=(443,))))
        for user, changes in ((None, False), ("chat", False), ("chat", True))
    )

    assert (made.get("DynamicUser"), made.get("User")) == ("yes", None)
    assert (named.get("DynamicUser"), named.get("User")) == (None, "chat")
    assert (root.get("DynamicUser"), root.get("User")) == (None, "root")
    assert root["CapabilityBoundingSet"] == (
        "CAP_CHOWN CAP_FOWNER CAP_KILL CAP_SETGID CAP_SETUID CAP_NET_BIND_SERVICE"
    )
    assert "AmbientCapabilities" not in root


@pytest.mark.parametrize(
    ("path", "home", "temporary"),
    [
        ("/opt/chat/server.py", "yes", "yes"),
        ("/home/ann/server.py", "read-only", "yes"),
        ("/root/server.py", "read-only", "yes"),
        ("/homestead/server.py", "yes", "yes"),
        ("/var/tmp/x/server.py", "yes", "no"),  # noqa: S108 - what it is about
    ],
)
def test_what_it_needs_is_there(path: str, home: str, temporary: str) -> None:
    """Homes and temporary folders are hidden, unless something in them is needed."""
    written = settings(unit(replace(FACTS, files=(Path(path),))))

    assert (written["ProtectHome"], written["PrivateTmp"]) == (home, temporary)
    assert written["ProtectSystem"] == "strict"


def test_unix_sockets_can_be_made_and_connected_to() -> None:
    """Their folders are writable, and the proxy's group may connect."""
    sockets = (Path("/run/gateman/chat/a.sock"), Path("/run/my chat/b.sock"))
    text = unit(replace(FACTS, sockets=sockets))

    assert settings(text)["ReadWritePaths"] == '"/run/my chat"'
    assert settings(text)["UMask"] == "0007"
    assert "#Group=www-data\n" in text
    assert "ReadWritePaths" not in settings(unit(replace(FACTS, sockets=sockets[:1])))
    assert settings(unit(FACTS))["UMask"] == "0077"


def test_words_are_quoted_as_systemd_reads_them() -> None:
    """Spaces, quotes, backslashes, percent and dollar signs mean themselves."""
    program = '/opt/a b/100%/$HOME/it\'s "x"\\.py'
    written = settings(unit(replace(FACTS, program=program, folder=Path("/opt/a b/%h"))))

    assert written["ExecStart"].partition("start ")[2] == (
        '"/opt/a b/100%%/$$HOME/it\'s \\"x\\"\\\\.py"'
    )
    assert written["WorkingDirectory"] == "/opt/a b/%%h"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"name": "my chat"}, "'my chat' is not a name for a unit"),
        ({"name": "a/b"}, "'a/b' is not a name for a unit"),
        ({"program": "/opt/a\nUser=root"}, "has characters that cannot stand in a unit"),
        ({"folder": Path("/opt/a\nUser=root")}, "has characters that cannot stand in a unit"),
        ({"sockets": (Path("/opt/\x01/a.sock"),)}, "has characters that cannot stand in a unit"),
    ],
)
def test_values_cannot_end_their_place(wrong: dict[str, object], sentence: str) -> None:
    """What would begin a line of its own is refused."""
    with pytest.raises(ConfigError, match=sentence):
        unit(replace(FACTS, **wrong))  # type: ignore[arg-type]


# Finding out.


def test_facts_are_those_of_all_workers(tmp_path: Path, worker: Worker) -> None:
    """The ports and sockets of each, the longest deadlines, and what is read."""
    other = Worker("websocket+unix:///run/chat/chat.sock", name="other")
    worker.transport = "ssl"
    worker.context = {"ssl": ssl_options()}
    worker.timeouts = {"shutdown": 30}
    worker.limits = {"max_connections": 5000}
    other.timeouts = {"start": 90}
    path = tmp_path / "my server.py"
    path.touch()
    found = unit_settings(Script(path), [worker, other], now=NOW)

    assert (found.name, found.program) == ("my-server", str(path))
    assert (found.ports, found.sockets) == ((8282,), (Path("/run/chat/chat.sock"),))
    assert (found.start, found.shutdown, found.max_connections) == (90.0, 30.0, None)
    assert found.files == (path, Path(sys.executable), certificate().certificate, certificate().key)
    assert (found.folder, found.changes_user) == (Path.cwd(), False)


def test_certificates_by_acme_have_a_folder_that_stays(tmp_path: Path) -> None:
    """The default is the unit's own; another one that is named can be written to."""
    path = tmp_path / "server.py"
    path.touch()
    usual = Worker("wss://0.0.0.0:443", acme={"domains": "a.test", "http": "0.0.0.0:80"})
    named = Worker("wss://0.0.0.0:8443", acme={"domains": "b.test", "storage": "/srv/acme"})
    found = unit_settings(Script(path), [usual, named], now=NOW)
    written = unit(found)

    assert (found.ports, found.has_acme, found.storages) == (
        (443, 8443, 80),
        True,
        (Path("/srv/acme"),),
    )
    assert settings(written)["StateDirectory"] == "server"
    assert settings(written)["ReadWritePaths"] == "/srv/acme"
    assert settings(written)["AmbientCapabilities"] == "CAP_NET_BIND_SERVICE"
    assert "StateDirectory" not in settings(unit(FACTS))
    assert "#StateDirectory=chat\n" in unit(FACTS)


def test_business_workers_count_by_their_deadlines(tmp_path: Path, worker: Worker) -> None:
    """They end after the others; alone, they need as many descriptors as they may have."""
    business = BusinessWorker(timeouts={"start": 90, "shutdown": 30})
    worker.limits = {"max_connections": 5000}
    path = tmp_path / "server.py"
    path.touch()
    both = unit_settings(Script(path), [worker, business], now=NOW)
    alone = unit_settings(Script(path), [business], now=NOW)

    assert (both.ports, both.start, both.shutdown, both.max_connections) == ((8282,), 90, 40, 5000)
    assert (alone.ports, alone.start, alone.shutdown, alone.max_connections) == ((), 90, 30, None)


def test_a_module_goes_by_its_name(tmp_path: Path, worker: Worker) -> None:
    """``package`` is run by ``package.__main__``, and called ``package``."""
    path = tmp_path / "__main__.py"
    path.touch()
    worker.limits = {"max_connections": 5000}
    found = unit_settings(Script(path, "site.chat.__main__"), [worker], now=NOW)

    assert (found.name, found.program, found.max_connections) == ("chat", "site.chat", 5000)


def test_the_user_is_the_script_s_owner(tmp_path: Path, worker: Worker) -> None:
    """Unless that is root, or another user is named, who has to exist."""
    path = tmp_path / "server.py"
    path.touch()
    owner = pwd.getpwuid(os.getuid()).pw_name

    assert unit_settings(Script(path), [worker], now=NOW).user == (
        None if owner == "root" else owner
    )
    assert unit_settings(Script(path), [worker], now=NOW, user="nobody").user == "nobody"
    with pytest.raises(ConfigError) as refused:
        unit_settings(Script(path), [worker], now=NOW, user="nobody-at-all")
    assert str(refused.value) == (
        "user='nobody-at-all': there is no such user: create it (useradd --system nobody-at-all),"
        " or name another."
    )


def test_a_worker_s_user_needs_root(tmp_path: Path, worker: Worker) -> None:
    """Only root can start such a service; any user may print its unit."""
    path = tmp_path / "server.py"
    path.touch()
    worker.user = "nobody"

    assert unit_settings(Script(path), [worker], now=NOW).changes_user


def test_a_script_without_workers_has_no_unit(tmp_path: Path) -> None:
    """That is said as at a start."""
    with pytest.raises(ConfigError, match="no worker is declared"):
        unit_settings(Script(tmp_path / "server.py"), [], now=NOW)


def test_files_that_it_cannot_read_are_found() -> None:
    """By the rights of the file and of the folders above it, for all users and for one user."""
    # Not pytest's folder, which other users cannot enter.
    with tempfile.TemporaryDirectory() as name:
        open_, closed = Path(name), Path(name, "closed")
        open_.chmod(0o755)
        closed.mkdir(0o700)
        paths = [open_ / "all", open_ / "group", open_ / "mine", closed / "all"]
        for path, mode in zip(paths, (0o644, 0o640, 0o600, 0o644), strict=True):
            path.touch()
            path.chmod(mode)
        some = replace(FACTS, files=tuple(paths))
        me = pwd.getpwuid(os.getuid()).pw_name

        assert unreadable(some) == paths[1:]
        assert unreadable(replace(some, user="nobody")) == paths[1:]
        assert unreadable(replace(some, user=me)) == []
        assert unreadable(replace(some, changes_user=True)) == []


def test_what_to_do_about_a_file(tmp_path: Path) -> None:
    """Another user, or a group that may read it."""
    path = tmp_path / "key"
    path.touch()
    path.chmod(0o600)

    assert remedy(FACTS, path) == (
        f"systemd's temporary user will not be able to read {path}: name another user with"
        " --user, or, if the file is not secret, let all users read it."
    )
    if os.getuid() == 0:
        os.chown(path, 0, 42)
        path.chmod(0o640)

        assert remedy(replace(FACTS, user="chat"), path) == (
            f"user chat will not be able to read {path}: name another user with --user, add"
            " SupplementaryGroups=shadow to the unit, or, if the file is not secret, let all users"
            " read it."
        )


# systemd's own verdict.


@pytest.fixture
def analyze() -> str:
    """The program that reads units without a running systemd."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return program


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"ports": (443,)},
        {"user": "daemon"},
        {"changes_user": True, "ports": (80, 443)},
        {"sockets": (Path("/run/gateman/chat/a.sock"), Path("/var/lib/my chat/b.sock"))},
        {"has_acme": True, "ports": (80, 443), "storages": (Path("/srv/acme"),)},
        {"program": '/opt/a b/100%/$HOME/"x".py', "folder": Path("/opt/a b")},
    ],
)
def test_systemd_accepts_it(analyze: str, tmp_path: Path, more: dict[str, object]) -> None:
    """It reports no problem, and a low exposure."""
    path = tmp_path / "chat.service"
    known: dict[str, object] = {"python": Path(sys.executable)}
    path.write_text(unit(replace(FACTS, **{**known, **more})))  # type: ignore[arg-type]
    verified = subprocess.run(
        [analyze, "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )
    rated = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    exposure = re.search(r"exposure level for chat.service: ([0-9.]+)", rated.stdout)

    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    assert exposure is not None
    # Of 10; a unit without any of this has 9.6.
    assert float(exposure[1]) <= (3.5 if "changes_user" in more else 2.2)
