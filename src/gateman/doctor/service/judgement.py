"""What is wrong with a service, as far as its own machine shows. PURE."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from ...findings import ALL_CLIENTS, Finding, Severity, handshakes, services
from ...master.control_requests import ListedArrival, ProcessStatus, SlotStatus
from ..target import Settings, Target
from . import proxy_judgement
from .observations import (
    PROXY_PROGRAMS,
    ArrivalsSeen,
    ServiceSeen,
    WorkerSeen,
    is_ipv6,
    is_loopback,
    same_address,
)
from .proxies.route import ProxyRoute

_DOWN = frozenset({"waiting", "given_up"})

# A process that starts has loaded its script long before.
_START_TIME = 5.0  # seconds
# What users feel; a garbage collection does not take so long.
_LAG = 0.5  # seconds
_RESERVED_FILES = 64
_FULL = 0.8

# What counters of the status mean that tell of clients that could not connect.
_MEANINGS = {
    "upgrade_not_passed_on": "handshakes came without Upgrade, or as HTTP/1.0 (UPGRADE_LOST)",
    "tls_on_plain_port": "TLS came to the plain port (PEER_SPOKE_TLS)",
    "plain_on_tls_port": "plain HTTP came to the TLS port (PEER_SPOKE_PLAIN)",
    "unexpected_proxy_header": "a PROXY header came (PROXY_HEADER_UNEXPECTED)",
    "no_proxy_header": "connections came without a PROXY header (PROXY_HEADER_MISSING)",
    "bad_proxy_header": "connections came with a broken PROXY header",
    "proxy_not_trusted": "a peer that is not in trusted_proxies connected, and was dropped",
    "left_after_certificate": "clients left when they were shown the certificate",
    "origin_refused": "pages of origins that are not allowed were refused (ORIGIN_REFUSED)",
    "max_connections": "more clients came than limits.max_connections allows (SERVER_FULL)",
    "out_of_descriptors": "no connection could be accepted, for lack of descriptors",
    "max_connections_per_ip": "an address had more connections than one may (ADDRESS_LIMIT)",
    "max_handshakes_per_second": "handshakes came faster than allowed (HANDSHAKE_RATE)",
    "contradictory_forwarding": "a proxy named different clients in its fields",
    "handshake_timeout": "clients did not complete the handshake in time",
    "no_common_subprotocol": "clients offered subprotocols of which none is spoken",
    "bad_response_header": "the application set a header field that cannot be sent",
}


def judge(
    target: Target | None, settings: Settings, seen: ServiceSeen, *, now: float
) -> list[Finding]:
    """Find what is wrong; findings of certificates are those of the worker's and proxy's files."""
    del settings, now  # The observations have the time at which they were made.
    found = [*_service(target, seen), *_machine(seen)]
    for worker in seen.workers:
        found += worker.findings
    if target is not None:
        found += _addresses(target, seen)
        through = [*_proxied(target, seen), *_arrived(target, seen)]
        if seen.has_opened:
            through = [one for one in through if not proxy_judgement.is_refuted_by_101(one)]
        found += through
    # What the configuration tells comes first, and has the line to change.
    unique: dict[tuple[str, str], Finding] = {}
    for one in found:
        unique.setdefault((one.code, "" if one.code in _ONCE else one.problem), one)
    return list(unique.values())


# Seen in the configuration and in what arrived.
_ONCE = frozenset(
    one.code
    for one in (
        handshakes.UPGRADE_LOST,
        handshakes.UPGRADE_HTTP_1_0,
        handshakes.PEER_SPOKE_TLS,
        handshakes.PEER_SPOKE_PLAIN,
        handshakes.PROXY_HEADER_UNEXPECTED,
        services.PROXY_HEADER_MISSING,
        services.PROXY_UNTRUSTED,
        services.PROXY_UNTRUSTED_DROPPED,
        services.HOST_REPLACED,
    )
)


# The service.


def _service(target: Target | None, seen: ServiceSeen) -> Iterator[Finding]:
    if seen.mistake:
        yield services.SERVICE_INVALID.found(mistake=seen.mistake, script=seen.script)
    if seen.problem:
        yield services.SERVICE_UNREACHABLE.found(reason=seen.problem)
    elif seen.status is None:
        owners = _foreign_owners(seen)
        yield from owners
        yield services.SERVICE_NOT_RUNNING.found(
            script=seen.script, severity=None if target is not None else Severity.NOTE
        )
        return
    if seen.status is None:
        return
    if seen.status["master"]["state"] == "stopping":
        yield handshakes.SERVER_DRAINING.found(evidence="its master is stopping")
    for worker in seen.workers:
        if worker.is_socket_missing:
            yield services.SOCKET_REMOVED.found(
                path=worker.listen.path, worker=worker.name, script=seen.script
            )
    yield from _changed(seen)
    for name in dict.fromkeys(slot["worker"] for slot in seen.status["slots"]):
        slots = [slot for slot in seen.status["slots"] if slot["worker"] == name]
        yield from _slots(seen, name, slots)
    yield from _counters(seen.status["slots"])


def _foreign_owners(seen: ServiceSeen) -> Iterator[Finding]:
    for worker in seen.workers:
        if worker.listen.path or not worker.listen.port:
            continue
        for one in seen.listening(worker.listen.port):
            if not one.is_own and _clashes(one.address, worker.listen.host):
                owner = one.owner or "another process"
                yield services.PORT_TAKEN.found(
                    owner=owner, port=one.port, worker=worker.name, evidence=one.address
                )
                break


def _clashes(one: str, other: str) -> bool:
    everywhere = {"0.0.0.0", "::"}  # noqa: S104 - compared
    return one == other or bool(everywhere & {one, other})


def _changed(seen: ServiceSeen) -> Iterator[Finding]:
    if seen.status is None:
        return
    running = [
        url.rpartition("://")[2]
        for one in seen.status["workers"]
        for url in one["listen"].split(", ")
        if url != "-"
    ]
    missing = [one for one in seen.workers if not _runs_at(one, running)]
    if missing and running:
        yield services.SERVICE_CHANGED.found(
            script=seen.script,
            declared=", ".join(str(one.listen).rpartition("://")[2] for one in missing),
            running=", ".join(running),
        )


def _runs_at(worker: WorkerSeen, running: Iterable[str]) -> bool:
    """Return whether the running service listens there; names are not looked up."""
    listen = worker.listen
    if listen.path:
        return any(one.endswith(listen.path) for one in running)
    hosts = [
        one.rpartition(":")[0].strip("[]") for one in running if one.endswith(f":{listen.port}")
    ]
    is_name = not (":" in listen.host or listen.host.replace(".", "").isdigit())
    return not listen.port or any(is_name or same_address(one, listen.host) for one in hosts)


def _slots(seen: ServiceSeen, name: str, slots: list[SlotStatus]) -> Iterator[Finding]:
    down = [slot for slot in slots if slot["state"] in _DOWN]
    if down:
        last = down[-1]
        how = last["last_exit"] or "it was not started"
        evidence = " | ".join(last["last_lines"][-3:])
        if len(down) == len(slots):
            yield services.SERVICE_CRASHES.found(
                worker=name, how=how, script=seen.script, evidence=evidence
            )
        else:
            yield services.SERVICE_CRASHES_PARTLY.found(
                worker=name,
                count=len(down),
                total=len(slots),
                how=how,
                script=seen.script,
                evidence=evidence,
            )
    processes = [one for slot in slots for one in slot["processes"]]
    yield from _processes(seen, name, processes)


def _processes(seen: ServiceSeen, name: str, processes: list[ProcessStatus]) -> Iterator[Finding]:
    if not processes:
        return
    if all(one["status"] == "starting" for one in processes):
        seconds = min(one["uptime"] for one in processes)
        if seconds >= _START_TIME:
            yield services.SERVICE_STARTING.found(worker=name, seconds=seconds, script=seen.script)
        return
    serving = [one for one in processes if one["status"] not in {"starting", "draining"}]
    stuck = [one for one in serving if one["pid"] in seen.busy_pids]
    if stuck:
        yield services.SERVICE_BLOCKED.found(
            worker=name,
            pids=" ".join(str(one["pid"]) for one in stuck),
            severity=None if len(stuck) == len(serving) else Severity.WARNING,
            evidence=", ".join(f"{one['pid']} {one['status']}" for one in stuck),
        )
        return
    lag = max((one["lag"] or 0.0 for one in serving), default=0.0)
    if lag > _LAG:
        yield services.SERVICE_SLOW.found(worker=name, lag=lag)
    for one in serving:
        limit, connections = seen.open_files.get(one["pid"]), one["connections"] or 0
        if limit is not None and connections > _FULL * max(limit - _RESERVED_FILES, 1):
            yield services.DESCRIPTORS_FEW.found(worker=name, connections=connections, limit=limit)
            break


def _counters(slots: Iterable[SlotStatus]) -> Iterator[Finding]:
    totals: dict[str, Counter[str]] = {}
    for slot in slots:
        for process in slot["processes"]:
            totals.setdefault(slot["worker"], Counter()).update(process["counts"] or {})
    for worker, counts in totals.items():
        told = [
            f"{_meaning(cause)} ({count})"
            for cause, count in sorted(counts.items())
            if _meaning(cause)
        ]
        if told:
            yield services.REFUSALS_COUNTED.found(worker=worker, told="; ".join(told))


def _meaning(cause: str) -> str:
    usual = f"a TLS handshake failed ({cause})" if cause.startswith("tls_") else ""
    return _MEANINGS.get(cause, usual)


def _machine(seen: ServiceSeen) -> Iterator[Finding]:
    for file, written in seen.future_files[:1]:
        yield services.CLOCK_BEHIND.found(
            file=file, now=_minute(seen.now), written=_minute(written)
        )

    for bus in seen.buses:
        if bus.problem:
            yield services.BUS_AWAY.found(
                worker=bus.worker, servers=bus.servers, reason=bus.problem
            )


def _minute(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"


# The addresses.


def _addresses(target: Target, seen: ServiceSeen) -> Iterator[Finding]:
    if seen.route is not None or not seen.own_addresses:
        return
    workers = [one for one in seen.workers if one.listen.port == target.port]
    listening = seen.listening(target.port)
    if not workers:
        if seen.listeners is not None and not listening:
            listens = ", ".join(one.address for one in seen.workers)
            yield services.LISTENS_ELSEWHERE.found(port=target.port, listens=listens)
        return
    hosts = {one.address for one in listening} or {one.listen.host for one in workers}
    listens = ", ".join(sorted(hosts))
    outside = [one for one in seen.own_addresses if not is_loopback(one)]
    if outside and all(is_loopback(one) for one in hosts):
        yield services.LISTENS_ON_LOOPBACK_ONLY.found(
            host=target.host, address=outside[0], listens=listens
        )
        return
    ipv6 = [one for one in seen.own_addresses if is_ipv6(one)]
    if ipv6 and not any(is_ipv6(one) for one in hosts):
        yield services.LISTENS_ON_IPV4_ONLY.found(
            host=target.host,
            address=ipv6[0],
            listens=listens,
            port=target.port,
            # With no other address, nobody comes in.
            fails_for=None if len(ipv6) < len(seen.addresses) else ALL_CLIENTS,
        )


# The proxy, and what arrived.


def _proxied(target: Target, seen: ServiceSeen) -> Iterator[Finding]:
    yield from proxy_judgement.judge(target, seen)
    route = seen.route
    for one in seen.denied[:1]:
        yield services.SOCKET_DENIED.found(
            proxy="the proxy" if route is None else route.software.value,
            user=one.user,
            right=one.right,
            path=one.path,
            mode=one.mode,
            owner=one.owner,
        )


def _arrived(target: Target, seen: ServiceSeen) -> Iterator[Finding]:
    handshake = seen.handshake
    if handshake is None or handshake.refused or seen.status is None:
        return
    if handshake.arrivals:
        for arrival in handshake.arrivals:
            yield from _arrival(target, seen, handshake, arrival)
        return
    causes = list(_causes(seen, handshake)) if handshake.status != 101 else []
    yield from causes
    if handshake.status == 101:
        yield services.ANOTHER_SERVICE_ANSWERS.found(
            url=target.url,
            listens=", ".join(one.address for one in seen.workers),
            addresses=", ".join(seen.addresses) or target.host,
            # Elsewhere, it may be another machine of the same service.
            severity=None if seen.own_addresses else Severity.WARNING,
        )
    elif not causes and not handshake.silent and not _is_explained(target, seen):
        yield _not_arrived(target, seen, handshake)


def _not_arrived(target: Target, seen: ServiceSeen, handshake: ArrivalsSeen) -> Finding:
    owners = [
        one.owner
        for one in seen.listening(target.port)
        if not one.is_own and one.owner and one.owner.partition(" ")[0] not in PROXY_PROGRAMS
    ]
    if seen.own_addresses and owners and not seen.proxies:
        return services.PORT_OF_ANOTHER.found(
            port=target.port,
            owner=owners[0],
            listens=", ".join(one.address for one in seen.workers),
            evidence=handshake.answer,
        )
    return services.HANDSHAKE_NOT_ARRIVED.found(
        url=target.url,
        answer=handshake.answer,
        command=_command(target, seen),
        evidence=handshake.text or handshake.server,
        candidates=("PROXY_LEADS_ELSEWHERE", "PROXY_ANSWERS_ITSELF", "ANOTHER_SERVICE_ANSWERS"),
    )


def _is_explained(target: Target, seen: ServiceSeen) -> bool:
    """Return whether something else tells already why nothing arrived."""
    others = [*proxy_judgement.judge(target, seen), *_addresses(target, seen)]
    has_cause = any(one.severity is Severity.CAUSE for one in others) or bool(seen.denied)
    # A name or a port that leads nowhere is seen from outside.
    return has_cause or seen.handshake is None or seen.handshake.status is None


def _command(target: Target, seen: ServiceSeen) -> str:
    if seen.addresses and not seen.own_addresses:
        return (
            f"run this on the machine of {seen.addresses[0]}: gateman doctor server.py {target.url}"
        )
    return f"ss -ltnp 'sport = :{target.port}'"


def _causes(seen: ServiceSeen, handshake: ArrivalsSeen) -> Iterator[Finding]:
    """Judge what went wrong while the handshake was on its way, though its nonce was not seen."""
    route = seen.route
    software = None if route is None else route.software
    proxy = "the proxy" if software is None else software.value
    for one in handshake.causes:
        worker = _named(seen, one["worker"])
        evidence = f"{one['cause']}, {one['count']} times: {one['message']}"
        match one["cause"]:
            case "tls_on_plain_port":
                yield handshakes.PEER_SPOKE_TLS.found(
                    software=software, client=proxy, evidence=evidence
                )
            case "plain_on_tls_port":
                yield handshakes.PEER_SPOKE_PLAIN.found(client=proxy, evidence=evidence)
            case "unexpected_proxy_header":
                yield handshakes.PROXY_HEADER_UNEXPECTED.found(software=software, evidence=evidence)
            case "no_proxy_header" | "bad_proxy_header":
                yield services.PROXY_HEADER_MISSING.found(
                    software=software, worker=one["worker"], proxy=proxy, evidence=evidence
                )
            case "proxy_not_trusted" if worker is not None:
                peer = one["message"].partition(" ")[0]
                yield proxy_judgement.untrusted(worker, peer, evidence)
            case cause if cause in _REFUSALS:
                yield _REFUSALS[cause](evidence=evidence)
            case cause if cause.startswith("tls_") or cause == "left_after_certificate":
                yield services.UPSTREAM_TLS_FAILED.found(
                    software=software,
                    proxy=proxy,
                    worker=one["worker"],
                    message=one["message"].removeprefix("a TLS handshake failed: "),
                    evidence=evidence,
                )
            case "left_early" if worker is not None and worker.is_tls and _is_tls(route):
                yield services.UPSTREAM_TLS_FAILED.found(
                    software=software,
                    proxy=proxy,
                    worker=one["worker"],
                    message="it left when it was shown the certificate",
                    evidence=evidence,
                )
            case _:
                pass


def _is_tls(route: ProxyRoute | None) -> bool:
    return route is not None and any(one.is_tls for one in route.upstreams)


def _named(seen: ServiceSeen, name: str) -> WorkerSeen | None:
    return next((one for one in seen.workers if one.name == name), None)


def _arrival(
    target: Target, seen: ServiceSeen, handshake: ArrivalsSeen, arrival: ListedArrival
) -> Iterator[Finding]:
    """Judge a handshake that arrived, by what it had lost or what the service did with it."""
    route = seen.route
    software = None if route is None else route.software
    fields = arrival["fields"]
    evidence = _written(arrival)
    status = arrival["status"]
    yield from _passed_on(target, seen, arrival, evidence)
    if arrival["begins_with"] == "proxy":
        yield handshakes.PROXY_HEADER_UNEXPECTED.found(software=software, evidence=evidence)
        return
    if "plain_on_tls_port" in _causes_of(arrival, handshake):
        proxy = "a client" if software is None else software.value
        yield handshakes.PEER_SPOKE_PLAIN.found(client=proxy, evidence=evidence)
        return
    lost = [
        name
        for field, word, name in (
            ("upgrade", "websocket", "Upgrade: websocket"),
            ("connection", "upgrade", "Connection: Upgrade"),
        )
        if word not in fields.get(field, "").lower()
    ]
    if lost:
        yield handshakes.UPGRADE_LOST.found(
            software=software,
            handshake="the handshake",
            field="' and '".join(lost),
            evidence=evidence,
        )
    elif arrival["version"] == "1.0":
        yield handshakes.UPGRADE_HTTP_1_0.found(
            software=software, handshake="the handshake", evidence=evidence
        )
    elif missing := [name for name in _NEEDED if name not in fields]:
        yield handshakes.HANDSHAKE_FIELD_LOST.found(
            handshake="the handshake", field=_NEEDED[missing[0]], evidence=evidence
        )
    elif status == 101 and handshake.status != 101:
        yield services.ANSWER_LOST.found(
            software=software, answer=handshake.answer, evidence=evidence
        )
    elif status != 101:
        yield from _refused(seen.script, arrival, handshake, evidence)


def _causes_of(arrival: ListedArrival, handshake: ArrivalsSeen) -> list[str]:
    """Give its causes; what was noticed before there was a request is known by its time only."""
    if arrival["causes"] or arrival["status"] == 101:
        return arrival["causes"]
    early = {"plain_on_tls_port", *_REFUSALS}
    return [
        one["cause"]
        for one in handshake.causes
        if one["cause"] in early and one["pid"] == arrival["pid"]
    ]


_NEEDED = {
    "sec-websocket-key": "Sec-WebSocket-Key",
    "sec-websocket-version": "Sec-WebSocket-Version",
}

_REFUSALS: dict[str, Callable[..., Finding]] = {
    "max_connections": handshakes.SERVER_FULL.found,
    "out_of_descriptors": handshakes.SERVER_FULL.found,
    "max_connections_per_ip": handshakes.ADDRESS_LIMIT.found,
    "max_handshakes_per_second": handshakes.HANDSHAKE_RATE.found,
    "draining": handshakes.SERVER_DRAINING.found,
}


def _refused(
    script: str, arrival: ListedArrival, handshake: ArrivalsSeen, evidence: str
) -> Iterator[Finding]:
    status, causes = arrival["status"], _causes_of(arrival, handshake)
    for cause in causes:
        if cause in _REFUSALS:
            yield _REFUSALS[cause](evidence=evidence)
            return
    how = f"it answers {status} to the doctor's handshake"
    if "origin_refused" in causes:
        origin = arrival["fields"].get("origin", "")
        yield handshakes.ORIGIN_REFUSED.found(origin=origin, evidence=evidence)
    elif status in {414, 431}:
        yield handshakes.HEAD_TOO_LARGE.found(
            server="the service", status=status, evidence=evidence
        )
    elif status == 503 and "business worker" in handshake.text:
        yield services.BUSINESS_MISSING.found(worker=arrival["worker"], script=script)
    elif status == 500:
        yield handshakes.APPLICATION_FAILED.found(how=how, evidence=evidence)
    elif status is not None and not causes:
        yield handshakes.APPLICATION_REFUSED.found(how=how, evidence=evidence)
    elif status is not None:
        yield handshakes.REQUEST_REFUSED.found(status=status, evidence=evidence)


def _passed_on(
    target: Target, seen: ServiceSeen, arrival: ListedArrival, evidence: str
) -> Iterator[Finding]:
    """Judge what the proxy tells of the client."""
    fields, worker = arrival["fields"], _named(seen, arrival["worker"])
    route = seen.route
    is_proxied = any(name.startswith(("x-forwarded", "x-real", "forwarded")) for name in fields)
    if worker is None or not is_proxied:
        return
    if not arrival["is_trusted"] and arrival["source"] is None:
        yield proxy_judgement.untrusted(worker, arrival["peer"], evidence)
    hosts = (fields.get("host", ""), fields.get("x-forwarded-host", ""))
    is_known = any(target.host in one.lower() for one in hosts)
    if not is_known and not worker.has_allowed_origins and not target.host[:1].isdigit():
        yield services.HOST_REPLACED.found(
            software=None if route is None else route.software,
            proxy="the proxy" if route is None else route.software.value,
            where=f"Host: {hosts[0]}",
            evidence=evidence,
        )


def _written(arrival: ListedArrival) -> str:
    """Write down how it arrived; without what identifies a client."""
    fields = arrival["fields"]
    shown = [
        f"{name}: {fields[name]}" for name in ("host", "upgrade", "connection") if name in fields
    ]
    answer = "no answer yet" if arrival["status"] is None else f"answered {arrival['status']}"
    causes = f" ({', '.join(arrival['causes'])})" if arrival["causes"] else ""
    return (
        f"{arrival['method']} {arrival['path']} HTTP/{arrival['version']} from {arrival['peer']},"
        f" {', '.join(shown) or 'no fields'}; {answer}{causes}"
    )
