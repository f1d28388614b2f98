"""What the probes of the network saw, as a person reads it. PURE."""

from collections.abc import Iterator

from ...tls.certificate_findings import SECONDS_PER_DAY
from ..rows import Outcome, Row
from ..target import bracketed
from . import answers
from .observations import AddressSeen, AnswerSeen, HandshakeSeen, NetworkSeen, Reach, Resolution

_NAMES = {
    "tls_12": "TLS 1.2 alone",
    "tls_13": "TLS 1.3 alone",
    "without_name": "without SNI",
    "old": "TLS 1.0 and 1.1",
    "lenient": "all ciphers",
    "without_alpn": "without ALPN",
    "with_h2": "ALPN h2",
    "inner": "TLS inside TLS",
}


def rows(seen: NetworkSeen) -> list[Row]:
    found = [
        Row(
            "dns",
            f"{one.family} records",
            _resolution(one.resolution),
            (", ".join(one.addresses) or one.evidence or one.resolution.value)
            + " (hosts file of this machine)" * one.is_local,
            one.duration,
        )
        for one in seen.lookups
    ]
    for address in seen.addresses:
        found += _of_address(address, seen.looked_at)
    if seen.untried:
        found.append(Row("tcp", ", ".join(seen.untried), Outcome.SKIPPED, "more addresses"))
    return found


def agreed(seen: NetworkSeen) -> dict[str, str]:
    """Return what a client and the server agree on, for the line of a healthy service."""
    for address in seen.addresses:
        if address.tls is not None and address.tls.is_agreed:
            facts = {"TLS": address.tls.version.removeprefix("TLSv")}
            days = _days_left(address, seen.looked_at)
            return facts if days is None else {**facts, "certificate": f"{days} days left"}
    return {}


def _resolution(resolution: Resolution) -> Outcome:
    if resolution is Resolution.FOUND:
        return Outcome.OK
    is_failure = resolution in {Resolution.TIMED_OUT, Resolution.FAILED}
    return Outcome.FAILED if is_failure else Outcome.SKIPPED


def _of_address(seen: AddressSeen, now: float) -> Iterator[Row]:
    subject = f"{bracketed(seen.address)}:{seen.port}"
    is_skipped = seen.reach is Reach.NO_ROUTE
    outcome = Outcome.SKIPPED if is_skipped else Outcome.of(seen.reach is Reach.OPEN)
    yield Row("tcp", subject, outcome, seen.evidence or seen.reach.value, seen.duration)
    if seen.plain is not None:
        yield _answer(subject, seen.plain)
    if seen.tls is not None:
        yield _handshake(subject, seen.tls)
    days = _days_left(seen, now)
    if seen.chain is not None and days is not None:
        leaf = seen.chain.chain[0]
        assert leaf is not None
        is_trusted = bool(seen.chain.trust.anchors)
        names = ", ".join(leaf.names[:3]) or "no name"
        yield Row(
            "certificate",
            subject,
            Outcome.of(is_trusted and days >= 0),
            f"{names}; from {leaf.issuer};"
            f" {f'{days} days left' if days >= 0 else f'expired {-days} days ago'};"
            f" {len(seen.chain.chain)} sent; {'trusted' if is_trusted else 'not trusted'}",
        )
    for name, called in _NAMES.items():
        tls: HandshakeSeen | None = getattr(seen, name)
        if tls is not None:
            yield _handshake(f"{subject} {called}", tls, is_extra=True)
    if isinstance(seen.after_proxy_header, HandshakeSeen):
        yield _handshake(f"{subject} after a PROXY header", seen.after_proxy_header, is_extra=True)
    elif seen.after_proxy_header is not None:
        yield _answer(f"{subject} after a PROXY header", seen.after_proxy_header)


def _handshake(subject: str, tls: HandshakeSeen, *, is_extra: bool = False) -> Row:
    if tls.is_agreed:
        parts = [tls.version.replace("v", " "), tls.cipher, tls.alpn]
        parts += ["asks for a client certificate"] * tls.asks_client
        return Row("tls", subject, Outcome.OK, ", ".join(filter(None, parts)), tls.duration)
    detail = tls.reason.lower().replace("_", " ") or answers.shown(tls.answer)
    # What only some clients do need not succeed.
    outcome = Outcome.SKIPPED if is_extra else Outcome.FAILED
    evidence = f"{tls.outcome.value}{detail and f': {detail}'}"
    return Row("tls", subject, outcome, evidence, tls.duration)


def _answer(subject: str, answer: AnswerSeen) -> Row:
    outcome = Outcome.of(answers.is_http(answer.data))
    evidence = answers.shown(answer.data) if answer.data else f"no answer, {answer.end.value}"
    return Row("http", subject, outcome, evidence, answer.duration)


def _days_left(seen: AddressSeen, now: float) -> int | None:
    leaf = seen.chain.chain[0] if seen.chain is not None and seen.chain.chain else None
    return None if leaf is None else int((leaf.expires_at - now) // SECONDS_PER_DAY)
