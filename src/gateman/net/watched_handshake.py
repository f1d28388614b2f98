"""Handshakes that arrive while the doctor looks, and tell it what becomes of them."""

from ..connection import State
from .accepted_socket import PeerInfo
from .arrivals import Arrivals
from .handshake import Handshake, Stage
from .handshake_config import HandshakeConfig

_MAX_HEAD_SIZE = 64 << 10  # bytes


class Watched(Handshake):
    """A handshake that arrives while the doctor looks."""

    def _watch(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._causes: list[str] = []
        self._raw: bytearray | None = bytearray()

    def buffer_updated(self, nbytes: int) -> None:
        """Keep what arrives as it is: it may be no request at all."""
        if self._raw is not None and len(self._raw) < _MAX_HEAD_SIZE:
            self._raw += self._scratch[:nbytes]
        self._arrivals.current = self._causes
        try:
            super().buffer_updated(nbytes)
        finally:
            self._arrivals.current = None

    def _decided(self, refusal: Exception | None) -> None:
        super()._decided(refusal)
        # `on_open` may have closed it already.
        is_open = self._require_connection().state is not State.CONNECTING
        if self._stage is Stage.ENDING and is_open:
            self._arrived(101)

    def _end(self, answer: bytes) -> None:
        status = answer[9:12]
        self._arrived(int(status) if answer.startswith(b"HTTP/") and status.isdigit() else None)
        super()._end(answer)

    def _connection_lost(self) -> None:
        self._arrived(None)
        super()._connection_lost()

    def _arrived(self, status: int | None) -> None:
        """Remember it, once, if it is one of the doctor's."""
        raw, self._raw = self._raw, None
        if not raw or not self._arrivals.is_carried(raw):
            return
        source = self._peer_info.source
        self._arrivals.add(
            bytes(raw),
            peer=self._peer_info.peer[0],
            is_trusted=self._is_from_proxy(),
            source=None if source is None else source[0],
            is_tls=self._transport.get_extra_info("ssl_object") is not None,
            status=status,
            causes=list(dict.fromkeys(self._causes)),
        )


class WatchedHandshake(Watched):
    """A connection of a worker without an HTTP application."""

    def __init__(self, config: HandshakeConfig, peer_info: PeerInfo, arrivals: Arrivals) -> None:
        super().__init__(config, peer_info)
        self._watch(arrivals)
