"""The listening sockets of a worker: opened, shared, closed and opened again by its master."""

import os
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateman import BusinessWorker, ConfigError, Worker
from gateman.config.worker import settings_of
from gateman.errors import AddressInUse
from gateman.master.listeners import Listeners
from gateman.master.plan import WorkerPlan, policy_of
from gateman.master.privileges import Identity
from tests.support.server import needs_ipv6, ssl_options

NOBODY = Identity(user="nobody", uid=65534, gid=65534)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
spreads = pytest.mark.skipif(sys.platform != "linux", reason="only Linux spreads connections")


def planned(
    listen: str = "websocket://127.0.0.1:0",
    *,
    identity: Identity | None = None,
    context: dict[str, Any] | None = None,
    count: int = 2,
) -> WorkerPlan:
    """Declare a worker and check it."""
    worker = Worker(listen, context, count=count)
    settings = settings_of(worker, now=1.8e9)
    return WorkerPlan(worker=worker, settings=settings, policy=policy_of(worker), identity=identity)


def listens_nowhere(count: int) -> WorkerPlan:
    """Declare business workers and check them."""
    worker = BusinessWorker(count=count)
    return WorkerPlan(worker=worker, settings=None, policy=policy_of(worker), identity=None)


@contextmanager
def opened(listen: str = "websocket://127.0.0.1:0", **more: Any) -> Iterator[Listeners]:
    """Listen while the block runs."""
    listeners = Listeners(planned(listen, **more))
    listeners.open()
    try:
        yield listeners
    finally:
        listeners.close()


def port_of(listeners: Listeners) -> int:
    """Tell which port it listens on."""
    return int(listeners.urls[0].rpartition(":")[2])


def connects(port: int) -> bool:
    """Tell whether a client gets in."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


# Open and closed.


@spreads
def test_each_process_has_a_socket_of_its_own() -> None:
    """On one port, which the system may choose."""
    with opened(count=3) as listeners:
        ((one,), (two,), (three,)) = listeners.descriptors
        names = set()
        for fd in (one, two, three):
            with socket.socket(fileno=os.dup(fd)) as sock:
                names.add(sock.getsockname())

        assert len({one, two, three}) == 3
        assert names == {("127.0.0.1", port_of(listeners))}
        assert listeners.is_open
        assert not listeners.is_shared


def test_one_process_needs_no_sharing() -> None:
    """No other process accepts from its socket, so no other has to accept for it."""
    with opened(count=1) as listeners:
        assert len(listeners.descriptors) == 1
        assert listeners.is_shared


def test_nothing_is_open_before_and_after() -> None:
    """Clients are refused at once then, instead of waiting in vain."""
    listeners = Listeners(planned())

    assert (listeners.is_open, listeners.descriptors, listeners.urls) == (False, [], [])

    listeners.open()
    port = port_of(listeners)

    assert connects(port)

    listeners.close()

    assert not connects(port)
    assert (listeners.is_open, listeners.descriptors, listeners.urls) == (False, [], [])

    listeners.close()


def test_a_port_that_the_system_chose_stays() -> None:
    """A worker that was given up and is revived has the same address."""
    with opened() as listeners:
        urls = listeners.urls
        listeners.close()
        listeners.open()

        assert listeners.urls == urls
        assert connects(port_of(listeners))


# Where clients connect to.


@needs_ipv6
@pytest.mark.parametrize(
    ("listen", "host"),
    [("websocket://127.0.0.1:0", "127.0.0.1"), ("websocket://[::1]:0", "[::1]")],
)
@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
def test_urls(listen: str, host: str, *, secure: bool) -> None:
    """They can be pasted into a client."""
    context = {"ssl": ssl_options()} if secure else None
    scheme = "wss" if secure else "ws"
    with opened(listen.replace("websocket", scheme), context=context) as listeners:
        (url,) = listeners.urls

        assert url.rpartition(":")[0] == f"{scheme}://{host}"
        assert connects(port_of(listeners)) is (host == "127.0.0.1")


@needs_ipv6
def test_a_name_is_each_of_its_addresses() -> None:
    """``localhost`` is listened for twice where it has two addresses, for each process."""
    with opened("websocket://localhost:0") as listeners:
        assert {url.rpartition(":")[2] for url in listeners.urls} == {str(port_of(listeners))}
        assert [len(sockets) for sockets in listeners.descriptors] == [len(listeners.urls)] * 2


# Unix sockets.


def test_a_unix_socket_is_shared(tmp_path: Path) -> None:
    """The system cannot spread its clients, so all accept from one queue."""
    path = tmp_path / "chat.sock"
    with opened(f"websocket+unix://{path}") as listeners:
        (one, other) = listeners.descriptors

        assert one == other
        assert listeners.is_shared
        assert listeners.urls == [f"ws+unix://{path}"]
    assert not path.exists()


@needs_root
def test_a_unix_socket_belongs_to_the_worker_s_user(tmp_path: Path) -> None:
    """Its user and group may connect, other users may not; a proxy is put into the group."""
    path = tmp_path / "chat.sock"
    with opened(f"websocket+unix://{path}", identity=NOBODY):
        found = path.stat()

    assert (found.st_uid, found.st_gid) == (NOBODY.uid, NOBODY.gid)
    assert stat.S_IMODE(found.st_mode) == 0o660


def test_what_is_in_the_way_of_a_unix_socket_stays(tmp_path: Path) -> None:
    """A file that is not a socket belongs to a user; the socket of a killed master does not."""
    path = tmp_path / "chat.sock"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="a file that is not a socket is there: remove it"):
        Listeners(planned(f"websocket+unix://{path}")).open()
    assert path.read_text() == "precious"

    path.unlink()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with opened(f"websocket+unix://{path}"), socket.socket(socket.AF_UNIX) as client:
        assert client.connect_ex(str(path)) == 0


# Who has it already.


@pytest.mark.parametrize("count", [1, 2])
def test_a_port_that_another_program_has(count: int) -> None:
    """It is said at once, and the program keeps its clients."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(AddressInUse, match="the port is in use by another program"):
            Listeners(planned(f"websocket://127.0.0.1:{port}", count=count)).open()

        assert connects(port)


def test_the_heir_of_a_killed_master_waits_for_its_processes() -> None:
    """They let go of the port when they notice; the new master has it then."""
    other = socket.create_server(("127.0.0.1", 0))
    listeners = Listeners(planned(f"websocket://127.0.0.1:{other.getsockname()[1]}"))
    opening = threading.Thread(target=listeners.open, kwargs={"is_takeover": True})
    opening.start()
    try:
        # It waits: a port that is in use would have ended it otherwise.
        opening.join(0.1)

        assert opening.is_alive()
        assert not listeners.is_open
    finally:
        other.close()
        opening.join(10)

    assert listeners.is_open
    listeners.close()


def test_other_mistakes_are_not_waited_for() -> None:
    """An address that this machine does not have never comes."""
    with pytest.raises(ConfigError, match=r"'192\.0\.2\.1' is not an address of this machine"):
        # Reserved for documentation (RFC 5737): no machine has it.
        Listeners(planned("websocket://192.0.2.1:0")).open(is_takeover=True)


# What systemd made.


def test_passed_sockets_are_used_and_never_closed() -> None:
    """All processes share them; they are systemd's, which keeps clients waiting meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as passed:
        port = passed.getsockname()[1]
        listeners = Listeners(planned(f"websocket://127.0.0.1:{port}"))
        listeners.open([passed])

        assert listeners.descriptors == [[passed.fileno()]] * 2
        assert listeners.is_shared
        assert listeners.urls == [f"ws://127.0.0.1:{port}"]

        listeners.close()

        assert listeners.is_open
        assert connects(port)


def test_passed_sockets_of_others_are_left_alone() -> None:
    """Each worker takes what is meant for it, and makes what is not there."""
    with socket.create_server(("127.0.0.1", 0)) as passed, opened() as listeners:
        listeners.close()
        listeners.open([passed])

        assert [passed.fileno()] not in listeners.descriptors
        assert port_of(listeners) != passed.getsockname()[1]


# Business workers.


def test_business_workers_have_no_sockets() -> None:
    """They are listened for as others are, with nothing to share out and nowhere to connect to."""
    listeners = Listeners(listens_nowhere(3))
    listeners.open()
    opened_once = (listeners.is_open, listeners.is_shared, listeners.descriptors, listeners.urls)
    listeners.close()
    is_closed = not listeners.is_open
    listeners.open()

    assert opened_once == (True, True, [[], [], []], [])
    assert (is_closed, listeners.is_open) == (True, True)


# Unix sockets that are removed.


def test_a_removed_unix_socket_is_made_again(tmp_path: Path) -> None:
    """For the processes to come; those that have copies of the old one keep it."""
    path = tmp_path / "a.sock"
    with opened(f"websocket+unix://{path}") as listeners, socket.socket(socket.AF_UNIX) as client:
        old = os.dup(listeners.descriptors[0][0])
        assert listeners.removed == ""
        path.unlink()
        assert listeners.removed == str(path)
        listeners.renew()

        assert listeners.removed == ""
        assert listeners.is_shared
        client.connect(str(path))
        with socket.socket(fileno=old) as kept:
            assert kept.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    assert not path.exists()


def test_a_socket_of_another_program_stays(tmp_path: Path) -> None:
    """It was made where ours had been; our end does not take it away."""
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as other:
        with opened(f"websocket+unix://{path}"):
            path.unlink()
            other.bind(str(path))

        assert path.is_socket()
