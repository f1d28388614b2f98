"""Makes the protocol of each connection that a worker accepts, by the worker's options."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from ..config.settings import WorkerSettings
from ..net.accepted_socket import AcceptConfig, PeerInfo, ProtocolFactory
from ..net.admission import Admission
from ..net.certificate_wait import CertificateWait
from ..net.connection_events import ConnectionContext, ConnectionEvents
from ..net.deadlines import Deadlines
from ..net.handshake import Handshake
from ..net.handshake_config import HandshakeConfig
from ..net.heartbeat import Heartbeat
from ..net.inflation import InflateTurns
from ..net.watched_handshake import WatchedHandshake
from ..websocket.deflate import Deflate
from .arrival_watch import ArrivalWatch
from .plain_answers import PlainAnswers

if TYPE_CHECKING:
    from ..net.http_application import HttpApplication
    from .measurements import Measurements


class ConnectionMaker:
    """What the connections of one worker in this process share."""

    config: HandshakeConfig | None = None  # None if there is no handshake

    def __init__(
        self,
        settings: WorkerSettings,
        worker: object,
        events: ConnectionEvents,
        *,
        admission: Admission,
        arrival_watch: ArrivalWatch,
        plain_answers: PlainAnswers,
        application: "HttpApplication | None",
        measurements: "Measurements | None",
        of_connections: dict[str, Any],
        of_handshakes: dict[str, Any],
    ) -> None:
        self._arrival_watch = arrival_watch
        self._application = application
        loop = asyncio.get_running_loop()
        timeouts = settings.timeouts
        self._deadlines = Deadlines(loop)
        self.heartbeat = _heartbeat_of(settings, loop)
        context = ConnectionContext(
            loop=loop,
            limits=settings.limits,
            timeouts=timeouts,
            events=events,
            slow_consumer=settings.slow_consumer,
            compression=settings.compression,
            deadlines=self._deadlines,
            heartbeat=self.heartbeat,
            inflate_turns=InflateTurns(
                loop, (settings.compression or Deflate()).max_inflated_per_turn
            ),
            **of_connections,
        )
        is_websocket = settings.listen.is_websocket
        make_protocol: ProtocolFactory
        if is_websocket:
            self.config = HandshakeConfig(
                context,
                worker,
                admission=admission,
                allowed_origins=settings.allowed_origins,
                subprotocols=settings.subprotocols,
                trusted_proxies=settings.trusted_proxies,
                contexts=settings.contexts,
                answer_plain=plain_answers.answer,
                **of_handshakes,
            )
            make_protocol = partial(self._make_handshake, self.config)
        else:
            make_protocol = _make_links(settings, worker, context, measurements)
        ping_interval = timeouts.ping_interval
        waiting = CertificateWait(loop)
        if settings.contexts is not None:
            settings.contexts.on_taken_up = waiting.resume
        self.accept_config = AcceptConfig(
            certificate_wait=waiting,
            deadlines=self._deadlines,
            make_protocol=make_protocol,
            events=events,
            contexts=settings.contexts,
            trusted_proxies=settings.trusted_proxies,
            requires_proxy=settings.requires_proxy,
            handshake_timeout=timeouts.handshake,
            close_timeout=timeouts.close,
            user_timeout=None if ping_interval is None else ping_interval + timeouts.pong,
            speaks_http=is_websocket,
            keepalive=None if is_websocket else ping_interval,
        )

    def _make_handshake(self, config: HandshakeConfig, peer_info: PeerInfo) -> Handshake:
        arrivals = self._arrival_watch.arrivals
        if self._application is not None:
            # Imported here, as most services have no HTTP application; it is loaded.
            from ..net.http_connection import HttpConnection

            if arrivals is None:
                return HttpConnection(config, peer_info, self._application)
            from ..net.watched_http_connection import WatchedHttpConnection

            return WatchedHttpConnection(config, peer_info, self._application, arrivals)
        if arrivals is None:
            return Handshake(config, peer_info)
        return WatchedHandshake(config, peer_info, arrivals)

    def close_rejected(self, code: int, reason: str) -> None:
        for rejected in list(self.config.rejected if self.config is not None else ()):
            rejected.close(code, reason)

    def stop(self) -> None:
        self._deadlines.stop()
        if self.heartbeat is not None:
            self.heartbeat.stop()


def _make_links(
    settings: WorkerSettings,
    worker: object,
    context: ConnectionContext,
    measurements: "Measurements | None",
) -> ProtocolFactory:
    # Imported here: a WebSocket service needs none of it.
    from ..net.packet_link import MeasuredPacketLink, PacketConfig, PacketLink

    protocol = settings.protocol
    if protocol is None:
        raise RuntimeError("a WebSocket worker has no packets")
    if measurements is None:
        return partial(PacketLink, PacketConfig(context, worker, protocol, None))
    config = PacketConfig(context, worker, protocol, measurements.traffic)
    return partial(MeasuredPacketLink, config)


def _heartbeat_of(settings: WorkerSettings, loop: asyncio.AbstractEventLoop) -> Heartbeat | None:
    timeouts = settings.timeouts
    if settings.listen.is_websocket:
        interval, answer_time = timeouts.ping_interval, timeouts.pong
    else:
        # A silent client is looked at once in this interval, and there is no ping.
        idle = timeouts.idle
        interval, answer_time = (None, 0.0) if idle is None else (min(idle / 8, 60.0), idle)
    return None if interval is None else Heartbeat(loop, interval, answer_time)
