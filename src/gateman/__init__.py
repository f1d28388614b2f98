"""
gateman: a WSS service in five lines, kept up under load, attack, reload and growth.

    from gateman import Worker
"""

from . import excepthook as excepthook
from .connection import Connection, Sent, State
from .errors import ConfigError, ExitCode, GatemanError, ProtocolError, Refuse
from .options import Limits, SlowConsumer, Timeouts
from .request import Request
from .timer import Timer
from .websocket.close import CloseCode
from .websocket.deflate import Deflate
from .worker import Worker

__version__ = "0.1.0"


def _run_all(workers: list[Worker]) -> None:
    # Imported here: a process that only serves never needs the commands.
    from .cli.program import run

    run(workers)


Worker.runner = _run_all

__all__ = [
    "CloseCode",
    "ConfigError",
    "Connection",
    "Deflate",
    "ExitCode",
    "GatemanError",
    "Limits",
    "ProtocolError",
    "Refuse",
    "Request",
    "Sent",
    "SlowConsumer",
    "State",
    "Timeouts",
    "Timer",
    "Worker",
]
