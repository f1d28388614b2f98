"""What is wrong with the way from a proxy to the service, by the proxy's configuration. PURE."""

from collections.abc import Iterator
from math import ceil
from typing import Any

from ...findings import Finding, Severity, codes, handshakes, services
from ..target import Target
from .observations import ServiceSeen, WorkerSeen, is_loopback, same_address
from .proxies.route import Action, ProxyRoute, Upstream

# A timeout that one late ping does not reach.
_PINGS_PER_TIMEOUT = 3
_MIN_TIMEOUT = 60  # seconds

# Rules that keep everybody out.
_DENIES_ALL = frozenset({"deny all", "Require all denied", "internal"})


def judge(target: Target, seen: ServiceSeen) -> Iterator[Finding]:
    for proxy in seen.proxies:
        if proxy.problem:
            yield services.PROXY_CONFIGURATION_UNREAD.found(
                proxy=proxy.software.value, reason=proxy.problem, evidence=proxy.source
            )
        yield from proxy.findings
        if proxy.route is not None:
            yield from _judge_route(target, seen, proxy.route)


def worker_behind(route: ProxyRoute | None, seen: ServiceSeen) -> WorkerSeen | None:
    """Find the worker that a route leads to."""
    for upstream in route.upstreams if route is not None else ():
        for worker in seen.workers:
            if (upstream.path or _is_here(upstream, seen)) and worker.is_at(upstream):
                return worker
    return None


def _is_here(upstream: Upstream, seen: ServiceSeen) -> bool:
    """Return whether an upstream is on this machine, as far as its address tells."""
    is_own = any(same_address(upstream.host, one) for one in seen.own_addresses)
    is_listened = any(same_address(upstream.host, one.listen.host) for one in seen.workers)
    return bool(upstream.path) or is_loopback(upstream.host) or is_own or is_listened


def _judge_route(target: Target, seen: ServiceSeen, route: ProxyRoute) -> Iterator[Finding]:
    name, software = route.software.value, route.software
    path = target.bare_path
    at: dict[str, Any] = {"proxy": name, "where": route.where}
    if route.is_http2_only:
        yield handshakes.HTTP2_ONLY.found(software=software, evidence=route.where)
    worker = worker_behind(route, seen)
    if route.action is Action.PASSES and not route.upstreams and route.doubts:
        yield services.PROXY_UNCLEAR.found(proxy=name, path=path, doubt=route.doubts[0])
    elif route.action is Action.PASSES:
        yield from _judge_passing(seen, route, worker, path, at)
    elif route.action is Action.UNKNOWN:
        doubt = route.doubts[0] if route.doubts else route.answer
        yield services.PROXY_UNCLEAR.found(proxy=name, path=path, doubt=doubt)
    elif not route.is_named:
        yield services.PROXY_NAME_UNKNOWN.found(
            software=software, host=target.host, answer=route.answer, **at
        )
    elif route.action is Action.ANSWERS:
        yield services.PROXY_ANSWERS_ITSELF.found(
            software=software,
            path=path,
            block=route.block,
            answer=route.answer,
            listens=seen.listens,
            **at,
        )
    elif route.action is Action.REDIRECTS:
        yield services.PROXY_REDIRECTS.found(path=path, answer=route.answer, **at)
    else:
        yield services.PROXY_DENIES.found(path=path, answer=route.answer, **at)
    yield from _judge_restrictions(route, path, at, has_opened=seen.has_opened)


def _judge_restrictions(
    route: ProxyRoute, path: str, at: dict[str, Any], *, has_opened: bool
) -> Iterator[Finding]:
    # Limits are usual, and were not reached.
    kept = [one for one in route.restrictions if not (has_opened and one.startswith("limit_"))]
    rules = ", ".join(kept)
    allows = [one for one in route.restrictions if one.startswith("allow")]
    if _DENIES_ALL & set(route.restrictions) and not allows:
        yield services.PROXY_DENIES.found(path=path, answer=rules, **at)
    elif rules:
        yield services.PROXY_RESTRICTS.found(path=path, rules=rules, **at)


def _judge_passing(
    seen: ServiceSeen,
    route: ProxyRoute,
    worker: WorkerSeen | None,
    path: str,
    at: dict[str, Any],
) -> Iterator[Finding]:
    name, software = route.software.value, route.software
    evidence = f"{route.block}, at {route.where}"
    if worker is None:
        if route.upstreams and seen.workers and all(_is_here(one, seen) for one in route.upstreams):
            yield services.PROXY_LEADS_ELSEWHERE.found(
                software=software,
                path=path,
                upstreams=" and ".join(dict.fromkeys(map(str, route.upstreams))),
                listens=seen.listens,
                evidence=evidence,
                **at,
            )
        return
    if route.missing:
        yield services.PROXY_INCOMPLETE.found(
            path=path, missing=route.missing, evidence=evidence, **at
        )
    upstream = next(one for one in route.upstreams if worker.is_at(one))
    if upstream.is_tls and not worker.is_tls:
        yield handshakes.PEER_SPOKE_TLS.found(
            software=software, client=f"{name} ({route.where})", evidence=evidence
        )
    elif worker.is_tls and not upstream.is_tls:
        yield handshakes.PEER_SPOKE_PLAIN.found(client=f"{name} ({route.where})", evidence=evidence)
    if upstream.sends_proxy and not worker.requires_proxy:
        yield handshakes.PROXY_HEADER_UNEXPECTED.found(software=software, evidence=evidence)
    elif worker.requires_proxy and not upstream.sends_proxy:
        yield services.PROXY_HEADER_MISSING.found(
            software=software, worker=worker.name, proxy=name, evidence=evidence
        )
    if route.lost_fields:
        yield handshakes.UPGRADE_LOST.found(
            software=software,
            handshake="the handshake",
            field="' and '".join(route.lost_fields),
            evidence=evidence,
        )
    elif route.http_version == "1.0" and not route.is_raw:
        yield handshakes.UPGRADE_HTTP_1_0.found(
            software=software, handshake="the handshake", evidence=evidence
        )
    yield from _judge_timeouts(route, worker, at)
    if not route.is_raw:
        yield from _judge_fields(route, upstream, worker, at)
    peer = "unix" if upstream.path else "127.0.0.1" if is_loopback(upstream.host) else upstream.host
    if (None if peer == "unix" else peer) not in worker.trusted:
        yield untrusted(worker, peer, evidence)


def untrusted(worker: WorkerSeen, peer: str, evidence: str) -> Finding:
    """Judge a proxy whose word on its clients is not taken."""
    if worker.requires_proxy:
        return services.PROXY_UNTRUSTED_DROPPED.found(
            worker=worker.name, peer=peer, evidence=evidence
        )
    return services.PROXY_UNTRUSTED.found(
        worker=worker.name,
        peer=peer,
        limit=worker.max_connections_per_ip or "any number of",
        evidence=evidence,
    )


def _judge_timeouts(route: ProxyRoute, worker: WorkerSeen, at: dict[str, Any]) -> Iterator[Finding]:
    ping, timeout = worker.ping_interval, route.idle_timeout
    option = route.idle_option
    if timeout is not None and ping is None:
        yield services.PROXY_IDLE_UNPINGED.found(timeout=timeout, option=option, **at)
    elif timeout is not None and ping is not None and timeout <= ping:
        needed = max(_MIN_TIMEOUT, ceil(_PINGS_PER_TIMEOUT * ping))
        yield services.PROXY_IDLE_TIMEOUT.found(
            software=route.software, timeout=timeout, option=option, ping=ping, needed=needed, **at
        )
    if route.stream_timeout is not None:
        yield services.PROXY_STREAM_TIMEOUT.found(timeout=route.stream_timeout, **at)


def _judge_fields(
    route: ProxyRoute, upstream: Upstream, worker: WorkerSeen, at: dict[str, Any]
) -> Iterator[Finding]:
    if not route.keeps_host and not worker.has_allowed_origins:
        yield services.HOST_REPLACED.found(software=route.software, **at)
    if not route.client_fields and not upstream.sends_proxy:
        yield services.CLIENT_ADDRESS_UNKNOWN.found(software=route.software, **at)


def is_refuted_by_101(finding: Finding) -> bool:
    """Return whether a handshake that opened shows that a finding of a configuration is wrong."""
    return finding.severity is Severity.CAUSE and finding.code in _REFUTED


_REFUTED = codes(
    handshakes.HTTP2_ONLY,
    handshakes.PEER_SPOKE_PLAIN,
    handshakes.PEER_SPOKE_TLS,
    handshakes.PROXY_HEADER_UNEXPECTED,
    handshakes.UPGRADE_HTTP_1_0,
    handshakes.UPGRADE_LOST,
    services.PROXY_ANSWERS_ITSELF,
    services.PROXY_DENIES,
    services.PROXY_HEADER_MISSING,
    services.PROXY_INCOMPLETE,
    services.PROXY_LEADS_ELSEWHERE,
    services.PROXY_NAME_UNKNOWN,
    services.PROXY_REDIRECTS,
    services.PROXY_UNTRUSTED_DROPPED,
    services.SOCKET_DENIED,
)
