"""The hub over a real NATS: one server, three of them, and none for half a minute."""

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any

import pytest

from gateman import Hub, SyncHub
from gateman.bus import open_bus, subject
from gateman.config.checks import make_bus
from gateman.errors import BusError, ConfirmTimeout

from ..support.certificates import Authority
from ..support.cluster import cluster, node
from ..support.deadlines import TIMEOUT
from ..support.loop import eventually, on_loop
from ..support.master import master
from ..support.nats import jwt_config, nats_cluster, nats_server
from ..support.node_clients import account, node_clients, script, send_numbers

END = "end"


@on_loop
async def test_nodes_of_one_server(tmp_path: Path) -> None:
    """Messages, commands and questions go from node to node, whatever the names are made of."""
    with nats_server(tmp_path) as server:
        async with cluster(2, lambda: open_bus(server.url)) as [one, other]:
            for name in ("room", "a.b.*.>", " \r\nPUB x 0", "房间", "x" * 255):
                client = await other.client(name, uid=name)
                one.hub.send_to_group(name, "group")
                one.hub.send_to_uid(name, b"\x00uid")
                one.hub.send_to_client(client.id, "client")
                assert await client.read(3) == ["group", b"\x00uid", "client"]
                assert await one.hub.clients_of_group(name) == [client.id]
                await one.hub.close_client(client.id)
            assert one.hub.counts["lost"] == other.hub.counts["lost"] == 0
            async with await Hub.connect(server.url) as outside:
                assert set(outside.nodes) <= {one.hub.node, other.hub.node}
                assert await outside.count_clients() == 0


@on_loop
async def test_nodes_of_three_servers(tmp_path: Path) -> None:
    """A cluster of servers is one bus, also for joining that is awaited."""
    with nats_cluster(tmp_path) as servers:
        async with contextlib.AsyncExitStack() as stack:
            nodes = [
                await stack.enter_async_context(node(open_bus(server.url))) for server in servers
            ]
            for one in nodes:
                await eventually(lambda one=one: len(one.hub.nodes) == 2)  # type: ignore[misc]
            clients = [await one.client() for one in nodes]
            for number, one in enumerate(nodes):
                await one.hub.join_group(clients[number - 1].id, f"room {number}")
                one.hub.send_to_group(f"room {number}", f"from {number}")
                one.hub.send_to_all(END)
            for number, client in enumerate(clients):
                expected = {f"from {(number + 1) % 3}", END}
                assert set(await client.read(4)) == expected
            assert [await one.hub.count_clients() for one in nodes] == [3, 3, 3]


@on_loop
async def test_joining_is_in_effect_at_all_servers_when_it_returns(tmp_path: Path) -> None:
    """Whoever sends then is heard, at whichever server; a process that hangs is named."""
    with nats_cluster(tmp_path) as servers:
        async with contextlib.AsyncExitStack() as stack:
            buses = [open_bus(server.url) for server in servers]
            one, *others = [await stack.enter_async_context(node(bus)) for bus in buses]
            await eventually(lambda: len(one.hub.nodes) == 2)
            client = await one.client()
            for number in range(200):
                await client.connection.join(f"{number}")
                for other in others:
                    other.hub.send_to_group(f"{number}", f"{number}")
            heard = await client.read(400)
            assert sorted(map(str, heard)) == sorted(2 * [f"{number}" for number in range(200)])
            one.hub.answer_timeout = 0.2
            deaf = others[0].hub.node
            buses[1].unsubscribe(subject("all"))
            with pytest.raises(ConfirmTimeout) as caught:
                await client.connection.join("room")
        assert str(caught.value) == (
            f"no answer from {deaf}: what is sent there to the group 'room' may not arrive here"
            " yet."
        )


SECRET = "open-sesame"
USERS = f"authorization {{ user: chat, password: {SECRET} }}"
TOKEN = f"authorization {{ token: {SECRET} }}"


@pytest.mark.parametrize("kind", ["password", "token", "creds", "tls"])
@on_loop
async def test_a_process_authenticates_to_the_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """Services, programs and threads by the same options; who is nobody gets one clear error."""
    caplog.set_level(logging.DEBUG)
    authority = Authority()
    issued = authority.issue(tmp_path, "127.0.0.1")
    jwts, creds = jwt_config(tmp_path)
    tls = f"tls {{ cert_file: {issued.certificate}, key_file: {issued.key} }}"
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "password": (USERS, {"user": "chat", "password": SECRET}),
        "token": (TOKEN, {"token": SECRET}),
        "creds": (jwts, {"creds": str(creds)}),
        "tls": (f"{TOKEN}\n{tls}", {"token": SECRET, "ca": str(issued.authority)}),
    }
    config, options = kinds[kind]
    with nats_server(tmp_path, config) as server:
        async with cluster(2, lambda: make_bus({"url": server.url, **options})) as [one, other]:
            clients = [await one.client(uid="ann"), await other.client(uid="ann")]
            async with await Hub.connect(server.url, **options) as outside:
                outside.answer_timeout = TIMEOUT
                outside.send_to_uid("ann", "from a program")
                assert await outside.count_clients() == 2
            with SyncHub(server.url, answer_timeout=TIMEOUT, **options) as threads:
                await asyncio.to_thread(threads.send_to_uid, "ann", "from a thread")
                assert await asyncio.to_thread(threads.is_uid_online, "ann")
                for client in clients:
                    assert await client.read(2) == ["from a program", "from a thread"]
        wrong: dict[str, Any] = {**options, "password": "guess"} if kind == "password" else {}
        with pytest.raises(BusError) as refused:
            await Hub.connect(server.url, **wrong)
        with SyncHub(server.url, **wrong) as nobody, pytest.raises(BusError) as refused_too:
            await asyncio.to_thread(nobody.send_to_all, "x")

    assert str(refused.value) == str(refused_too.value)
    assert str(refused.value).startswith(f"the bus {server.url}: ")
    assert SECRET not in caplog.text + str(refused.value)


SERVICE = """
from gateman import Worker

worker = Worker("websocket://127.0.0.1:0", bus={bus!r})

@worker.on_message
def {function}(connection, message): ...

Worker.run_all()
"""


def test_two_services_of_one_name_are_told_of_each_other(tmp_path: Path) -> None:
    """By accident, as in a script that was copied; two nodes of one service say nothing."""
    with nats_server(tmp_path) as server, contextlib.ExitStack() as stack:
        running = []
        for name, function in (("chat", "talk"), ("chat-2", "talk"), ("billing", "pay")):
            (tmp_path / name).mkdir()
            script = SERVICE.format(bus=server.url, function=function)
            running.append(stack.enter_context(master(script, tmp_path / name)))
        for one, other in ((0, "pay"), (1, "pay"), (2, "talk")):
            line = running[one].wait_for("these are two services")
            assert f"(Worker worker {other}) is on the bus {server.url} too, as is" in line
        assert [one.stderr.count("these are two services") for one in running] == [1, 1, 1]


def test_versions_of_a_service_are_not_two_services(tmp_path: Path) -> None:
    """Both are on the bus until the last process is replaced."""
    with nats_server(tmp_path) as server:
        script = SERVICE.format(bus=server.url, function="talk").replace("bus=", "count=2, bus=")
        more = "@worker.on_close\ndef leave(connection, code, reason): ...\n\nWorker.run_all()"
        with master(script, tmp_path) as service:
            service.path.write_text(script.replace("Worker.run_all()", more))
            assert service.command("reload").returncode == 0
        assert "two services" not in service.stderr


@pytest.mark.long
def test_nats_may_die_for_half_a_minute(tmp_path: Path) -> None:
    """Every message that was sent meanwhile is delivered, or counted, by its cause."""
    asyncio.run(_die_and_come_back(tmp_path, away=30.0))


async def _die_and_come_back(folder: Path, *, away: float) -> None:
    for name in ("one", "other"):
        (folder / name).mkdir()
    with nats_server(folder) as server:
        node_script = script(f"bus={server.url!r}")
        with (
            master(node_script, folder / "one") as one,
            master(node_script, folder / "other") as other,
        ):
            async with node_clients(one.port, other.port) as both:
                await send_numbers(both, 1.0)
                server.kill()
                await send_numbers(both, away)
                await asyncio.to_thread(server.start)
                while not all([(await one.ask())["gaps"] for one in both]):
                    await send_numbers(both, 0.1)
                await send_numbers(both, 1.0)
                for state in await account(both):
                    [[cause, seconds, unsent]] = state["gaps"]
                    assert cause == "disconnected"
                    assert away - 1 < seconds < away + 10
                    assert unsent > 0
