"""A look at a service: all parts of the way in order, and the verdict."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..findings import Finding
from .lasting import judgement as lasting_judgement
from .lasting import probes as lasting_probes
from .lasting import rows as lasting_rows
from .network import judgement as network_judgement
from .network import probes as network_probes
from .network import rows as network_rows
from .network.url import parse
from .rows import Row
from .service.merging import merge
from .target import Settings, Target
from .upgrade import judgement as upgrade_judgement
from .upgrade import probes as upgrade_probes
from .upgrade import rows as upgrade_rows
from .upgrade.case import Case
from .verdict import Verdict, conclude

if TYPE_CHECKING:
    from ..config.base import BaseWorker
    from ..master.script import Script

    Inside = tuple[Sequence[BaseWorker], Script, str]  # and why it cannot be loaded

Progress = Callable[[str], None]


class _Found:
    """What all parts have found."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.rows: list[Row] = []
        self.agreed: dict[str, str] = {}
        self.is_open = True

    def add(
        self,
        findings: Iterable[Finding],
        rows: Iterable[Row],
        agreed: Mapping[str, str] | None = None,
    ) -> None:
        self.findings += findings
        self.rows += rows
        self.agreed |= agreed or {}


async def look(
    url: str | None, settings: Settings, inside: "Inside | None", progress: Progress
) -> Verdict:
    """Look at a URL, a service, or both; raises :class:`UsageMistake`."""
    target = None if url is None else parse(url)
    within, found = _Found(), _Found()
    if inside is not None:
        await _look_inside(inside, target, settings, progress, within)
    if target is not None:
        await _look_outside(target, settings, progress, found)
    name = url or str((inside or ("", "", ""))[1])
    return conclude(
        name,
        merge(found.findings, within.findings),
        [*within.rows, *found.rows],
        found.agreed,
        is_open=found.is_open,
    )


async def _look_inside(
    inside: "Inside", target: Target | None, settings: Settings, progress: Progress, found: _Found
) -> None:
    # Imported here: the look at a URL alone takes a third of a second less without it.
    from .service import judgement, probes, rows

    workers, script, mistake = inside
    seen = await probes.look(workers, script, target, settings, progress, mistake=mistake)
    found.add(judgement.judge(target, seen), rows.rows(seen))


async def _look_outside(
    target: Target, settings: Settings, progress: Progress, found: _Found
) -> None:
    page = await lasting_probes.look_at_page(settings, progress)
    way = await network_probes.look(target, settings, progress)
    found.add(
        network_judgement.judge(target, settings, way, now=time.time()),
        network_rows.rows(way),
        network_rows.agreed(way),
    )
    origin = None if page is None else page.origin
    answers = await upgrade_probes.look(target, settings, way.usable, progress, origin=origin)
    found.add(
        upgrade_judgement.judge(target, settings, answers),
        upgrade_rows.rows(answers),
        upgrade_rows.agreed(answers),
    )
    found.is_open = answers.is_open
    routes = way.usable if answers.is_open else ()
    lasting = await lasting_probes.look(target, settings, routes, progress, page=page)
    main = answers.main
    front = None if main is None else Case(target, settings, answers, main).front
    found.add(lasting_judgement.judge(target, lasting, front), lasting_rows.rows(lasting))
