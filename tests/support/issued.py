"""Certificates that appear while a server runs: their files, written in one step."""

import ssl
from datetime import datetime
from pathlib import Path

from gateman.tls.contexts import TlsContexts
from gateman.tls.issued import IssuedCertificate

from .certificates import Authority


def declared(folder: Path, *names: str) -> IssuedCertificate:
    """Declare the certificate of names, in a file that may not exist yet."""
    return IssuedCertificate(
        path=folder / f"{names[0]}.issued",
        names=names,
        challenges={name: folder / f"{name}.challenge" for name in names},
    )


def issue(
    authority: Authority,
    path: Path,
    *names: str,
    starts_at: datetime | None = None,
    expires_at: datetime | None = None,
) -> None:
    """Put a key and a certificate into one file, in one step."""
    path.parent.mkdir(exist_ok=True)
    issued = authority.issue(
        path.parent, *names, stem="draft", starts_at=starts_at, expires_at=expires_at
    )
    issued.certificate.write_bytes(issued.key.read_bytes() + issued.certificate.read_bytes())
    issued.certificate.replace(path)


def contexts_of(*issued: IssuedCertificate, **options: object) -> TlsContexts:
    return TlsContexts.load(options, now=0.0, issued=issued)


def asking_authority() -> ssl.SSLContext:
    """The context of an authority that asks for the answer to a challenge (RFC 8737)."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.set_alpn_protocols(["acme-tls/1"])
    return client
