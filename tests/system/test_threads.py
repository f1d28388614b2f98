"""Threads: what belongs to the event loop says so elsewhere, and can be handed over."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from gateman import Connection, Deflate, Hub, Request, SendResult, Timer, WrongThread
from tests.support.cluster import alone
from tests.support.loop import eventually, on_loop
from tests.support.raw import CLOSE, TEXT, frame, handshake
from tests.support.server import Journal, serve

both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])

CONNECTION: dict[str, Callable[[Connection], object]] = {
    "send": lambda connection: connection.send("no"),
    "close": lambda connection: connection.close(4000),
    "destroy": lambda connection: connection.destroy(),
    "pause_recv": lambda connection: connection.pause_recv(),
    "resume_recv": lambda connection: connection.resume_recv(),
    "drain": lambda connection: connection.drain().send(None),
    "join": lambda connection: connection.join("room"),
    "leave": lambda connection: connection.leave("room"),
    "bind": lambda connection: connection.bind("ann"),
    "unbind": lambda connection: connection.unbind(),
    "after": lambda connection: connection.after(1, print),
}

HUB: dict[str, Callable[[Hub, str], object]] = {
    "send_to_all": lambda hub, _: hub.send_to_all("no"),
    "send_to_group": lambda hub, _: hub.send_to_group("room", "no"),
    "send_to_uid": lambda hub, _: hub.send_to_uid("ann", "no"),
    "send_to_client": lambda hub, client: hub.send_to_client(client, "no"),
    "send_to_clients": lambda hub, client: hub.send_to_clients([client], "no"),
    "send_event": lambda hub, _: hub.send_event("topic", "no"),
    "close_uid": lambda hub, _: hub.close_uid("ann"),
    "close_client": lambda hub, client: hub.close_client(client),
    "bind_uid": lambda hub, client: hub.bind_uid(client, "ann"),
    "unbind_uid": lambda hub, client: hub.unbind_uid(client),
    "join_group": lambda hub, client: hub.join_group(client, "room"),
    "leave_group": lambda hub, client: hub.leave_group(client, "room"),
    "dissolve_group": lambda hub, _: hub.dissolve_group("room"),
    "set_session": lambda hub, client: hub.set_session(client, {}),
    "update_session": lambda hub, client: hub.update_session(client, a=1),
    "count_clients": lambda hub, _: asyncio.run(hub.count_clients()),
    "is_uid_online": lambda hub, _: asyncio.run(hub.is_uid_online("ann")),
    "clients_of_group": lambda hub, _: asyncio.run(hub.clients_of_group("room")),
    "get_session": lambda hub, client: asyncio.run(hub.get_session(client)),
}


def refusal(call: Callable[[], object]) -> str:
    """Call something that has to be refused; gives whose name the sentence says."""
    with pytest.raises(WrongThread) as caught:
        call()
    return caught.value.verb


@both
@pytest.mark.parametrize("verb", CONNECTION)
@on_loop
async def test_a_connection_is_of_its_event_loop(verb: str, *, secure: bool) -> None:
    """Whatever changes it says so, and changes nothing."""
    journal = Journal()

    async def use(connection: Connection, _message: str) -> None:
        journal.note(await asyncio.to_thread(refusal, lambda: CONNECTION[verb](connection)))
        connection.send("yes")

    async with serve(secure=secure, on_message=use) as server, server.client() as client:
        await client.send("go")

        assert await client.recv() == "yes"
        assert journal.entries == [(f"connection.{verb}",)]


@pytest.mark.parametrize("verb", HUB)
@on_loop
async def test_a_hub_is_of_its_event_loop(verb: str) -> None:
    """Of its process; a program has SyncHub. What can be read may be read."""
    async with alone() as node:
        client = await node.client()
        found = await asyncio.to_thread(refusal, lambda: HUB[verb](node.hub, client.id))
        read = await asyncio.to_thread(lambda: (node.hub.node, node.hub.counts["published"]))
        client.connection.send("yes")

        assert (await client.read(), found) == (["yes"], f"hub.{verb}")
        assert read == (node.hub.node, 0)


@pytest.mark.parametrize("state", ["before the 101", "compressed", "collected for many", "slow"])
@on_loop
async def test_send_says_so_whatever_way_a_message_would_go(state: str) -> None:
    """And what the loop sends meanwhile arrives whole and in order."""
    found: list[str] = []

    def try_it(connection: Connection) -> None:
        """Try in another thread, while this one stands still."""
        thread = threading.Thread(
            target=lambda: found.append(refusal(lambda: connection.send("no")))
        )
        thread.start()
        thread.join()

    def enter(connection: Connection, _request: Request) -> None:
        if state == "before the 101":
            try_it(connection)
            connection.send("0")

    def take(connection: Connection, message: str) -> None:
        if state == "slow":
            while connection.send("x" * 100_000) is not SendResult.DROPPED:
                pass
        connection.send(message)
        if state == "collected for many":
            connection.join("room")
            hub.send_to_group("room", message)
        if state != "before the 101":
            try_it(connection)

    compression = Deflate() if state == "compressed" else None
    async with alone(on_websocket_connect=enter, on_message=take, compression=compression) as node:
        hub = node.hub
        client = await node.server.connect(receive_buffer=4096)
        extension = "Sec-WebSocket-Extensions: permessage-deflate"
        await client.send(handshake("/", (extension,) if compression else ()))
        assert (await client.read_head()).status == 101
        # Several at once: what the first is answered with is held back for the others' answers.
        count = 1 if state == "slow" else 3
        await client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(1, count + 1)))
        if state not in {"slow", "compressed"}:
            times = 2 if state == "collected for many" else 1
            expected = [b"0"] * (state == "before the 101")
            expected += [b"%d" % number for number in (1, 2, 3) for _ in range(times)]
            assert [(await client.read_frame()).payload for _ in expected] == expected
        else:
            await eventually(lambda: bool(found))

        assert set(found) == {"connection.send"}


@on_loop
async def test_what_is_sent_behind_an_answer_that_is_held_back_goes_out_with_it() -> None:
    """There alone nobody looks at the thread, as that would cost each message; nothing is lost."""

    def take(connection: Connection, message: str) -> None:
        connection.send(message)
        thread = threading.Thread(target=lambda: connection.send("thread's"))
        thread.start()
        thread.join()

    async with serve(on_message=take) as server:
        client = await server.open()
        await client.send(frame(TEXT, b"1") + frame(TEXT, b"2") + frame(CLOSE))
        received = [(await client.read_frame()).payload for _ in range(3)]

        assert received == [b"1", b"thread's", b"2"]


@on_loop
async def test_what_a_thread_hands_over_is_done() -> None:
    """In the order in which one thread hands it over."""
    answers: list[int] = []

    async def take(connection: Connection, _message: str) -> None:
        loop = asyncio.get_running_loop()

        def work() -> None:
            for number in range(50):
                loop.call_soon_threadsafe(connection.send, str(number))
            answer = asyncio.run_coroutine_threadsafe(node.hub.count_clients(), loop)
            answers.append(answer.result())
            loop.call_soon_threadsafe(node.hub.send_to_all, "done")

        await asyncio.to_thread(work)

    async with alone(on_message=take) as node, node.server.client() as client:
        await client.send("go")

        assert [await client.recv() for _ in range(51)] == [*map(str, range(50)), "done"]
        assert answers == [1]


@on_loop
async def test_timers_are_of_their_event_loop() -> None:
    """To add one and to delete one."""
    async with serve():
        timer_id = Timer.add(60, print)
        for verb, call in (
            ("Timer.add", lambda: Timer.add(1, print)),
            ("Timer.delete", lambda: Timer.delete(timer_id)),
        ):
            assert await asyncio.to_thread(refusal, call) == verb
        assert Timer.delete(timer_id)
