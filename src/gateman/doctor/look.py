"""A look at a service: all parts of the way in order, and the verdict."""

import time
from collections.abc import Callable, Sequence

from ..config.base import BaseWorker
from ..findings import Finding
from ..master.script import Script
from .network import judgement as of_network
from .network import probes as network
from .network import rows as network_rows
from .network.url import parse
from .rows import Row
from .target import Settings, Target
from .verdict import Verdict, conclude

Inside = tuple[Sequence[BaseWorker], Script]
Progress = Callable[[str], None]


async def look(
    url: str | None, settings: Settings, inside: Inside | None, progress: Progress
) -> Verdict:
    """
    Look at a URL, a service, or both.

    Raises:
        UsageMistake: The URL is not that of a WebSocket, or an option cannot be used.
    """
    target = None if url is None else parse(url)
    found = _Found()
    if target is not None:
        await _look_outside(target, settings, progress, found)
    name = url or str((inside or ("", ""))[1])
    return conclude(name, found.findings, found.rows, found.agreed, is_open=found.is_open)


class _Found:
    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.rows: list[Row] = []
        self.agreed: dict[str, str] = {}
        self.is_open = True


async def _look_outside(
    target: Target, settings: Settings, progress: Progress, found: _Found
) -> None:
    way = await network.look(target, settings, progress)
    found.findings += of_network.judge(target, settings, way, now=time.time())
    found.rows += network_rows.rows(way)
    found.agreed |= network_rows.agreed(way)
    found.is_open = bool(way.usable)
