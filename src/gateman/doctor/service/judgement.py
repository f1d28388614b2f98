"""What is wrong with a service, as far as its own machine shows. PURE."""

from collections import Counter
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from ...findings import ALL_CLIENTS, Finding, Severity, Stage, codes, handshakes, services
from ...master.control_requests import ProcessStatus, SlotStatus, StatusAnswer
from ...tls.certificate_findings import minute
from ...tls.domain_names import is_named
from ..target import Target
from . import arrival_judgement, proxy_judgement
from .observations import ServiceSeen, WorkerSeen, is_ipv6, is_loopback, same_address

_DOWN = frozenset({"waiting", "given_up"})

# A process that starts has loaded its script long before.
_START_TIME = 5.0  # seconds
# After one or two it may have been an accident.
_MANY_CRASHES = 3
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
    "certificate_missing": "clients waited in vain for a certificate that is being ordered"
    " (CERTIFICATE_NOT_ISSUED)",
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


def judge(target: Target | None, seen: ServiceSeen) -> list[Finding]:
    """Find what is wrong; findings of certificates are those of the worker's and proxy's files."""
    found = [*_service(target, seen), *_machine(seen)]
    for worker in seen.workers:
        found += worker.findings
    if target is not None:
        addresses, proxied = list(_addresses(target, seen)), list(_proxied(target, seen))
        # The system may redirect the port, as with iptables.
        elsewhere = services.LISTENS_ELSEWHERE.code if seen.has_opened else ""
        found += [one for one in addresses if one.code != elsewhere]
        through = [*proxied, *arrival_judgement.judge(target, seen, [*addresses, *proxied])]
        if seen.has_opened:
            through = [one for one in through if not proxy_judgement.is_refuted_by_101(one)]
        found += through
    # What the configuration tells comes first, and has the line to change.
    unique: dict[tuple[str, str], Finding] = {}
    for one in found:
        unique.setdefault((one.code, "" if one.code in _ONCE else one.problem), one)
    return list(unique.values())


# Seen in the configuration and in what arrived.
_ONCE = codes(
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


# The service.


def _service(target: Target | None, seen: ServiceSeen) -> Iterator[Finding]:
    if seen.mistake:
        yield services.SERVICE_INVALID.found(
            mistake=seen.mistake,
            script=seen.script,
            severity=Severity.WARNING if seen.is_running else None,
        )
    if seen.silent_master is not None:
        yield services.MASTER_SILENT.found(
            script=seen.script,
            pid=seen.silent_master.pid,
            how="is stopped" if seen.silent_master.is_stopped else "does not answer",
        )
    elif seen.problem:
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
        # Its processes end because they were told to.
        return
    for worker in seen.workers:
        if worker.is_socket_missing:
            yield services.SOCKET_REMOVED.found(
                path=worker.listen.path, worker=worker.name, script=seen.script
            )
    yield from _changed(target, seen)
    others = _others(target, seen)
    for name in dict.fromkeys(slot["worker"] for slot in seen.status["slots"]):
        slots = [slot for slot in seen.status["slots"] if slot["worker"] == name]
        for one in _slots(seen, name, slots):
            # A worker that the URL does not lead to keeps none of its clients out.
            is_other = name in others and one.severity is Severity.CAUSE
            yield replace(one, severity=Severity.WARNING) if is_other else one
    yield from _counters(seen.status["slots"])
    yield from _orders(target, seen.status, seen.now)


def _others(target: Target | None, seen: ServiceSeen) -> set[str]:
    """Name the workers that listen, without the one that the URL leads to; empty if unknown."""
    if target is None:
        return set()
    here = proxy_judgement.worker_behind(seen.route, seen)
    if seen.route is None and seen.own_addresses:
        here = next((one for one in seen.workers if one.listen.port == target.port), None)
    return set() if here is None else {one.name for one in seen.workers} - {here.name}


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


def _changed(target: Target | None, seen: ServiceSeen) -> Iterator[Finding]:
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
        # Clients are led to where it is to listen.
        is_wanted = target is not None and (
            proxy_judgement.worker_behind(seen.route, seen) in missing
            or (seen.own_addresses and target.port in {one.listen.port for one in missing})
        )
        yield services.SERVICE_CHANGED.found(
            severity=Severity.CAUSE if is_wanted else None,
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
    unstable = [slot for slot in slots if slot.get("recent_crashes", 0) >= _MANY_CRASHES]
    if unstable and not down:
        last = unstable[-1]
        yield services.SERVICE_UNSTABLE.found(
            worker=name,
            count=sum(slot.get("recent_crashes", 0) for slot in unstable),
            how=last["last_exit"] or "is gone",
            script=seen.script,
            severity=None if len(unstable) == len(slots) else Severity.WARNING,
            evidence=" | ".join(last["last_lines"][-3:]),
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
    after = seen.lag_after
    lag = max((max(one["lag"] or 0.0, after.get(one["pid"], 0.0)) for one in serving), default=0.0)
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
            f"{meaning} ({count})"
            for cause, count in sorted(counts.items())
            if (meaning := _meaning(cause))
        ]
        if told:
            yield services.REFUSALS_COUNTED.found(worker=worker, told="; ".join(told))


def _orders(target: Target | None, status: StatusAnswer, now: float) -> Iterator[Finding]:
    """Tell of certificates by ACME whose last order has failed."""
    for one in status.get("certificates", ()):
        problem = one["problem"]
        if problem is not None:
            is_served = one["expires_at"] is not None and one["expires_at"] > now
            is_other = target is not None and not is_named(target.host, one["names"])
            yield Finding(
                code=problem["code"],
                stage=Stage.CERTIFICATE,
                severity=Severity.WARNING if is_served or is_other else Severity.CAUSE,
                problem=f"the certificate for {one['names'][0]} was not issued:"
                f" {problem['problem']}",
                fix=problem["fix"],
            )


def _meaning(cause: str) -> str:
    usual = f"a TLS handshake failed ({cause})" if cause.startswith("tls_") else ""
    return _MEANINGS.get(cause, usual)


def _machine(seen: ServiceSeen) -> Iterator[Finding]:
    for file, written in seen.future_files[:1]:
        yield services.CLOCK_BEHIND.found(file=file, now=minute(seen.now), written=minute(written))
    for bus in seen.buses:
        if bus.problem:
            yield services.BUS_AWAY.found(
                worker=bus.worker, servers=bus.servers, reason=bus.problem
            )


# The addresses.


def _addresses(target: Target, seen: ServiceSeen) -> Iterator[Finding]:
    if seen.route is not None or not seen.own_addresses:
        return
    workers = [one for one in seen.workers if one.listen.port == target.port]
    for one in workers:
        if not one.listen.is_websocket:
            yield services.SPEAKS_ANOTHER_PROTOCOL.found(
                port=target.port, worker=one.name, protocol=one.listen.protocol
            )
            return
    listening = seen.listening(target.port)
    if not workers:
        if seen.workers and seen.listeners is not None and not listening:
            yield services.LISTENS_ELSEWHERE.found(
                where=f"port {target.port}", listens=seen.listens
            )
        return
    hosts = {one.address for one in listening} or {one.listen.host for one in workers}
    listens = ", ".join(sorted(hosts))
    outside = [one for one in seen.own_addresses if not is_loopback(one)]
    if outside and all(is_loopback(one) for one in hosts):
        yield services.LISTENS_ON_LOOPBACK_ONLY.found(
            host=target.host, address=outside[0], listens=listens
        )
        return
    if listening and not any(_clashes(host, one) for host in hosts for one in seen.own_addresses):
        yield services.LISTENS_ELSEWHERE.found(
            where=f"{seen.own_addresses[0]} port {target.port}", listens=listens
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


def _proxied(target: Target, seen: ServiceSeen) -> Iterator[Finding]:
    yield from proxy_judgement.judge(target, seen)
    for one in seen.denied[:1]:
        yield services.SOCKET_DENIED.found(
            proxy=seen.proxy_name,
            user=one.user,
            right=one.right,
            path=one.path,
            mode=one.mode,
            owner=one.owner,
        )
