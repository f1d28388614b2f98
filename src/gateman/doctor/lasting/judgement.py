"""Judges what the probes of lasting connections, and of the page, saw. PURE."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from ...findings import Client, Finding, Software
from ...findings import handshakes as H  # noqa: N812 - the codes stand out
from ...findings import lasting as L  # noqa: N812 - the codes stand out
from ..target import Target, bracketed
from ..upgrade.fingerprints import REFUSED_FIELD, recognise
from ..upgrade.observations import Attempt, End, Silence
from ..upgrade.rows import attempt_evidence, exchange_evidence
from .observations import ConnectionsSeen, IdleSeen, LastingSeen, PageSeen, SizeSeen
from .policy import blocking, upgrades
from .rows import idle_evidence

# Chrome and Firefox except loopback addresses from the rule on mixed content.
_SAFARI = frozenset({Client.IOS, Client.WECHAT})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# The longest time that a service waits for a pong, as far as known: websockets waits 20 s.
_PONG_TIME = 45.0  # seconds
_LONG_IDLE = 55.0  # seconds

# What cuts after how many seconds, unless it is told otherwise.
_CUTS = (
    (60.0, "this is the default of nginx (proxy_read_timeout), Apache (Timeout) and AWS"),
    (300.0, "this is the default of Apache on Debian (Timeout)"),
    (100.0, "this is the limit of Cloudflare"),
    (50.0, "this is the usual timeout of HAProxy (timeout client and server)"),
    (350.0, "this is the limit of AWS network load balancers and NAT gateways"),
    (240.0, "this is the default of Azure's load balancers"),
)
_OWN_LIMITS = {
    one.code: one for one in (H.ADDRESS_LIMIT, H.SERVER_FULL, H.HANDSHAKE_RATE, H.SERVER_DRAINING)
}


def judge(target: Target, seen: LastingSeen, front: Software | None = None) -> Iterator[Finding]:
    """Judge it; ``front`` is the proxy nearest to the client, as the handshake showed it."""
    if seen.page is not None:
        yield from _judge_page(seen.page, target)
    if seen.idle is not None:
        yield from _judge_idle(seen.idle, front)
    if seen.size is not None:
        yield from _judge_size(seen.size, front)
    if seen.connections is not None:
        yield from _judge_connections(seen.connections, front)


def _judge_page(page: PageSeen, target: Target) -> Iterator[Finding]:
    if page.answer is None or page.answer.status >= 400:
        how = page.error or f"it answers {page.answer.status}" if page.answer else page.error
        yield L.PAGE_UNREACHABLE.found(page=page.url, how=how)
    scheme = urlsplit(page.url).scheme
    port = "" if target.port in {80, 443} else f":{target.port}"
    authority = f"{bracketed(target.host)}{port}"
    source = f"{'wss' if target.is_tls else 'ws'}://{authority}"
    suggested = f"wss://{authority}{target.bare_path}"
    if scheme == "https" and not target.is_tls:
        is_loopback = target.host in _LOOPBACK
        yield L.MIXED_CONTENT.found(
            page=page.url,
            suggested=suggested,
            fails_for=_SAFARI if is_loopback else None,
            evidence=f"{page.url} opens {source}",
        )
    elif not target.is_tls and upgrades(page.policies):
        yield L.PAGE_UPGRADES.found(
            page=page.url, suggested=suggested, evidence="; ".join(page.policies)[:300]
        )
    directive = blocking(page.policies, page.url, target)
    if directive:
        software = None
        if page.answer is not None:
            front = recognise(page.answer).front
            software = None if front is None else front.software
        yield L.CSP_BLOCKS.found(
            software=software,
            page=page.url,
            url=f"{source}{target.bare_path}",
            directive=directive[:200],
            source=source,
            evidence=directive,
        )


def _judge_idle(idle: IdleSeen, front: Software | None) -> Iterator[Finding]:
    exchange = idle.exchange
    if exchange is None:
        return
    shown, seconds = idle_evidence(exchange), exchange.ended_at
    if exchange.end is End.OPEN:
        if not exchange.pings and not exchange.messages and idle.asked >= _LONG_IDLE:
            yield L.NO_PINGS.found(seconds=idle.asked, evidence=shown)
    elif exchange.close is not None:
        code, reason = exchange.close
        if exchange.pings and "ping" in reason.lower():
            yield L.PONGS_LOST.found(seconds=seconds, evidence=shown)
        else:
            how = f"{code} {reason!r}"
            yield L.IDLE_CLOSED.found(seconds=seconds, how=how, evidence=shown)
    elif exchange.pings and seconds - exchange.pings[-1] < _PONG_TIME:
        yield L.PONGS_LOST.found(seconds=seconds, evidence=shown)
    else:
        yield L.IDLE_CUT.found(
            software=front, seconds=seconds, who=_who_cuts(seconds, front), evidence=shown
        )


def _who_cuts(seconds: float, front: Software | None) -> str:
    for time, told in _CUTS:
        if abs(seconds - time) < 1.5:
            return told
    if front is not None:
        return f"{front.value} is in front, and has such a time"
    return "a proxy, a firewall or a router on the way has such a time"


def _judge_size(size: SizeSeen, front: Software | None) -> Iterator[Finding]:
    exchange = size.exchange
    if exchange is None:
        return
    shown = exchange_evidence(exchange)
    if exchange.is_compressed:
        yield H.COMPRESSION_NOT_AGREED.found(software=front, evidence=shown)
    elif exchange.close is not None:
        code, reason = exchange.close
        if code == 1009:
            yield L.MESSAGE_TOO_BIG.found(size=size.size, reason=reason, evidence=shown)
        else:
            yield L.MESSAGE_REFUSED.found(size=size.size, how=f"{code} {reason!r}", evidence=shown)
    elif exchange.end in {End.EOF, End.RESET}:
        candidates = (L.MESSAGE_TOO_BIG, H.FIREWALL_REFUSED)
        yield L.MESSAGE_CUT.found(size=size.size, evidence=shown, candidates=candidates)
    elif exchange.end is End.FAULT:
        yield H.FRAMES_INVALID.found(what=exchange.fault, evidence=shown)
    elif exchange.pong_time is None:
        candidates = (H.APPLICATION_BLOCKS, L.MESSAGE_TOO_BIG)
        yield L.MESSAGE_UNREAD.found(
            size=size.size, seconds=size.waited, evidence=shown, candidates=candidates
        )


def _judge_connections(many: ConnectionsSeen, front: Software | None) -> Iterator[Finding]:
    if many.local_error:
        yield L.CONNECTIONS_OF_THIS_MACHINE.found(opened=many.opened, how=many.local_error)
    if many.failures and many.opened:
        yield _limit(many, many.failures[0], front)
    if many.lost:
        yield L.CONNECTIONS_LOST.found(
            opened=many.opened, lost=many.lost, evidence=f"{many.lost} of {many.opened}"
        )


def _limit(many: ConnectionsSeen, first: Attempt, front: Software | None) -> Finding:
    shown = f"{many.opened} opened, then: {attempt_evidence(first)}"
    answer = first.answer
    if answer is None:
        silence = first.silence or Silence.CLOSED
        return L.CONNECTIONS_LIMITED.found(
            software=front, opened=many.opened, what=silence.value, evidence=shown
        )
    own = _OWN_LIMITS.get(answer.get(REFUSED_FIELD))
    if own is not None:
        return own.found(evidence=shown)
    return L.CONNECTIONS_LIMITED.found(
        software=recognise(answer).software or front,
        opened=many.opened,
        what=f"{answer.status} {answer.reason}".strip(),
        evidence=shown,
    )
