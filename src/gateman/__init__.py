"""
gateman: a WSS service in five lines, kept up under load, attack, reload and growth.

    from gateman import Worker
"""

import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

from .errors import (
    BusError,
    ClientError,
    ConfigError,
    ConfirmTimeout,
    Disconnect,
    ExitCode,
    GatemanError,
    HubError,
    PacketError,
    PartialResult,
    ProtocolError,
    Refuse,
    UnknownClient,
    WrongThread,
)

if TYPE_CHECKING:
    from .bus import Gap
    from .clients.allow import Allow
    from .clients.channel import Channel
    from .clients.limits import ClientLimits
    from .clients.tokens import Tokens
    from .cluster.hub import Hub, hub
    from .cluster.publication import ClientInfo
    from .cluster.sync_hub import SyncHub
    from .config.base import BaseWorker
    from .config.outgoing import OutgoingConnection
    from .config.worker import Worker
    from .connection import Connection, State
    from .connection_interfaces import SendResult
    from .gateway.business import BusinessWorker
    from .gateway.current import current_client
    from .gateway.gateway import Gateway
    from .options import Limits, SlowConsumer, Timeouts
    from .protocols.base import PacketProtocol
    from .request import Request
    from .runtime.embedding import serve
    from .runtime.timer import Timer
    from .websocket.close import CloseCode
    from .websocket.deflate import Deflate

__version__ = "0.1.0"


def _run_all(workers: "list[BaseWorker]") -> None:
    """Do what the command line says with what was declared; ``Worker.run_all`` calls this."""
    # Imported here: a process that only serves never needs the commands.
    from .cli.program import run

    run(workers)


def __getattr__(name: str) -> Any:
    # Imported when they are asked for: a router needs none of it, and a worker not all.
    from importlib import import_module

    if name in _DECLARING:
        from .config.base import BaseWorker

        # A process of a master has another one.
        BaseWorker.runner = BaseWorker.runner or _run_all
        if _is_asked_by_program():
            from . import entry_point, excepthook

            excepthook.install()
            if BaseWorker.runner is _run_all:
                entry_point.remind_at_exit(BaseWorker.forgotten)
    if name == "metrics":
        return import_module(".metrics", __name__)
    for module, names in _LATER.items():
        if name in names:
            return getattr(import_module(module, __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _is_asked_by_program() -> bool:
    """Tell whether the program itself asks for a name; a module of another program's may, too."""
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - `inspect` has the same, and costs 20 ms
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("importlib."):
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__") in {
        "__main__",
        "__mp_main__",
    }


# A program that declares a service has its command line: there a mistake is one sentence.
_DECLARING = {
    "BusinessWorker",
    "Channel",
    "ClientLimits",
    "Deflate",
    "Gateway",
    "Limits",
    "Timeouts",
    "Tokens",
    "Worker",
}

_LATER = {
    ".bus": ("Gap",),
    ".cluster.hub": ("Hub", "hub"),
    ".cluster.publication": ("ClientInfo",),
    ".cluster.sync_hub": ("SyncHub",),
    ".gateway.business": ("BusinessWorker",),
    ".gateway.current": ("current_client",),
    ".gateway.gateway": ("Gateway",),
    ".clients.allow": ("Allow",),
    ".clients.channel": ("Channel",),
    ".clients.limits": ("ClientLimits",),
    ".clients.tokens": ("Tokens",),
    ".config.outgoing": ("OutgoingConnection",),
    ".config.worker": ("Worker",),
    ".connection": ("Connection", "State"),
    ".connection_interfaces": ("SendResult",),
    ".options": ("Limits", "SlowConsumer", "Timeouts"),
    ".protocols.base": ("PacketProtocol",),
    ".request": ("Request",),
    ".runtime.embedding": ("serve",),
    ".runtime.timer": ("Timer",),
    ".websocket.close": ("CloseCode",),
    ".websocket.deflate": ("Deflate",),
}

__all__ = [
    "Allow",
    "BusError",
    "BusinessWorker",
    "Channel",
    "ClientError",
    "ClientInfo",
    "ClientLimits",
    "CloseCode",
    "ConfigError",
    "ConfirmTimeout",
    "Connection",
    "Deflate",
    "Disconnect",
    "ExitCode",
    "Gap",
    "GatemanError",
    "Gateway",
    "Hub",
    "HubError",
    "Limits",
    "OutgoingConnection",
    "PacketError",
    "PacketProtocol",
    "PartialResult",
    "ProtocolError",
    "Refuse",
    "Request",
    "SendResult",
    "SlowConsumer",
    "State",
    "SyncHub",
    "Timeouts",
    "Timer",
    "Tokens",
    "UnknownClient",
    "Worker",
    "WrongThread",
    "current_client",
    "hub",
    "serve",
]
