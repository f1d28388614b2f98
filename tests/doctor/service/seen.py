"""Observations of a healthy service, to be changed by each test."""

from dataclasses import replace
from typing import Any

from gateman.doctor.service.judgement import judge
from gateman.doctor.service.observations import (
    ArrivalsSeen,
    ListenerSeen,
    ProxySeen,
    ServiceSeen,
    WorkerSeen,
)
from gateman.doctor.service.proxies.route import Action, ProxyRoute, Upstream
from gateman.findings import Finding, Software
from gateman.listen import ListenAddress
from gateman.master.control_requests import ListedArrival, ProcessStatus, SlotStatus, StatusAnswer

from .urls import target

NOW = 1_800_000_000.0
AT = "/etc/nginx/site.conf:7"
URL = "wss://example.com/wss"
DIRECT = "ws://example.com:8282/"
WORKER = Upstream(host="127.0.0.1", port=8282)


def worker(listen: str = "websocket://127.0.0.1:8282", **more: Any) -> WorkerSeen:
    return WorkerSeen(name="chat", listen=ListenAddress.parse(listen), **more)


def process(pid: int = 7, **more: Any) -> ProcessStatus:
    known: ProcessStatus = {
        "pid": pid,
        "status": "idle",
        "uptime": 100.0,
        "memory": 1,
        "connections": 3,
        "messages": 1,
        "qps": 0.0,
        "send_fail": 0,
        "timers": 0,
        "lag": 0.001,
        "counts": {"connections": 5},
        "hub": {},
        "certificate_days": None,
    }
    return {**known, **more}  # type: ignore[typeddict-item]


def slot(number: int = 0, *processes: ProcessStatus, **more: Any) -> SlotStatus:
    known: SlotStatus = {
        "worker": "chat",
        "listen": "ws://127.0.0.1:8282",
        "slot": number,
        "state": "running",
        "respawn_in": None,
        "restarts": 0,
        "last_exit": None,
        "last_lines": [],
        "processes": list(processes),
    }
    return {**known, **more}  # type: ignore[typeddict-item]


def status(*slots: SlotStatus, listen: str = "ws://127.0.0.1:8282") -> StatusAnswer:
    return {
        "ok": True,
        "master": {
            "pid": 6,
            "script": "/srv/server.py",
            "state": "running",
            "uptime": 100.0,
            "started_time": NOW - 100,
        },
        "workers": [{"name": "chat", "listen": listen, "count": len(slots)}],
        "slots": list(slots),
    }


def arrived(**more: Any) -> ListedArrival:
    known: ListedArrival = {
        "pid": 7,
        "worker": "chat",
        "carriers": ["field", "query", "key"],
        "begins_with": "http",
        "method": "GET",
        "path": "/wss",
        "version": "1.1",
        "fields": {
            "host": "example.com",
            "upgrade": "websocket",
            "connection": "upgrade",
            "x-forwarded-for": "192.0.2.7",
            "sec-websocket-key": "a",
            "sec-websocket-version": "13",
            "origin": "https://example.com",
        },
        "peer": "127.0.0.1",
        "is_trusted": True,
        "source": None,
        "is_tls": False,
        "status": 101,
        "causes": [],
    }
    return {**known, **more}  # type: ignore[typeddict-item]


ROUTE = ProxyRoute(
    software=Software.NGINX,
    where=AT,
    block="location /wss",
    action=Action.PASSES,
    upstreams=(WORKER,),
    idle_timeout=75.0,
    idle_option="proxy_read_timeout",
    client_fields=frozenset({"x-forwarded-for"}),
    user="www-data",
)


def proxied(**more: Any) -> ProxySeen:
    """Make a proxy of a route that is changed."""
    return ProxySeen(
        software=Software.NGINX, source="/etc/nginx/nginx.conf", route=replace(ROUTE, **more)
    )


def handshake(*arrivals: ListedArrival, **more: Any) -> ArrivalsSeen:
    return ArrivalsSeen(**{"status": 101, "arrivals": arrivals, **more})


def healthy(**more: Any) -> ServiceSeen:
    """A service behind nginx on one machine, through which a handshake came; or what differs."""
    known: dict[str, Any] = {
        "script": "server.py",
        "workers": (worker(),),
        "status": status(slot(0, process())),
        "listeners": (
            ListenerSeen(address="0.0.0.0", port=443, owner="nginx (pid 3)"),
            ListenerSeen(address="127.0.0.1", port=8282, owner="python (pid 6)", is_own=True),
        ),
        "addresses": ("192.0.2.1",),
        "own_addresses": ("192.0.2.1",),
        "open_files": {7: 65536},
        "now": NOW,
        "proxies": (proxied(),),
        "handshake": handshake(arrived()),
    }
    return ServiceSeen(**{**known, **more})


def found(seen: ServiceSeen, url: str | None = URL) -> list[Finding]:
    return judge(None if url is None else target(url), seen)


def codes(seen: ServiceSeen, url: str | None = URL) -> list[str]:
    return [one.code for one in found(seen, url)]


def direct(**more: Any) -> ServiceSeen:
    """A service to which the URL leads without a proxy."""
    listeners = (ListenerSeen(address="0.0.0.0", port=8282, owner="python (pid 6)", is_own=True),)
    known: dict[str, Any] = {"workers": (worker("ws://0.0.0.0:8282"),), "listeners": listeners}
    running = status(slot(0, process()), listen="ws://0.0.0.0:8282")
    return healthy(**{**known, "status": running, "proxies": (), **more})
