"""The rows of the report about the handshake. PURE."""

from collections.abc import Iterator

from ..protocols import protocol
from ..rows import Outcome, Row
from .fingerprints import recognise
from .observations import Attempt, End, Exchange, Kind, UpgradeSeen

_PROBES = {
    Kind.HANDSHAKE: "upgrade",
    Kind.SECOND: "upgrade",
    Kind.NATIVE: "without origin",
    Kind.FOREIGN: "foreign origin",
    Kind.OTHER_PATH: "other path",
    Kind.PLAIN: "plain request",
    Kind.MALFORMED: "bad request",
}
_SHOWN = ("Server", "Via", "Gateman-Refused", "Location", "Retry-After", "Age")
_BODY_SHOWN = 120  # characters


def rows(seen: UpgradeSeen) -> Iterator[Row]:
    for attempt in seen.attempts:
        subject = f"{attempt.address} port {attempt.port} {attempt.path}"
        if attempt.kind is Kind.MALFORMED:
            # It is only to be recognised by.
            outcome = Outcome.SKIPPED
        elif attempt.kind in {Kind.HANDSHAKE, Kind.SECOND}:
            outcome = Outcome.of(attempt.is_open)
        else:
            outcome = Outcome.OK if attempt.is_open else Outcome.SKIPPED
        evidence = attempt_evidence(attempt)
        yield Row(_PROBES[attempt.kind], subject, outcome, evidence, attempt.duration)
        exchange = attempt.exchange
        if exchange is not None and attempt.is_open:
            outcome = Outcome.of(exchange.end is End.OPEN and exchange.pong_time is not None)
            duration = exchange.pong_time or exchange.ended_at
            yield Row("ping", subject, outcome, exchange_evidence(exchange), duration)


def agreed(seen: UpgradeSeen) -> dict[str, str]:
    """Tell what the first connection that works agreed on."""
    attempt = next((one for one in seen.attempts if one.works and one.exchange is not None), None)
    if attempt is None or attempt.answer is None or attempt.exchange is None:
        return {}
    extensions = attempt.answer.get("Sec-WebSocket-Extensions")
    told = {"compression": "permessage-deflate" if "permessage-deflate" in extensions else "none"}
    if subprotocol := attempt.answer.get("Sec-WebSocket-Protocol"):
        told["subprotocol"] = subprotocol
    if attempt.exchange.pong_time is not None:
        told["ping"] = f"{attempt.exchange.pong_time * 1000:.0f} ms"
    front = recognise(attempt.answer).front
    if front is not None:
        told["server"] = front.name
    return told


def attempt_evidence(attempt: Attempt) -> str:
    """Write what decided it: the status, who answered, and the beginning of the body."""
    answer = attempt.answer
    if answer is None:
        garbage = attempt.garbage[:40]
        what = protocol(garbage) or attempt.error
        shown = f" ({what})" if what else ""
        came = f" {garbage!r}" if garbage else ""
        silence = attempt.silence.value if attempt.silence is not None else "nothing"
        return f"{silence}{came}{shown} after {attempt.duration:.1f} s"
    parts = [f"{answer.status} {answer.reason}".strip()]
    parts += [f"{name}: {value[:120]}" for name in _SHOWN if (value := answer.get(name))]
    if answer.body and answer.status != 101:
        parts.append(repr(" ".join(answer.body[: 3 * _BODY_SHOWN].split())[:_BODY_SHOWN]))
    return ", ".join(parts)


def exchange_evidence(exchange: Exchange) -> str:
    parts = []
    if exchange.pong_time is not None:
        parts.append(f"pong after {exchange.pong_time * 1000:.0f} ms")
    elif exchange.has_wrong_pong:
        parts.append("a pong with another payload")
    else:
        parts.append("no pong")
    if exchange.close is not None:
        code, reason = exchange.close
        parts.append(f"Close {code} {reason!r} after {exchange.ended_at:.1f} s")
    elif exchange.end is End.FAULT:
        parts.append(exchange.fault)
    elif exchange.end is not End.OPEN:
        parts.append(f"{exchange.end.value} without a Close after {exchange.ended_at:.1f} s")
    return ", ".join(parts)
