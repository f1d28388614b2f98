"""
PHP's ``ssl`` options, checked; ``docs/tls.md`` says what each does.

An option is honoured, or refused with the reason; none is passed over in silence. One that is
``None`` counts as left out.

Source:
    https://www.php.net/manual/en/context.ssl.php; RFC 8996.
"""

import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import ConfigError
from ..options import check_names, is_path
from .certificate import Pair

_PAIR = ("local_cert", "local_pk", "passphrase")

_HONOURED = (
    *_PAIR,
    *("SNI_enabled", "SNI_server_certs"),
    *("verify_peer", "cafile", "capath", "peer_fingerprint", "allow_self_signed"),
    *("min_proto_version", "max_proto_version", "ciphers", "security_level", "alpn_protocols"),
    *("honor_cipher_order", "no_ticket", "dh_param", "ecdh_curve"),
    "acme",  # see gateman.acme.options
    # Any limit is kept where nothing is allowed: OP_NO_RENEGOTIATION is set.
    *("reneg_limit", "reneg_window"),
)

# The only value that is true here, and why.
_FIXED: dict[str, tuple[bool, str]] = {
    "disable_compression": (True, "compression under TLS betrays secrets (CRIME) and is off"),
    "single_dh_use": (True, "OpenSSL makes a new key for every connection in any case"),
    "verify_peer_name": (False, "a client's certificate has no host name to compare"),
    "capture_peer_cert": (False, "there is no stream context that could keep the certificate"),
    "capture_peer_cert_chain": (False, "there is no stream context that could keep the chain"),
}

# Why not, and what to do instead.
_REFUSED: dict[str, tuple[str, str]] = {
    "verify_depth": (
        "Python's ssl module cannot limit the length of a client's chain",
        "leave it out, and let the authority limit it (basicConstraints, pathlen)",
    ),
    "peer_name": (
        "a server does not know the name of its client",
        "leave it out; peer_fingerprint names one certificate",
    ),
    "crypto_method": (
        "an accepting socket has no use for it (Workerman ignores it)",
        "use min_proto_version and max_proto_version",
    ),
    "reneg_limit_callback": (
        "it would never be called: clients may not renegotiate",
        "leave it out",
    ),
}

# STREAM_CRYPTO_PROTO_* of PHP, OpenSSL's names, and Python's own.
_VERSIONS: dict[int | str, ssl.TLSVersion] = {
    **dict.fromkeys((8, "TLSv1.0", "TLSv1", ssl.TLSVersion.TLSv1), ssl.TLSVersion.TLSv1),
    **dict.fromkeys((16, "TLSv1.1", ssl.TLSVersion.TLSv1_1), ssl.TLSVersion.TLSv1_1),
    **dict.fromkeys((32, "TLSv1.2", ssl.TLSVersion.TLSv1_2), ssl.TLSVersion.TLSv1_2),
    **dict.fromkeys((64, "TLSv1.3", ssl.TLSVersion.TLSv1_3), ssl.TLSVersion.TLSv1_3),
}


class Options:
    """A mapping of options that a user wrote: every reader refuses a value of the wrong type."""

    # No sentence shows a value of free text: it may be a passphrase.
    def __init__(self, values: object, *, where: str, known: Sequence[str], folder: Path) -> None:
        if not isinstance(values, Mapping):
            raise ConfigError(
                f"{where} is not a mapping of options but of type {type(values).__name__}",
                f"write {{'{known[0]}': …}}",
            )
        check_names(f"option of {where}", values, known)
        self.where = where
        self.folder = folder
        self._values = {name: value for name, value in values.items() if value is not None}

    @classmethod
    def of_server(cls, values: object, *, folder: Path) -> "Options":
        """Take the options of a server, or raise a ConfigError."""
        options = cls(values, where="ssl", known=(*_HONOURED, *_FIXED, *_REFUSED), folder=folder)
        for name, (truth, reason) in _FIXED.items():
            if options.flag(name, default=truth) is not truth:
                raise options.refusal(name, f"cannot be {not truth}", f"leave it out, as {reason}")
        options.flag("SNI_enabled")
        for name in ("reneg_limit", "reneg_window"):
            if not isinstance(options.get(name) or 0, int):
                raise options.refusal(name, "is not a number", "leave it out: none is allowed")
        for name, (reason, remedy) in _REFUSED.items():
            if options.get(name) is not None:
                raise options.refusal(name, f"cannot be honoured, as {reason}", remedy)
        return options

    @classmethod
    def of_name(cls, value: object, *, name: str, folder: Path) -> "Options":
        """Take one value of ``SNI_server_certs``, or raise a ConfigError."""
        is_path = isinstance(value, (str, os.PathLike))
        return cls(
            {"local_cert": value} if is_path else value,
            where=f"ssl.SNI_server_certs[{name!r}]",
            known=_PAIR,
            folder=folder,
        )

    @property
    def given(self) -> frozenset[str]:
        return frozenset(self._values)

    def get(self, name: str) -> object:
        """Read an option of any type; ``None`` if left out."""
        return self._values.get(name)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Read an option that is true or false; 0 and 1 are taken too."""
        value = self._values.get(name, default)
        # PHP takes "no" for true; a security option must not be read that way.
        if not isinstance(value, int) or value not in {0, 1}:
            raise self.refusal(name, "is neither True nor False", "write one of them")
        return bool(value)

    def text(self, name: str) -> str | None:
        """Read an option that is text; ``None`` if left out."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, str):
            raise self.refusal(name, "is not text", "put it between quotes")
        return value

    def path(self, name: str) -> Path | None:
        """Read an option that names a file or folder; absolute; ``None`` if left out."""
        value = self._values.get(name)
        if value is None:
            return None
        if value == "":
            raise self.refusal(name, "is empty", "write a file's path, or leave it out")
        if not is_path(value):
            raise self.refusal(name, "is not a path", "write a file's path between quotes")
        return self.folder / Path(str(value))

    def version(self, name: str, default: ssl.TLSVersion) -> ssl.TLSVersion:
        value = self._values.get(name)
        if value is None:
            return default
        version = _VERSIONS.get(value) if isinstance(value, (int, str)) else None
        if version is None:
            raise self.refusal(
                name, "is not a version of TLS that OpenSSL has", "write TLSv1.2 or TLSv1.3"
            )
        return version

    def pair(self) -> Pair:
        path = self.path("local_cert")
        if path is None:
            raise ConfigError(
                f"{self.where} has no local_cert", "give the path of the certificate and its chain"
            )
        return Pair(
            option=f"{self.where}.local_cert",
            path=path,
            key_option=f"{self.where}.local_pk",
            key_path=self.path("local_pk") or path,
            passphrase=self.text("passphrase"),
        )

    def refusal(self, name: str, problem: str, remedy: str) -> ConfigError:
        """Build the error for an option whose value cannot be."""
        return ConfigError(f"{self.where}.{name} {problem}", remedy)
