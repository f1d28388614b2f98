"""
The output of ``status`` and ``connections``: an answer of the master in, lines out.

:mod:`gateman.master.control_requests` describes the answers.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..log import one_line
from ..tls.certificate_findings import minute
from .certificate_views import FEW_DAYS, names_of, problem_line, time_left
from .tables import Column, Line, number, size, span, table, total

Answer = Mapping[str, Any]

# Clients notice a longer delay of the event loop.
_NOTABLE_LAG = 0.1  # seconds

_MAX_LAST_LINES = 8

_STYLES = {
    "busy": "warning",
    "stopped": "warning",
    "waiting": "bad",
    "given up": "bad",
    "starting": "changing",
    "draining": "changing",
}

_SUMMED = ("memory", "connections", "messages", "qps", "send_fail", "timers")

_STATUS_COLUMNS = (
    Column("name", lambda row: str(row["name"]), is_left=True),
    Column("pid", lambda row: str(row.get("pid", "-"))),
    Column("memory", lambda row: size(row.get("memory"))),
    Column("connections", lambda row: number(row.get("connections"))),
    Column("messages", lambda row: number(row.get("messages"))),
    Column("qps", lambda row: number(row.get("qps"))),
    Column("send_fail", lambda row: number(row.get("send_fail"))),
    Column("timers", lambda row: number(row.get("timers"))),
    Column("up", lambda row: span(row.get("uptime")), rank=1),
    Column("lag", lambda row: span(row.get("lag")), rank=2),
    Column("restarts", lambda row: str(row["restarts"]), rank=3),
    Column("status", lambda row: str(row["status"]), is_left=True),
)

_WORKER_COLUMNS = (
    Column("worker", lambda row: str(row["name"]), is_left=True),
    Column("listen", lambda row: str(row["listen"]), is_left=True),
    Column("processes", lambda row: str(row["count"])),
    Column("certificate", lambda row: time_left(row["days"], "-"), is_left=True),
)


def status_lines(answer: Answer, width: int | None) -> list[Line]:
    master, slots = answer["master"], answer["slots"]
    since = f"{master['state']} for {span(master['uptime'])}"
    rows = [row for slot in slots for row in _rows_of(slot)]
    shown = [*rows, _summary(rows)] if len(rows) > 1 else rows
    head, *lines = table(_STATUS_COLUMNS, shown, width)
    styles = [_STYLES.get(str(row["status"]).partition(" in ")[0], "") for row in shown]
    notes = [
        *_certificate_notes(answer.get("certificates", ())),
        *_history_notes(answer.get("history", {})),
        *_notes(slots),
    ]
    return [
        Line(one_line(f"{master['script']}: {since}, pid {master['pid']}")),
        Line(""),
        *_worker_lines(answer["workers"], slots, width, is_renewed="certificates" in answer),
        Line(""),
        Line(head, "head"),
        *map(Line, lines, styles),
        *([Line("")] if notes else []),
        *notes,
    ]


def _worker_lines(
    workers: Sequence[Answer], slots: Sequence[Answer], width: int | None, *, is_renewed: bool
) -> Iterator[Line]:
    rows = []
    for worker in workers:
        days = [
            process["certificate_days"]
            for slot in slots
            if slot["worker"] == worker["name"]
            for process in slot["processes"]
            if process.get("certificate_days") is not None
        ]
        rows.append({**worker, "days": min(days, default=None)})
    columns = [
        column
        for column in _WORKER_COLUMNS
        if column.head != "certificate" or any(row["days"] is not None for row in rows)
    ]
    head, *lines = table(columns, rows, width)
    yield Line(head, "head")
    for line, row in zip(lines, rows, strict=True):
        # What is wrong with those that gateman renews, which may last for six days, is a note.
        few = row["days"] is not None and row["days"] < (0 if is_renewed else FEW_DAYS)
        yield Line(line, "warning" if few else "")


def _rows_of(slot: Answer) -> Iterator[dict[str, Any]]:
    shared = {"name": _name(slot), "restarts": slot["restarts"]}
    for process in slot["processes"]:
        yield {**process, **shared}
    if not slot["processes"]:
        state = str(slot["state"]).replace("_", " ")
        if slot.get("respawn_in") is not None:
            state = f"{state} in {span(slot['respawn_in'])}"
        yield {**shared, "status": state}


def _summary(rows: Sequence[Answer]) -> dict[str, Any]:
    sums: dict[str, Any] = {name: total(rows, name) for name in _SUMMED}
    # A slot whose process is being replaced has two rows.
    restarts = {row["name"]: row["restarts"] for row in rows}
    return {**sums, "name": "Summary", "restarts": sum(restarts.values()), "status": ""}


def _notes(slots: Sequence[Answer]) -> Iterator[Line]:
    for slot in slots:
        yield from _note_exit(slot)
        for process in slot["processes"]:
            if (process.get("lag") or 0) >= _NOTABLE_LAG:
                late = span(process["lag"])
                text = f"{_name(slot)} (pid {process['pid']}): its event loop was late by {late}"
                yield Line(one_line(text), "warning")
    counters = (("counts", "{}"), ("hub", "{}'s hub"))
    causes: dict[str, Counter[str]] = {}
    for slot in slots:
        for process in slot["processes"]:
            for name, title in counters:
                counts = causes.setdefault(title.format(slot["worker"]), Counter())
                counts.update(process.get(name) or {})
    for title, counts in causes.items():
        del counts["connections"]
        if counts:
            counted = ", ".join(f"{cause} {count}" for cause, count in counts.most_common())
            yield Line(one_line(f"{title}: {counted}"))


def _certificate_notes(certificates: Sequence[Answer]) -> Iterator[Line]:
    for one in certificates:
        if one["problem"] is not None:
            yield problem_line(one)
        elif one["expires_at"] is None:
            again = one["next_at"]
            when = f"; it is ordered {minute(again)}" if again else ""
            text = f"{names_of(one)}: there is no certificate yet, and clients wait for it{when}"
            yield Line(one_line(text), "changing")


def _history_notes(history: Answer) -> Iterator[Line]:
    if history.get("dropped"):
        text = f"the history is full: {history['dropped']} messages were dropped before their time"
        yield Line(one_line(f"{text}; set history_memory to more"), "warning")


def _note_exit(slot: Answer) -> Iterator[Line]:
    restarts = slot["restarts"]
    if not restarts and not slot["last_exit"]:
        return
    parts = [f"{restarts} restart{'s' * (restarts != 1)}"] if restarts else []
    if slot["last_exit"]:
        parts.append(f"its last process {slot['last_exit']}")
    is_down = slot["state"] in {"waiting", "given_up"}
    yield Line(one_line(f"{_name(slot)}: {'; '.join(parts)}"), "bad" if is_down else "")
    if is_down:
        for line in slot["last_lines"][-_MAX_LAST_LINES:]:
            yield Line(f"    {one_line(line)}")


def _name(one: Answer) -> str:
    return f"{one['worker']}/{one['slot']}"


_CONNECTION_COLUMNS = (
    Column("pid", lambda row: str(row["pid"]), rank=1),
    Column("name", _name, rank=5, is_left=True),
    Column("id", lambda row: str(row["id"])),
    Column("client", lambda row: str(row["client"]), is_left=True),
    Column("proxy", lambda row: str(row["proxy"] or "-"), rank=4, is_left=True),
    Column("state", lambda row: str(row["state"]), is_left=True),
    Column("unsent", lambda row: size(row["unsent"])),
    Column("received", lambda row: size(row["received"]), rank=2),
    Column("sent", lambda row: size(row["sent"]), rank=2),
    Column("messages", lambda row: number(row["messages"]), rank=3),
    Column("age", lambda row: span(row["age"])),
    Column("uid", lambda row: str(row["uid"] or "-"), is_left=True),
)


def connection_lines(answer: Answer, width: int | None) -> list[Line]:
    rows = answer["connections"]
    lines = []
    if rows:
        columns = [
            column
            for column in _CONNECTION_COLUMNS
            if column.head not in {"proxy", "uid"} or any(row[column.head] for row in rows)
        ]
        head, *shown = table(columns, rows, width)
        lines = [Line(head, "head"), *map(Line, shown), Line("")]
    count = answer["total"]
    text = f"{count} connection{'s' * (count != 1)}"
    if len(rows) < count:
        text += f"; {len(rows)} shown, the oldest ones (--limit)"
    lines.append(Line(text))
    for pid in answer["silent"]:
        lines.append(Line(f"pid {pid} did not answer", "warning"))
    return lines
