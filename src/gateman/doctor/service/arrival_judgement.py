"""What a handshake with a nonce tells: how it arrived, or why it did not. PURE."""

from collections.abc import Callable, Iterator, Sequence

from ...findings import Finding, Severity, handshakes, services
from ...master.control_requests import ListedArrival
from ..target import Target
from . import proxy_judgement
from .observations import PROXY_PROGRAMS, ArrivalsSeen, ServiceSeen, WorkerSeen
from .proxies.route import ProxyRoute


def judge(target: Target, seen: ServiceSeen, others: Sequence[Finding]) -> Iterator[Finding]:
    """Judge how the handshake arrived; ``others`` are the findings on its way."""
    handshake = seen.handshake
    if handshake is None or handshake.refused or seen.status is None:
        return
    if seen.ended and not any(one["status"] == 101 for one in handshake.arrivals):
        slot = seen.ended[0]
        yield services.PROCESS_ENDED.found(
            worker=slot["worker"],
            how=slot["last_exit"] or "ended",
            evidence=" | ".join(slot["last_lines"][-3:]),
        )
        return
    if handshake.arrivals:
        for arrival in handshake.arrivals:
            yield from _arrival(target, seen, handshake, arrival)
        return
    causes = list(_causes(seen, handshake)) if handshake.status != 101 else []
    yield from causes
    if handshake.status == 101 and handshake.silent:
        return  # A process that blocks after the 101 cannot say that it was here.
    if handshake.status == 101:
        yield services.ANOTHER_SERVICE_ANSWERS.found(
            url=target.url,
            listens=seen.listens,
            addresses=", ".join(seen.addresses) or target.host,
            # Elsewhere, it may be another machine of the same service.
            severity=None if seen.own_addresses else Severity.WARNING,
        )
    elif not causes and not handshake.silent and not _is_explained(seen, others):
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
            listens=seen.listens,
            evidence=handshake.answer,
        )
    return services.HANDSHAKE_NOT_ARRIVED.found(
        url=target.url,
        answer=handshake.answer,
        command=_command(target, seen),
        evidence=handshake.text or handshake.server,
        candidates=(
            services.PROXY_LEADS_ELSEWHERE,
            services.PROXY_ANSWERS_ITSELF,
            services.ANOTHER_SERVICE_ANSWERS,
        ),
    )


def _is_explained(seen: ServiceSeen, others: Sequence[Finding]) -> bool:
    """Return whether something else tells already why nothing arrived."""
    has_cause = any(one.severity is Severity.CAUSE for one in others)
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
    route, software, proxy = seen.route, seen.software, seen.proxy_name
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
    software = seen.software
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
    is_proxied = any(name.startswith(("x-forwarded", "x-real", "forwarded")) for name in fields)
    if worker is None or not is_proxied:
        return
    if not arrival["is_trusted"] and arrival["source"] is None:
        yield proxy_judgement.untrusted(worker, arrival["peer"], evidence)
    hosts = (fields.get("host", ""), fields.get("x-forwarded-host", ""))
    is_known = any(target.host in one.lower() for one in hosts)
    if not is_known and not worker.has_allowed_origins and not target.host[:1].isdigit():
        yield services.HOST_REPLACED.found(
            software=seen.software,
            proxy=seen.proxy_name,
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
