"""Exclusive logins: applies them to the local clients, and announces them to other nodes."""

import asyncio
import time
from collections.abc import Callable
from math import inf

from .channels import EVERYBODY, Channel, node_channel
from .confirmation import DONE, Confirmation
from .envelope import Bind, BindOnly, Claim, Claims, ClientAction, CloseClient, Hello, Unbind
from .local_clients import LocalClients
from .logins import Logins, ReceivedLogins
from .names import ClientId, NodeId

# Claims per envelope, of at most about 500 bytes each.
_BATCH = 64


class ExclusiveLogins:
    """The exclusive logins of one node."""

    def __init__(
        self,
        node: NodeId,
        local_clients: LocalClients,
        *,
        publish: Callable[[Channel, Claims, str], Confirmation[None]],
        request_logins: Callable[[NodeId, float], None],
    ) -> None:
        self.logins = Logins()
        self.received = ReceivedLogins()
        self.count = 0
        self._request_logins = request_logins
        self._node = node
        self._local_clients = local_clients
        self._publish = publish
        self._loop = asyncio.get_running_loop()

    def on_action(self, action: ClientAction) -> Confirmation[None]:
        """Note an action on a local client; a login closes the user's other clients."""
        if isinstance(action, (Bind, Unbind)):
            self.logins.forget(action.client)
        if not isinstance(action, BindOnly):
            return DONE
        claim = self.logins.claim(action, wall_time=time.time(), now=self._loop.time())
        self._close_older(claim)
        consequence = f"older clients of the uid {claim.uid!r} may still be connected there"
        self.count += 1
        return self._publish(EVERYBODY, Claims(self._node, [claim], self.count), consequence)

    def on_hello(self, hello: Hello) -> None:
        """Handle what a hello says about the logins of its node."""
        source, now = hello.source, self._loop.time()
        self.logins.observe(hello.clock)
        if source not in self.received:
            self.received.begin(source, hello.claims, now)
            if not hello.is_new:
                # It was disconnected from us; or we have just started, and have no logins.
                self.republish(inf, node_channel(source))
        elif seconds := self.received.reported(source, hello.claims, now):
            self._request_logins(source, seconds)
        if hello.away:
            self.republish(hello.away, node_channel(source))

    def on_claims(self, claims: Claims) -> None:
        """Handle the logins of another node; answer with local ones that are newer."""
        answers: list[Claim] = []
        if claims.number and (
            seconds := self.received.received(claims.source, claims.number, self._loop.time())
        ):
            self._request_logins(claims.source, seconds)
        for claim in claims.claims:
            self.logins.observe(claim.stamp)
            answer = self._close_older(claim)
            if answer is not None:
                answers.append(answer)
        self._publish_claims(node_channel(claims.source), answers)

    def republish(self, seconds: float, channel: Channel) -> None:
        """Publish again the logins that may have been missed in the last seconds."""
        self._publish_claims(channel, self.logins.since(self._loop.time() - seconds))

    def _close_older(self, claim: Claim) -> Claim | None:
        clients = self._local_clients.registry.clients_of_uid(claim.uid)
        losers, answer = self.logins.resolve(claim, clients)
        for client in losers:
            self._close(client, claim)
        return answer

    def _close(self, client: ClientId, claim: Claim) -> None:
        # Closing a client may run application code, which may have closed the next one.
        if client in self._local_clients.registry:
            self._local_clients.do(CloseClient(client, claim.code, claim.reason))

    def _publish_claims(self, channel: Channel, claims: list[Claim]) -> None:
        for start in range(0, len(claims), _BATCH):
            self._publish(channel, Claims(self._node, claims[start : start + _BATCH]), "")
