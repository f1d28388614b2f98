"""What tokens of SDK clients allow, and what a client is told whose token is not valid."""

import json

from ..clients.allow import MAX_SECONDS, Allow
from ..clients.channel import is_personal
from ..clients.codes import DISCONNECT_REASONS, DisconnectCode, ErrorCode
from ..clients.tokens import ConnectionClaims
from ..cluster.names import check_channel, check_uid
from ..cluster.publication import personal_channel
from ..errors import ConfigError, TokenError
from .client import Client
from .client_callbacks import DENIED, INTERNAL, Disconnected, Refusal, Refused
from .client_tokens import ClientTokens

# Seconds; a token that ends in this moment is refreshed in the next.
_SHORTEST_LIFE = 1.0

_EXPIRED = Refused(ErrorCode.TOKEN_EXPIRED)
_INVALID = Disconnected(
    DisconnectCode.INVALID_TOKEN, DISCONNECT_REASONS[DisconnectCode.INVALID_TOKEN]
)


class TokenChecks:
    """The checks of one worker's tokens."""

    def __init__(self, tokens: ClientTokens) -> None:
        self._tokens = tokens

    async def connection(self, token: str) -> ConnectionClaims | Refusal:
        """Verify the token of a connect command."""
        try:
            claims = await self._tokens.connection(token)
        except TokenError as error:
            return _refusal(error, _INVALID)
        problem = _problem_of_names(claims)
        if problem:
            self._tokens.log_problem(problem, "names")
            return _INVALID
        return claims

    async def refresh(self, client: Client, token: str) -> Allow | Refusal:
        """Verify the token of a refresh command, which must be of the same user."""
        claims = await self.connection(token)
        if not isinstance(claims, ConnectionClaims):
            return claims
        if claims.user != client.uid:
            self._tokens.log_problem("it is for another user than the connection's", "user")
            return _INVALID
        return self.allow(claims.expires_at, b"")

    async def subscription(self, client: Client, channel: str, token: str) -> Allow | Refusal:
        """Verify the token of a subscribe or sub_refresh command."""
        try:
            claims = await self._tokens.subscription(token, channel, client.uid)
        except TokenError as error:
            return _refusal(error, DENIED)
        return self.allow(claims.expires_at, claims.info)

    def allow(self, expires_at: float | None, info: bytes) -> Allow:
        """Return what a token says about a connection or a subscription."""
        ttl = self._tokens.ttl(expires_at)
        return Allow(
            info=json.loads(info) if info else None,
            expires_in=None if ttl is None else min(max(ttl, _SHORTEST_LIFE), MAX_SECONDS),
        )


def _problem_of_names(claims: ConnectionClaims) -> str:
    """Say which name in a token cannot be one; empty if all can."""
    try:
        if claims.user:
            check_uid(claims.user)
        for channel in claims.subs:
            check_channel(channel)
    except ConfigError as error:
        return error.problem
    own = personal_channel(claims.user) if claims.user else ""
    others = [one for one in claims.subs if is_personal(one) and one != own]
    return f"{others[0]!r:.40} in it is a personal channel" if others else ""


def _refusal(error: TokenError, otherwise: Refusal) -> Refusal:
    if error.is_expired:
        return _EXPIRED
    return INTERNAL if error.is_temporary else otherwise
