"""Listening: on what, and each way in which it can fail."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gateman.errors import AddressInUse, ConfigError
from gateman.listen import ListenAddress
from gateman.net import sockets
from tests.support.deadlines import TIMEOUT
from tests.support.server import needs_ipv6

LOOPBACK = "websocket://127.0.0.1:0"


@contextmanager
def bound(text: str) -> Iterator[list[socket.socket]]:
    """Listen while the block runs."""
    found = sockets.bind(ListenAddress.parse(text))
    try:
        yield found
    finally:
        sockets.release(found)


def refusal(text: str) -> str:
    """Try to listen in vain; gives the sentence."""
    with pytest.raises(ConfigError) as caught, bound(text):
        pass
    return str(caught.value)


# On what.


def test_socket_listens_and_does_not_block() -> None:
    """Clients get in at once, and accept waits for nobody."""
    with bound(LOOPBACK) as [listener]:
        with pytest.raises(BlockingIOError):
            listener.accept()
        with closing(socket.create_connection(listener.getsockname(), timeout=TIMEOUT)):
            accepted, _ = listener.accept()
            accepted.close()


@needs_ipv6
def test_ipv6_takes_ipv4_too() -> None:
    """``[::]`` is everybody, whatever the system's default is; ``[::1]`` is IPv6 only."""
    with bound("websocket://[::]:0") as [listener]:
        port = listener.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT).close()
        socket.create_connection(("::1", port), timeout=TIMEOUT).close()
    with bound("websocket://[::1]:0") as [listener], pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=TIMEOUT)


@needs_ipv6
def test_name_is_all_its_addresses_on_one_port() -> None:
    """Each address once, also when the system chooses the port."""
    expected = {
        str(where[0]) for *_, where in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)
    }
    with bound("websocket://localhost:0") as found:
        assert {sock.getsockname()[0] for sock in found} == expected
        assert len({sock.getsockname()[1] for sock in found}) == 1


def test_name_makes_do_with_what_the_machine_has() -> None:
    """``localhost`` is ``::1`` too in containers that have no IPv6."""
    # Documentation's own (RFC 5737): nobody has it.
    names = [(int(socket.AF_INET), host, 0) for host in ("192.0.2.1", "127.0.0.1")]
    found = sockets._bind_all(names, ListenAddress.parse(LOOPBACK))  # noqa: SLF001

    assert [sock.getsockname()[0] for sock in found] == ["127.0.0.1"]
    sockets.release(found)


def test_port_is_free_again_at_once() -> None:
    """A restart need not wait until old connections are forgotten."""
    with bound(LOOPBACK) as [listener]:
        address = listener.getsockname()
        client = socket.create_connection(address, timeout=TIMEOUT)
        accepted, _ = listener.accept()
        # Who ends first is the one who has to remember.
        accepted.close()
        client.close()
    with bound(f"websocket://127.0.0.1:{address[1]}"):
        pass


def test_processes_share_a_port() -> None:
    """Each has sockets of its own, and every client reaches one of them."""
    address = ListenAddress.parse(LOOPBACK)
    each = sockets.bind_each(address, 3)
    ports = {sock.getsockname()[1] for found in each for sock in found}
    clients = [socket.create_connection(("127.0.0.1", *ports), timeout=TIMEOUT) for _ in range(30)]
    taken = 0
    for listener in (sock for found in each for sock in found):
        while True:
            try:
                accepted, _ = listener.accept()
            except BlockingIOError:
                break
            accepted.close()
            taken += 1
    for one in (*clients, *(sock for found in each for sock in found)):
        one.close()

    assert (len(each), len(ports), taken) == (3, 1, 30)


def test_the_port_of_another_program_is_not_shared() -> None:
    """Another program's port is found, also when that one would share it."""
    with closing(socket.socket()) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = ListenAddress.parse(f"websocket://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(AddressInUse):
            sockets.bind_each(address, 2)


# How it fails.


def test_port_in_use() -> None:
    """The sentence tells how to find who has it; no half of a name stays behind."""
    with bound(LOOPBACK) as [taken]:
        port = taken.getsockname()[1]

        assert refusal(f"websocket://127.0.0.1:{port}") == (
            f"websocket://127.0.0.1:{port}: the port is in use by another program: stop that"
            f" program, which `ss -ltnp 'sport = :{port}'` names, or choose another port."
        )
        assert "in use by another program" in refusal(f"websocket://localhost:{port}")
        assert "in use by another program" in refusal(f"wss://0.0.0.0:{port}")


@pytest.mark.parametrize("host", ["192.0.2.1", "[2001:db8::1]", "no-such-host.invalid"])
def test_address_of_another_machine(host: str) -> None:
    """Whether it cannot be bound or not even be found."""
    assert refusal(f"websocket://{host}:8282") == (
        f"websocket://{host}:8282: '{host.strip('[]')}' is not an address of this machine: use"
        " 0.0.0.0 or [::] for every interface, 127.0.0.1 for this machine only."
    )


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user without privileges, for the rights that the kernel checks."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_low_port_without_privileges() -> None:
    """The sentence names both ways out."""
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first <= 80:
        pytest.skip("this system lets everybody listen on port 80")
    with as_nobody():
        assert refusal("websocket://127.0.0.1:80") == (
            "websocket://127.0.0.1:80: this user may not listen on port 80: choose a port above"
            " 1023 and put a proxy on the low one, or grant CAP_NET_BIND_SERVICE."
        )


# Unix sockets.


def test_unix_socket_goes_with_the_service(tmp_path: Path) -> None:
    """Its path is there while somebody listens; to release it twice does no harm."""
    path = tmp_path / "chat.sock"
    with bound(f"websocket+unix://{path}") as found:
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(str(path))
        sockets.release(found)

        assert not path.exists()


def test_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    """What a killed process left is in nobody's way."""
    path = tmp_path / "chat.sock"
    with closing(socket.socket(socket.AF_UNIX)) as stale:
        stale.bind(str(path))
    with bound(f"websocket+unix://{path}"), closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(str(path))


def test_served_unix_socket_is_not_replaced(tmp_path: Path) -> None:
    """Also when its owner is too busy to accept."""
    path = tmp_path / "chat.sock"
    sentence = (
        f"websocket+unix://{path}: another program listens there: stop it, or choose another path."
    )
    with bound(f"websocket+unix://{path}"):
        assert refusal(f"websocket+unix://{path}") == sentence
    with closing(socket.socket(socket.AF_UNIX)) as busy:
        busy.bind(str(path))
        busy.listen(0)
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(str(path))
            assert refusal(f"websocket+unix://{path}") == sentence


def test_file_is_not_replaced(tmp_path: Path) -> None:
    """Whatever it is, it is somebody's."""
    path = tmp_path / "notes.txt"
    path.write_text("mine")

    assert refusal(f"websocket+unix://{path}") == (
        f"websocket+unix://{path}: a file that is not a socket is there: remove it."
    )
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("none/chat.sock", "its folder does not exist"),
        ("a" * 120, "the path is too long"),
    ],
)
def test_path_that_cannot_be(tmp_path: Path, path: str, reason: str) -> None:
    """One sentence for each reason."""
    text = f"websocket+unix://{tmp_path / path}"

    assert refusal(text) == f"{text}: {reason}: choose another path."


def test_folder_of_another_user(tmp_path: Path) -> None:
    """Who may not write there is told so."""
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    # As root, the way to it is opened for nobody; as anybody else, it is closed for oneself.
    for parent in (*tmp_path.parents[:-2], tmp_path):
        if os.geteuid() == 0:
            parent.chmod(0o755)
    if os.geteuid() != 0:
        folder.chmod(0o555)
    with as_nobody():
        text = f"websocket+unix://{folder}/chat.sock"
        assert refusal(text) == (
            f"{text}: this user may not write to its folder: choose another path."
        )
