"""
The plain HTTP port of workers with ACME: answers HTTP-01, and redirects everything else to https.

All processes of the workers that declare its address accept from the same sockets.
"""

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path

from ..acme.options import HTTP_01, AcmeOptions
from ..acme.storage import Storage
from ..findings.acme import ACME_STORAGE
from ..http import challenge
from ..http.client_address import TrustedProxies
from ..http.response import Response
from ..net.accepted_socket import AcceptConfig, PeerInfo
from ..net.acceptor import Acceptor
from ..net.admission import Admission
from ..net.certificate_wait import CertificateWait
from ..net.connection_events import ConnectionEvents
from ..net.deadlines import Deadlines
from ..net.plain_http import PlainHttp
from ..options import Limits, Timeouts
from ..request import Request

# An authority connects a handful of times, and a browser that is redirected once.
_MAX_CONNECTIONS = 512


class ChallengeListener:
    """The plain HTTP port of one process; ``port`` is that of https, as its clients see it."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        certificates: Sequence[AcmeOptions],
        *,
        port: int,
        limits: Limits,
        timeouts: Timeouts,
        events: ConnectionEvents,
    ) -> None:
        self._names = frozenset(name for one in certificates for name in one.domains)
        folders = dict.fromkeys(one.storage for one in certificates)
        self._storages = [Storage(Path(folder)) for folder in folders]
        self._port = port
        self._limits = limits
        self._timeouts = timeouts
        self._events = events
        loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(loop)
        self._connections: set[PlainHttp] = set()
        accept_config = AcceptConfig(
            certificate_wait=CertificateWait(loop),
            deadlines=self._deadlines,
            make_protocol=self._make_protocol,
            events=events,
            contexts=None,
            # A proxy's connections count for its address: no request is asked for the client's.
            trusted_proxies=TrustedProxies(()),
            requires_proxy=False,
            handshake_timeout=timeouts.handshake,
            close_timeout=timeouts.close,
            user_timeout=None,
        )
        admission = Admission(limits, _MAX_CONNECTIONS)
        self._acceptors = [Acceptor(sock, accept_config, admission) for sock in sockets]

    def start(self) -> None:
        for acceptor in self._acceptors:
            acceptor.start()

    def stop(self) -> None:
        """Stop accepting; connections accepted before continue."""
        for acceptor in self._acceptors:
            acceptor.stop()

    def close(self) -> None:
        self.stop()
        for acceptor in self._acceptors:
            acceptor.abort_early()
        for connection in list(self._connections):
            connection.expired()

    def _make_protocol(self, peer_info: PeerInfo) -> PlainHttp:
        return PlainHttp(
            self._answer,
            peer_info,
            limits=self._limits,
            deadlines=self._deadlines,
            close_timeout=self._timeouts.close,
            connections=self._connections,
        )

    def _answer(self, request: Request) -> Response:
        return challenge.answer(request, names=self._names, port=self._port, find=self._find)

    def _find(self, token: str) -> bytes | None:
        """Read the answer to a token, whose characters were checked."""
        for storage in self._storages:
            try:
                found = storage.read_challenge(HTTP_01, token)
            except OSError as error:
                finding = ACME_STORAGE.found(folder=storage.folder, reason=error.strerror)
                # Anybody may ask: this is logged at a limited rate.
                self._events.noticed("acme_storage", finding.line)
                continue
            if found is not None:
                self._events.noticed("acme_challenge", "")
                return found
        self._events.noticed("acme_challenge_unknown", "")
        return None


def https_port(port: int, http_port: int) -> int:
    """Return the port of https as clients see it, which need not be that of the worker."""
    # If the port of http is not the one that every authority asks, a machine in front maps both.
    return port if http_port == 80 else 443
