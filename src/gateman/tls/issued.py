"""
Certificates that are ordered while the service runs: their files appear and change by themselves.

A file that cannot serve, such as one that has expired or lacks a name, never replaces the
certificate in service. As long as a name has none, its clients have to wait.
"""

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError
from . import certificate
from .certificate import Pair, ServerCertificate
from .domain_names import is_address, is_named

ALPN_PROTOCOL = "acme-tls/1"
"""What an authority offers, and nothing else, to see the answer to a challenge (RFC 8737)."""

# A key and three certificates have 8 KiB; larger files are somebody's mistake.
_MAX_FILE_SIZE = 256 << 10  # bytes

Mark = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuedCertificate:
    """Where the certificate of some names is, once it is issued."""

    path: Path  # PEM: the private key, then the certificate with its chain
    names: tuple[str, ...]  # IP addresses, and domains as clients spell them; ``*.`` is one label
    # The file that answers the challenge for each name that the authority asks for; an IP address
    # has its reverse name (RFC 8738). PEM, the private key included.
    challenges: Mapping[str, Path]


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """The context and the certificate of one name."""

    context: ssl.SSLContext
    certificate: ServerCertificate


@dataclass(frozen=True, kw_only=True, slots=True)
class TakeUp:
    """A file that has appeared or changed, and whether it is in service now."""

    path: Path
    problem: str = ""  # why not; a sentence without a full stop


class IssuedContexts:
    """The contexts of such certificates; nothing is read before the first `take_up`."""

    def __init__(self, declared: Sequence[IssuedCertificate]) -> None:
        self._declared = declared
        self._taken_up: dict[Path, Mark] = {}
        # Of the last look at each file, so that each is told once.
        self._problems: dict[Path, str] = {}
        self._by_path: dict[Path, Served] = {}
        self._names = {name for one in declared for name in one.names}
        # By the declared names that it is for.
        self._by_name: dict[str, Served] = {}
        self._addresses = [name for one in declared for name in one.names if is_address(name)]
        self._challenges = {name: path for one in declared for name, path in one.challenges.items()}
        self._answers: dict[str, tuple[Mark, ssl.SSLContext]] = {}

    def take_up(
        self, make: Callable[[Pair], ssl.SSLContext], *, now: float, is_anew: bool = False
    ) -> list[TakeUp]:
        """Put each file in service that has appeared or changed; all of them if ``is_anew``."""
        found: list[TakeUp] = []
        for one in self._declared:
            # Before it is read: what changes meanwhile is looked at once more.
            mark = mark_of(one.path)
            if mark is None or (mark == self._taken_up.get(one.path) and not is_anew):
                continue
            problem = ""
            try:
                served = _load(one, mark, make, now)
                names = self._check_names(one, served)
            except ConfigError as error:
                # The same file may do later: with other rights, or when the clock is set.
                problem = f"{error}".removesuffix(".")
            else:
                self._taken_up[one.path] = mark
                self._by_path[one.path] = served
                self._by_name.update(dict.fromkeys(names, served))
            if problem != self._problems.get(one.path) or not problem:
                found.append(TakeUp(path=one.path, problem=problem))
            self._problems[one.path] = problem
        return found

    def _check_names(self, declared: IssuedCertificate, served: Served) -> list[str]:
        """Return the declared names that a certificate is for; not fewer than the one before."""
        names = [name for name in declared.names if _is_for(served.certificate, name)]
        # Until a name that was added has been ordered, the certificate lacks it.
        lost = [name for name in declared.names if name in self._by_name and name not in names]
        if lost or not names:
            name = (lost or declared.names)[0]
            raise ConfigError(
                f"the certificate in {declared.path} is not for {name}", "let a new one be issued"
            )
        return names

    @property
    def is_pending(self) -> bool:
        """Whether a name has no certificate yet."""
        return len(self._by_name) < len(self._names)

    @property
    def default(self) -> Served | None:
        """The first one that is declared, if it was issued."""
        return self._by_path.get(self._declared[0].path)

    @property
    def served(self) -> tuple[Served, ...]:
        return tuple(self._by_path[one.path] for one in self._declared if one.path in self._by_path)

    def find(self, server_name: str | None) -> tuple[bool, Served | None]:
        """Return whether a name is declared, and its certificate if that was issued."""
        name = self._key(server_name)
        return (False, None) if name is None else (True, self._by_name.get(name))

    def _key(self, server_name: str | None) -> str | None:
        if server_name is None:
            # Clients that connect by an address ask for no name.
            return next(iter(self._addresses), None)
        if server_name in self._names:
            return server_name
        label, _, parent = server_name.partition(".")
        wildcard = f"*.{parent}"
        return wildcard if label and wildcard in self._names else None

    def challenge(self, server_name: str | None) -> ssl.SSLContext | None:
        """Make the context that answers an authority's challenge; ``None`` if there is none now."""
        # The name only selects one of the declared paths.
        path = self._challenges.get(server_name or "")
        mark = None if path is None else mark_of(path)
        if server_name is None or path is None or mark is None or mark[2] > _MAX_FILE_SIZE:
            self._answers.pop(server_name or "", None)
            return None
        known = self._answers.get(server_name)
        if known is not None and known[0] == mark:
            return known[1]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols([ALPN_PROTOCOL])
        context.num_tickets = 0
        try:
            context.load_cert_chain(path)
        except OSError:
            return None
        self._answers[server_name] = (mark, context)
        return context


def mark_of(path: Path) -> Mark | None:
    """Return what changes with each version of a file; links are followed."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _load(
    declared: IssuedCertificate, mark: Mark, make: Callable[[Pair], ssl.SSLContext], now: float
) -> Served:
    option, path = "ssl.acme", declared.path
    if mark[2] > _MAX_FILE_SIZE:
        raise ConfigError(f"{path} is too large for a certificate", "remove it: a new one is made")
    pair = Pair(option=option, path=path, key_option=option, key_path=path, passphrase=None)
    context = make(pair)
    found = certificate.inspect(pair, now=now)
    leaf = found.chain[0] if found.chain else None
    if leaf is None:
        raise ConfigError(f"the certificate in {path} cannot be read", "remove it")
    # One that begins in the future is right: it is this machine's clock that is behind.
    if leaf.expires_at <= now:
        raise ConfigError(f"the certificate in {path} has expired", "let a new one be issued")
    return Served(context=context, certificate=found)


def _is_for(served: ServerCertificate, name: str) -> bool:
    leaf = served.chain[0]
    if leaf is None:
        return False
    if is_address(name):
        return name in leaf.addresses
    # A wildcard does not cover another wildcard's own label.
    return is_named(name.replace("*", "any", 1), leaf.names)
