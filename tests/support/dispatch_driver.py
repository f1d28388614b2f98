"""Drives a dispatch: clients and business processes that do what a test says."""

from gateman.cluster.names import ClientId, NodeId
from gateman.gateway.actions import DispatchAction, Send
from gateman.gateway.dispatch import Dispatch
from gateman.gateway.protocol import (
    AdoptEvent,
    AnyEvent,
    Begun,
    Done,
    Events,
    HandshakeAnswer,
    MessageEvent,
    Offer,
    Result,
)

IP = "10.0.0.1"
HELLO = Offer(is_leaving=False, load=0)


class DispatchDriver:
    """A dispatch, and the clients and business processes that it knows."""

    def __init__(self, *nodes: NodeId, grace_period: float = 0, has_commands: bool = False) -> None:
        self.dispatch = Dispatch(grace_period=grace_period, has_commands=has_commands)
        self._kept: list[DispatchAction] = []
        self._acknowledged: dict[tuple[NodeId, int], int] = {}
        self.join(*nodes)

    def join(self, *nodes: NodeId) -> None:
        """Let processes offer themselves; the actions are taken later."""
        for node in nodes:
            self.dispatch.receive(node, HELLO, 0)

    def connect(self, *clients: ClientId) -> None:
        """Connect clients and let the process of each accept it."""
        for client in clients:
            self.dispatch.connect(client, IP, 1, b"GET")
            window = self.dispatch.clients[client].window
            assert window is not None
            self.take()
            self.done(window.node, window.last, answer=HandshakeAnswer(0))
            self.dispatch.open(client)
            self.take()
            self.done(window.node, window.last)

    def send(self, client: ClientId, *payloads: bytes, session: bytes = b"") -> None:
        """Let a client send messages."""
        gateway_client = self.dispatch.clients[client]
        for payload in payloads:
            self.dispatch.set_session(gateway_client, session)
            self.dispatch.message(gateway_client, payload)

    def done(self, node: NodeId, *numbers: int, **result: object) -> None:
        """Deliver everything to a process, which reports some events as done."""
        window = self.dispatch.windows[node]
        self.take()
        first = self._acknowledged.get((node, window.epoch), 0) + 1
        self._acknowledged[node, window.epoch] = first - 1 + len(numbers)
        results = [Result(number, **result) for number in numbers]  # type: ignore[arg-type]
        done = Done(window.epoch, window.last, has_gap=False, first=first, results=results)
        self.dispatch.receive(node, done, 0)

    def begin(self, node: NodeId, *numbers: int) -> None:
        """Deliver everything to a process, which announces that it begins some events."""
        self.done(node)
        for number in numbers:
            self.dispatch.receive(node, Begun(self.dispatch.windows[node].epoch, number), 0)

    def kill(self, node: NodeId) -> list[DispatchAction]:
        """End a process; returns the actions that are not packets, and keeps all of them."""
        self.take()
        self.dispatch.probed(node, 0, is_connected=False)
        self._kept = self.dispatch.take_actions()
        return [action for action in self._kept if not isinstance(action, Send)]

    def take(self) -> list[DispatchAction]:
        """Take the actions that are to be done."""
        kept, self._kept = self._kept, []
        return kept + self.dispatch.take_actions()

    def sent(self) -> list[tuple[NodeId, list[AnyEvent]]]:
        """Take the actions; returns the events that are sent, by process."""
        return [
            (action.node, action.packet.items)
            for action in self.take()
            if isinstance(action, Send)
            and action.node is not None
            and isinstance(action.packet, Events)
            and action.packet.items
        ]

    def assignments(self) -> dict[ClientId, NodeId | None]:
        """Return the process of each client."""
        return {
            name: None if client.window is None else client.window.node
            for name, client in self.dispatch.clients.items()
        }


def message(
    client: ClientId, payload: bytes, suspicion: int = 0, session: bytes | None = None
) -> MessageEvent:
    """Make a message."""
    return MessageEvent(client, suspicion, session, is_text=False, payload=payload)


def adopt(client: ClientId) -> AdoptEvent:
    """Make the event that precedes the others of a client that another process adopts."""
    return AdoptEvent(client, 0, b"", IP, 1)
