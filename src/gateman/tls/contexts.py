"""
The TLS contexts of a server: one for each name that has a certificate.

The acceptor reads the name in the ClientHello before TLS starts, and selects the context.
``sni_callback`` is never used: under aiofastnet it ends the process with a segmentation fault.
"""

import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from msgspec import Struct
from msgspec.structs import replace

from ..errors import ConfigError
from ..findings import Finding, Severity
from . import certificate, client_certificates
from .certificate import Pair, ServerCertificate
from .certificate_findings import (
    is_about_dates,
    is_usable_key,
    judge,
    misplaced,
    why_refused,
)
from .domain_names import is_named, wire_name
from .failures import Offer, explain, is_about_trust
from .issued import ALPN_PROTOCOL, IssuedCertificate, IssuedContexts, Served, TakeUp
from .ssl_context import make_context, notes, versions
from .ssl_options import Options

_DEFAULT = ""  # no name that a client could ask for

_REFUSED = frozenset(
    {"CERTIFICATE_EXPIRED", "CERTIFICATE_NOT_VALID_YET", "CERTIFICATE_WITHOUT_NAMES"}
)


class _Loaded(Struct, frozen=True, kw_only=True):
    """The result of reading the files once; always replaced as a whole."""

    default: Served | None  # None if all certificates are issued while the service runs
    by_name: Mapping[str, Served]
    pins: Mapping[str, str]
    offer: Offer
    files: tuple[Path, ...]
    warnings: tuple[str, ...]

    @property
    def all(self) -> dict[str, Served]:
        default = {} if self.default is None else {_DEFAULT: self.default}
        return {**default, **self.by_name}


class TlsContexts:
    """The TLS of a server: a context for each name, and what was found in the files."""

    # A client resumes its session by ticket, under TLS 1.2 and 1.3, if it comes to the same process
    # and name, and no reload was between.
    def __init__(
        self,
        options: Mapping[str, object],
        folder: Path,
        loaded: _Loaded,
        issued: IssuedContexts | None,
    ) -> None:
        self._options = options
        self._folder = folder
        self._loaded = loaded
        self._issued = issued
        # Called when `take_up` has put a certificate in service.
        self.on_taken_up: Callable[[], None] | None = None

    @classmethod
    def load(
        cls,
        options: Mapping[str, object],
        *,
        now: float,
        issued: Sequence[IssuedCertificate] = (),
    ) -> Self:
        """Read certificates, make contexts; what is wrong but served is in ``warnings``."""
        folder = Path.cwd()
        loaded = _load(options, folder, now, has_issued=bool(issued))
        return cls(dict(options), folder, loaded, IssuedContexts(issued) if issued else None)

    def reload(self, *, now: float) -> None:
        """Put the files in service anew, from the next `select` on, or change nothing and raise."""
        # Issued certificates are `take_up`'s, which reads all of them if `is_anew`.
        # The contexts are new ones. A live one keeps a certificate for each type of key, so it
        # would serve the old beside a successor of another type; and it never forgets an authority.
        # Connections keep what they were accepted with; sessions from before do one full handshake.
        loaded = _load(self._options, self._folder, now, has_issued=self._issued is not None)
        for name, served in loaded.all.items():
            old = self._loaded.all.get(name)
            if old is None or not old.certificate.is_valid(now):
                continue
            for finding in served.certificate.findings:
                if finding.code == "CERTIFICATE_NOT_VALID_YET":
                    raise ConfigError(finding.problem, finding.fix)
        self._loaded = loaded

    def take_up(self, *, now: float, is_anew: bool = False) -> list[TakeUp]:
        """Put issued certificates in service whose files have appeared or changed, or all anew."""
        if self._issued is None:
            return []
        found = self._issued.take_up(self._make_context, now=now, is_anew=is_anew)
        if self.on_taken_up is not None and any(not one.problem for one in found):
            self.on_taken_up()
        return found

    def _make_context(self, pair: Pair) -> ssl.SSLContext:
        return make_context(Options.of_server(self._options, folder=self._folder), pair)

    @property
    def is_pending(self) -> bool:
        """Whether a certificate was not issued yet, so that its clients wait."""
        return self._issued is not None and self._issued.is_pending

    def select(self, server_name: str | None) -> ssl.SSLContext | None:
        """Choose the context for a ClientHello (RFC 6066, section 3; RFC 6125, section 6.4.3)."""
        # None: its certificate was not issued yet.
        served = self._serve(server_name)
        return None if served is None else served.context

    def challenge(self, server_name: str | None) -> ssl.SSLContext | None:
        """Make the context for a ClientHello whose only protocol is ``acme-tls/1`` (RFC 8737)."""
        return None if self._issued is None else self._issued.challenge(server_name)

    def is_challenge(self, alpn: tuple[str, ...]) -> bool:
        """Whether an authority asks for the answer to a challenge; see :meth:`challenge`."""
        return self._issued is not None and alpn == (ALPN_PROTOCOL,)

    def _serve(self, server_name: str | None) -> Served | None:
        issued = self._issued
        if issued is None:
            return self._of_file(server_name)
        name = None if server_name is None else server_name.lower().removesuffix(".")
        is_declared, served = issued.find(name)
        of_file = self._of_file(name)
        if not is_declared:
            return of_file or issued.default
        if served is not None or of_file is None:
            return served
        # Until then the certificate of before may do.
        leaf = of_file.certificate.chain[0] if of_file.certificate.chain else None
        if leaf is not None and (leaf.addresses if name is None else is_named(name, leaf.names)):
            return of_file
        return None

    def _of_file(self, server_name: str | None) -> Served | None:
        loaded = self._loaded
        if server_name is None or not loaded.by_name:
            return loaded.default
        name = server_name.lower().removesuffix(".")
        exact = loaded.by_name.get(name)
        if exact is not None:
            return exact
        label, _, parent = name.partition(".")
        return loaded.by_name.get(f"*.{parent}", loaded.default) if label else loaded.default

    def explain(self, error: OSError, server_name: str | None) -> tuple[str, str]:
        offer = self._loaded.offer
        served = self._serve(server_name)
        chain = () if served is None else served.certificate.chain
        if chain and chain[0] is not None and not is_usable_key(chain[0]):
            offer = replace(offer, key=chain[0].key)
        # A client that does not trust the authority has not compared the names.
        doubt = self.doubt(server_name, is_about_trust=is_about_trust(error))
        return explain(error, offer, doubt)

    def doubt(self, server_name: str | None, *, is_about_trust: bool = False) -> Finding | None:
        """Return why a client may have refused its certificate."""
        served = self._serve(server_name)
        if served is None:
            return None
        shown = served.certificate
        return why_refused(
            shown.chain,
            server_name=server_name,
            now=time.time(),
            name=shown.name,
            is_about_trust=is_about_trust,
        )

    @property
    def checks_peers(self) -> bool:
        """Whether :meth:`check_peer` may refuse a client."""
        return bool(self._loaded.pins)

    def check_peer(self, der: bytes | None) -> bool:
        """Return whether a client's certificate is accepted, after its TLS handshake."""
        return client_certificates.is_pinned(der, self._loaded.pins)

    def warnings_of_dates(self, *, now: float) -> tuple[str, ...]:
        """Warnings that became true since the files were read; sentences without a full stop."""
        return tuple(
            str(finding)
            for one in self._of_files
            for finding in judge(one.chain, now=now, name=one.name)
            if is_about_dates(finding)
        )

    @property
    def certificates(self) -> tuple[ServerCertificate, ...]:
        """The certificates in service, ``local_cert`` first."""
        issued = () if self._issued is None else self._issued.served
        return (*self._of_files, *(served.certificate for served in issued))

    @property
    def _of_files(self) -> tuple[ServerCertificate, ...]:
        # The process that orders certificates reports what is wrong with them.
        return tuple(served.certificate for served in self._loaded.all.values())

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that were read: absolute, links not followed. To be watched for a reload."""
        return self._loaded.files

    @property
    def warnings(self) -> tuple[str, ...]:
        """Problems, now or soon: sentences without a full stop."""
        return (*self._loaded.warnings, *self._sentences(Severity.CAUSE, Severity.WARNING))

    @property
    def notes(self) -> tuple[str, ...]:
        """Possible improvements: sentences without a full stop."""
        return self._sentences(Severity.NOTE)

    @property
    def is_refused(self) -> bool:
        """Whether browsers refuse one of the certificates, whatever they were told to trust."""
        return any(
            finding.severity is Severity.CAUSE and finding.code in _REFUSED
            for certificate in self.certificates
            for finding in certificate.findings
        )

    def _sentences(self, *severities: Severity) -> tuple[str, ...]:
        return tuple(
            str(finding)
            for certificate in self._of_files
            for finding in certificate.findings
            if finding.severity in severities
        )


def _load(values: Mapping[str, object], folder: Path, now: float, *, has_issued: bool) -> _Loaded:
    options = Options.of_server(values, folder=folder)
    pairs = _named_pairs(options)
    if not has_issued or options.get("local_cert") is not None:
        pairs = {_DEFAULT: options.pair(), **pairs}
    elif not pairs:
        # What is wrong with an option is said before there is a certificate.
        make_context(options, None)
    served: dict[str, Served] = {}
    for name, pair in pairs.items():
        # OpenSSL first: only what it refuses is refused.
        context = make_context(options, pair)
        found = certificate.inspect(pair, now=now)
        misplacement = misplaced(found.chain, asked=name, name=found.name) if name else None
        if misplacement is not None:
            found = replace(found, findings=(misplacement, *found.findings))
        served[name] = Served(context=context, certificate=found)
    files = [path for pair in pairs.values() for path in (pair.path, pair.key_path)]
    files += [path for name in ("cafile", "dh_param") if (path := options.path(name))]
    oldest, newest = versions(options)
    return _Loaded(
        default=served.get(_DEFAULT),
        by_name={name: one for name, one in served.items() if name != _DEFAULT},
        pins=client_certificates.pins(options),
        offer=Offer(oldest=oldest, newest=newest, options=options.given),
        files=tuple(dict.fromkeys(files)),
        warnings=tuple(notes(options)),
    )


def _named_pairs(options: Options) -> dict[str, Pair]:
    values = options.get("SNI_server_certs")
    if values is None or not options.flag("SNI_enabled", default=True):
        return {}
    if not isinstance(values, Mapping):
        raise options.refusal(
            "SNI_server_certs",
            "is not a mapping of names to certificates",
            "write {'NAME': 'FILE'}",
        )
    pairs: dict[str, Pair] = {}
    for name, value in values.items():
        spelled = wire_name(name)
        if spelled is None:
            raise options.refusal(
                f"SNI_server_certs[{name!r}]",
                "is for no name that a client could ask for",
                "write a domain as example.com, *.example.com or xn--mnchen-3ya.example",
            )
        if spelled in pairs:
            raise options.refusal(
                f"SNI_server_certs[{name!r}]", "is there twice", "keep one of them"
            )
        pairs[spelled] = Options.of_name(value, name=name, folder=options.folder).pair()
    return pairs
