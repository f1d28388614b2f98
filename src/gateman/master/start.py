"""Starts a master for the workers that a script declares."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from ..config import environment
from ..config.base import BaseWorker
from ..log import LogFile, log_to_stderr, logger
from ..net import socket_activation
from .listeners import Listeners
from .master import Master
from .plan import plan
from .router_process import router_for
from .runtime_files import RuntimeFiles
from .script import Script


def start(
    workers: Sequence[BaseWorker],
    script: Script,
    *,
    log_path: Path | None = None,
    detach: Callable[[], None] | None = None,
    on_serving: Callable[[], None] | None = None,
) -> int:
    """Run as the master of a script; return its exit code."""
    log_to_stderr(os.environ)
    for sentence in environment.unknown(workers, os.environ):
        logger.warning("%s", sentence)
    plans = plan(workers, now=time.time())
    runtime_files = RuntimeFiles.acquire(script.path, os.environ)
    with ExitStack() as undo:
        undo.callback(runtime_files.release)
        passed = socket_activation.inherited(os.environ)
        listeners = [Listeners(one) for one in plans]
        for one in listeners:
            undo.callback(one.close)
            one.open(passed, is_takeover=runtime_files.is_takeover)
        orders = metrics = None
        if any(one.settings is not None and one.settings.acme for one in plans):
            # Imported here: only a service with acme needs it.
            from .certificate_orders import CertificateOrders

            orders = CertificateOrders(plans, passed, is_takeover=runtime_files.is_takeover)
            undo.callback(orders.close)
        router = router_for(plans, runtime_files.files.bus, BaseWorker.service)
        if router is not None:
            undo.callback(router.close)
        if BaseWorker.service.metrics is not None:
            # Imported here: a service without metrics does not need it.
            from .metrics_endpoint import MetricsEndpoint

            metrics = MetricsEndpoint(BaseWorker.service.metrics)
            undo.callback(metrics.close)
        if detach is not None:
            detach()
            runtime_files.write()
        descriptors = (2,) if detach is None else (1, 2)
        log_file = None if log_path is None else LogFile(log_path, descriptors)
        master = Master(
            script,
            listeners,
            runtime_files,
            router=router,
            orders=orders,
            log_file=log_file,
            is_detached=detach is not None,
            on_serving=on_serving,
            metrics=metrics,
        )
        # From here on, it closes all of them itself.
        undo.pop_all()
    return master.run()
