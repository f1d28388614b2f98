"""What tests with SDK clients share: a driver for each language, and clients of each kind."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.sdk import DRIVERS, KINDS, NAMES, Driver, Kind, SdkClient


@pytest.fixture(scope="session")
def started() -> dict[str, Driver]:
    """Hold the drivers that run."""
    return {}


@pytest.fixture(autouse=True)
def _end_clients(started: dict[str, Driver]) -> Iterator[None]:
    yield
    for driver in started.values():
        driver.disconnect_all()


@pytest.fixture(scope="session")
def drivers(started: dict[str, Driver]) -> Iterator[Callable[[str], Driver]]:
    """Run a driver for each language, from when a test needs it."""
    with ExitStack() as stack:

        def driver(name: str) -> Driver:
            if name not in started:
                started[name] = stack.enter_context(DRIVERS[name]())
            return started[name]

        yield driver


class Clients:
    """
    Makes clients of one kind.

    Attributes:
        kind: Their kind.
    """

    def __init__(self, driver: Driver, kind: Kind) -> None:
        self.kind = kind
        self._driver = driver

    def idle(self, url: str, **options: object) -> SdkClient:
        """Make one that is not connected."""
        return self._driver.client(url, **self.kind.options, **options)

    def connected(self, url: str, **options: object) -> SdkClient:
        """Make one that is."""
        client = self.idle(url, **options)
        client.connect()
        return client


@pytest.fixture(params=KINDS, ids=NAMES)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Run the test with each SDK and each encoding."""
    found: Kind = request.param
    return found


@pytest.fixture
def of_kind(kind: Kind, drivers: Callable[[str], Driver]) -> Clients:
    """Make clients of each kind."""
    return Clients(drivers(kind.name), kind)


@pytest.fixture
def room(request: pytest.FixtureRequest) -> str:
    """Name something that no other test has."""
    return f"{request.node.name}".translate({ord("["): "-", ord("]"): None})
