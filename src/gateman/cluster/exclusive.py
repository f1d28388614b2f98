"""Exclusive logins: applies them to the local clients, and announces them to other nodes."""

import asyncio
import time
from collections.abc import Callable
from math import inf

from .channels import EVERYBODY, Channel, node_channel
from .confirmation import DONE, Confirmation
from .envelope import Bind, BindOnly, Claim, Claims, ClientAction, CloseClient, Hello, Unbind
from .local_clients import LocalClients
from .logins import Heard, Logins
from .names import ClientId, NodeId

# Claims per envelope, of at most about 500 bytes each.
_BATCH = 64


class ExclusiveLogins:
    """The exclusive logins of one node."""

    def __init__(
        self,
        node: NodeId,
        local: LocalClients,
        *,
        announce: Callable[[Channel, Claims, str], Confirmation[None]],
        ask: Callable[[NodeId, float], None],
    ) -> None:
        self.logins = Logins()
        self.heard = Heard()
        self.count = 0
        self._ask = ask
        self._node = node
        self._local = local
        self._announce = announce
        self._loop = asyncio.get_running_loop()

    def note(self, action: ClientAction) -> Confirmation[None]:
        """Note an action on a local client; a login closes the user's other clients."""
        if isinstance(action, (Bind, Unbind)):
            self.logins.forget(action.client)
        if not isinstance(action, BindOnly):
            return DONE
        claim = self.logins.claim(action, wall_time=time.time(), now=self._loop.time())
        self._judge(claim)
        doubt = f"older clients of the uid {claim.uid!r} may still be connected there"
        self.count += 1
        return self._announce(EVERYBODY, Claims(self._node, [claim], self.count), doubt)

    def meet(self, hello: Hello) -> None:
        """Handle what a hello says about the logins of its node."""
        source, now = hello.source, self._loop.time()
        self.logins.observe(hello.clock)
        if source not in self.heard:
            self.heard.begin(source, hello.claims, now)
            if not hello.is_new:
                # It was disconnected from us; or we have just started, and have no logins.
                self.repeat(inf, node_channel(source))
        elif seconds := self.heard.told(source, hello.claims, now):
            self._ask(source, seconds)
        if hello.away:
            self.repeat(hello.away, node_channel(source))

    def take(self, claims: Claims) -> None:
        """Handle the logins of another node; answer with local ones that are newer."""
        answers: list[Claim] = []
        if claims.number and (
            seconds := self.heard.hear(claims.source, claims.number, self._loop.time())
        ):
            self._ask(claims.source, seconds)
        for claim in claims.claims:
            self.logins.observe(claim.stamp)
            answer = self._judge(claim)
            if answer is not None:
                answers.append(answer)
        self._say(node_channel(claims.source), answers)

    def repeat(self, seconds: float, channel: Channel) -> None:
        """Publish again the logins that may have been missed in the last seconds."""
        self._say(channel, self.logins.since(self._loop.time() - seconds))

    def _judge(self, claim: Claim) -> Claim | None:
        clients = self._local.registry.clients_of_uid(claim.uid)
        losers, answer = self.logins.judge(claim, clients)
        for client in losers:
            self._close(client, claim)
        return answer

    def _close(self, client: ClientId, claim: Claim) -> None:
        # Closing a client may run application code, which may have closed the next one.
        if client in self._local.registry:
            self._local.do(CloseClient(client, claim.code, claim.reason))

    def _say(self, channel: Channel, claims: list[Claim]) -> None:
        for start in range(0, len(claims), _BATCH):
            self._announce(channel, Claims(self._node, claims[start : start + _BATCH]), "")
