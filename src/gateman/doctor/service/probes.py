"""Looks at a service from its own machine; nothing is judged here."""

import asyncio
import resource
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ...bus.nats_url import NatsUrl
from ...config.base import BaseWorker
from ...config.worker import Worker
from ...errors import CommandError, ConfigError, MasterSilent, NotRunning
from ...findings import Finding
from ...listen import ListenAddress
from ...master import control
from ...master.control_requests import GetStatus, StatusAnswer
from ...master.plan import WorkerPlan, plan
from ...master.script import Script
from ...tls.certificate_findings import judge as judge_certificates
from ..background import in_background
from ..network.connection import is_own_address
from ..network.resolver import look_up
from ..target import Settings, Target
from . import arrival, proxy_files, system
from .observations import ArrivalsSeen, BusSeen, ProxySeen, RightsSeen, ServiceSeen, WorkerSeen

T = TypeVar("T")

_STATUS_TIMEOUT = 2.0  # seconds
_NAME_TIMEOUT = 2.0  # seconds
# Of the time for all probes.
_FILES_SHARE = 0.4
_BUS_TIMEOUT = 1.0  # seconds
_MAX_SERVERS = 3
# Between two questions whether a process is busy; one callback may take a moment.
_STATUS_INTERVAL = 0.3  # seconds
_STATUS_COUNT = 3

_FUTURE = 60.0  # seconds
_LOG_LINES = 3

# They depend on which roots clients trust, which --ca tells.
_ABOUT_TRUST = frozenset({"CERTIFICATE_SELF_SIGNED", "CERTIFICATE_PRIVATE", "CHAIN_WITHOUT_ISSUER"})


async def look(
    workers: Sequence[BaseWorker],
    script: Script,
    target: Target | None,
    settings: Settings,
    progress: Callable[[str], None],
    *,
    mistake: str = "",
) -> ServiceSeen:
    """
    Look at the service that a script declares, and with a target at the way from there to it.

    Args:
        mistake: Why the script cannot be loaded; else empty.
    """
    begun_at, now = time.monotonic(), time.time()
    progress(f"{script}: what it declares")
    planned: Sequence[WorkerPlan] = ()
    if not mistake:
        try:
            planned = plan(workers, now=now)
        except ConfigError as error:
            mistake = str(error)
    progress(f"{script}: whether it runs")
    status, busy, unasked = await _status(script)
    seen_workers = _workers(planned, status, settings, now)
    addresses = await _addresses(target, settings)
    own = tuple(one for one in addresses if is_own_address(one))
    ports = {one.listen.port for one in seen_workers} | ({target.port} if target else set())
    pids = _pids(status)
    files_timeout = settings.timeout * _FILES_SHARE
    progress("the machine: sockets and files")
    listeners = await _or_none(lambda: system.listeners(ports - {0}, pids), files_timeout)
    proxies: tuple[ProxySeen, ...] = ()
    denied: tuple[RightsSeen, ...] = ()
    handshake: ArrivalsSeen | None = None
    after: StatusAnswer | None = None
    if target is not None:
        progress("the proxy: its configuration")
        given, found = settings.proxy_config, listeners or ()
        if given is not None or own or not addresses:
            looked = await _or_none(
                lambda: proxy_files.look(target, found, given, now=now), files_timeout
            )
            proxies = looked or ()
        denied = _denied(seen_workers, proxies)
        if status is not None and not _is_blocked(status, busy):
            progress(f"{target.url}: how a handshake arrives")
            handshake = await arrival.look(script, target, settings, addresses)
            after, _, _ = await _status(script)
    return ServiceSeen(
        script=str(script),
        mistake=mistake.rstrip(".?"),
        workers=seen_workers,
        status=status,
        busy_pids=busy,
        problem="" if unasked is None else str(unasked).rstrip("."),
        silent_master=unasked if isinstance(unasked, MasterSilent) else None,
        listeners=listeners,
        addresses=addresses,
        own_addresses=own,
        open_files=_open_files(pids),
        now=now,
        future_files=_future_files(script, planned, now),
        proxies=proxies,
        denied=denied,
        buses=await _buses(workers),
        handshake=handshake,
        after=after,
        log=_log(script),
        duration=time.monotonic() - begun_at,
    )


async def _buses(workers: Sequence[BaseWorker]) -> tuple[BusSeen, ...]:
    """Connect to each bus that is on the network; the local one is a part of the master."""
    found: dict[str, BusSeen] = {}
    for worker in workers:
        bus = worker.bus
        url = bus if isinstance(bus, str) else str((bus or {}).get("url", ""))
        if not url.startswith(("nats://", "tls://")) or url in found:
            continue
        try:
            servers = NatsUrl.parse(url).servers
        except ConfigError:
            continue
        problems = [await _connect(one.host, one.port) for one in servers[:_MAX_SERVERS]]
        found[url] = BusSeen(
            worker=worker.name,
            servers=", ".join(map(str, servers)),
            problem=problems[0] if all(problems) else "",
        )
    return tuple(found.values())


async def _connect(host: str, port: int) -> str:
    """Tell why a port cannot be connected to; empty if it can."""
    try:
        await in_background(
            lambda: socket.create_connection((host, port), _BUS_TIMEOUT).close(), _BUS_TIMEOUT
        )
    except TimeoutError:
        return "it does not answer"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


async def _or_none(function: Callable[[], T | None], timeout: float) -> T | None:  # noqa: ASYNC109
    try:
        return await in_background(function, timeout)
    except TimeoutError:
        return None


async def _status(
    script: Script,
) -> tuple[StatusAnswer | None, frozenset[int], CommandError | None]:
    """Ask for the status, and again while processes do not answer; or tell why that fails."""
    busy: frozenset[int] | None = None
    status: StatusAnswer | None = None
    for count in range(_STATUS_COUNT):
        try:
            status = answer = await in_background(
                lambda: control.ask(script, GetStatus(), StatusAnswer, timeout=_STATUS_TIMEOUT),
                2 * _STATUS_TIMEOUT,
            )
        except NotRunning as error:
            return None, frozenset(), error if "belongs to another" in str(error) else None
        except CommandError as error:
            return None, frozenset(), error
        except TimeoutError:
            return None, frozenset(), MasterSilent(0)
        now_busy = frozenset(
            one["pid"]
            for slot in answer["slots"]
            for one in slot["processes"]
            if one["status"] in {"busy", "stopped"}
        )
        busy = now_busy if busy is None else busy & now_busy
        if not busy or count == _STATUS_COUNT - 1:
            break
        await asyncio.sleep(_STATUS_INTERVAL)
    return status, busy or frozenset(), None


def _is_blocked(status: StatusAnswer, busy: frozenset[int]) -> bool:
    """Return whether no process could say what arrives."""
    pids = {one["pid"] for slot in status["slots"] for one in slot["processes"]}
    return pids <= busy


def _workers(
    planned: Sequence[WorkerPlan], status: StatusAnswer | None, settings: Settings, now: float
) -> tuple[WorkerSeen, ...]:
    running = [one["listen"] for one in status["workers"]] if status is not None else []
    found = []
    for number, one in enumerate(planned):
        declared, worker = one.settings, one.worker
        if declared is None or not isinstance(worker, Worker):
            continue
        listen = declared.listen
        if not listen.port and not listen.path and number < len(running):
            # Port 0 is what the system has chosen.
            listen = _listening(running[number], listen)
        contexts = declared.contexts
        findings: list[Finding] = []
        certificates: list[tuple[str, str]] = []
        for certificate in contexts.certificates if contexts is not None else ():
            days = certificate.days_left(now)
            left = "it cannot be read" if days is None else f"{days} days left"
            certificates.append((str(certificate.path), left))
            findings += judge_certificates(certificate.chain, now=now, name=certificate.name)
        if settings.ca_file is not None:
            findings = [one for one in findings if one.code not in _ABOUT_TRUST]
        found.append(
            WorkerSeen(
                name=declared.name,
                listen=listen,
                is_tls=contexts is not None,
                requires_proxy=declared.requires_proxy,
                ping_interval=declared.timeouts.ping_interval,
                max_connections_per_ip=declared.limits.max_connections_per_ip,
                has_allowed_origins=declared.allowed_origins is not None,
                trusted=declared.trusted_proxies,
                is_socket_missing=bool(listen.path) and not Path(listen.path).exists(),
                certificates=tuple(certificates),
                findings=tuple(findings),
            )
        )
    return tuple(found)


def _listening(text: str, declared: ListenAddress) -> ListenAddress:
    try:
        return ListenAddress.parse(text.partition(", ")[0])
    except ConfigError:
        return declared


async def _addresses(target: Target | None, settings: Settings) -> tuple[str, ...]:
    if target is None:
        return ()
    if settings.address is not None:
        return (settings.address,)
    found = await asyncio.gather(
        look_up(target.host, "AAAA", timeout=_NAME_TIMEOUT),
        look_up(target.host, "A", timeout=_NAME_TIMEOUT),
    )
    # IPv4 first: an IPv6 address that leads nowhere is found from outside.
    return tuple(dict.fromkeys(address for one in reversed(found) for address in one.addresses))


def _pids(status: StatusAnswer | None) -> list[int]:
    if status is None:
        return []
    children = [one["pid"] for slot in status["slots"] for one in slot["processes"]]
    return [status["master"]["pid"], *children]


def _open_files(pids: Sequence[int]) -> dict[int, int]:
    found = {pid: limit for pid in pids if (limit := system.open_files(pid)) is not None}
    if not pids:
        found[0] = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return found


def _denied(workers: Sequence[WorkerSeen], proxies: Sequence[ProxySeen]) -> tuple[RightsSeen, ...]:
    found = []
    for proxy in proxies:
        route = proxy.route
        for upstream in route.upstreams if route is not None else ():
            user = system.user_of(route.user) if route is not None and route.user else None
            is_ours = any(upstream.path == one.listen.path for one in workers)
            if upstream.path and is_ours and user is not None:
                denied = system.denied(Path(upstream.path), user)
                if denied is not None:
                    found.append(denied)
    return tuple(found)


def _future_files(
    script: Script, planned: Sequence[WorkerPlan], now: float
) -> tuple[tuple[str, float], ...]:
    files = [script.path]
    for one in planned:
        if one.settings is not None and one.settings.contexts is not None:
            files += one.settings.contexts.files
    found = []
    for path in dict.fromkeys(files):
        try:
            written = path.stat().st_mtime
        except OSError:
            continue
        if written > now + _FUTURE:
            found.append((str(path), written))
    return tuple(found)


def _log(script: Script) -> tuple[str, ...]:
    """Read the last warnings and errors of the log that `start -d` writes."""
    lines = system.tail(script.path.with_suffix(".log")).splitlines()
    return tuple(
        one for one in lines if any(f" {level} " in one[:60] for level in ("WARNING", "ERROR"))
    )[-_LOG_LINES:]
