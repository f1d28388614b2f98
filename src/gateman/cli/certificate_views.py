"""
The lines of ``certificates``, ``check`` and ``status`` about certificates: values in, lines out.

A row is what ``certificates --json`` prints for one of them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..log import one_line
from ..tls.certificate_findings import SECONDS_PER_DAY, minute
from .tables import Column, Line, Row, table

if TYPE_CHECKING:
    from ..tls.certificate import ServerCertificate

# Most programs renew a certificate when 30 days are left; with so few, the renewal has failed.
FEW_DAYS = 14

_MAX_NAMES = 3  # of one certificate, in a line


def file_row(certificate: "ServerCertificate", now: float) -> Row:
    leaf = certificate.chain[0] if certificate.chain else None
    return {
        "names": list(certificate.domains),
        "source": "file",
        "path": str(certificate.path),
        "authority": None,
        "issuer": "" if leaf is None else leaf.issuer,
        "expires_at": certificate.expires_at,
        "days_left": certificate.days_left(now),
        "renewal_at": None,
        "next_at": None,
        "problem": None,
        "failures": 0,
        "findings": [{"code": one.code, "text": str(one)} for one in certificate.findings],
    }


def acme_row(status: Mapping[str, Any], now: float) -> Row:
    """Make a row of a :class:`gateman.acme.state.CertificateStatus`."""
    ends = status["expires_at"]
    days = None if ends is None else int((ends - now) // SECONDS_PER_DAY)
    return {**status, "source": "acme", "days_left": days, "findings": []}


def certificate_lines(rows: Sequence[Row], width: int | None) -> list[Line]:
    if not rows:
        return [Line("no worker has a certificate; if clients use wss://, a proxy has it")]
    return [*table_lines(rows, width), *map(problem_line, troubled(rows)), *_findings(rows)]


def table_lines(rows: Sequence[Row], width: int | None) -> list[Line]:
    head, *lines = table(_COLUMNS, rows, width)
    shown = (Line(line, _style(row)) for line, row in zip(lines, rows, strict=True))
    return [Line(head, "head"), *shown]


def troubled(rows: Iterable[Row]) -> list[Row]:
    """Return the rows whose last order has failed."""
    return [row for row in rows if row["problem"] is not None]


def problem_line(row: Row) -> Line:
    problem = row["problem"]
    failures = row["failures"]
    again = f", next attempt {minute(row['next_at'])}" if row["next_at"] else ""
    seen = f"{failures} failure{'s' * (failures != 1)}, the last {minute(problem['at'])}{again}"
    text = f"{problem['problem']}: {problem['fix']} ({problem['code']}; {seen})"
    style = "bad" if row["expires_at"] is None else "warning"
    return Line(one_line(f"{names_of(row)}: {text}"), style)


def _findings(rows: Iterable[Row]) -> Iterator[Line]:
    for row in rows:
        for one in row["findings"]:
            yield Line(one_line(f"{one['text']} ({one['code']})"), "warning")


def names_of(row: Row) -> str:
    names = row["names"]
    more = len(names) - _MAX_NAMES
    shown = ", ".join(names[:_MAX_NAMES])
    return f"{shown} and {more} more" if more > 0 else shown or "-"


def validity(row: Row) -> str:
    is_missing = row["days_left"] is None and row["source"] == "acme"
    return "not issued yet" if is_missing else time_left(row["days_left"], "cannot be read")


def time_left(days: int | None, unknown: str) -> str:
    if days is None:
        return unknown
    return "expired" if days < 0 else f"{days} day{'s' * (days != 1)} left"


def what_follows(row: Row) -> str:
    if row["source"] == "file":
        return "not renewed by gateman"
    if row["problem"] is None and row["renewal_at"] is not None:
        return f"renewed {minute(row['renewal_at'])}"
    if row["next_at"] is not None:
        return f"tried again {minute(row['next_at'])}"
    return "ordered when the service runs"


def _style(row: Row) -> str:
    days = row["days_left"]
    if days is None or days < 0:
        return "bad"
    return "warning" if days < FEW_DAYS and row["source"] == "file" else ""


_COLUMNS = (
    Column("names", names_of, is_left=True),
    Column("valid", validity, is_left=True),
    Column("next", what_follows, is_left=True),
    Column("issuer", lambda row: row["issuer"] or "-", is_left=True, rank=1),
    Column("from", lambda row: row["authority"] or row["path"], is_left=True, rank=2),
)
