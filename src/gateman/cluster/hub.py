"""
The hub: send to users and groups, wherever their clients are connected, and ask about them.

    from gateman import hub

    hub.send_to_uid("42", "your order is ready")
    await hub.is_uid_online("42")

Sending never waits: clients of this process get a message at the end of this turn of the event
loop, others over the bus, at most once. Messages from one sender to one client arrive in order.
Losses are counted in :attr:`Hub.counts`, by their cause.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Iterable
from threading import get_ident
from types import TracebackType
from typing import Any, Final, Self

from ..bus import Bus, Gap, open_bus
from ..errors import ConfigError, HubError, WrongThread
from ..options import is_positive
from .confirmation import Confirmation
from .envelope import Target, encode_value
from .hub_actions import Message
from .hub_channels import HubChannels
from .names import (
    Names,
    NodeId,
    check_client_id,
    check_client_ids,
    check_group,
    check_several,
    check_topic,
    check_uid,
)
from .node import Node
from .node_channels import NOTHING_KEPT, Appended, Kept
from .publication import as_message
from .query_client import DEFAULT_TIMEOUT
from .services import Outline

# A global of the module: an attribute of an enum class costs 40 ns more.
_CLIENTS = Target.CLIENTS

# Seconds to wait for an answer; more is a mistake.
_MAX_SECONDS = 1_000_000


class Hub(HubChannels):
    """
    Sends to clients, users and groups, wherever they are connected, and asks about them.

    A *client id* names one connection (``connection.client_id``). A *uid* is the application's name
    for a user: a client has at most one, and a user may have many clients. A *group* is a set of
    clients. Uids and groups are text of 1 to 255 bytes of UTF-8.

    Raises:
        ConfigError: From every method: a name is invalid.
        WrongThread: From every method: this is not the thread of the event loop.
        HubError: From every method: the hub does not run; in a worker it runs from
            ``on_worker_start`` to ``on_worker_stop``. From those that send: the message is too
            big for the bus; no client got it.
    """

    # A misspelt `on_gap` is an error.
    __slots__ = ("_answer_timeout", "_local_node", "_on_gap")

    def __init__(self, local_node: Node | None = None) -> None:
        """Make a hub that does not run, or one of a node that does; a process has :data:`hub`."""
        if isinstance(local_node, str):
            raise ConfigError("Hub() got a URL", "write await Hub.connect(url)")
        self._local_node = local_node
        self._on_gap: Callable[[Gap], object] | None = None
        self._answer_timeout = DEFAULT_TIMEOUT

    @classmethod
    async def connect(cls, url: str, **options: object) -> Self:
        """
        Connect to the hub from a program that has no clients.

        Args:
            url: URL of the bus that the service uses: ``local:///path/to/socket`` or
                ``nats://host:4222?name=chat``.
            options: Options of that bus.

        Returns:
            The hub; stop it, or use it in ``async with``.

        Raises:
            ConfigError: The URL or an option is invalid.
            BusError: The bus cannot be reached, or refuses the connection.
        """
        hub = cls()
        await hub.start(open_bus(url, **options), has_clients=False, needs_bus=True)
        return hub

    async def start(
        self,
        bus: Bus | None,
        *,
        has_clients: bool = True,
        needs_bus: bool = False,
        service: Outline = (),
        kept: Kept = NOTHING_KEPT,
    ) -> None:
        """
        Run on this event loop; a worker process does this itself.

        Args:
            bus: The bus to other processes, not started; ``None`` if there are none.
            has_clients: Whether clients connect to this process.
            needs_bus: Whether to fail if the bus cannot be reached; otherwise it keeps trying.
            service: What the service's script declares; see :mod:`.services`.
            kept: What is kept of channels, by pattern.

        Raises:
            BusError: The bus is needed and cannot be reached, or refuses the connection.
        """
        if self._local_node is not None and not self._local_node.is_closed:
            raise HubError(
                "the hub runs already: a process has one, so give all workers to one serve()"
            )
        local_node = Node(
            bus,
            has_clients=has_clients,
            needs_bus=needs_bus,
            service=service,
            kept=kept,
        )
        local_node.on_gap = self._on_gap
        local_node.query_client.timeout = self._answer_timeout
        await local_node.start()
        self._local_node = local_node

    async def stop(self) -> None:
        """Send what is pending, and stop; does nothing if the hub does not run."""
        local_node, self._local_node = self._local_node, None
        if local_node is not None and not local_node.is_closed:
            await local_node.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def local_node(self) -> Node:
        """The node of this process, for code on the thread of its event loop."""
        local_node = self._local_node
        if local_node is None or local_node.is_closed:
            local_node = self._running
        if get_ident() != local_node.thread:
            raise WrongThread(f"hub.{_called_method()}")
        return local_node

    @property
    def _running(self) -> Node:
        """The node of this process, for what may be read from any thread."""
        if self._local_node is None:
            raise HubError(
                "the hub does not run: in a process of a service it does from on_worker_start to"
                " on_worker_stop; a program that is none, such as a web application, connects its"
                " own, with SyncHub or Hub.connect"
            )
        if self._local_node.is_closed:
            raise HubError(
                "the hub belongs to an event loop that has ended, or to the process that forked"
                " this one: connect another hub, or use SyncHub"
            )
        return self._local_node

    @property
    def is_connected(self) -> bool:
        """Whether other processes can be reached; always true without a bus."""
        return self._running.is_connected

    @property
    def node(self) -> NodeId:
        """The id of this process, new at each start."""
        return self._running.id

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """The ids of the other processes with clients that were heard from."""
        return self._running.liveness.peers.names()

    @property
    def counts(self) -> Counter[str]:
        """
        Counters by name.

        Messages and events of this process: ``published``, ``unsent`` (the bus did not accept them:
        it was away, or too much was pending), ``uncertain`` (it accepted them, and was away after
        that). Of others: ``received``, ``lost`` (they were sent, and did not arrive). Also:
        ``unsent_commands`` (actions for other processes), ``unknown_client``, ``events_dropped`` (a
        handler was too slow), ``events_failed``, ``bad_envelope``, ``late_answer``, ``unsendable``,
        ``gaps``. Of SDK clients: ``failed_subscriptions``, ``binary_to_json_client``.
        """
        return self._running.counts

    @property
    def on_gap(self) -> Callable[[Gap], object] | None:
        """
        Called with a :class:`~gateman.bus.Gap` when the bus was away, or lost something.

        The gap says since when, and how many messages of this process were not sent. The function
        may be plain or ``async def``.
        """
        return self._on_gap

    @on_gap.setter
    def on_gap(self, function: Callable[[Gap], object] | None) -> None:
        if function is not None and not callable(function):
            raise ConfigError(f"on_gap={function!r} is not a function", "give it one of (gap)")
        self._on_gap = function
        if self._local_node is not None:
            self._local_node.on_gap = function

    @property
    def answer_timeout(self) -> float:
        """Seconds that other processes may take to answer or to confirm; 3 by default."""
        return self._answer_timeout

    @answer_timeout.setter
    def answer_timeout(self, seconds: float) -> None:
        if not is_positive(seconds, _MAX_SECONDS):
            raise ConfigError(f"answer_timeout={seconds!r} cannot work", "give it in seconds")
        self._answer_timeout = seconds
        if self._local_node is not None:
            self._local_node.query_client.timeout = seconds

    def send_to_all(self, message: Message, *, exclude: Names = ()) -> Confirmation[int]:
        """
        Send a message to every client.

        Args:
            message: ``str`` goes out as text, anything bytes-like as binary, other values as JSON.
            exclude: Client ids that do not get it, usually the sender.

        Returns:
            May be awaited: the number of clients it was sent to; see :meth:`send_to_uid`.
        """
        return self._send(Target.ALL, (), message, exclude)

    def send_to_group(
        self, group: Names, message: Message, *, exclude: Names = ()
    ) -> Confirmation[int]:
        """
        Send a message to the clients in a group.

        Args:
            group: One, or several; a client in two of them gets it once.
            message: ``str`` goes out as text, anything bytes-like as binary, other values as JSON.
            exclude: Client ids that do not get it, usually the sender.

        Returns:
            May be awaited: the number of clients it was sent to; see :meth:`send_to_uid`.

        Cost:
            One encoding, one write for each member here, and one message on the bus to the
            processes that have members. A message to several groups goes to all processes.
        """
        return self._send(Target.GROUPS, check_several(check_group, group), message, exclude)

    def send_to_uid(
        self, uid: Names, message: Message, *, exclude: Names = ()
    ) -> Confirmation[int]:
        """
        Send a message to all clients of a user.

        Args:
            uid: One, or several.
            message: ``str`` goes out as text, anything bytes-like as binary, other values as JSON.
            exclude: Client ids that do not get it.

        Returns:
            May be awaited: the number of clients in all processes that it was sent to, without
            those whose protocol has no such messages. It does not say whether they have read it.
            Awaiting asks all processes, and raises :class:`~gateman.errors.PartialResult` if one
            does not answer in time; its ``value`` counts the clients of the others.
        """
        return self._send(Target.UIDS, check_several(check_uid, uid), message, exclude)

    def send_to_client(self, client: str, message: Message) -> Confirmation[int]:
        """
        Send a message to one client; if it has disconnected, ``unknown_client`` is counted.

        Args:
            client: Its id.
            message: ``str`` goes out as text, anything bytes-like as binary, other values as JSON.

        Returns:
            May be awaited: 1, or 0 if it is not connected; see :meth:`send_to_uid`.
        """
        client_id = check_client_id(client)
        sender = self.local_node.sender
        kind, payload = as_message(message)
        sender.send_to_client(client_id, kind, payload)
        return Confirmation(sender.count, (_CLIENTS, (client_id,), (), kind))

    def send_to_clients(self, clients: Iterable[str], message: Message) -> Confirmation[int]:
        """
        Send a message to several clients, once to each.

        Args:
            clients: Their ids.
            message: ``str`` goes out as text, anything bytes-like as binary, other values as JSON.

        Returns:
            May be awaited: how many of them are connected; see :meth:`send_to_uid`.
        """
        client_ids = check_client_ids(clients)
        sender = self.local_node.sender
        kind, payload = as_message(message)
        sender.send_to_clients(client_ids, kind, payload)
        return Confirmation(sender.count, (_CLIENTS, client_ids, (), kind))

    def _send(
        self, target: Target, names: tuple[str, ...], message: Message, exclude: Names
    ) -> Confirmation[int]:
        kind, payload = as_message(message)
        excluded = check_client_ids(exclude)
        sender = self.local_node.sender
        appended: Appended = ()
        if target is Target.ALL or names:
            appended = sender.send(target, names, kind, payload, excluded)
        return Confirmation(sender.count, (target, names, excluded, kind, appended))

    def send_event(self, topic: str, data: Any = None) -> None:
        """
        Send an event to the code of all processes; never waits.

        It calls every function declared with ``@worker.on_event(topic)``, in each process of that
        worker, on all machines, including this process. At most once, in order for each sender, and
        counted like messages.

        Args:
            topic: 1 to 255 bytes of UTF-8.
            data: Values that MessagePack can encode, see :meth:`set_session`; tuples and sets
                arrive as lists.

        Raises:
            EnvelopeError: A value cannot be encoded.
            HubError: It is too big for the bus (about 1 MiB); no process got it.
        """
        payload = bytes(encode_value(data))
        self.local_node.sender.send(Target.EVENTS, (check_topic(topic),), 2, payload)


def _called_method() -> str:
    """Find the name of the public method that is being called."""
    frame = inspect.currentframe()
    while frame is not None and (name := frame.f_code.co_name).startswith(("_", "local_node")):
        frame = frame.f_back
    return "" if frame is None else name


# In Python's errors and warnings, the methods have the names that callers know.
for _part in Hub.__mro__[1:-1]:
    for _name, _method in vars(_part).items():
        if inspect.isfunction(_method):
            _method.__qualname__ = f"Hub.{_name}"

hub: Final = Hub()
"""The hub of this process."""
