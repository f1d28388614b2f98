"""Where a master's files are, and which process is the master."""

import os
import resource
import shutil
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateman.errors import AlreadyRunning, ConfigError
from gateman.master.runtime_files import RuntimeFiles, RuntimePaths, candidates, locate
from tests.support.users import DAEMON, NOBODY, as_user, folder_of, needs_root, open_to_all


def folders(script: Path, environment: dict[str, str]) -> list[Path]:
    """List the folders that are tried."""
    return [files.folder for files in candidates(script, environment)]


def test_the_order_of_folders(tmp_path: Path) -> None:
    """The folders of systemd, of a session, beside the script, and one for all users."""
    script = tmp_path / "server.py"
    environment = {"RUNTIME_DIRECTORY": "/run/chat:/run/other", "XDG_RUNTIME_DIR": "/run/user/7"}
    found = folders(script, environment)

    assert found[:3] == [Path("/run/chat"), Path("/run/user/7/gateman"), tmp_path]
    assert found[3].name == f"gateman-{os.getuid()}"
    assert folders(script, {})[:1] == [tmp_path]


def test_every_script_has_its_own_names(tmp_path: Path) -> None:
    """Scripts of the same name do not meet in a folder that they share."""
    stems = {
        next(candidates(tmp_path / folder / "server.py", {"RUNTIME_DIRECTORY": "/run"})).stem
        for folder in ("one", "two")
    }

    assert len(stems) == 2
    assert all(stem.startswith("server-") for stem in stems)


def test_the_masters_of_units_are_found(tmp_path: Path) -> None:
    """Only they know their folder by its variable; of others' sockets none is taken for theirs."""
    script, units = tmp_path / "server.py", tmp_path / "units"
    (units / "chat").mkdir(parents=True)
    runtime_files = RuntimeFiles.acquire(script, {"RUNTIME_DIRECTORY": str(units / "chat")})
    other = RuntimeFiles.acquire(tmp_path / "other.py", {"RUNTIME_DIRECTORY": str(units / "chat")})
    with runtime_files.listen(), other.listen():
        found = [one.control for one in locate(script, {}, units=units)]
        found_elsewhere = locate(script, {}, units=tmp_path / "none")
    runtime_files.release()
    other.release()

    assert (found, found_elsewhere) == ([runtime_files.files.control], [])


def test_one_has_the_claim_wherever_its_files_are(tmp_path: Path) -> None:
    """A unit's master is found by one that is started by hand, and the other way round."""
    script, units = tmp_path / "server.py", tmp_path / "units"
    (units / "chat").mkdir(parents=True)
    environments = [{"RUNTIME_DIRECTORY": str(units / "chat")}, {}]
    for first, second in (environments, reversed(environments)):
        runtime_files = RuntimeFiles.acquire(script, first, units=units)
        with pytest.raises(AlreadyRunning) as told:
            RuntimeFiles.acquire(script, second, units=units)

        assert told.value.pid == os.getpid()
        runtime_files.release()
    assert sorted(tmp_path.rglob("*.*")) == []


def test_what_is_in_other_places_is_not_waited_for(tmp_path: Path) -> None:
    """Files of a killed master, and other files, do not block the next master."""
    script, other = tmp_path / "server.py", tmp_path / "run"
    other.mkdir()
    environment = {"RUNTIME_DIRECTORY": str(other)}
    beside = list(candidates(script, environment))[1].pid
    for make in (lambda: beside.write_text("1\n"), lambda: os.mkfifo(beside), beside.mkdir):
        make()
        RuntimeFiles.acquire(script, environment).release()
        if beside.is_dir():
            beside.rmdir()
        else:
            beside.unlink()


def test_one_has_the_claim(tmp_path: Path) -> None:
    """Another master is refused with the pid of the first; after release the files are free."""
    script = tmp_path / "server.py"
    runtime_files = RuntimeFiles.acquire(script, {})
    with pytest.raises(AlreadyRunning) as told:
        RuntimeFiles.acquire(script, {})

    assert told.value.pid == os.getpid()
    runtime_files.release()
    assert list(tmp_path.iterdir()) == []
    again = RuntimeFiles.acquire(script, {})
    assert not again.is_takeover
    again.release()


def test_the_claim_of_the_dead_is_free(tmp_path: Path) -> None:
    """A pid file without a lock is taken over, whatever its content."""
    script = tmp_path / "server.py"
    pid_file = next(candidates(script, {})).pid
    pid_file.write_text("1\n")
    runtime_files = RuntimeFiles.acquire(script, {})

    assert runtime_files.is_takeover
    assert pid_file.read_text() == f"{os.getpid()}\n"
    runtime_files.release()


def test_files_are_their_owners_only(tmp_path: Path) -> None:
    """The pid file, the socket, and a folder that is made for them."""
    script = tmp_path / "server.py"
    folder = tmp_path / "run"
    runtime_files = RuntimeFiles.acquire(script, {"RUNTIME_DIRECTORY": str(folder)})
    with runtime_files.listen():
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())]

        assert modes == [0o700, 0o600, 0o600]
        assert locate(script, {"RUNTIME_DIRECTORY": str(folder)}) == [runtime_files.files]
    runtime_files.release()


def test_a_socket_that_was_left_is_replaced(tmp_path: Path) -> None:
    """The process that has the lock may replace the socket."""
    runtime_files = RuntimeFiles.acquire(tmp_path / "server.py", {})
    runtime_files.listen().close()
    with runtime_files.listen() as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    runtime_files.release()


def test_a_folder_that_cannot_be_used_is_passed_over(tmp_path: Path) -> None:
    """The next one is tried."""
    (tmp_path / "file").write_text("")
    runtime_files = RuntimeFiles.acquire(
        tmp_path / "server.py", {"RUNTIME_DIRECTORY": str(tmp_path / "file")}
    )

    assert runtime_files.files.folder == tmp_path
    runtime_files.release()


@pytest.mark.parametrize("name", ["control", "pid"])
@pytest.mark.parametrize("is_folder", [True, False], ids=["folder", "link"])
def test_what_is_in_the_way_stays(tmp_path: Path, name: str, *, is_folder: bool) -> None:
    """Where something else has the name of a file, the next folder is tried."""
    script, other = tmp_path / "server.py", tmp_path / "run"
    other.mkdir()
    precious = tmp_path / "precious"
    precious.write_text("words")
    in_the_way = getattr(next(candidates(script, {"RUNTIME_DIRECTORY": str(other)})), name)
    if is_folder:
        in_the_way.mkdir()
    else:
        in_the_way.symlink_to(precious)
    runtime_files = RuntimeFiles.acquire(script, {"RUNTIME_DIRECTORY": str(other)})
    with runtime_files.listen():
        assert runtime_files.files.folder == tmp_path
    runtime_files.release()

    assert list(other.iterdir()) == [in_the_way]
    assert precious.read_text() == "words"


def test_no_folder_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to set."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none" / "such"))
    with pytest.raises(ConfigError, match="set RUNTIME_DIRECTORY to a writable folder"):
        RuntimeFiles.acquire(Path("/proc/none/server.py"), {})


def test_a_folder_where_nothing_can_be_written(tmp_path: Path) -> None:
    """As on a full disk: no file stays behind, and the error says why."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(ConfigError, match=r"is writable \(.*: file too large\)"):
            RuntimeFiles.acquire(tmp_path / "server.py", {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert list(tmp_path.iterdir()) == []


def test_a_folder_for_everybody_has_to_be_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of another user in the folder for temporary files are not used."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"gateman-{os.getuid()}").mkdir()
    (tmp_path / f"gateman-{os.getuid()}").chmod(0o777)
    with pytest.raises(ConfigError):
        RuntimeFiles.acquire(Path("/proc/none/server.py"), {})
    (tmp_path / f"gateman-{os.getuid()}").chmod(0o700)
    RuntimeFiles.acquire(Path("/proc/none/server.py"), {}).release()


def test_names() -> None:
    """Both files have the same stem."""
    files = RuntimePaths(Path("/run/chat"), "server-12345678")

    assert files.control == Path("/run/chat/server-12345678.sock")
    assert files.pid == Path("/run/chat/server-12345678.pid")


# Links.


def released(folder: Path, *names: str) -> Path:
    """Make releases, and a link to the first of them; gives the script behind the link."""
    for name in names:
        (folder / "releases" / name).mkdir(parents=True)
        (folder / "releases" / name / "server.py").write_text("")
    (folder / "current").symlink_to(f"releases/{names[0]}")
    return folder / "current" / "server.py"


def test_a_new_release_behind_a_link_is_the_same_service(tmp_path: Path) -> None:
    """Its master is found when the link leads to another folder, and no other one can start."""
    script = released(tmp_path, "1", "2")
    runtime_files = RuntimeFiles.acquire(script, {})
    with runtime_files.listen():
        (tmp_path / "current").unlink()
        (tmp_path / "current").symlink_to("releases/2")

        assert runtime_files.is_intact
        assert locate(script, {}) == [runtime_files.files]
        with pytest.raises(AlreadyRunning):
            RuntimeFiles.acquire(script, {})
    runtime_files.release()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "releases"]


def test_a_folder_that_goes_with_its_release_is_not_used(tmp_path: Path) -> None:
    """If the folder of the link is not writable, the one for temporary files is next."""
    script = released(tmp_path, "1")
    (tmp_path / f"{next(candidates(script, {})).stem}.pid").mkdir()
    runtime_files = RuntimeFiles.acquire(script, {})

    assert runtime_files.files.folder.name == f"gateman-{os.getuid()}"
    runtime_files.release()


# Files that are removed.


def test_removed_files_are_made_again(tmp_path: Path) -> None:
    """The pid file, the socket, or both: commands and other masters find it again."""
    script = tmp_path / "server.py"
    runtime_files = RuntimeFiles.acquire(script, {})
    for names in (["pid"], ["control"], ["pid", "control"]):
        with runtime_files.listen():
            assert runtime_files.is_intact
            for name in names:
                getattr(runtime_files.files, name).unlink()
            assert not runtime_files.is_intact
            runtime_files.renew()
        with runtime_files.listen():
            assert runtime_files.is_intact
            assert runtime_files.files.pid.read_text() == f"{os.getpid()}\n"
            assert locate(script, {}) == [runtime_files.files]
            with pytest.raises(AlreadyRunning):
                RuntimeFiles.acquire(script, {})
    runtime_files.release()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_replaced_by_the_next(tmp_path: Path) -> None:
    """A session's folder goes with its end, and comes again with the next one."""
    script, session = tmp_path / "script" / "server.py", tmp_path / "session"
    script.parent.mkdir()
    session.mkdir()
    environment = {"XDG_RUNTIME_DIR": str(session)}
    runtime_files = RuntimeFiles.acquire(script, environment)
    assert runtime_files.files.folder == session / "gateman"
    shutil.rmtree(session)
    runtime_files.renew()

    assert runtime_files.files.folder == script.parent
    assert not locate(script, environment)
    with runtime_files.listen():
        assert locate(script, environment) == [runtime_files.files]
    runtime_files.release()
    assert list(script.parent.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only there a removed file is seen")
def test_a_master_is_found_before_it_has_restored_its_files(tmp_path: Path) -> None:
    """Another master that starts at this moment is refused, and leaves no files behind."""
    script = tmp_path / "server.py"
    runtime_files = RuntimeFiles.acquire(script, {})
    runtime_files.files.pid.unlink()
    with pytest.raises(AlreadyRunning) as told:
        RuntimeFiles.acquire(script, {})
    assert told.value.pid == os.getpid()
    runtime_files.renew()

    assert runtime_files.is_intact
    runtime_files.release()


def test_only_its_own_files_are_removed(tmp_path: Path) -> None:
    """At its end, what another one has made in their place stays."""
    script = tmp_path / "server.py"
    runtime_files = RuntimeFiles.acquire(script, {})
    with runtime_files.listen():
        for path in (runtime_files.files.control, runtime_files.files.pid):
            path.unlink()
            path.write_text("words")
        runtime_files.release()

    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".pid", ".sock"]


# Other users.


@needs_root
def test_owners_of_a_master_s_files(tmp_path: Path) -> None:
    """Root's, those of the script's owners, and in a unit's folder those of the unit's user."""
    script = folder_of(NOBODY, tmp_path / "service") / "server.py"
    script.write_text("")
    unit = folder_of(DAEMON, tmp_path / "unit")
    of_unit, beside, common = candidates(script, {"RUNTIME_DIRECTORY": str(unit)})

    assert of_unit.users == {0, NOBODY, DAEMON}
    assert beside.users == {0, NOBODY}
    assert common.users == {0}


@needs_root
def test_the_session_of_another_user_is_not_used(tmp_path: Path) -> None:
    """`su` leaves its variable; a folder of the owner of the script is used."""
    script = folder_of(0, tmp_path / "service") / "server.py"
    environment = {"XDG_RUNTIME_DIR": str(folder_of(NOBODY, tmp_path / "session", 0o700))}
    before = folders(script, environment)[0]
    script.write_text("")
    os.chown(script, NOBODY, NOBODY)

    assert before == script.parent
    assert folders(script, environment)[0] == tmp_path / "session" / "gateman"


@needs_root
def test_files_of_other_users_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder such as /tmp: no master is seen in them, and one starts elsewhere."""
    open_to_all(tmp_path)
    folder = folder_of(0, tmp_path / "tmp", 0o1777)
    monkeypatch.setattr("tempfile.tempdir", str(folder_of(0, tmp_path / "common", 0o1777)))
    script = folder / "server.py"
    for name in ("pid", "control", "bus"):
        path = getattr(next(candidates(script, {})), name)
        as_user(NOBODY, path.touch) if name == "pid" else as_user(NOBODY, _socket_at(path))

        assert as_user(DAEMON, lambda: _folder_that_is_taken(script)) == f"gateman-{DAEMON}"
        assert [one.name for one in folder.iterdir()] == [path.name]
        path.unlink()


def _folder_that_is_taken(script: Path) -> str:
    runtime_files = RuntimeFiles.acquire(script, {})
    with runtime_files.listen():
        name = runtime_files.files.folder.name
    runtime_files.release()
    return name


def _socket_at(path: Path) -> Callable[[], None]:
    return lambda: socket.socket(socket.AF_UNIX).bind(str(path))


@needs_root
def test_a_foreign_shared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands do not look into it, nor into units that root has not made."""
    open_to_all(tmp_path)
    common = folder_of(0, tmp_path / "tmp", 0o1777)
    monkeypatch.setattr("tempfile.tempdir", str(common))
    script = tmp_path / "server.py"
    *_, files = candidates(script, {})
    folder_of(NOBODY, files.folder)
    as_user(NOBODY, _socket_at(files.control))
    units = folder_of(NOBODY, tmp_path / "units")
    unit = folder_of(NOBODY, units / "chat")
    as_user(NOBODY, _socket_at(unit / files.control.name))
    assert files.control.is_socket()

    assert locate(script, {}, units=units) == []
    os.chown(units, 0, 0)
    assert [one.folder for one in locate(script, {}, units=units)] == [unit]
