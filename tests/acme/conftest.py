"""What the tests of orders share: one authority, and a server that answers its challenges."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateman.acme.options import AcmeOptions, parse
from gateman.acme.storage import Storage
from tests.support.altered_authority import AlteredAuthority, altered_authority
from tests.support.challenge_server import ChallengeServer, challenge_server
from tests.support.pebble import Pebble, pebble


@pytest.fixture(scope="session")
def answering() -> Iterator[ChallengeServer]:
    with challenge_server() as server:
        yield server


@pytest.fixture(scope="session")
def authority(
    tmp_path_factory: pytest.TempPathFactory, answering: ChallengeServer
) -> Iterator[Pebble]:
    folder = tmp_path_factory.mktemp("pebble")
    ports = {"tls_port": answering.tls_port, "http_port": answering.http_port}
    with pebble(folder, **ports) as server:
        yield server


@pytest.fixture
def altered(tmp_path: Path, authority: Pebble) -> Iterator[AlteredAuthority]:
    with altered_authority(tmp_path, authority) as proxy:
        yield proxy


@pytest.fixture
def storage(tmp_path: Path, answering: ChallengeServer) -> Iterator[Storage]:
    """An empty storage, which the server answers from."""
    folder = tmp_path / "acme"
    answering.storage = folder
    yield Storage.prepare(folder)
    answering.storage, answering.has_tls_alpn = None, True


Declare = Callable[..., AcmeOptions]


@pytest.fixture
def declare(tmp_path: Path, storage: Storage, authority: Pebble) -> Declare:
    """Declare one certificate of the authority; arguments are options of ``acme``."""

    def declared(*domains: str, **options: Any) -> AcmeOptions:
        given = {
            "domains": domains,
            "directory": authority.directory,
            "directory_cafile": str(authority.cafile),
            "storage": str(storage.folder),
            **options,
        }
        (found,) = parse(given, folder=tmp_path, default_storage=tmp_path)
        return found

    return declared
