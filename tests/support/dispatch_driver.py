"""A dispatch, and processes that say what a test tells them to."""

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


class Talk:
    """A dispatch, and processes that do what a test says."""

    def __init__(self, *nodes: NodeId, grace_period: float = 0) -> None:
        self.dispatch = Dispatch(grace_period=grace_period)
        self._heard: dict[tuple[NodeId, int], int] = {}
        self.join(*nodes)

    def join(self, *nodes: NodeId) -> None:
        """Let processes come; what they are sent is left to the next look."""
        for node in nodes:
            self.dispatch.receive(node, HELLO, 0)

    def come(self, *clients: ClientId) -> None:
        """Let clients come in, where somebody is there for them."""
        for client in clients:
            self.dispatch.connect(client, IP, 1, b"GET")
            window = self.dispatch.clients[client].window
            assert window is not None
            self.take()
            self.done(window.node, window.last, answer=HandshakeAnswer(0))
            self.dispatch.open(client)
            self.take()
            self.done(window.node, window.last)

    def say(self, client: ClientId, *payloads: bytes, session: bytes = b"") -> None:
        """Let a client send messages."""
        gateway_client = self.dispatch.clients[client]
        for payload in payloads:
            self.dispatch.set_session(gateway_client, session)
            self.dispatch.message(gateway_client, payload, is_text=False)

    def done(self, node: NodeId, *numbers: int, **result: object) -> None:
        """Let a process have everything, and be done with some of it."""
        window = self.dispatch.windows[node]
        self.take()
        first = self._heard.get((node, window.epoch), 0) + 1
        self._heard[node, window.epoch] = first - 1 + len(numbers)
        results = [Result(number, **result) for number in numbers]  # type: ignore[arg-type]
        done = Done(window.epoch, window.last, has_gap=False, first=first, results=results)
        self.dispatch.receive(node, done, 0)

    def begin(self, node: NodeId, *numbers: int) -> None:
        """Let a process have everything, and begin with some of it."""
        self.done(node)
        for number in numbers:
            self.dispatch.receive(node, Begun(self.dispatch.windows[node].epoch, number), 0)

    def die(self, node: NodeId) -> list[DispatchAction]:
        """Let a process die; gives what is done but for what is sent."""
        self.take()
        self.dispatch.probed(node, 0, is_connected=False)
        return [one for one in self.dispatch._actions if not isinstance(one, Send)]  # noqa: SLF001

    def take(self) -> list[DispatchAction]:
        """Take what is to be done."""
        return self.dispatch.take_actions()

    def events(self) -> list[tuple[NodeId, list[AnyEvent]]]:
        """Take what is sent to whom; only events."""
        return [
            (action.node, action.packet.items)
            for action in self.take()
            if isinstance(action, Send)
            and action.node is not None
            and isinstance(action.packet, Events)
            and action.packet.items
        ]

    def homes(self) -> dict[ClientId, NodeId | None]:
        """Tell whose each client is."""
        clients = self.dispatch.clients.items()
        return {name: None if one.window is None else one.window.node for name, one in clients}


def message(
    client: ClientId, payload: bytes, suspicion: int = 0, session: bytes | None = None
) -> MessageEvent:
    """Make a message."""
    return MessageEvent(client, suspicion, session, is_text=False, payload=payload)


def adopt(client: ClientId) -> AdoptEvent:
    """Make what goes ahead of a client that moves."""
    return AdoptEvent(client, 0, b"", IP, 1)
