"""
Executes actions: on clients of this node, on those of other nodes, and on groups and users of all.

Each takes effect in this process first, and is published after that.
"""

import asyncio
from collections import Counter
from collections.abc import Callable

from ..errors import ConfirmTimeout, UnknownClient
from .channels import Channel, node_channel
from .confirmation import DONE, Confirmation, PendingCommand, failed
from .confirmer import Confirmer
from .envelope import (
    BindOnly,
    ClientAction,
    CloseUid,
    Command,
    Dissolve,
    Problem,
    SetSession,
    Target,
    UpdateSession,
    WideAction,
)
from .exclusive import ExclusiveLogins
from .extension import Subscriber
from .local_clients import LocalClients
from .names import NodeId, node_of
from .node_subscriptions import NodeSubscriptions
from .publisher import Publisher
from .query_replies import refusal
from .subscriptions import topic_of


class NodeActions:
    """Executes actions of this process, and commands of other nodes."""

    def __init__(
        self,
        node: NodeId,
        *,
        publisher: Publisher,
        local_clients: LocalClients,
        subscriptions: NodeSubscriptions,
        exclusive: ExclusiveLogins,
        confirmer: Confirmer,
        is_unknown: Callable[[NodeId], bool],
        is_alone: bool,
        counts: Counter[str],
    ) -> None:
        # The services of SDK clients, which join and bind them themselves.
        self.subscribers: list[Subscriber] = []
        self._node = node
        self._publisher = publisher
        self._local_clients = local_clients
        self._subscriptions = subscriptions
        self._exclusive = exclusive
        self._confirmer = confirmer
        self._is_unknown = is_unknown
        self._is_alone = is_alone
        self._counts = counts
        self._loop = asyncio.get_running_loop()
        self._answers: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        for task in self._answers:
            task.cancel()

    def do(self, action: ClientAction) -> Confirmation[None]:
        """Execute an action on one client, on whichever node it is connected."""
        node = node_of(action.client)
        if node == self._node:
            return self._do_locally(action)
        if not self._publisher.is_open or self._is_unknown(node):
            return self._fail(UnknownClient(action.client))
        if isinstance(action, SetSession | UpdateSession):
            self._publisher.check_command(Command(self._node, 0, action))
        pending = PendingCommand(self._node, action)
        self._publisher.put(node_channel(node), pending.make)
        return self._confirmer.command(node, pending)

    def do_everywhere(self, action: WideAction) -> Confirmation[None]:
        """Execute an action on a group or a uid in all nodes."""
        self._do_wide(action)
        match action:
            case Dissolve(group):
                channel = Channel(Target.GROUPS, group)
                consequence = f"the group {group!r} may go on there"
            case CloseUid(uid):
                channel = Channel(Target.UIDS, uid)
                consequence = f"clients of {uid!r} may stay there"
        return self._confirmer.publish(channel, Command(self._node, 0, action), consequence)

    def do_for_member(self, action: ClientAction) -> Confirmation[None]:
        """Execute an action on a client of this node in the registry."""
        try:
            subscribing = self._subscriptions.update(self._local_clients.do(action))
        except UnknownClient as error:
            return DONE if self._local_clients.do_early(action) else self._fail(error)
        announced = self._exclusive.on_action(action)
        topic = topic_of(action)
        if topic is None or self._is_alone:
            return DONE
        is_login = isinstance(action, BindOnly)
        return self._confirmer.subscription(topic, subscribing, announced if is_login else None)

    def execute(self, command: Command) -> None:
        """Execute a command of another node, and answer when it is in effect, if that is wanted."""
        # Not `do`, which would forward an action on a client of another node.
        action = command.action
        if isinstance(action, WideAction):
            self._do_wide(action)
            return
        confirmation = self._do_locally(action)
        if command.request_id:
            task = self._loop.create_task(self._answer_when_done(command, confirmation))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

    def _do_wide(self, action: WideAction) -> None:
        for subscriber in self.subscribers:
            subscriber.do(action)
        self._subscriptions.update(self._local_clients.do(action))

    def _do_locally(self, action: ClientAction) -> Confirmation[None]:
        for subscriber in self.subscribers:
            confirmation = subscriber.do(action)
            if confirmation is not None:
                return confirmation
        return self.do_for_member(action)

    async def _answer_when_done(self, command: Command, confirmation: Confirmation[None]) -> None:
        problem = Problem.NONE
        try:
            await confirmation
        except UnknownClient:
            problem = Problem.UNKNOWN_CLIENT
        except ConfirmTimeout:
            return  # The other node has given up by now, too.
        answer = refusal(self._node, command.request_id, problem)
        self._publisher.publish(node_channel(command.source), answer)

    def _fail(self, error: UnknownClient) -> Confirmation[None]:
        self._counts["unknown_client"] += 1
        return failed(error)
