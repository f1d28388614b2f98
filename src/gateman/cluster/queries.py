"""The query methods of the hub."""

from asyncio import gather
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from typing import Any, TypeVar

from msgspec import Raw

from ..errors import EnvelopeError, PartialResult, UnknownClient
from .envelope import Query
from .names import ClientId, Group, NodeId, Uid, check_client_id, check_group, check_uid
from .node import Node
from .publication import ClientInfo
from .query_replies import read

T = TypeVar("T")


class HubQueries:
    """
    The queries of a :class:`~.hub.Hub`.

    Each asks all processes that could contribute, and takes at most ``answer_timeout``. If a
    process whose answer matters has not answered by then, :class:`~gateman.errors.PartialResult` is
    raised, so a list is never silently incomplete.
    """

    __slots__ = ()

    @property
    def local_node(self) -> Node:
        """The node of this process."""
        raise NotImplementedError

    async def is_online(self, client: str) -> bool:
        """
        Check whether a client is connected.

        Args:
            client: Its id.

        Returns:
            ``True`` if it is connected.

        Raises:
            PartialResult: Its process did not answer in time.
        """
        return bool(await self._ask_about(client, Query.IS_ONLINE))

    async def uid_of_client(self, client: str) -> Uid | None:
        """
        Get the uid of a client.

        Args:
            client: Its id.

        Returns:
            Its uid; ``None`` if it has none, or has disconnected.

        Raises:
            PartialResult: Its process did not answer in time.
        """
        uid: Uid | None = await self._ask_about(client, Query.UID_OF_CLIENT)
        return uid

    async def get_session(self, client: str) -> dict[str, Any]:
        """
        Read a client's session.

        Args:
            client: Its id.

        Returns:
            A copy of it.

        Raises:
            UnknownClient: The client is not connected.
            PartialResult: Its process did not answer in time.
            EnvelopeError: A value in it cannot be encoded; the log of the client's process names
                the key.
        """
        name = check_client_id(client)
        answer: dict[str, Any] = await self.local_node.query_client.ask_node(Query.SESSION, name)
        return answer

    async def is_uid_online(self, uid: str) -> bool:
        """
        Check whether a user has a client.

        Args:
            uid: The user's id.

        Returns:
            ``True`` as soon as one process has such a client.

        Raises:
            PartialResult: No process has one, and a process did not answer in time.
        """
        name = check_uid(uid)
        if self.local_node.local_clients.registry.has_uid(name):
            return True
        ask = self.local_node.query_client.ask_all
        values, missing = await ask(Query.IS_UID_ONLINE, name, _says_yes)
        return any(values) or _complete(False, missing)  # noqa: FBT003 - an answer

    async def clients_of_uid(self, uid: str) -> list[ClientId]:
        """
        List the clients of a user.

        Args:
            uid: The user's id.

        Returns:
            Their ids, in no order.

        Raises:
            PartialResult: A process did not answer in time; its ``value`` is the result of the
                others.
        """
        return await self._list(Query.CLIENTS_OF_UID, check_uid(uid))

    async def clients_of_group(self, group: str) -> list[ClientId]:
        """
        List the clients in a group.

        Args:
            group: The group's name.

        Returns:
            Their ids, in no order.

        Raises:
            PartialResult: A process did not answer in time; its ``value`` is the result of the
                others.
        """
        return await self._list(Query.CLIENTS_OF_GROUP, check_group(group))

    async def sessions_of_group(self, group: str) -> dict[ClientId, dict[str, Any]]:
        """
        Read the sessions of the clients in a group.

        Args:
            group: The group's name.

        Returns:
            Copies of them, by client id.

        Raises:
            PartialResult: A process did not answer in time, or has a session that cannot be encoded
                (its log names the key); its ``value`` holds those of the others.
        """
        query = Query.SESSIONS_OF_GROUP
        values, missing = await self._ask(query, check_group(group))
        found = {name: session for pairs in values for name, session in pairs}
        if missing:
            raise PartialResult(found, missing, "no answer, or a session that cannot be sent, from")
        return found

    async def presence(self, group: str) -> dict[ClientId, ClientInfo]:
        """
        Describe the clients in a group, as SDK clients see who is in a channel.

        Args:
            group: The group's name.

        Returns:
            What is known of each, by client id; the user is ``""`` for a client without a uid.
            Clients of a process that was killed, or that the bus has lost, are not present.

        Raises:
            PartialResult: A process that is connected to the bus did not answer in time; its
                ``value`` is the result of the others.
        """
        values, missing = await self._ask(Query.PRESENCE, check_group(group), needs_all=False)
        found = {info.client: info for infos in values for info in infos}
        return _complete(found, missing)

    async def presence_stats(self, group: str) -> tuple[int, int]:
        """
        Count the clients in a group, and the users, as SDK clients see it.

        Args:
            group: The group's name.

        Returns:
            The number of clients, and that of users; clients without a uid are in the first one.

        Raises:
            PartialResult: As from :meth:`presence`.
        """
        name = check_group(group)
        (counts, _), (uids, missing) = await gather(
            self._ask(Query.COUNT_GROUP, name, needs_all=False),
            self._ask(Query.UIDS_OF_GROUP, name, needs_all=False),
        )
        return _complete((sum(counts), len(set[Uid]().union(*uids))), missing)

    async def uids_of_group(self, group: str) -> set[Uid]:
        """
        List the users in a group; clients without a uid are left out.

        Args:
            group: The group's name.

        Returns:
            Their uids.

        Raises:
            PartialResult: A process did not answer in time; its ``value`` is the result of the
                others.
        """
        return await self._set(Query.UIDS_OF_GROUP, check_group(group))

    async def groups(self) -> set[Group]:
        """
        List all groups that have a client.

        Returns:
            Their names.

        Raises:
            PartialResult: A process did not answer in time; its ``value`` is the result of the
                others.
        """
        return await self._set(Query.GROUPS, "")

    async def group_sizes(self) -> dict[Group, int]:
        """
        Count the clients in each group.

        Returns:
            The numbers in all processes, by the group's name; groups without clients are left out.

        Raises:
            PartialResult: A process did not answer in time; its ``value`` is that of the others.
        """
        values, missing = await self._ask(Query.GROUP_SIZES, "")
        sizes: Counter[Group] = Counter()
        for pairs in values:
            sizes.update(dict(pairs))
        return _complete(dict(sizes), missing)

    async def count_clients(self) -> int:
        """
        Count all clients.

        Returns:
            The number in all processes.

        Raises:
            PartialResult: A process did not answer in time; its ``value`` is that of the others.
        """
        return await self._sum(Query.COUNT_CLIENTS, "")

    async def count_group(self, group: str) -> int:
        """
        Count the clients in a group.

        Args:
            group: The group's name.

        Returns:
            The number in all processes.

        Raises:
            PartialResult: A process did not answer in time; its ``value`` is that of the others.
        """
        return await self._sum(Query.COUNT_GROUP, check_group(group))

    async def count_uids(self) -> int:
        """
        Count the users that have a client; a user with clients in two processes counts once.

        Returns:
            The number in all processes.

        Raises:
            PartialResult: A process did not answer in time; its ``value`` is that of the others.

        Cost:
            Every process sends all its uids.
        """
        values, missing = await self._ask(Query.UIDS, "")
        return _complete(len(set[Uid]().union(*values)), missing)

    async def _ask_about(self, client: str, query: Query) -> Any:
        """Ask the process of a client; ``None`` if the client has disconnected."""
        name = check_client_id(client)
        with suppress(UnknownClient):
            return await self.local_node.query_client.ask_node(query, name)
        return None

    async def _ask(
        self, query: Query, name: str, *, needs_all: bool = True
    ) -> tuple[list[Any], Collection[NodeId]]:
        return await self.local_node.query_client.ask_all(query, name, needs_all=needs_all)

    async def _list(self, query: Query, name: str) -> list[Any]:
        values, missing = await self._ask(query, name)
        return _complete([one for value in values for one in value], missing)

    async def _set(self, query: Query, name: str) -> set[Any]:
        values, missing = await self._ask(query, name)
        return _complete(set().union(*values), missing)

    async def _sum(self, query: Query, name: str) -> int:
        values, missing = await self._ask(query, name)
        total: int = sum(values)
        return _complete(total, missing)


def _complete(value: T, missing: Collection[NodeId]) -> T:
    if missing:
        raise PartialResult(value, missing)
    return value


def _says_yes(raw: Raw) -> bool:
    # A malformed answer is rejected when all answers are read.
    with suppress(EnvelopeError):
        return any(read(Query.IS_UID_ONLINE, [raw]))
    return False
