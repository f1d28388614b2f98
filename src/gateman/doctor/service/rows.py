"""The rows of a report about a service on this machine. PURE."""

from collections.abc import Iterator

from ..rows import Outcome, Row
from .observations import ArrivalsSeen, ProxySeen, ServiceSeen
from .proxies.route import Action


def rows(seen: ServiceSeen) -> list[Row]:
    return list(_rows(seen))


def _rows(seen: ServiceSeen) -> Iterator[Row]:
    listens = ", ".join(f"{one.name} on {one.listen}" for one in seen.workers)
    yield _row(
        "script",
        seen.script,
        seen.mistake or listens or "no address",
        is_well=not seen.mistake,
    )
    for worker in seen.workers:
        for path, left in worker.certificates:
            yield _row("certificate", path, left, is_well=not worker.is_refused)
    yield from _running(seen)
    for one in seen.listeners or ():
        owner = "the service" if one.is_own else one.owner or "a process that cannot be read"
        yield _row("port", f"{one.address} port {one.port}", owner)
    for proxy in seen.proxies:
        yield _proxy(proxy)
    for bus in seen.buses:
        evidence = bus.problem or "it can be connected to"
        yield _row("bus", bus.servers, evidence, is_well=not bus.problem)
    for denied in seen.denied:
        evidence = f"{denied.user} may not {denied.right} it: {denied.mode} {denied.owner}"
        yield _row("rights", denied.path, evidence, is_well=False)
    if seen.handshake is not None:
        yield _handshake(seen.handshake)
    for line in seen.log:
        yield Row(probe="log", subject="the last lines", outcome=Outcome.OK, evidence=line)


def _running(seen: ServiceSeen) -> Iterator[Row]:
    if seen.status is None:
        evidence = seen.problem or "it is not running"
        yield Row(probe="service", subject=seen.script, outcome=Outcome.SKIPPED, evidence=evidence)
        return
    for slot in seen.status["slots"]:
        states = ", ".join(
            f"pid {one['pid']} {one['status']}"
            + (f", {one['connections']} connections" if one["connections"] is not None else "")
            for one in slot["processes"]
        )
        is_well = slot["state"] == "running" and not any(
            one["pid"] in seen.busy_pids for one in slot["processes"]
        )
        evidence = f"{slot['state']}{states and ': '}{states}"
        yield _row("service", f"{slot['worker']}/{slot['slot']}", evidence, is_well=is_well)


def _proxy(proxy: ProxySeen) -> Row:
    name, route = proxy.software.value, proxy.route
    if route is None:
        evidence = proxy.problem or "it does not listen on this port"
        return Row(probe="proxy", subject=name, outcome=Outcome.SKIPPED, evidence=evidence)
    upstreams = ", ".join(map(str, route.upstreams))
    what = f"passes to {upstreams}" if upstreams else route.answer or route.action.value
    is_passing = route.action is Action.PASSES and not route.lost_fields
    return _row("proxy", name, f"{route.block} ({route.where}): {what}", is_well=is_passing)


def _handshake(handshake: ArrivalsSeen) -> Row:
    if handshake.refused:
        return Row(
            probe="nonce",
            subject="what arrived",
            outcome=Outcome.SKIPPED,
            evidence=handshake.refused,
        )
    if handshake.arrivals:
        one = handshake.arrivals[0]
        evidence = (
            f"at {one['worker']} (pid {one['pid']}) from {one['peer']}, as HTTP/{one['version']}:"
            f" {one['status'] or 'no answer'}; {handshake.answer} came back"
        )
    else:
        causes = ", ".join(one["cause"] for one in handshake.causes)
        back = handshake.problem or f"{handshake.answer} came back"
        evidence = f"nothing; {back}{causes and f'; meanwhile {causes}'}"
    is_well = handshake.status == 101 and bool(handshake.arrivals)
    return _row("nonce", "what arrived", evidence, is_well=is_well, duration=handshake.duration)


def _row(
    probe: str, subject: str, evidence: str, *, is_well: bool = True, duration: float = 0.0
) -> Row:
    outcome = Outcome.OK if is_well else Outcome.FAILED
    return Row(probe=probe, subject=subject, outcome=outcome, evidence=evidence, duration=duration)
