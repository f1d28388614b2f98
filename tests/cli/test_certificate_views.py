"""What is printed of certificates, line by line."""

from typing import Any

from gateman.cli.certificate_views import acme_row, certificate_lines, validity, what_follows
from gateman.cli.tables import Line

NOW = 1_800_000_000.0
DAY = 86_400.0


def ordered(**more: Any) -> dict[str, Any]:
    """Return a row of one that ACME has issued."""
    status = {
        "names": ["example.com", "www.example.com"],
        "authority": "acme-v02.api.letsencrypt.org",
        "path": "/var/lib/gateman/acme/certificates/example.com-1.pem",
        "issuer": "CN=E7,O=Let's Encrypt,C=US",
        "expires_at": NOW + 58.5 * DAY,
        "renewal_at": NOW + 28 * DAY,
        "next_at": NOW + DAY / 4,
        "problem": None,
        "failures": 0,
    }
    return dict(acme_row({**status, **more}, NOW))


def of_file(**more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"source": "file", "authority": None, "path": "/etc/ssl/server.pem"}
    return {**ordered(names=["chat.test"], issuer="CN=CA"), **row, **more}


PROBLEM = {
    "code": "ACME_CAA",
    "problem": "a CAA record forbids it",
    "fix": "add\na record",
    "at": NOW - 60,
}


def test_a_table_of_both_kinds() -> None:
    assert certificate_lines([ordered(), of_file(days_left=3)], None) == [
        Line(
            "names                         valid         next                          issuer"
            "                      from",
            "head",
        ),
        Line(
            "example.com, www.example.com  58 days left  renewed 2027-02-12 08:00 UTC"
            "  CN=E7,O=Let's Encrypt,C=US  acme-v02.api.letsencrypt.org"
        ),
        Line(
            "chat.test                     3 days left   not renewed by gateman        CN=CA"
            "                       /etc/ssl/server.pem",
            "warning",
        ),
    ]


def test_an_error_is_a_sentence_of_its_own() -> None:
    """With its code, and when it is tried again; control characters are shown as such."""
    first = ordered(
        issuer="", expires_at=None, renewal_at=None, problem=PROBLEM, failures=1, next_at=NOW + 60
    )
    later = ordered(problem={**PROBLEM, "problem": "\x1b[31mred"}, failures=3, next_at=None)
    lines = certificate_lines([first, later], 80)

    assert lines[1] == Line(
        "example.com, www.example.com  not issued yet  tried again 2027-01-15 08:01 UTC", "bad"
    )
    assert lines[3:] == [
        Line(
            r"example.com, www.example.com: a CAA record forbids it: add\na record (ACME_CAA;"
            " 1 failure, the last 2027-01-15 07:59 UTC, next attempt 2027-01-15 08:01 UTC)",
            "bad",
        ),
        Line(
            r"example.com, www.example.com: \x1b[31mred: add\na record (ACME_CAA; 3 failures, the"
            " last 2027-01-15 07:59 UTC)",
            "warning",
        ),
    ]


def test_many_names_are_shortened() -> None:
    row = ordered(names=[f"{letter}.example" for letter in "abcde"])

    assert certificate_lines([row], None)[1].text.startswith(
        "a.example, b.example, c.example and 2 more  58 days left"
    )


def test_findings_of_a_file() -> None:
    row = of_file(findings=[{"code": "CERTIFICATE_KEY", "text": "the key is weak: take another"}])

    assert certificate_lines([row], None)[-1] == Line(
        "the key is weak: take another (CERTIFICATE_KEY)", "warning"
    )


def test_no_certificate() -> None:
    assert certificate_lines([], None) == [
        Line("no worker has a certificate; if clients use wss://, a proxy has it")
    ]


def test_how_long_and_until_when() -> None:
    never = ordered(expires_at=None, renewal_at=None, next_at=None)

    assert [validity(ordered(expires_at=NOW + left)) for left in (-1.0, 0.0, DAY, 2 * DAY)] == [
        "expired",
        "0 days left",
        "1 day left",
        "2 days left",
    ]
    assert (validity(never), what_follows(never)) == (
        "not issued yet",
        "ordered when the service runs",
    )
    assert validity(of_file(days_left=None)) == "cannot be read"
    # After a failure, what matters is when it is tried again.
    assert what_follows(ordered(problem=PROBLEM)) == "tried again 2027-01-15 14:00 UTC"
