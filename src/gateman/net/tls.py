"""
The contexts that connections are accepted with: one for each name that has a certificate.

The acceptor reads the name in the ClientHello before TLS starts, and selects the context.
``sni_callback`` is never used: under aiofastnet it ends the process with a segmentation fault.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from . import certificate, trust
from .certificate import Pair, ServerCertificate
from .domain_names import wire_name
from .ssl_context import make_context, notes
from .ssl_options import Options

_DEFAULT = ""  # no name that a client could ask for


@dataclass(frozen=True, kw_only=True, slots=True)
class _Loaded:
    """What one reading of the files gave; replaced as a whole, never in parts."""

    default: ssl.SSLContext
    by_name: Mapping[str, ssl.SSLContext]
    pins: Mapping[str, str]
    certificates: tuple[ServerCertificate, ...]
    files: tuple[Path, ...]
    warnings: tuple[str, ...]


class Contexts:
    """
    The TLS of a server: a context for each name, and what was found in the files.

    Made by :meth:`load`.

    Guarantees:
        A client resumes its session by ticket, under TLS 1.2 and 1.3, if it comes to the same
        process and name, and no reload was between.
    """

    def __init__(self, options: Mapping[str, object], folder: Path, loaded: _Loaded) -> None:
        self._options = options
        self._folder = folder
        self._loaded = loaded

    @classmethod
    def load(cls, options: Mapping[str, object], *, now: float) -> Self:
        """
        Read the certificates and make the contexts.

        Args:
            options: PHP's ``ssl`` options; :mod:`gateman.net.ssl_options` lists them. Relative
                paths start at the working directory of this moment, also at a reload.
            now: Wall-clock seconds since 1970.

        Returns:
            The contexts; their ``warnings`` are for the operator.

        Raises:
            ConfigError: An option that is unknown or cannot be honoured; a file that is
                missing, may not be read or is not PEM; a key that does not match or whose
                passphrase is wrong or missing; a certificate that is not valid yet. One that
                has expired is a warning, as some clients may still take it.
        """
        folder = Path.cwd()
        loaded = _load(options, folder, now)
        return cls(dict(options), folder, loaded)

    def reload(self, *, now: float) -> None:
        """
        Read all files anew and put them in service together.

        The contexts are new ones. A live one keeps a certificate for each type of key, so it
        would serve the old beside a successor of another type; and it never forgets an authority.

        Args:
            now: Wall-clock seconds since 1970.

        Raises:
            ConfigError: As :meth:`load`. Everything that was in service stays in service.

        Guarantees:
            Connections keep what they were accepted with; the next :meth:`select` has the new
            files. Sessions from before do one full handshake.
        """
        self._loaded = _load(self._options, self._folder, now)

    def select(self, server_name: str | None) -> ssl.SSLContext:
        """
        Choose the context for a ClientHello.

        Args:
            server_name: The name that the client asks for, as it is on the wire; ``None`` if it
                asks for none.

        Returns:
            The context of exactly that name, else of the wildcard for its first label, else of
            ``local_cert``.

        Source:
            RFC 6066, section 3; RFC 6125, section 6.4.3.
        """
        loaded = self._loaded
        if server_name is None or not loaded.by_name:
            return loaded.default
        name = server_name.lower().removesuffix(".")
        exact = loaded.by_name.get(name)
        if exact is not None:
            return exact
        label, _, parent = name.partition(".")
        return loaded.by_name.get(f"*.{parent}", loaded.default) if label else loaded.default

    def check_peer(self, der: bytes | None) -> bool:
        """
        Tell whether a client may stay, once its handshake is done.

        Args:
            der: The certificate that the client showed, ``None`` if none. A resumed session has
                it too.

        Returns:
            False if ``peer_fingerprint`` is set and is not that of the certificate.
        """
        return trust.is_pinned(der, self._loaded.pins)

    @property
    def certificates(self) -> tuple[ServerCertificate, ...]:
        """The certificates in service, ``local_cert`` first."""
        return self._loaded.certificates

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that were read: absolute, links not followed. To be watched for a reload."""
        return self._loaded.files

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the operator should know: sentences without a full stop."""
        return self._loaded.warnings


def _load(values: Mapping[str, object], folder: Path, now: float) -> _Loaded:
    options = Options.of_server(values, folder=folder)
    sentences = notes(options)
    certificates: list[ServerCertificate] = []
    contexts: dict[str, ssl.SSLContext] = {}
    pairs = {_DEFAULT: options.pair(), **_named_pairs(options)}
    for name, pair in pairs.items():
        found, expired = certificate.inspect(pair, now=now)
        contexts[name] = make_context(options, pair)
        certificates.append(found)
        sentences += expired
    files = [path for pair in pairs.values() for path in (pair.path, pair.key_path)]
    files += [path for name in ("cafile", "dh_param") if (path := options.path(name))]
    return _Loaded(
        default=contexts.pop(_DEFAULT),
        by_name=contexts,
        pins=trust.pins(options),
        certificates=tuple(certificates),
        files=tuple(dict.fromkeys(files)),
        warnings=tuple(sentences),
    )


def _named_pairs(options: Options) -> dict[str, Pair]:
    values = options.get("SNI_server_certs")
    if values is None or not options.flag("SNI_enabled", default=True):
        return {}
    if not isinstance(values, Mapping):
        raise options.refusal(
            "SNI_server_certs", "is no mapping of names to certificates", "write {'NAME': 'FILE'}"
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
