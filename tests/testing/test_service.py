"""Several processes of a service, on the event loop of a test."""

import asyncio
from typing import Any

import pytest

from gateman import (
    ConfigError,
    Connection,
    Gateway,
    HubError,
    Refuse,
    Request,
    Timer,
    Worker,
    hub,
    testing,
)
from tests.support.loop import eventually, on_loop

LISTEN = "websocket://127.0.0.1:1"


class Users:
    """A worker whose clients have a uid, and tell what their process knows."""

    def __init__(self, **options: Any) -> None:
        self.worker = worker = Worker(LISTEN, name="users", drain_window=10, **options)
        self.log: list[object] = []
        worker.on_worker_start = lambda own: self.log.append(("start", own.id))
        worker.on_worker_stop = lambda own: self.log.append(("stop", own.id))
        worker.on_websocket_connect = self._log_in
        worker.on_open = lambda connection: connection.join("all")
        worker.on_message = self._answer
        worker.on_close = lambda connection, code, _reason: self.log.append(
            ("close", connection.worker.id, code)
        )
        worker.on_event("news")(lambda data: hub.send_to_group("all", f"{self._here()}: {data}"))

    def _here(self) -> str:
        return ", ".join(str(one.session["uid"]) for one in self.worker.connections.values())

    def _log_in(self, connection: Connection, request: Request) -> None:
        connection.session["uid"] = request.query["uid"]
        connection.bind(request.query["uid"], only=True)

    async def _answer(self, connection: Connection, message: str) -> None:
        match message.split():
            case ["here"]:
                connection.send(f"{connection.worker.id}: {self._here()}")
            case ["timer"]:
                Timer.add(60, connection.send, "a minute", persistent=False)
            case ["event"]:
                hub.send_event("news", "hi")
            case ["session", uid]:
                [client] = await hub.clients_of_uid(uid)
                connection.send(str(await hub.get_session(client)))
            case ["wait"]:
                try:
                    await asyncio.Event().wait()
                finally:
                    self.log.append("cancelled")
            case words:
                hub.send_to_group("all", " ".join(words))


@on_loop
async def test_each_process_has_its_own_clients_and_shares_users_and_groups() -> None:
    users = Users()
    async with (
        testing.service(users.worker, processes=2),
        testing.connect(users.worker, "/?uid=ann") as ann,
        testing.connect(users.worker, "/?uid=bob") as bob,
    ):
        for client, words, answer in (
            (ann, "here", "0: ann"),
            (bob, "here", "1: bob"),
            (ann, "session bob", "{'uid': 'bob'}"),
        ):
            await client.send(words)
            assert await client.receive() == answer
        await bob.send("all")
        assert await ann.receive() == await bob.receive() == "all"
        assert await hub.count_clients() == 2
        assert await hub.send_to_uid("bob", "from the test") == 1
        assert await bob.receive() == "from the test"
        assert list(users.worker.connections) == [1]


@on_loop
async def test_events_reach_the_code_of_all_processes() -> None:
    users = Users()
    async with (
        testing.service(users.worker, processes=2),
        testing.connect(users.worker, "/?uid=ann") as ann,
        testing.connect(users.worker, "/?uid=bob"),
    ):
        await ann.send("event")

        assert sorted([str(await ann.receive()) for _ in range(2)]) == ["ann: hi", "bob: hi"]


@on_loop
async def test_an_exclusive_login_closes_the_client_of_the_other_process() -> None:
    users = Users()
    async with testing.service(users.worker, processes=2) as service:
        first, second = service.processes(users.worker)
        async with (
            testing.connect(first, "/?uid=ann") as old,
            testing.connect(second, "/?uid=ann") as new,
        ):
            assert (await old.wait_closed()).code == 4409
            await new.receive_nothing()
            assert new.closed is None
            assert await second.hub.clients_of_uid("ann") == await first.hub.clients_of_uid("ann")


@on_loop
async def test_a_process_is_killed_and_another_one_starts() -> None:
    users = Users()
    async with testing.service(users.worker, processes=2) as service:
        first, second = service.processes(users.worker)
        async with (
            testing.connect(first, "/?uid=ann") as ann,
            testing.connect(second, "/?uid=bob") as bob,
        ):
            await ann.send("timer")
            await ann.send("wait")
            await testing.advance(0)
            await first.kill()

            assert (await ann.wait_closed()).code == 1006
            assert service.processes(users.worker) == [second]
            assert (first.has_ended, second.has_ended) == (True, False)
            with pytest.raises(ConfigError, match="users/0, ended> takes no clients"):
                await testing.refused(first)
            await testing.advance(10)
            assert await hub.clients_of_uid("ann") == []
            new = await service.start(users.worker)
            assert [one.number for one in service.processes(users.worker)] == [0, 1]
            async with testing.connect(new, "/?uid=ann") as again:
                await again.send("back")
                assert await bob.receive() == "back"
    started = [("start", 0), ("start", 1), "cancelled", ("start", 0)]
    assert users.log[:4] == started
    assert sorted(map(str, users.log[4:])) == [
        "('close', 0, 1000)",
        "('close', 1, 1000)",
        "('stop', 0)",
        "('stop', 1)",
    ]


@on_loop
async def test_timers_end_with_their_process() -> None:
    worker = Worker(LISTEN)
    ran: list[int] = []
    worker.on_worker_start = lambda own: Timer.add(10, ran.append, own.id) and None
    async with testing.service(worker, processes=2) as service:
        await testing.advance(11)
        assert sorted(ran) == [0, 1]
        await service.processes(worker)[0].kill()
        await testing.advance(10)
        assert sorted(ran) == [0, 1, 1]
        await service.processes(worker)[0].stop()
        await testing.advance(10)
        assert len(ran) == 3


@on_loop
async def test_a_reload_closes_clients_during_the_window_and_new_ones_are_served() -> None:
    users = Users()
    async with testing.service(users.worker) as service:
        [old] = service.processes(users.worker)
        async with (
            testing.connect(users.worker, "/?uid=ann") as ann,
            testing.connect(users.worker, "/?uid=bob") as bob,
        ):
            new = await old.reload()
            async with testing.connect(users.worker, "/?uid=eve") as eve:
                await testing.advance(4)
                assert [client.closed is None for client in (ann, bob, eve)].count(False) == 1
                await testing.advance(7)

                assert (await ann.wait_closed()).code == (await bob.wait_closed()).code == 1012
                await eventually(lambda: old.has_ended)
                assert service.processes(users.worker) == [new]
                assert eve.closed is None
    assert users.log == [
        *[("start", 0), ("start", 0), ("close", 0, 1012), ("close", 0, 1012), ("stop", 0)],
        *[("close", 0, 1000), ("stop", 0)],
    ]


@on_loop
async def test_a_reload_whose_new_process_does_not_start_changes_nothing() -> None:
    worker, fails = Worker(LISTEN), False

    @worker.on_worker_start
    def begin(_worker: Worker) -> None:
        if fails:
            raise RuntimeError("no database")

    async with testing.service(worker) as service:
        [old] = service.processes(worker)
        async with testing.connect(worker) as client:
            fails = True
            with pytest.raises(RuntimeError, match="no database"):
                await old.reload()
            await testing.advance(20)

            assert service.processes(worker) == [old]
            assert client.closed is None


@on_loop
async def test_a_test_may_end_while_a_process_drains() -> None:
    users = Users()
    async with testing.service(users.worker) as service:
        [old] = service.processes(users.worker)
        async with (
            testing.connect(old, "/?uid=eve"),
            testing.connect(old, "/?uid=ann") as ann,
        ):
            await old.reload()
            assert repr(old) == "<Process users/0, ending>"
            await old.stop()
            assert (await ann.wait_closed()).code == 1001
            await old.kill()
    async with (
        testing.service(users.worker) as service,
        testing.connect(users.worker, "/?uid=ann"),
    ):
        await service.processes(users.worker)[0].reload()
    assert users.log.count(("stop", 0)) == 4


@on_loop
async def test_errors_of_all_processes_and_of_the_stop_fail_the_test() -> None:
    worker = Worker(LISTEN)

    @worker.on_worker_stop
    def end(own: Worker) -> None:
        raise ValueError(own.id)

    async def run() -> None:
        async with testing.service(worker, processes=2):
            pass

    with pytest.raises(AssertionError, match=r"on_worker_stop failed: ValueError\(0\)") as failed:
        await run()
    assert "ValueError(1)" in str(failed.value)


@on_loop
async def test_an_error_of_an_event_fails_the_test() -> None:
    worker = Worker(LISTEN)

    @worker.on_event("news")
    def take(data: object) -> None:
        raise ValueError(data)

    async def run() -> None:
        async with testing.service(worker, processes=2):
            hub.send_event("news", "bad")
            await testing.advance(0)

    with pytest.raises(AssertionError, match=r"ValueError.*ValueError"):
        await run()


@on_loop
async def test_what_cannot_be_served() -> None:
    one, other = Worker(LISTEN, name="one"), Worker(LISTEN, name="other")
    gateway = Gateway(LISTEN)
    for processes in (0, {other: 2}):
        with pytest.raises(ConfigError, match=r"service\(one\) got processes="):
            async with testing.service(one, processes=processes):
                pass
    wrong: Any = "ws://127.0.0.1:1"
    with pytest.raises(ConfigError, match=r"'ws://127.0.0.1:1' is not a worker: write testing"):
        async with testing.service(wrong):
            pass
    with pytest.raises(ConfigError, match="is neither a worker nor a process of one: write test"):
        await testing.refused(wrong)
    with pytest.raises(ConfigError, match="gateway is a gateway, and nothing handles"):
        await testing.refused(gateway)
    async with testing.service(one) as service:
        with pytest.raises(ConfigError, match="is not a worker of this service"):
            await testing.refused(other)
        with pytest.raises(ConfigError, match="a service or a client is there already"):
            async with testing.service(other):
                pass
        await service.processes(one)[0].kill()
        with pytest.raises(ConfigError, match="no process of one serves"):
            await testing.refused(one)
        with pytest.raises(HubError, match="no process of the service serves"):
            hub.send_to_all("x")
    with pytest.raises(HubError, match="the hub does not run"):
        hub.send_to_all("x")


@on_loop
async def test_a_refusal_and_a_certificate_that_is_not_there() -> None:
    worker = Worker("wss://127.0.0.1:1", {"ssl": {"local_cert": "none.pem"}})

    @worker.on_websocket_connect
    def refuse(_connection: Connection, _request: Request) -> None:
        raise Refuse(418)

    assert (await testing.refused(worker)).status == 418
    assert worker.listen == "wss://127.0.0.1:1"
    assert worker.transport == "ssl"
