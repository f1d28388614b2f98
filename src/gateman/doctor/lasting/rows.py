"""The rows of the report about lasting connections, and about the page. PURE."""

from ..rows import Outcome, Row
from ..upgrade.observations import Attempt, End, Exchange
from ..upgrade.rows import attempt_evidence, exchange_evidence
from .observations import LastingSeen


def rows(seen: LastingSeen) -> list[Row]:
    found = []
    if (page := seen.page) is not None:
        status = "" if page.answer is None else f"{page.answer.status} {page.answer.reason}".strip()
        policies = "; ".join(page.policies)
        parts = [page.error or status, *([f"policy: {policies}"] if policies else ())]
        outcome = Outcome.of(not page.error)
        found.append(Row("page", page.url, outcome, ", ".join(parts), page.duration))
    if (idle := seen.idle) is not None:
        found.append(_row("idle", f"{idle.asked:g} s", idle.exchange, idle.failure))
    if (size := seen.size) is not None:
        found.append(_row("size", f"{size.size} bytes", size.exchange, size.failure))
    if (many := seen.connections) is not None:
        outcome = Outcome.of(many.opened == many.asked and not many.lost)
        parts = [f"{many.opened} opened", *([f"{many.lost} lost"] if many.lost else ())]
        parts += [many.local_error] if many.local_error else []
        parts += [f"then: {attempt_evidence(many.failures[0])}"] if many.failures else []
        subject, evidence = str(many.asked), ", ".join(parts)
        found.append(Row("connections", subject, outcome, evidence, many.duration))
    return found


def idle_evidence(exchange: Exchange) -> str:
    if exchange.pings:
        first = exchange.pings[0]
        parts = [f"{len(exchange.pings)} pings, the first after {first:.1f} s"]
    else:
        parts = ["no ping"]
    if exchange.close is not None:
        code, reason = exchange.close
        parts.append(f"Close {code} {reason!r} after {exchange.ended_at:.1f} s")
    elif exchange.end is not End.OPEN:
        parts.append(f"{exchange.end.value} without a Close after {exchange.ended_at:.1f} s")
    return ", ".join(parts)


def _row(probe: str, subject: str, exchange: Exchange | None, failure: Attempt | None) -> Row:
    if exchange is None:
        shown = "" if failure is None else attempt_evidence(failure)
        return Row(probe, subject, Outcome.FAILED, shown)
    shown = idle_evidence(exchange) if probe == "idle" else exchange_evidence(exchange)
    return Row(probe, subject, Outcome.of(exchange.end is End.OPEN), shown, exchange.ended_at)
