"""Exclusive logins at work: what they do to the clients here, and what other processes hear."""

import asyncio
import time
from collections.abc import Callable

from .channels import EVERYBODY, Channel, node_channel
from .deeds import DONE, Deed
from .envelope import Bind, BindOnly, Claim, Claims, ClientAction, Close, Unbind
from .local import Local
from .logins import Logins
from .names import ClientId, NodeId

# Claims of one envelope: some 500 bytes each, at most.
_BATCH = 64


class ExclusiveLogins:
    """
    Those of one process.

    Attributes:
        logins: Which are the newest.
    """

    def __init__(
        self, node: NodeId, local: Local, *, announce: Callable[[Channel, Claims, str], Deed[None]]
    ) -> None:
        """
        Begin with none.

        Args:
            node: This process.
            local: Its clients.
            announce: Publishes; gives what may be awaited until all have it. Its last argument
                is what may not be so if they do not.
        """
        self.logins = Logins()
        self._node = node
        self._local = local
        self._announce = announce
        self._loop = asyncio.get_running_loop()

    def note(self, action: ClientAction) -> Deed[None]:
        """
        Take note of what was done with a client here; a login closes the others of its user.

        Args:
            action: What.

        Returns:
            May be awaited: until no older client of the user is open anywhere.
        """
        if isinstance(action, (Bind, Unbind)):
            self.logins.forget(action.client)
        if not isinstance(action, BindOnly):
            return DONE
        claim = self.logins.claim(action, wall_time=time.time(), now=self._loop.time())
        self._judge(claim)
        doubt = f"older clients of the uid {claim.uid!r} may still be connected there"
        return self._announce(EVERYBODY, Claims(self._node, [claim]), doubt)

    def take(self, claims: Claims) -> None:
        """Take the logins of another process, and answer with those here that are newer."""
        answers: list[Claim] = []
        for claim in claims.claims:
            self.logins.observe(claim.stamp)
            answer = self._judge(claim)
            if answer is not None:
                answers.append(answer)
        self._say(node_channel(claims.source), answers)

    def repeat(self, seconds: float, channel: Channel) -> None:
        """Say again what may not have been heard for so many seconds."""
        self._say(channel, self.logins.since(self._loop.time() - seconds))

    def _judge(self, claim: Claim) -> Claim | None:
        clients = self._local.registry.clients_of_uid(claim.uid)
        losers, answer = self.logins.judge(claim, clients)
        for client in losers:
            self._close(client, claim)
        return answer

    def _close(self, client: ClientId, claim: Claim) -> None:
        # Closing one may run code of the application's, which may have closed the next.
        if client in self._local.registry:
            self._local.do(Close(client, claim.code, claim.reason))

    def _say(self, channel: Channel, claims: list[Claim]) -> None:
        for start in range(0, len(claims), _BATCH):
            self._announce(channel, Claims(self._node, claims[start : start + _BATCH]), "")
