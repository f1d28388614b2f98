"""The storage: private, whole files, one process at a time, and nothing that a crash leaves."""

import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateman.acme.state import Attempt, CertificateState
from gateman.acme.storage import Account, Storage, StorageBusy
from gateman.errors import ConfigError
from tests.support.certificates import Authority
from tests.support.deadlines import TIMEOUT

NOBODY = pwd.getpwnam("nobody")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_user_can_read_it(tmp_path: Path) -> None:
    storage = Storage.prepare(tmp_path / "deep" / "acme")
    storage.write_certificate("example.com-1", b"key and chain")
    storage.write_challenge("tls-alpn-01", "example.com", b"answer")
    found = {
        str(path.relative_to(storage.folder)): oct(mode(path)) for path in storage.folder.rglob("*")
    }

    assert mode(storage.folder) == 0o700
    assert found == {
        "certificates": "0o700",
        "certificates/example.com-1.pem": "0o600",
        "challenges": "0o700",
        "challenges/tls-alpn-01": "0o700",
        "challenges/tls-alpn-01/example.com": "0o600",
    }


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    storage = Storage.prepare(tmp_path / "acme")
    state = CertificateState(
        domains=("example.com",), attempts=(Attempt(at=1.5, code="ACME_CAA"),), retry_at=7.0
    )
    storage.write_state("example.com-1", state)

    assert storage.read_state("example.com-1") == state
    assert storage.read_state("other-1") == CertificateState()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"failures": "x"}', b"\xff", b"0" * 2_000_000]
)
def test_a_state_that_cannot_be_read_is_empty(tmp_path: Path, data: bytes) -> None:
    storage = Storage.prepare(tmp_path / "acme")
    storage.write_state("a-1", CertificateState(retry_at=7.0))
    (storage.folder / "state" / "a-1.json").write_bytes(data)

    assert storage.read_state("a-1") == CertificateState()


def test_an_account_belongs_to_a_directory_and_a_customer(tmp_path: Path) -> None:
    storage = Storage.prepare(tmp_path / "acme")
    account = Account(directory="https://ca.example/dir", url="https://ca.example/1", key="{}")
    storage.write_account(account)

    assert storage.read_account("https://ca.example/dir") == account
    assert storage.read_account("https://ca.example/dir", "kid") is None
    assert storage.read_account("https://ca.example/other") is None


def stored(storage: Storage, folder: Path, *names: str) -> bytes:
    issued = Authority().issue(folder, *names)
    pem = issued.key.read_bytes() + issued.certificate.read_bytes()
    storage.write_certificate("a-1", pem)
    return pem


def test_a_certificate_says_what_it_is(tmp_path: Path) -> None:
    storage = Storage.prepare(tmp_path / "acme")
    pem = stored(storage, tmp_path, "example.com", "192.0.2.1")
    found = storage.read_certificate("a-1")

    assert storage.certificate_path("a-1").read_bytes() == pem
    assert found is not None
    assert set(found.facts.names) == {"example.com", "192.0.2.1"}
    assert len(found.fingerprint) == 64


def test_a_certificate_that_cannot_be_used_is_none(tmp_path: Path) -> None:
    """Missing, no certificate, without its key, with another one, too large, a link, a folder."""
    storage = Storage.prepare(tmp_path / "acme")
    missing = storage.read_certificate("a-1")
    pem = stored(storage, tmp_path)
    path = storage.certificate_path("a-1")
    other = Authority().issue(tmp_path, stem="other")
    contents = [
        b"",
        b"garbage",
        pem.replace(b"PRIVATE", b"PUBLIC"),
        pem + b"\n" * (1 << 20),
        other.key.read_bytes() + (tmp_path / "server.pem").read_bytes(),
        pem.replace(b"KEY-----\n", b"KEY-----\nAAAA", 1),
    ]
    found = []
    for content in contents:
        path.write_bytes(content)
        found.append(storage.read_certificate("a-1"))
    path.unlink()
    path.symlink_to(tmp_path / "server.pem")
    linked = storage.read_certificate("a-1")
    path.unlink()
    path.mkdir()

    assert (missing, linked, storage.read_certificate("a-1")) == (None, None, None)
    assert found == [None] * 6


def test_challenges_are_answered_and_cleared(tmp_path: Path) -> None:
    storage = Storage.prepare(tmp_path / "acme")
    storage.clear_challenges()
    storage.write_challenge("http-01", "-token_1", b"answer")
    storage.write_challenge("tls-alpn-01", "1.2.0.192.in-addr.arpa", b"pem")
    found = storage.read_challenge("http-01", "-token_1")
    storage.remove_challenge("http-01", "-token_1")
    storage.remove_challenge("http-01", "-token_1")
    removed = storage.read_challenge("http-01", "-token_1")
    storage.clear_challenges()

    assert (found, removed) == (b"answer", None)
    assert storage.read_challenge("tls-alpn-01", "1.2.0.192.in-addr.arpa") is None


@pytest.mark.parametrize(
    "name", ["", "..", ".", "../lock", "a/b", ".hidden", "a\0b", "é", "a" * 256]
)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    storage = Storage(tmp_path)

    with pytest.raises(ValueError, match=r"^"):
        storage.challenge_path("http-01", name)
    with pytest.raises(ValueError, match="other"):
        storage.challenge_path("other", "token")


def test_the_longest_name_has_a_file(tmp_path: Path) -> None:
    storage = Storage.prepare(tmp_path / "acme")
    name = ".".join(["a" * 63] * 3 + ["b" * 61])
    storage.write_challenge("tls-alpn-01", name, b"answer")

    assert storage.read_challenge("tls-alpn-01", name) == b"answer"


def test_a_reader_sees_whole_files_only(tmp_path: Path) -> None:
    """While the file is replaced again and again, each reading is one of the versions."""
    storage = Storage.prepare(tmp_path / "acme")
    versions = [bytes([letter]) * 50_000 for letter in b"ab"]
    storage.write_certificate("a-1", versions[0])
    program = (
        "import sys; from pathlib import Path; from gateman.acme.storage import Storage\n"
        "storage = Storage(Path(sys.argv[1]))\n"
        "for turn in range(100): storage.write_certificate('a-1', b'ab'[turn % 2:][:1] * 50_000)"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, str(storage.folder)])
    seen = set()
    while writer.poll() is None:
        seen.add(storage.certificate_path("a-1").read_bytes())

    assert writer.returncode == 0
    assert seen <= set(versions)
    assert [path.name for path in (storage.folder / "certificates").iterdir()] == ["a-1.pem"]


# One process orders.


def test_one_process_has_the_lock(tmp_path: Path) -> None:
    storage = Storage.prepare(tmp_path / "acme")
    with storage.locked():
        with pytest.raises(StorageBusy), storage.locked():
            pass
        with pytest.raises(StorageBusy), storage.locked(timeout=0.3):
            pass
    with storage.locked():
        pass


def test_a_process_that_is_killed_leaves_no_lock(tmp_path: Path) -> None:
    """Nor does a program that it has started keep it."""
    storage = Storage.prepare(tmp_path / "acme")
    program = (
        "import subprocess, sys; from pathlib import Path; from gateman.acme.storage import"
        " Storage\n"
        "with Storage(Path(sys.argv[1])).locked():\n"
        "    started = subprocess.Popen(['cat'], close_fds=False, stdin=0)\n"
        "    print('locked', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(storage.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    with holder.stdout, holder.stdin:
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(StorageBusy), storage.locked():
            pass
        holder.kill()
        holder.wait(TIMEOUT)
        with storage.locked(timeout=TIMEOUT):
            pass


# Whose it is.


def refusal_of(folder: Path, **owner: int) -> str:
    with pytest.raises(ConfigError) as refused:
        Storage.prepare(folder, **owner)
    return str(refused.value)


def test_a_folder_that_others_may_enter_is_closed(tmp_path: Path) -> None:
    """If it is empty, or has been a storage before."""
    folder = tmp_path / "acme"
    folder.mkdir(mode=0o755)
    Storage.prepare(folder).write_state("a-1", CertificateState())
    closed = mode(folder)
    folder.chmod(0o750)
    Storage.prepare(folder)

    assert (closed, mode(folder)) == (0o700, 0o700)


def test_a_folder_with_other_files_is_not_closed(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o755)
    (folder / "passwd").touch()

    assert refusal_of(folder) == (
        f"acme.storage is {folder}, which other users may enter and which has other files: name a"
        " folder for it alone."
    )
    assert mode(folder) == 0o755


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    user = pwd.getpwuid(os.geteuid()).pw_name
    remedy = f"let {user} write to it, or name another folder."

    assert refusal_of(tmp_path / "file" / "acme") == (
        f"acme.storage is {tmp_path}/file/acme, which cannot be used (Not a directory): {remedy}"
    )
    assert refusal_of(tmp_path / "link") == (
        f"acme.storage is {tmp_path}/link, which is a link: name the folder to which it leads."
    )


@needs_root
def test_root_makes_it_for_the_user_of_the_service(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    made = Storage.prepare(tmp_path / "made", uid=NOBODY.pw_uid, gid=NOBODY.pw_gid)
    volume = tmp_path / "volume"
    (volume / "lost+found").mkdir(parents=True)
    Storage.prepare(volume, uid=NOBODY.pw_uid, gid=NOBODY.pw_gid)
    owners = [(path.stat().st_uid, path.stat().st_gid) for path in (made.folder, volume)]

    assert owners == [(NOBODY.pw_uid, NOBODY.pw_gid)] * 2
    assert [mode(made.folder), mode(volume)] == [0o700, 0o700]


@needs_root
def test_root_may_lack_the_right_to_enter_it(tmp_path: Path) -> None:
    """As in a unit of systemd; nobody stands for that."""
    owner = pwd.getpwnam("daemon")
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    folder = Storage.prepare(tmp_path / "acme", uid=owner.pw_uid, gid=owner.pw_gid).folder
    code = (
        "import sys; from pathlib import Path; from gateman.acme.storage import Storage;"
        " import os; os.setuid(int(sys.argv[1]));"
        " print(Storage.prepare(Path(sys.argv[2]), uid=int(sys.argv[3])).folder)"
    )

    def prepare(uid: int) -> str:
        command = [sys.executable, "-c", code, str(NOBODY.pw_uid), str(folder), str(uid)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    assert (prepare(owner.pw_uid), prepare(owner.pw_uid + 1)) == (str(folder), "")


@needs_root
def test_its_user_can_get_there(tmp_path: Path) -> None:
    """Also if root's umask closes what it makes, as the one of a unit does."""
    tmp_path.chmod(0o755)
    before = os.umask(0o077)
    try:
        made = Storage.prepare(tmp_path / "a" / "b" / "acme", uid=NOBODY.pw_uid)
    finally:
        os.umask(before)

    assert [mode(one) for one in (made.folder, *made.folder.parents[:2])] == [0o700, 0o755, 0o755]


@needs_root
def test_a_storage_of_another_user_is_refused(tmp_path: Path) -> None:
    """Its files would be that user's, who knows the keys."""
    folder = tmp_path / "acme"
    Storage.prepare(folder).write_state("a-1", CertificateState())

    assert refusal_of(folder, uid=NOBODY.pw_uid, gid=NOBODY.pw_gid) == (
        f"acme.storage is {folder}, which belongs to root, and the service runs as nobody: chown"
        f" -R nobody {folder}."
    )
