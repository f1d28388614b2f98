"""Judges a 101, and what comes over the WebSocket behind it. PURE."""

import re
from collections.abc import Iterator

from ...errors import HandshakeError
from ...findings import Finding
from ...findings import handshakes as H  # noqa: N812 - the codes stand out
from ...websocket.extensions import parse_extensions
from .case import Case, status_of
from .fingerprints import REFUSED_FIELD
from .observations import Answer, Attempt, End, Exchange, Kind, accept_of
from .rows import attempt_evidence, exchange_evidence

_WINDOW_BITS = re.compile(r"8|9|1[0-5]")


def judge_opening(case: Case, answer: Answer) -> Iterator[Finding]:
    attempt = case.attempt
    age = answer.get("Age")
    cache = answer.get("X-Cache") or answer.get("CF-Cache-Status")
    is_hit = cache.upper().startswith("HIT")
    accept = answer.get("Sec-WebSocket-Accept")
    is_wrong = accept != accept_of(attempt.key)
    if is_wrong and (is_hit or (age.isdigit() and int(age) > 0)):
        field = f"Age: {age}" if age else f"X-Cache: {cache}"
        yield case.found(H.ANSWER_CACHED, software=case.front, field=field)
    elif is_wrong and accept:
        yield case.found(H.ACCEPT_WRONG)
    if answer.version != "1.1":
        yield case.found(H.ANSWER_HTTP_1_0, software=case.front)
    for name, is_there in (
        ("Upgrade: websocket", answer.has_token("Upgrade", "websocket")),
        ("Connection: Upgrade", answer.has_token("Connection", "upgrade")),
        ("Sec-WebSocket-Accept", bool(accept)),
    ):
        if not is_there:
            yield case.found(H.ANSWER_FIELD_LOST, software=case.front, field=name)
    yield from _extensions(case, attempt, answer)
    native = case.native
    if native is not None and native.is_open and native.answer is not None:
        yield from _extensions(case, native, native.answer)
    yield from _subprotocol(case, answer)
    if native is not None and native.answer is not None and _is_for_origin(native.answer):
        yield case.found(
            H.ORIGIN_REQUIRED,
            status=status_of(native.answer),
            shown=attempt_evidence(native),
        )
    if attempt.exchange is not None and attempt.is_open:
        yield from _judge_exchange(case, attempt.exchange, answer)


def _is_for_origin(answer: Answer) -> bool:
    """Tell a refusal that is for the missing Origin from one for the second request at once."""
    own = answer.get(REFUSED_FIELD)
    if own:
        return own in {H.ORIGIN_REFUSED.code, H.APPLICATION_REFUSED.code}
    return 400 <= answer.status < 500 and answer.status != 429


def _extensions(case: Case, attempt: Attempt, answer: Answer) -> Iterator[Finding]:
    value = answer.get("Sec-WebSocket-Extensions")
    if not value:
        return
    try:
        extensions = parse_extensions([value])
    except HandshakeError:
        yield _unoffered(case, f"{value[:80]!r}, which is malformed")
        return
    for name, parameters in extensions:
        if name != "permessage-deflate":
            yield _unoffered(case, name)
        elif not attempt.offers_compression:
            yield _unoffered(case, f"{name}, to a client that offers none")
        elif wrong := _wrong_parameter(parameters):
            yield _unoffered(case, f"{name} with {wrong}")
    if len(extensions) > 1 and all(name == "permessage-deflate" for name, _ in extensions):
        yield _unoffered(case, "permessage-deflate twice")


def _unoffered(case: Case, extension: str) -> Finding:
    return case.found(
        H.EXTENSION_UNOFFERED, software=case.front, extension=extension, shown=extension
    )


def _subprotocol(case: Case, answer: Answer) -> Iterator[Finding]:
    offered = case.settings.subprotocols
    selected = answer.get("Sec-WebSocket-Protocol")
    if selected and selected not in offered:
        yield case.found(H.SUBPROTOCOL_UNOFFERED, subprotocol=selected)
    elif offered and not selected:
        yield case.found(H.SUBPROTOCOL_NOT_SELECTED, offered=", ".join(offered))


def _judge_exchange(case: Case, exchange: Exchange, answer: Answer) -> Iterator[Finding]:
    shown = exchange_evidence(exchange)
    length = answer.get("Content-Length")
    is_text = len(exchange.first) > 2 and all(
        32 <= byte < 127 or byte in b"\r\n\t" for byte in exchange.first[:16]
    )
    if (length.isdigit() and int(length) > 0) or (is_text and exchange.pong_time is None):
        shown = repr(exchange.first[:40]) if is_text else f"Content-Length: {length}"
        yield case.found(H.ANSWER_HAS_BODY, shown=shown)
    elif exchange.end is End.FAULT:
        yield case.found(H.FRAMES_INVALID, what=exchange.fault, shown=shown)
    elif exchange.is_compressed:
        yield case.found(H.COMPRESSION_NOT_AGREED, software=case.front, shown=shown)
    elif exchange.close is not None:
        yield _judge_close(case, *exchange.close, shown)
    elif exchange.end in {End.EOF, End.RESET}:
        candidates = (H.APPLICATION_FAILED, H.APPLICATION_REFUSED, H.UPGRADE_LOST)
        yield case.found(H.BROKEN_AT_ONCE, candidates=candidates, shown=shown)
    elif exchange.pong_time is None and exchange.has_wrong_pong:
        yield case.found(H.PONG_WRONG, shown=shown)
    elif exchange.pong_time is None:
        yield _judge_missing_pong(case, shown)


def _judge_close(case: Case, code: int, reason: str, shown: str) -> Finding:
    how = f"it closes the connection with {code} {reason!r} right after it opened"
    if code == 1011:
        return case.found(H.APPLICATION_FAILED, how=how, shown=shown)
    if code in {1001, 1012}:
        return case.found(H.SERVER_DRAINING, shown=shown)
    if code == 1013:
        return case.found(H.SERVER_OVERLOADED, how=f"1013 {reason!r}", shown=shown)
    if code == 1008 or code >= 3000:
        is_origin = "origin" in reason.lower()
        if is_origin or (case.native is not None and case.native.works):
            return case.found(H.ORIGIN_REFUSED, shown=shown)
        return case.found(H.APPLICATION_REFUSED, how=how, shown=shown)
    return case.found(H.CLOSED_AT_ONCE, how=f"{code} {reason!r}", shown=shown)


def _judge_missing_pong(case: Case, shown: str) -> Finding:
    second = case.seen.of(Kind.SECOND)
    if second is not None and second.answer is None:
        return case.found(
            H.APPLICATION_BLOCKS,
            how="after the 101 comes no pong, and a second handshake gets no answer",
            shown=f"{shown}; the second handshake: {attempt_evidence(second)}",
        )
    return case.found(
        H.PONG_MISSING,
        seconds=2,
        candidates=(H.APPLICATION_BLOCKS, H.UPGRADE_LOST),
        shown=shown,
    )


def _wrong_parameter(parameters: list[tuple[str, str | None]]) -> str:
    """Return a parameter of permessage-deflate that RFC 7692, section 7.1 does not allow here."""
    names = [name for name, _ in parameters]
    for name, value in parameters:
        is_bits = name in {"server_max_window_bits", "client_max_window_bits"}
        is_flag = name in {"server_no_context_takeover", "client_no_context_takeover"}
        is_right = (is_bits and value is not None and _WINDOW_BITS.fullmatch(value)) or (
            is_flag and value is None
        )
        if not is_right or names.count(name) > 1:
            return name if value is None else f"{name}={value}"
    return ""
