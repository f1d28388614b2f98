"""The rows of a report about a service on this machine. PURE."""

from collections.abc import Iterator

from ..rows import Outcome, Row
from .observations import ArrivalsSeen, ProxySeen, ServiceSeen
from .proxies.route import Action


def rows(seen: ServiceSeen) -> Iterator[Row]:
    listens = ", ".join(f"{one.name} on {one.listen}" for one in seen.workers)
    evidence = seen.mistake or listens or "no address"
    yield Row("script", seen.script, Outcome.of(not seen.mistake), evidence)
    for worker in seen.workers:
        for path, left in worker.certificates:
            yield Row("certificate", path, Outcome.of(not worker.is_refused), left)
    yield from _running(seen)
    for one in seen.listeners or ():
        owner = "the service" if one.is_own else one.owner or "a process that cannot be read"
        yield Row("port", f"{one.address} port {one.port}", Outcome.OK, owner)
    for proxy in seen.proxies:
        yield _proxy(proxy)
    for bus in seen.buses:
        evidence = bus.problem or "it can be connected to"
        yield Row("bus", bus.servers, Outcome.of(not bus.problem), evidence)
    for denied in seen.denied:
        evidence = f"{denied.user} may not {denied.right} it: {denied.mode} {denied.owner}"
        yield Row("rights", denied.path, Outcome.FAILED, evidence)
    if seen.handshake is not None:
        yield _handshake(seen.handshake)
    for line in seen.log:
        yield Row("log", "the last lines", Outcome.OK, line)


def _running(seen: ServiceSeen) -> Iterator[Row]:
    if seen.status is None:
        evidence = seen.problem or "it is not running"
        yield Row("service", seen.script, Outcome.SKIPPED, evidence)
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
        yield Row("service", f"{slot['worker']}/{slot['slot']}", Outcome.of(is_well), evidence)


def _proxy(proxy: ProxySeen) -> Row:
    name, route = proxy.software.value, proxy.route
    if route is None:
        evidence = proxy.problem or "it does not listen on this port"
        return Row("proxy", name, Outcome.SKIPPED, evidence)
    upstreams = ", ".join(map(str, route.upstreams))
    what = f"passes to {upstreams}" if upstreams else route.answer or route.action.value
    is_passing = route.action is Action.PASSES and not route.lost_fields
    evidence = f"{route.block} ({route.where}): {what}"
    return Row("proxy", name, Outcome.of(is_passing), evidence)


def _handshake(handshake: ArrivalsSeen) -> Row:
    if handshake.refused:
        return Row("nonce", "what arrived", Outcome.SKIPPED, handshake.refused)
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
    return Row("nonce", "what arrived", Outcome.of(is_well), evidence, handshake.duration)
