"""
The files of ACME, in one folder: what the processes of one or many machines share.

    lock                          held by the process that orders, until it ends
    accounts/HOST-DIGEST.json     an account's URL and key, for each directory and customer
    certificates/ID.pem           the key, then the certificate and its chain, in one file
    state/ID.json                 what the policy needs, and what `status` shows
    challenges/KIND/NAME          the answer to a challenge, while it is checked

Only the service's user may read them. A file is replaced as a whole, so a key never stands beside
another certificate. Nothing here follows a link, or reads without a bound.
"""

import errno
import fcntl
import hashlib
import os
import pwd
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from ..errors import ConfigError
from ..safe_files import replace_file
from ..tls.certificate_chain import read_chain
from .options import CHALLENGES
from .state import CertificateState, StoredCertificate

_FOLDERS = ("accounts", "certificates", "state", "challenges")
# What a fresh volume has, and what is ours: a folder with anything else has another purpose.
_OURS = frozenset({*_FOLDERS, "lock", "lost+found"})

_MAX_SIZE = 1 << 20  # bytes; a certificate with its chain has a few thousand
_MAX_CHALLENGE_SIZE = 64 << 10  # bytes

_NAME = re.compile(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,254}")
_LOCK_INTERVAL = 0.2  # seconds


class Account(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An account with an authority."""

    directory: str
    url: str
    key: str  # as JSON (RFC 7517)
    email: str = ""
    kid: str = ""  # of external account binding

    def __repr__(self) -> str:
        return f"Account(url={self.url!r})"


class StorageBusy(Exception):
    """Another process is ordering."""


class Storage:
    """The folder; :meth:`prepare` makes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def prepare(cls, folder: Path, *, uid: int | None = None, gid: int | None = None) -> "Storage":
        """Make the folder for a user, 0700; raise a ConfigError if it cannot be used."""
        user = os.geteuid() if uid is None else uid
        if folder.is_symlink():
            # Root would give away the folder to which somebody else's link leads.
            raise ConfigError(
                f"acme.storage is {folder}, which is a link", "name the folder to which it leads"
            )
        try:
            _make_passable(folder.parent)
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            _claim(folder, user, -1 if gid is None else gid)
        except OSError as error:
            raise ConfigError(
                f"acme.storage is {folder}, which cannot be used"
                f" ({error.strerror or type(error).__name__})",
                f"let {_user(os.geteuid())} write to it, or name another folder",
            ) from error
        return cls(folder)

    # Paths, which other processes read.

    def certificate_path(self, certificate_id: str) -> Path:
        return self._path("certificates", f"{certificate_id}.pem")

    def challenge_path(self, kind: str, name: str) -> Path:
        """Return where an answer is: ``name`` is the SNI, or the token."""
        if kind not in CHALLENGES:
            raise ValueError(kind)
        return self._path("challenges", kind, name)

    # The process that orders.

    @contextmanager
    def locked(self, timeout: float = 0.0) -> Iterator[None]:
        """Hold the lock, which the system releases when a process dies; raises StorageBusy."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(self.folder / "lock", flags, 0o600)
        deadline = time.monotonic() + timeout
        try:
            while not _lock(handle):
                if time.monotonic() >= deadline:
                    raise StorageBusy
                # flock has no deadline; the other process may be on another machine.
                time.sleep(_LOCK_INTERVAL)
            yield
        finally:
            os.close(handle)

    def read_state(self, certificate_id: str) -> CertificateState:
        """Read a state; one that cannot be read is an empty one."""
        data = self.read(self._path("state", f"{certificate_id}.json"))
        try:
            return msgspec.json.decode(data or b"{}", type=CertificateState)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return CertificateState()

    def write_state(self, certificate_id: str, state: CertificateState) -> None:
        self._write(self._path("state", f"{certificate_id}.json"), msgspec.json.encode(state))

    def read_account(self, directory: str, kid: str = "") -> Account | None:
        data = self.read(self._account_path(directory, kid))
        try:
            return None if data is None else msgspec.json.decode(data, type=Account)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    def write_account(self, account: Account) -> None:
        self._write(
            self._account_path(account.directory, account.kid), msgspec.json.encode(account)
        )

    def read_certificate(self, certificate_id: str) -> StoredCertificate | None:
        """Read a certificate; ``None`` if there is none that can be read, or not its key."""
        path = self.certificate_path(certificate_id)
        data = self.read(path)
        chain = read_chain(data) if data else ()
        if not data or not chain or chain[0] is None or not _has_key(data):
            return None
        digest = hashlib.sha256(data).hexdigest()
        return StoredCertificate(fingerprint=digest, facts=chain[0])

    def write_certificate(self, certificate_id: str, pem: bytes) -> None:
        """Replace the key and the chain, together."""
        self._write(self.certificate_path(certificate_id), pem)

    def write_challenge(self, kind: str, name: str, answer: bytes) -> None:
        self._write(self.challenge_path(kind, name), answer)

    def read_challenge(self, kind: str, name: str) -> bytes | None:
        return self.read(self.challenge_path(kind, name), most=_MAX_CHALLENGE_SIZE)

    def read_challenges(self) -> Iterator[tuple[str, str, bytes]]:
        """Yield the kind, the name and the content of each answer that is given now."""
        for kind in CHALLENGES:
            try:
                names = sorted(os.listdir(self.folder / "challenges" / kind))  # noqa: PTH208
            except FileNotFoundError:
                continue
            for name in filter(_NAME.fullmatch, names):
                if (data := self.read_challenge(kind, name)) is not None:
                    yield kind, name, data

    def remove_challenge(self, kind: str, name: str) -> None:
        self.challenge_path(kind, name).unlink(missing_ok=True)

    def clear_challenges(self) -> None:
        """Remove what a killed process has left; only with the lock."""
        for kind in CHALLENGES:
            with suppress(FileNotFoundError):
                for path in (self.folder / "challenges" / kind).iterdir():
                    path.unlink(missing_ok=True)

    # Files.

    def check_writable(self) -> None:
        """Raise OSError if what an authority will issue could not be stored."""
        for name in _FOLDERS:
            folder = self.folder / name
            folder.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(_MAX_CHALLENGE_SIZE))

    def read(self, path: Path, *, most: int = _MAX_SIZE) -> bytes | None:
        """Read a file; ``None`` if it does not exist, is too large or is not a file."""
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ELOOP, errno.ENOTDIR}:
                return None
            raise
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            with os.fdopen(handle, "rb", closefd=False) as file:
                data = file.read(most + 1)
        finally:
            os.close(handle)
        return data if len(data) <= most else None

    def _write(self, path: Path, data: bytes) -> None:
        for folder in (path.parent.parent, path.parent):
            if folder != self.folder.parent:
                folder.mkdir(mode=0o700, exist_ok=True)
        replace_file(path, data, mode=0o600)

    def _path(self, *parts: str) -> Path:
        for part in parts:
            if not _NAME.fullmatch(part):
                raise ValueError(part)
        return self.folder.joinpath(*parts)

    def _account_path(self, directory: str, kid: str) -> Path:
        digest = hashlib.sha256(f"{directory}\0{kid}".encode()).hexdigest()[:8]
        host = re.sub(r"[^A-Za-z0-9.-]", "_", urlsplit(directory).hostname or "directory")
        return self._path("accounts", f"{host}-{digest}.json")


def _has_key(pem: bytes) -> bool:
    # Imported here: processes that only need paths do not read certificates.
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, None)
        return key.public_key() == x509.load_pem_x509_certificate(pem).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make_passable(folder: Path) -> None:
    """Make the folders above, which the user of the service has to pass, whatever the umask is."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        try:
            one.mkdir()
        except FileExistsError:
            continue
        one.chmod(0o755)


def _claim(folder: Path, uid: int, gid: int) -> None:
    """Give a new or empty folder to the user; refuse one that is somebody else's."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except PermissionError:
        # Root without CAP_DAC_OVERRIDE, as in a unit of systemd: it is as it was left.
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == uid and not found.st_mode & 0o077:
            return
        raise
    try:
        found = os.fstat(handle)
        names = set(os.listdir(handle))  # noqa: PTH208 - the folder that was opened
        if found.st_uid != uid:
            if os.geteuid() != 0 or names - {"lost+found"}:
                raise ConfigError(
                    f"acme.storage is {folder}, which belongs to {_user(found.st_uid)}, and the"
                    f" service runs as {_user(uid)}",
                    f"chown -R {_user(uid)} {folder}",
                )
            os.fchown(handle, uid, gid)
        if found.st_mode & 0o077:
            if not names <= _OURS:
                raise ConfigError(
                    f"acme.storage is {folder}, which other users may enter and which has other"
                    " files",
                    "name a folder for it alone",
                )
            os.fchmod(handle, 0o700)
    finally:
        os.close(handle)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
