"""Judges what the probes of the handshake saw. PURE."""

from collections.abc import Iterator

from ...findings import Declaration, Finding
from ...findings import handshakes as H  # noqa: N812 - the codes stand out
from ...findings.network import PLAIN_ON_TLS_PORT, PROXY_HEADER_EXPECTED, TLS_TWICE
from ..protocols import is_http2, is_tls, protocol
from ..target import Settings, Target
from .case import Case
from .fingerprints import Recognised, recognise
from .observations import Kind, Silence, UpgradeSeen
from .openings import judge_opening
from .refusals import HANGS, judge_refusal


def judge(target: Target, settings: Settings, seen: UpgradeSeen) -> list[Finding]:
    """Find what keeps clients from a WebSocket; nothing if one opened and answers."""
    found: list[Finding] = []
    for attempt in seen.attempts:
        if attempt.kind is Kind.HANDSHAKE:
            # The same through another address is told once.
            codes = {one.code for one in found}
            case = Case(target, settings, seen, attempt)
            found += [one for one in _judge(case) if one.code not in codes]
    return found


def _judge(case: Case) -> Iterator[Finding]:
    answer = case.attempt.answer
    if answer is None:
        yield from _judge_silence(case)
    elif answer.status == 101:
        yield from judge_opening(case, answer)
    else:
        yield from judge_refusal(case, answer)


def _judge_silence(case: Case) -> Iterator[Finding]:
    attempt = case.attempt
    match attempt.silence:
        case Silence.NOT_HTTP:
            yield _judge_garbage(case, attempt.garbage)
        case Silence.TIMED_OUT:
            yield _judge_hanging(case)
        case Silence.UNREACHABLE:
            if "ALPN" in attempt.error or "APPLICATION_PROTOCOL" in attempt.error:
                yield case.found(H.HTTP2_ONLY)
            # The network's own findings tell of the others.
        case _:
            yield _judge_closing(case)


def _judge_garbage(case: Case, garbage: bytes) -> Finding:
    if is_http2(garbage):
        return case.found(H.HTTP2_ONLY)
    if is_tls(garbage):
        return case.found(TLS_TWICE if case.target.is_tls else PLAIN_ON_TLS_PORT)
    service = protocol(garbage)
    if service:
        return case.found(H.WRONG_SERVICE, service=service)
    return case.found(H.NOT_HTTP)


def _judge_hanging(case: Case) -> Finding:
    seconds = case.attempt.duration
    plain, bad = case.plain, case.seen.of(Kind.MALFORMED)
    if plain is not None and plain.answer is not None and plain.answer.status != 504:
        case.who = recognise(plain.answer)
        return case.found(H.APPLICATION_UNDECIDED, seconds=seconds)
    if bad is not None and bad.answer is not None:
        who = recognise(bad.answer)
        case.who = Recognised(front=who.page or who.front)
        if not who.is_own_page:
            return case.found(H.APPLICATION_UNDECIDED, seconds=seconds)
        return case.found(H.UPSTREAM_HANGS, seconds=seconds, candidates=HANGS)
    return case.found(
        H.APPLICATION_BLOCKS,
        how=f"neither a handshake nor a plain request gets an answer within {seconds:.0f} s",
    )


def _judge_closing(case: Case) -> Finding:
    plain, bad = case.plain, case.seen.of(Kind.MALFORMED)
    candidates: tuple[Declaration, ...] = (PROXY_HEADER_EXPECTED, H.UPSTREAM_DOWN, H.SERVER_FULL)
    if any(one is not None and one.answer is not None for one in (plain, bad)):
        # It answers others: it is about this request (nginx: return 444).
        candidates = (H.FIREWALL_REFUSED, H.FORBIDDEN, H.APPLICATION_FAILED)
    return case.found(H.CLOSED_UNANSWERED, candidates=candidates)
