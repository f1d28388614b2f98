"""A verdict as people and programs read it."""

import json
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from gateman.doctor.report import as_json, as_lines
from gateman.doctor.rows import Outcome, Row
from gateman.doctor.verdict import Verdict, conclude
from gateman.findings import ALL_CLIENTS, Client, Finding, Severity, Software, Stage, certificates

CHAIN = Finding(
    code="CHAIN_INCOMPLETE",
    stage=Stage.CERTIFICATE,
    severity=Severity.CAUSE,
    problem="the intermediate certificate is not sent",
    fix="put fullchain.pem into ssl_certificate",
    fails_for=ALL_CLIENTS - {Client.BROWSERS, Client.IOS},
    evidence="1 certificate, from 'R11'",
)
GATEWAY = Finding(
    code="BAD_GATEWAY",
    stage=Stage.PROXY,
    severity=Severity.UNDECIDED,
    problem="nginx cannot reach the service behind it",
    fix="run on the server: gateman doctor server.py wss://a.test/",
    candidates=("UPSTREAM_DOWN", "UPSTREAM_ELSEWHERE"),
)
SOON = Finding(
    code="CERTIFICATE_EXPIRES_SOON",
    stage=Stage.CERTIFICATE,
    severity=Severity.WARNING,
    problem="the certificate expires in 3 days",
    fix="renew it",
)
ROWS = (
    Row(probe="dns", subject="a.test", outcome=Outcome.OK, evidence="192.0.2.1", duration=0.012),
    Row(probe="tcp", subject="192.0.2.1 port 443", outcome=Outcome.FAILED, evidence="refused"),
)


def verdict(
    findings: Sequence[Finding], agreed: dict[str, str] | None = None, *, is_open: bool = True
) -> Verdict:
    return conclude("wss://a.test/", findings, ROWS, agreed or {}, is_open=is_open)


def text(of: Verdict, width: int = 100, secrets: Sequence[str] = ()) -> str:
    return "\n".join(line for line, _ in as_lines(of, width=width, secrets=secrets))


def test_the_cause_comes_first_then_fix_and_clients() -> None:
    assert text(verdict([SOON, CHAIN])).splitlines() == [
        "✗ wss://a.test/: the intermediate certificate is not sent.",
        "",
        "  Code   CHAIN_INCOMPLETE",
        "  Fix    put fullchain.pem into ssl_certificate.",
        "  Who    Android, Java, Node, Python and WeChat fail; browsers and iOS do not.",
        "  Seen   1 certificate, from 'R11'",
        "",
        "! The certificate expires in 3 days (CERTIFICATE_EXPIRES_SOON). Fix: renew it.",
        "",
        "✓ dns  a.test              12 ms  192.0.2.1",
        "✗ tcp  192.0.2.1 port 443         refused",
    ]


def test_several_causes_are_all_told() -> None:
    lines = text(verdict([GATEWAY, CHAIN])).splitlines()

    assert "And:" in lines
    assert "✗ Nginx cannot reach the service behind it (BAD_GATEWAY)." in lines


def test_undecided_says_what_it_may_be_and_what_not() -> None:
    lines = text(verdict([GATEWAY], is_open=False)).splitlines()

    assert lines[0] == "? wss://a.test/: nginx cannot reach the service behind it."
    assert "  May be UPSTREAM_DOWN, UPSTREAM_ELSEWHERE" in lines
    assert "Ruled out: dns." in lines


def test_nothing_that_says_why() -> None:
    assert text(verdict([], is_open=False)).startswith(
        "? wss://a.test/: no connection opened, and nothing that was seen says why."
    )


def test_healthy_says_what_was_agreed() -> None:
    first = text(verdict([SOON], {"TLS": "1.3", "ping": "3 ms"})).splitlines()[0]

    assert first == "✓ wss://a.test/ is healthy: TLS 1.3, ping 3 ms."


def test_lines_fit_the_terminal() -> None:
    assert max(map(len, text(verdict([CHAIN, SOON]), width=60).splitlines())) <= 60


def test_json_has_all_of_it() -> None:
    document = json.loads(as_json(verdict([CHAIN, SOON, GATEWAY])))

    assert document["version"] == 1
    assert document["verdict"] == {
        "state": "cause",
        "sentence": "wss://a.test/: the intermediate certificate is not sent.",
    }
    assert document["causes"] == [
        {
            "code": "CHAIN_INCOMPLETE",
            "severity": "cause",
            "sentence": "the intermediate certificate is not sent",
            "fix": "put fullchain.pem into ssl_certificate",
            "who": ["Android", "Java", "Node", "Python", "WeChat"],
            "evidence": "1 certificate, from 'R11'",
        }
    ]
    assert document["undecided"][0]["candidates"] == ["UPSTREAM_DOWN", "UPSTREAM_ELSEWHERE"]
    assert [one["code"] for one in document["warnings"]] == ["CERTIFICATE_EXPIRES_SOON"]
    assert document["probes"][0] == {
        "probe": "dns",
        "subject": "a.test",
        "outcome": "ok",
        "evidence": "192.0.2.1",
        "milliseconds": 12.0,
    }


def test_a_sentence_begins_with_a_capital_letter_and_a_file_keeps_its_name() -> None:
    file = replace(SOON, problem="server.py is not running")
    shown = text(verdict([SOON, file]))

    assert "\n! The certificate expires in 3 days (CERT" in shown
    assert "\n! server.py is not running (CERT" in shown


def test_neither_form_shows_secrets_or_control_characters() -> None:
    row = Row(
        probe="upgrade", subject="GET /?token=abc", outcome=Outcome.OK, evidence="\x1b[2J s3cret"
    )
    seen = conclude("wss://a.test/?token=abc", [CHAIN], [row], {}, is_open=True)

    for shown in (text(seen, secrets=["s3cret"]), as_json(seen, secrets=["s3cret"])):
        assert "abc" not in shown
        assert "s3cret" not in shown
        assert "\x1b" not in shown


def test_the_readme_shows_a_report() -> None:
    """The screenful of the README is what the doctor prints for what is found there."""
    missing = certificates.CHAIN_INCOMPLETE.found(
        software=Software.NGINX,
        which="the certificate",
        issuer="'R11'",
        refusal="phones, WeChat and programs refuse what browsers complete by themselves",
    )
    where = "203.0.113.7:443"
    rows = (
        _row("dns", "A records", "203.0.113.7", 0.011),
        _row("tcp", where, "open", 0.019),
        _row("tls", where, "TLS 1.3, TLS_AES_256_GCM_SHA384, http/1.1", 0.041),
        _row("certificate", where, "example.com; from R11; 61 days left; 1 sent", outcome=False),
        _row("tls", f"{where} TLS 1.2 alone", "TLS 1.2, ECDHE-RSA-AES128-GCM-SHA256", 0.044),
        _row("upgrade", "203.0.113.7 port 443 /chat", "101 Switching Protocols, pong", 0.063),
    )
    report = conclude("wss://example.com/chat", [missing], rows, {}, is_open=True)
    readme = (Path(__file__).parents[2] / "README.md").read_text()

    assert f"```\n$ gateman doctor wss://example.com/chat\n{text(report)}\n```\n" in readme


def _row(
    probe: str, subject: str, evidence: str, duration: float = 0.0, *, outcome: bool = True
) -> Row:
    return Row(
        probe=probe,
        subject=subject,
        outcome=Outcome.OK if outcome else Outcome.FAILED,
        evidence=evidence,
        duration=duration,
    )


def test_what_authorizes_is_not_shown_in_evidence() -> None:
    row = Row(probe="upgrade", subject="GET /", outcome=Outcome.OK, evidence="Cookie: id=s3cret")
    seen = conclude(
        "wss://a.test/", [replace(CHAIN, evidence="Authorization: s3cret")], [row], {}, is_open=True
    )

    assert "s3cret" not in text(seen) + as_json(seen)
