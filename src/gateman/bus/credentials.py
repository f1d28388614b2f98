"""
The login at a NATS server: a user with a password, a token, an nkey, or a credentials file.

Secrets stay in their files, which are read again for each connection, so they can be
changed while a service runs. No secret is in a ``repr``, an error or a log.

Source:
    https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro
"""

import base64
import re
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ..errors import ConfigError

# The first bytes of an nkey: a seed ('S') of a user ('U'), and a user's public key.
_SEED_PREFIX = 18 << 3
_USER_PREFIX = 20 << 3

# Prefix, key and check sum.
_SEED_SIZE = 2 + 32 + 2

_JWT = re.compile(r"-+BEGIN NATS USER JWT-+\s+(\S+)\s+-+END NATS USER JWT-+")
_SEED = re.compile(r"-+BEGIN USER NKEY SEED-+\s+(\S+)\s+-+END USER NKEY SEED-+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """At most one way to log in: user and password, token, credentials file, or nkey file."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    creds: Path | None = None
    nkey: Path | None = None

    def __post_init__(self) -> None:
        given = [self.user or self.password, self.token, self.creds, self.nkey]
        if sum(map(bool, given)) > 1:
            raise ConfigError(
                "the bus has several logins",
                "give a user and password, or token=, or creds=, or nkey=",
            )

    @property
    def has_secret(self) -> bool:
        """Whether the login contains a secret that can be used again if it is read."""
        return bool(self.password or self.token)

    def check(self) -> None:
        """Read the file, if there is one; raises ConfigError."""
        self.answer("")

    def answer(self, nonce: str) -> dict[str, str]:
        """Make the login fields of CONNECT; raises ConfigError for a bad file."""
        if self.creds is not None:
            text = _read(self.creds)
            jwt, seed = _JWT.search(text), _SEED.search(text)
            if jwt is None or seed is None:
                raise ConfigError(
                    f"{self.creds} is not a credentials file of NATS",
                    "`nsc generate creds` makes one, with a JWT and an nkey seed",
                )
            return {"jwt": jwt[1], "sig": _sign(_key(seed[1], self.creds), nonce)}
        if self.nkey is not None:
            key = _key(_read(self.nkey).strip(), self.nkey)
            return {"nkey": public_nkey(key), "sig": _sign(key, nonce)}
        if self.token:
            return {"auth_token": self.token}
        if self.user or self.password:
            return {"user": self.user, "pass": self.password}
        return {}


def public_nkey(key: Ed25519PrivateKey, prefix: int = _USER_PREFIX) -> str:
    """Encode a public key as NATS does."""
    data = bytes([prefix]) + key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.b32encode(data + _check_sum(data)).decode().rstrip("=")


def _key(seed: str, path: Path) -> Ed25519PrivateKey:
    try:
        data = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except ValueError:
        data = b""
    # The first two bytes hold two prefixes of five bits, that of a seed and that of its owner.
    is_seed = (
        len(data) == _SEED_SIZE
        and data[0] & 0xF8 == _SEED_PREFIX
        and (data[0] & 0x07) << 5 | data[1] >> 3 == _USER_PREFIX
        and data[-2:] == _check_sum(data[:-2])
    )
    if not is_seed:
        raise ConfigError(f"{path} does not contain the seed of a user's nkey", "it begins with SU")
    return Ed25519PrivateKey.from_private_bytes(data[2:-2])


def _sign(key: Ed25519PrivateKey, nonce: str) -> str:
    return base64.urlsafe_b64encode(key.sign(nonce.encode())).decode().rstrip("=")


def _check_sum(data: bytes) -> bytes:
    """Compute the CRC-16 of XMODEM, the low byte first."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021) & 0xFFFF if crc & 0x8000 else crc << 1
    return crc.to_bytes(2, "little")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"{path} cannot be read", (reason or "").lower()) from None
