"""Tokens of SDK clients, with the keys of a provider, which are fetched over https."""

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage
from typing import IO, NoReturn

from ..clients.tokens import (
    ConnectionClaims,
    KeyCache,
    SubscriptionClaims,
    Tokens,
    Verifier,
    read_keys,
)
from ..errors import TokenError
from ..log import RateLimitedLogger

# A set of keys has about 2 KiB.
_MAX_DOCUMENT_SIZE = 256 << 10  # bytes

# Characters of why a token is not valid, which may quote the token.
_MAX_PROBLEM_LENGTH = 200

_FETCH_TIMEOUT = 5.0  # seconds; SDKs wait for 5 s for the answer to connect


class ClientTokens:
    """
    Verifies tokens; those of a provider are awaited until its keys are here.

    Args:
        tokens: What the service declares.
        max_size: Bytes of a token.
        clock: Seconds since 1970.
    """

    def __init__(
        self, tokens: Tokens, max_size: int, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._tokens = tokens
        self._verifier = Verifier(tokens, max_size)
        self._cache = KeyCache()
        self._clock = clock
        self._fetching: asyncio.Task[None] | None = None
        self._rate_limited = RateLimitedLogger()

    async def connection(self, token: str) -> ConnectionClaims:
        """Verify a connection token; TokenError if it is not valid."""
        await self._need_key(token)
        with self._logged():
            return self._verifier.connection(token, self._clock())

    async def subscription(self, token: str, channel: str, user: str) -> SubscriptionClaims:
        """Verify a user's subscription token; TokenError if it is not valid for the channel."""
        await self._need_key(token)
        with self._logged():
            return self._verifier.subscription(token, channel, user, self._clock())

    def ttl(self, expires_at: float | None) -> float | None:
        """Return the seconds until a time of a token; None for none."""
        return None if expires_at is None else max(0.0, expires_at - self._clock())

    @contextmanager
    def _logged(self) -> Iterator[None]:
        """Say why a token is not valid: the client learns only that it is not."""
        try:
            yield
        except TokenError as error:
            if not error.is_expired:
                self.log_problem(str(error), error.kind)
            raise

    def log_problem(self, problem: str, kind: str) -> None:
        """Say why a token is not valid; each kind as often as a log should."""
        self._rate_limited.warning(
            kind,
            f"a client's token is not valid: {problem[:_MAX_PROBLEM_LENGTH]}",
            time.monotonic(),
        )

    async def _need_key(self, token: str) -> None:
        name = self._verifier.key_id(token)
        if name is None:
            return
        now = time.monotonic()
        if not self._cache.is_valid(now):
            self._verifier.keys = {}
        has_key = name in self._verifier.keys
        if self._fetching is None and self._cache.is_fetch_due(has_key=has_key, now=now):
            self._cache.asked(now)
            self._fetching = asyncio.create_task(self._fetch())
        if has_key:
            return
        if self._fetching is not None:
            # Others wait for it, too.
            await asyncio.wait([self._fetching], timeout=_FETCH_TIMEOUT)
        if not self._verifier.keys:
            raise TokenError("the provider's keys are not here", is_temporary=True)

    async def _fetch(self) -> None:
        url = self._tokens.jwks_url or ""
        try:
            document = await asyncio.to_thread(_get, url)
            self._verifier.keys = read_keys(document, self._tokens.algorithms)
            self._cache.got(time.monotonic())
        except (OSError, ValueError, HTTPException) as error:
            self._rate_limited.warning(
                "keys of tokens",
                f"the keys of tokens at {url} could not be had: {error}",
                time.monotonic(),
            )
        finally:
            self._fetching = None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could lead to http, or to another provider."""

    def redirect_request(  # noqa: PLR0917 - as the library calls it
        self,
        req: urllib.request.Request,  # noqa: ARG002
        fp: IO[bytes],  # noqa: ARG002
        code: int,
        msg: str,  # noqa: ARG002
        headers: HTTPMessage,  # noqa: ARG002
        newurl: str,  # noqa: ARG002
    ) -> NoReturn:
        raise ValueError(f"it answers with a redirect ({code})")


def _get(url: str) -> bytes:
    """Get a document; takes a little longer than the timeout at most. Runs in a thread."""
    ends_at = time.monotonic() + _FETCH_TIMEOUT
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - https, see Tokens
    opener = urllib.request.build_opener(_NoRedirect)
    document = b""
    try:
        opened = opener.open(request, timeout=_FETCH_TIMEOUT)
    except urllib.error.HTTPError as error:
        # It holds the connection.
        error.close()
        raise
    with opened as response:
        while part := response.read1(1 << 14):
            document += part
            if len(document) > _MAX_DOCUMENT_SIZE:
                raise ValueError(f"it has more than {_MAX_DOCUMENT_SIZE} bytes")
            if time.monotonic() > ends_at:
                raise TimeoutError(f"it takes longer than {_FETCH_TIMEOUT:g} s")
    return document
