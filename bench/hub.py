"""
The hub: what membership costs, in time and in memory, with 100 000 groups and 100 000 uids.

Every client is bound to a uid of its own, and is in a group of its own; then each of them joins a
second group that it has in common with nine others. Time is that of one call, and its growth from
1 000 to 100 000 says whether it depends on how many there are. Memory is what Python allocated
(``tracemalloc``), the names included, divided by memberships: a uid or a group of a client is one.

    registry        who is connected, as whom, in which groups
    with a bus      the same, and what the memory bus keeps of each subscription

    python bench/hub.py             about 30 seconds
    QUICK=1 python bench/hub.py     about 5 seconds
"""

import asyncio
import gc
import os
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable
from itertools import repeat

from gateman.bus.memory import MemoryBus
from gateman.cluster.envelope import Bind, ClientAction, Join
from gateman.cluster.names import ClientId, Group, NodeId, Uid, client_id
from gateman.cluster.node import Node
from gateman.cluster.registry import Registry

SHARED = 10  # clients in each group of the second kind


def names(count: int) -> tuple[list[ClientId], list[Uid], list[Group], list[Group]]:
    """Make the names of clients, users, and groups of both kinds, as applications make them."""
    node = NodeId("0a1b2c3d4e5f")
    numbers = range(count)
    return (
        [client_id(node, number) for number in numbers],
        [Uid(f"user-{number}") for number in numbers],
        [Group(f"room-{number}") for number in numbers],
        [Group(f"hall-{number // SHARED}") for number in numbers],
    )


def timed(name: str, call: Callable[[], object], count: int) -> None:
    """Run something, and print what one of it took."""
    began = time.perf_counter()
    call()
    took = time.perf_counter() - began
    print(f"    {name:28}{took / count * 1e9:10.0f} ns")


def allocated() -> int:
    """Tell what is allocated, in bytes."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def measure_time(count: int) -> None:
    """Measure what a call takes among so many clients."""
    clients, uids, rooms, halls = names(count)
    registry: Registry[object] = Registry()
    print(f"  {count:,} clients, uids and groups")
    member = object()
    timed("add", lambda: deque(map(registry.add, clients, repeat(member)), maxlen=0), count)
    timed("bind", lambda: [*map(registry.bind, clients, uids)], count)
    timed("join, the first", lambda: [*map(registry.join, clients, rooms)], count)
    timed("join, one of ten", lambda: [*map(registry.join, clients, halls)], count)
    timed("members of a uid", lambda: [*map(registry.members_of_uid, uids)], count)
    timed("members of a group of one", lambda: [*map(registry.members_of_group, rooms)], count)
    timed("members of a group of ten", lambda: [*map(registry.members_of_group, halls)], count)
    timed("leave", lambda: [*map(registry.leave, clients, rooms)], count)
    timed("unbind", lambda: [*map(registry.unbind, clients)], count)
    timed("remove", lambda: [*map(registry.remove, clients)], count)


def report(name: str, size: int, memberships: int) -> None:
    """Print what a membership takes."""
    print(f"    {name:40}{size / memberships:8.0f} bytes each")


def measure_registry(count: int) -> None:
    """Measure the memory of a registry."""
    print(f"  registry, {count:,} clients")
    tracemalloc.start()
    registry: Registry[object] = Registry()
    member = object()
    node = NodeId("0a1b2c3d4e5f")
    for number in range(count):
        registry.add(client_id(node, number), member)
    clients = list(registry)
    before = allocated()
    for number, client in enumerate(clients):
        registry.bind(client, Uid(f"user-{number}"))
        registry.join(client, Group(f"room-{number}"))
    after = allocated()
    report("a uid and a group of one's own", after - before, 2 * count)
    for number, client in enumerate(clients):
        registry.join(client, Group(f"hall-{number // SHARED}"))
    report("a second group, shared by ten", allocated() - after, count)
    report("all of them", allocated() - before, 3 * count)
    tracemalloc.stop()


async def measure_node(count: int) -> None:
    """Measure the memory of a process's place in a cluster, its subscriptions included."""
    print(f"  with a bus, {count:,} clients")
    local_node = Node(MemoryBus(), has_clients=True)
    await local_node.start()
    tracemalloc.start()
    registry: Registry[object] = local_node.local_clients.registry  # type: ignore[assignment]
    member = object()
    for number in range(count):
        registry.add(client_id(local_node.id, number), member)
    before = allocated()

    def actions(number: int, client: ClientId) -> Iterable[ClientAction]:
        yield Bind(client, Uid(f"user-{number}"))
        yield Join(client, Group(f"room-{number}"))

    for number, client in enumerate(list(registry)):
        for action in actions(number, client):
            local_node.actions.do(action)
    report("a uid and a group of one's own", allocated() - before, 2 * count)
    tracemalloc.stop()
    await local_node.stop()


def main() -> None:
    """Measure, and print."""
    count = 10_000 if os.environ.get("QUICK") else 100_000
    print("time of a call")
    measure_time(1000)
    measure_time(count)
    print("memory of a membership")
    measure_registry(count)
    asyncio.run(measure_node(count))


if __name__ == "__main__":
    main()
