"""Where the master shows metrics: its listening sockets, and what they show."""

import selectors
from collections.abc import Mapping
from ipaddress import ip_address

from ..config.service import metrics_address
from ..errors import AddressInUse, ConfigError
from ..log import logger
from ..net import sockets as listening
from .channel import MetricsAnswer
from .metrics_server import PATH, MetricsServer
from .service_metrics import Orders, ServiceMetrics
from .spawn import ChildProcess
from .status import StatusQueries
from .supervisor import Supervisor


class MetricsEndpoint:
    def __init__(self, address: str) -> None:
        """Listen; raises :class:`ConfigError`."""
        self.address = address
        try:
            self._sockets = listening.bind(metrics_address(address))
        except ConfigError as error:
            kind = AddressInUse if isinstance(error, AddressInUse) else ConfigError
            problem = error.problem.replace("websocket+unix://", "unix:").replace(
                "websocket://", ""
            )
            raise kind(f"metrics at {problem}", error.remedy) from None
        self._server: MetricsServer | None = None
        self._metrics: ServiceMetrics | None = None

    def open(
        self,
        selector: selectors.BaseSelector,
        queries: StatusQueries,
        supervisor: Supervisor,
        children: Mapping[int, ChildProcess],
        orders: Orders | None,
    ) -> None:
        """Begin to answer."""
        server = self._server = MetricsServer(self._sockets, selector)
        self._metrics = ServiceMetrics(
            queries.ask_metrics,
            supervisor,
            children,
            server.refused,
            orders=orders,
            history=queries.history_report,
        )
        server.scrape = self._metrics.scrape

    def log_addresses(self) -> None:
        for sock in self._sockets:
            name = sock.getsockname()
            if not isinstance(name, tuple):
                logger.info("metrics are at the unix socket %s, path %s", name, PATH)
                continue
            host, port = name[:2]
            shown = f"[{host}]" if ":" in host else host
            logger.info("metrics are at http://%s:%d%s", shown, port, PATH)
            if not ip_address(host).is_loopback:
                logger.warning(
                    "metrics at %s:%d can be read by everybody who reaches that address, without"
                    " a password: let a firewall restrict it to the monitoring system, or use"
                    " 127.0.0.1",
                    shown,
                    port,
                )

    @property
    def deadlines(self) -> list[float]:
        return [] if self._server is None else self._server.deadlines

    def end_overdue(self) -> None:
        if self._server is not None:
            self._server.end_overdue()

    def reported(self, pid: int, answer: MetricsAnswer) -> None:
        if self._metrics is not None:
            self._metrics.reported(pid, answer)

    def ended(self, pid: int) -> None:
        if self._metrics is not None:
            self._metrics.ended(pid)

    def reloaded(self, problem: str) -> None:
        if self._metrics is not None:
            self._metrics.reloaded(problem)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        listening.release(self._sockets)
