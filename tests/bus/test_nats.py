"""The bus of several machines, with real NATS servers."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest

from gateman.bus.base import MAX_PENDING_SIZE, Bus, Cause, Gap
from gateman.bus.nats import nats_bus
from gateman.bus.subjects import subject
from gateman.errors import BusError, ConfigError

from ..support.certificates import Authority
from ..support.deadlines import TIMEOUT
from ..support.loop import eventually, on_loop
from ..support.nats import NatsServer, Nkey, jwt_config, nats_cluster, nats_server
from ..support.ports import free_port
from .contract import OTHER, ROOM, DeliveryContract, ignore, labelled
from .contract_of_gaps import LossContract
from .contract_of_queries import ProcessContract, QuestionContract


class _Broker:
    def __init__(self, server: NatsServer) -> None:
        self._server = server

    def bus(self, *, max_pending_size: int | None = None) -> Bus:
        return nats_bus(self._server.url, max_pending_size=max_pending_size or MAX_PENDING_SIZE)

    def kill(self) -> None:
        self._server.kill()

    def restart(self) -> None:
        self._server.start()


class TestNats(DeliveryContract, LossContract, QuestionContract, ProcessContract):
    """The contract, kept with a server that is killed and started again."""

    TEXT_OF_ABSENCE = "nothing listens there"

    @pytest.fixture
    def broker(self, tmp_path: Path) -> Iterator[_Broker]:
        """Run a server."""
        with nats_server(tmp_path) as server:
            yield _Broker(server)


async def works(*buses: Bus) -> None:
    """Send something from the first bus to the last, and stop all of them."""
    arrived: list[bytes] = []
    for bus in buses:
        await bus.start()
    await buses[-1].subscribe(ROOM, arrived.append)
    buses[0].publish(ROOM, b"hello")
    await eventually(lambda: arrived == [b"hello"])
    for bus in buses:
        await bus.stop()


async def problem(bus: Bus) -> str:
    """Start a bus that cannot be; return what is wrong with it."""
    with pytest.raises(BusError) as caught:
        await bus.start()
    assert not bus.is_connected
    await bus.stop()
    return caught.value.problem


USERS = 'authorization { users: [{user: anna, password: "s3/cr@t"}, {user: bert, password: x}] }'
TOKEN = 'authorization { token: "t0ken" }'


@on_loop
async def test_a_user_and_a_password(tmp_path: Path) -> None:
    """In the URL, where they are escaped, or beside it."""
    with nats_server(tmp_path, USERS) as server:
        place = server.url.removeprefix("nats://")
        in_url = nats_bus(f"nats://anna:s3%2Fcr%40t@{place}")
        await works(in_url, nats_bus(server.url, user="anna", password="s3/cr@t"))

    assert "s3" not in f"{in_url!r} {in_url.url}"


@on_loop
async def test_a_token(tmp_path: Path) -> None:
    """In the URL or beside it."""
    with nats_server(tmp_path, TOKEN) as server:
        place = server.url.removeprefix("nats://")
        in_url = nats_bus(f"nats://t0ken@{place}")
        await works(in_url, nats_bus(server.url, token="t0ken"))

    assert "t0ken" not in f"{in_url!r} {in_url.url}"


@on_loop
async def test_an_nkey(tmp_path: Path) -> None:
    """The server knows its public form only."""
    key = Nkey.make()
    seed = tmp_path / "seed"
    seed.write_text(key.seed)
    with nats_server(tmp_path, f"authorization {{ users: [{{nkey: {key.public}}}] }}") as server:
        await works(*(nats_bus(server.url, nkey=seed) for _ in range(2)))


@on_loop
async def test_a_credentials_file(tmp_path: Path) -> None:
    """What ``nsc`` and NGS hand out."""
    config, creds = jwt_config(tmp_path)
    with nats_server(tmp_path, config) as server:
        await works(*(nats_bus(server.url, creds=creds) for _ in range(2)))


@on_loop
async def test_services_of_two_names_do_not_meet(tmp_path: Path) -> None:
    """What one publishes comes to those of its name, and nobody else is seen there."""
    arrived: list[tuple[str, bytes]] = []
    with nats_server(tmp_path) as server:
        buses = {
            label: nats_bus(f"nats://{server.place}", name=label.strip("12"))
            for label in ("chat1", "chat2", "billing")
        }
        for label, bus in buses.items():
            await bus.start()
            if label != "chat1":
                await bus.subscribe(ROOM, labelled(arrived, label))
        await buses["chat2"].subscribe(OTHER, ignore)
        is_seen = [await buses[label].has_subscriber(OTHER) for label in ("chat1", "billing")]
        buses["chat1"].publish(ROOM, b"hello")
        buses["billing"].publish(ROOM, b"invoice")
        await eventually(lambda: bool(arrived))
        for bus in buses.values():
            # All that was published before has come by now.
            await bus.subscribe(OTHER, ignore)
            await bus.stop()

    assert (arrived, is_seen) == ([("chat2", b"hello")], [True, False])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {},
            "the bus nats://127.0.0.1:4222 has no name, by which the services that use one NATS are"
            " told apart: put ?name=chat behind its URL, or write bus={'url': …, 'name': 'chat'}:"
            " the same name in all scripts of one service, and another one for each other service.",
        ),
        *(
            (
                {"name": name},
                "the bus's name cannot be used: give it 1 to 64 letters, digits, '-' and '_'.",
            )
            for name in ("a.b", "a b", ">", "ä", "x" * 65, 7)
        ),
    ],
)
def test_a_name_is_needed(options: dict[str, str], text: str) -> None:
    """It is a token of every subject, so that no character of it may mean anything there."""
    with pytest.raises(ConfigError) as caught:
        nats_bus("nats://anna:s3cret@127.0.0.1", **options)  # type: ignore[arg-type]

    assert str(caught.value) == text


@pytest.mark.parametrize("config", [USERS, TOKEN])
@on_loop
async def test_a_missing_permission_is_reported(
    tmp_path: Path, config: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One sentence with the server's own words, and nothing of what was tried."""
    with nats_server(tmp_path, config) as server:
        wrong = nats_bus(server.url, user="anna", password="guess")
        problems = [
            await problem(wrong),
            await problem(nats_bus(server.url, token="guess")),
            await problem(nats_bus(server.url)),
        ]

    assert problems == ["it refuses us: Authorization Violation"] * 3
    assert "guess" not in caplog.text


@on_loop
async def test_credentials_that_vanish_are_an_error_each_time(tmp_path: Path) -> None:
    """A file that was there when the service was configured may be gone when it connects."""
    config, creds = jwt_config(tmp_path)
    with nats_server(tmp_path, config) as server:
        bus = nats_bus(server.url, creds=creds)
        creds.unlink()
        said = await problem(bus)

    assert said == f"{creds} cannot be read: no such file or directory"


@on_loop
async def test_what_we_may_not_is_said_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server may allow some subjects only; the connection stays."""
    allowed = '"gateman.test.ok.>"'
    config = (
        f"authorization {{ default_permissions: {{publish: {allowed}, subscribe: {allowed}}},"
        " users: [{user: anna, password: x}] }"
    )
    fine, secret = subject("ok", "room"), subject("secret")
    with nats_server(tmp_path, config) as server:
        bus = nats_bus(server.url, user="anna", password="x")
        await bus.start()
        await bus.subscribe(fine, ignore)
        with pytest.raises(BusError) as caught:
            await bus.subscribe(secret, ignore)
        bus.publish(secret, b"no")
        await eventually(lambda: bus.counts["refused"] == 2)
        is_connected = bus.is_connected
        await bus.stop()

    assert caught.value.problem == (
        'it refuses: Permissions Violation for Subscription to "gateman.test.secret"'
    )
    assert is_connected
    assert len(caplog.messages) == 1


def tls_config(folder: Path, authority: Authority, *, asks: bool = False) -> str:
    """Configure TLS, for clients with a certificate only if it asks for one."""
    issued = authority.issue(folder, "127.0.0.1")
    verify = f", ca_file: {issued.authority}, verify: true" if asks else ""
    return f"tls {{ cert_file: {issued.certificate}, key_file: {issued.key}{verify} }}"


@on_loop
async def test_tls(tmp_path: Path) -> None:
    """With an authority of our own; nats:// uses it if the server wants it, tls:// insists."""
    authority = Authority()
    with nats_server(tmp_path, tls_config(tmp_path, authority)) as server:
        ca = tmp_path / "authority.pem"
        place = server.url.removeprefix("nats://")
        await works(nats_bus(f"tls://{place}", ca=ca), nats_bus(server.url, ca=ca))


@on_loop
async def test_tls_on_both_sides(tmp_path: Path) -> None:
    """Who has no certificate is refused, if the server asks for one."""
    authority = Authority()
    with nats_server(tmp_path, tls_config(tmp_path, authority, asks=True)) as server:
        ours = authority.issue(tmp_path, "node@example.org", stem="client")
        with_key = [
            nats_bus(server.url, ca=ours.authority, cert=ours.certificate, key=ours.key)
            for _ in range(2)
        ]
        await works(*with_key)
        said = await problem(nats_bus(server.url, ca=ours.authority))

    # With TLS 1.3 the refusal comes after the handshake, and races with the end.
    assert said.startswith(("TLS failed: ", "it closed the connection"))


@on_loop
async def test_a_certificate_that_is_not_trusted(tmp_path: Path) -> None:
    """No password is sent to a server that is not who it should be."""
    with nats_server(tmp_path, tls_config(tmp_path, Authority())) as server:
        untrusted = await problem(nats_bus(server.url))
        other_name = nats_bus(
            server.url.replace("127.0.0.1", "localhost"), ca=tmp_path / "authority.pem"
        )
        wrong_name = await problem(other_name)

    assert untrusted == ("its certificate is not trusted: unable to get local issuer certificate")
    assert wrong_name == (
        "its certificate is not trusted: Hostname mismatch, certificate is not valid for"
        " 'localhost'."
    )


@on_loop
async def test_tls_is_not_given_up(tmp_path: Path) -> None:
    """A server without TLS is told nothing by who wants TLS."""
    with nats_server(tmp_path) as server:
        place = server.url.removeprefix("nats://")
        said = await problem(nats_bus(f"tls://anna:s3cret@{place}"))

    assert said == "it offers no TLS, which tls://, ca= or cert= asks for"


@pytest.mark.parametrize("option", ["ca", "cert"])
@on_loop
async def test_what_is_for_tls_asks_for_it(tmp_path: Path, option: str) -> None:
    """A password is not sent in clear because somebody in between announces no TLS."""
    issued = Authority().issue(tmp_path, "127.0.0.1")
    options = {"ca": {"ca": issued.authority}, "cert": {"cert": issued.certificate}}
    options["cert"]["key"] = issued.key
    said: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"auth_required": true}\r\n')
        said.append(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"nats://anna:s3cret@127.0.0.1:{port}?name=test"
    refusal = await problem(nats_bus(url, **options[option]))  # type: ignore[arg-type]
    await eventually(lambda: bool(said))
    server.close()

    assert (refusal, said) == ("it offers no TLS, which tls://, ca= or cert= asks for", [b""])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ca": "{}/none"}, "the bus's ca={}/none cannot be read: no such file or directory."),
        (
            {"ca": "{}/text"},
            "the bus's ca={}/text cannot be used: it has to be PEM, without passphrase.",
        ),
        (
            {"cert": "{}/text"},
            "the bus's cert={}/text cannot be used: it has to be PEM, without passphrase.",
        ),
        ({"key": "{}/text"}, "the bus has a key= without its cert=: give both."),
    ],
)
def test_files_that_will_not_do(tmp_path: Path, options: dict[str, str], text: str) -> None:
    """They are refused before anything connects."""
    (tmp_path / "text").write_text("hello")
    filled = {name: value.format(tmp_path) for name, value in options.items()}
    with pytest.raises(ConfigError) as caught:
        nats_bus("nats://127.0.0.1?name=test", **filled)  # type: ignore[arg-type]

    assert str(caught.value) == text.format(tmp_path)


@on_loop
async def test_an_independent_client_understands_us(tmp_path: Path) -> None:
    """What nats-py publishes arrives here, and what we publish arrives there."""
    arrived: list[bytes] = []
    with nats_server(tmp_path) as server:
        bus = nats_bus(server.url)
        await bus.start()
        await bus.subscribe(ROOM, arrived.append)
        client = await nats.connect(server.place)
        subscription = await client.subscribe(f"gateman.test.{OTHER}")
        await client.publish(
            f"gateman.test.{ROOM}", b"\r\nfrom there\r\n", headers={"are": "ignored"}
        )
        await client.publish(f"gateman.test.{ROOM}", b"and again", reply="somewhere")
        # Twice: its first ping may overtake the subscription.
        await client.flush()
        await client.flush()
        bus.publish(OTHER, b"\r\nfrom here\r\n")
        there = await subscription.next_msg(timeout=TIMEOUT)
        await eventually(lambda: len(arrived) == 2)
        await client.close()
        await bus.stop()

    assert arrived == [b"\r\nfrom there\r\n", b"and again"]
    assert (there.subject, there.data) == (f"gateman.test.{OTHER}", b"\r\nfrom here\r\n")


@on_loop
async def test_a_cluster_loses_a_server(tmp_path: Path) -> None:
    """Buses meet over all servers; who loses its own goes on with another one."""
    with nats_cluster(tmp_path) as servers:
        places = [server.place for server in servers]
        buses = [
            # The first is at the first server, until that one dies.
            nats_bus(servers[0].url),
            *(nats_bus(f"nats://{','.join(places)}?name=test") for _ in range(6)),
        ]
        gaps: list[Gap] = []
        arrived: set[tuple[str, bytes]] = set()
        heard: list[tuple[str, bytes]] = []
        for number, bus in enumerate(buses):
            bus.on_gap = gaps.append
            await bus.start()
            await bus.subscribe(ROOM, labelled(heard, str(number)))
        assert all(bus.is_spread for bus in buses)
        counts = []
        for turn, alive in enumerate((buses, buses[1:])):
            # Servers tell each other of subscriptions in their own time.
            wanted = len(alive) * (len(alive) - 1)
            payloads = {bus: f"{turn} {number}".encode() for number, bus in enumerate(alive)}

            def is_complete(wanted: int = wanted, turn: int = turn) -> bool:
                arrived.update(one for one in heard if one[1].startswith(b"%d" % turn))
                return len(arrived) == wanted

            for _ in range(100):
                for bus, payload in payloads.items():
                    bus.publish(ROOM, payload)
                if is_complete():
                    break
                await asyncio.sleep(0.05)
            counts.append(len(arrived))
            arrived.clear()
            if turn == 0:
                servers[0].kill()
                await eventually(lambda: not buses[0].is_connected)
                await eventually(lambda: all(bus.is_connected for bus in buses[1:]))
        for bus in buses:
            await bus.stop()

    assert counts == [7 * 6, 6 * 5]
    assert all(gap.cause == Cause.DISCONNECTED for gap in gaps)


@on_loop
async def test_no_server_answers(tmp_path: Path) -> None:
    """The sentence says for each what is wrong."""
    with nats_server(tmp_path, TOKEN) as server:
        port = free_port()
        said = await problem(nats_bus(f"nats://{server.place},127.0.0.1:{port}?name=test"))
    unknown = await problem(nats_bus("nats://no-such-host.invalid?name=test"))
    impossible = await problem(nats_bus("nats://no..host?name=test"))

    assert sorted(said.split("; ")) == sorted(
        [
            f"127.0.0.1:{server.port}: it refuses us: Authorization Violation",
            f"127.0.0.1:{port}: nothing listens there",
        ]
    )
    assert unknown == impossible == "the host is unknown"


@on_loop
async def test_a_server_that_hangs(tmp_path: Path) -> None:
    """It is not waited for for ever, neither at the start nor later."""
    with nats_server(tmp_path) as server:
        server.freeze()
        said = await problem(nats_bus(server.url, connect_timeout=0.1))
        server.thaw()

    assert said == "it does not answer within 0.1 seconds"


@pytest.mark.parametrize(
    ("greeting", "expected"),
    [
        (b"220 mail.example.org\r\n", "what listens there is not a NATS server"),
        (b"", "what listens there is not a NATS server"),
        (b"INFO {}\r\n", "it closed the connection"),
        (b'INFO {"max_payload": "x"}\r\n+OK\r\nPING\r\n', "it closed the connection"),
        (b'INFO {"tls_required": true}\r\n', "it closed the connection"),
        (b'INFO {"tls_required": true}\r\n-ERR\r\n', "it goes on without TLS"),
        (b'INFO {"tls_required": true}\r\nPONG\r\n', "it goes on without TLS"),
    ],
)
@on_loop
async def test_something_else_listens_there(greeting: bytes, expected: str) -> None:
    """It is told nothing."""

    def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    said = await problem(nats_bus(f"nats://127.0.0.1:{port}?name=test"))
    server.close()

    assert said == expected


@on_loop
async def test_a_slow_client_is_disconnected_and_told(tmp_path: Path) -> None:
    """NATS ends the connection of who does not read; we come back, with a gap."""
    with nats_server(tmp_path, 'max_pending: 1MB\nwrite_deadline: "500ms"') as server:
        bus = nats_bus(server.url)
        gaps: list[Gap] = []
        arrived: list[bytes] = []
        bus.on_gap = gaps.append
        await bus.start()
        await bus.subscribe(ROOM, arrived.append)
        # Without a turn of this loop, in which the bus could read.
        flood(server.port, 300, 100_000)
        await eventually(lambda: bool(gaps))
        await bus.subscribe(OTHER, ignore)
        client = await nats.connect(server.place)
        await client.publish(f"gateman.test.{ROOM}", b"and on")
        await client.close()
        await eventually(lambda: arrived[-1] == b"and on")
        await bus.stop()

    assert [(gap.cause, gap.missed) for gap in gaps] == [(Cause.DISCONNECTED, None)]
    assert len(arrived) < 300


def flood(port: int, count: int, size: int) -> None:
    """Publish from outside, and wait until the server has dealt with it."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as client:
        client.sendall(b'CONNECT {"verbose":false}\r\n')
        for _ in range(count):
            client.sendall(b"PUB gateman.test.%b %d\r\n%b\r\n" % (ROOM.encode(), size, bytes(size)))
        client.sendall(b"PING\r\n")
        said = b""
        while b"PONG" not in said:
            said += client.recv(65536)


@on_loop
async def test_a_server_that_is_not_safe_is_pointed_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It asks nobody, or reads a secret in clear; on this machine that is our business."""
    own = next(iter(_addresses()), None)
    if own is None:
        pytest.skip("this machine has no address but its loopback's")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO {}\r\n")
        while line := await reader.readline():
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(answer, own, 0)
    url = f"{own}:{server.sockets[0].getsockname()[1]}"
    bus = nats_bus(f"nats://{url}?name=test", token="s3cret")
    await bus.start()
    await bus.stop()
    server.close()

    assert caplog.messages == [
        f"the bus nats://{url}?name=test: {url} requires no login, so anyone who reaches it can"
        " send to every client",
        f"the bus nats://{url}?name=test: the password or token is sent to {url} without"
        " encryption: write tls:// in place of nats://",
    ]


def _addresses() -> list[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: it only chooses the address that would be sent from.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return []
        return [probe.getsockname()[0]]


@on_loop
async def test_no_secret_is_in_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever happens to a connection with a password, at every level of the log."""
    caplog.set_level(logging.DEBUG)
    with nats_server(tmp_path, USERS) as server:
        place = server.url.removeprefix("nats://")
        bus = nats_bus(f"nats://anna:s3%2Fcr%40t@{place}")
        gaps: list[Gap] = []
        bus.on_gap = gaps.append
        await bus.start()
        server.kill()
        await eventually(lambda: not bus.is_connected)
        await eventually(lambda: any("still away" in line for line in caplog.messages))
        server.start()
        await eventually(lambda: bool(gaps))
        await bus.stop()

    assert len(caplog.messages) >= 3
    assert "s3" not in caplog.text
