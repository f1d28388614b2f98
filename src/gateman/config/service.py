"""The options of a service as a whole, which ``run_all`` takes."""

from typing import Any

from ..errors import ConfigError
from ..listen import ListenAddress
from ..options import option
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

    def _configure(self, values: dict[str, Any]) -> None:
        self.from_environment: dict[str, str] = {}
        super()._configure(values)
