"""The options of a service as a whole, which ``run_all`` takes."""

from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..listen import ListenAddress
from ..options import option
from . import checks
from .schema import Configurable, Option

_EXAMPLE = "write metrics='127.0.0.1:9095', or 'unix:/run/chat-metrics.sock'"


def _metrics(_option: Option, value: object) -> str | None:
    if value is None:
        return None
    metrics_address(value)
    return str(value)


def metrics_address(value: object) -> ListenAddress:
    """Parse the address of the metrics; raises :class:`ConfigError`."""
    if isinstance(value, str) and value.startswith("unix:/") and "\0" not in value:
        return ListenAddress("", 0, "/" + value.removeprefix("unix:").lstrip("/"), is_secure=False)
    if not isinstance(value, str) or "/" in value:
        raise ConfigError(f"metrics={value!r} is not an address to listen on", _EXAMPLE)
    try:
        return ListenAddress.parse(f"websocket://{value}")
    except ConfigError:
        raise ConfigError(f"metrics={value!r} is not a host and a port", _EXAMPLE) from None


def _history(_option: Option, value: object) -> str:
    if value == "memory":
        return "memory"
    history_file(value)
    return str(value)


def history_file(value: object) -> Path | None:
    """Return the file of ``history``; raises :class:`ConfigError`."""
    if value == "memory":
        return None
    prefix = "sqlite://"
    if not isinstance(value, str) or not value.startswith(f"{prefix}/") or "\0" in value:
        raise ConfigError(
            f"history={value!r} is not a store of history",
            "write 'memory', or 'sqlite:///var/lib/chat/history.db' with an absolute path",
        )
    return Path(value.removeprefix(prefix))


class ServiceOptions(Configurable):
    """
    The options of a service.

    Attributes:
        from_environment: The variable of each option that the environment has set.
    """

    state = frozenset({"from_environment"})

    metrics: str | None = option(
        default=None,
        check=_metrics,
        reason="The address at which the master serves metrics of all processes, at ``/metrics``,"
        ' such as ``"127.0.0.1:9095"`` or ``"unix:/run/chat-metrics.sock"``. ``None`` means none.'
        " Everybody who can connect can read them.",
    )
    history: str = option(
        default="memory",
        check=_history,
        reason='Where the router keeps the history of channels. ``"memory"`` ends with the service.'
        ' ``"sqlite:///var/lib/chat/history.db"``, with an absolute path, outlasts its restarts;'
        " the folder must belong to the user of the processes. With NATS the history is in"
        " JetStream.",
    )
    history_memory: int = option(
        default=64 * 1024 * 1024,
        unit="bytes",
        check=checks.whole_number,
        reason="The memory that the router uses for the history of all channels; one channel can"
        " use an eighth of it. The oldest messages are dropped when it is full. 64 MiB hold about"
        " 200 000 messages of 100 bytes.",
    )

    def _configure(self, values: dict[str, Any]) -> None:
        self.from_environment: dict[str, str] = {}
        super()._configure(values)
