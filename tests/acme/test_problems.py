"""What an authority answers, as findings."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateman.acme.options import AcmeOptions, DnsCommand
from gateman.acme.problems import AuthorityProblem, finding_of
from gateman.findings.acme import DECLARATIONS

OPTIONS = AcmeOptions(domains=("example.com",), directory="https://ca.example/dir")


@pytest.mark.parametrize(
    ("kind", "challenge", "code"),
    [
        ("unreachable", "", "ACME_UNREACHABLE"),
        ("untrusted", "", "ACME_UNTRUSTED"),
        ("noDirectory", "", "ACME_NO_DIRECTORY"),
        ("clock", "", "ACME_CLOCK"),
        ("rateLimited", "", "ACME_RATE_LIMITED"),
        ("externalAccountRequired", "", "ACME_EXTERNAL_ACCOUNT"),
        ("invalidContact", "", "ACME_EMAIL"),
        ("unauthorized", "", "ACME_ACCOUNT"),
        ("rejectedIdentifier", "", "ACME_NAME_REJECTED"),
        ("invalidProfile", "", "ACME_PROFILE"),
        ("badCSR", "", "ACME_KEY_REFUSED"),
        ("noChallenge", "tls-alpn-01", "ACME_NO_CHALLENGE"),
        ("caa", "tls-alpn-01", "ACME_CAA"),
        ("caa", "dns-01", "ACME_CAA"),
        ("dns", "", "ACME_NAME_UNKNOWN"),
        ("dns", "http-01", "ACME_NAME_UNKNOWN"),
        ("dns", "dns-01", "ACME_DNS_RECORD"),
        ("unauthorized", "dns-01", "ACME_DNS_RECORD"),
        ("connection", "http-01", "ACME_PORT_UNREACHABLE"),
        ("tls", "tls-alpn-01", "ACME_WRONG_SERVER"),
        ("unauthorized", "tls-alpn-01", "ACME_WRONG_SERVER"),
        ("unusable", "", "ACME_CERTIFICATE_UNUSABLE"),
        ("serverInternal", "", "ACME_AUTHORITY_FAILED"),
        ("serverInternal", "http-01", "ACME_AUTHORITY_FAILED"),
        ("of a later version", "", "ACME_AUTHORITY_FAILED"),
    ],
)
def test_each_kind_is_a_finding(kind: str, challenge: str, code: str) -> None:
    problem = AuthorityProblem(kind=kind, challenge=challenge)

    assert finding_of(problem, OPTIONS, directory=OPTIONS.directory).code == code


def test_the_sentence_says_what_where_and_until_when() -> None:
    problem = AuthorityProblem(kind="rateLimited", detail="too many", retry_at=1_800_000_000.0)

    finding = finding_of(problem, OPTIONS, directory=OPTIONS.directory)

    assert finding.problem == (
        "the authority ca.example accepts no further order before 2027-01-15 08:00 UTC (too many)"
    )


def test_the_port_is_that_of_the_challenge() -> None:
    problem = AuthorityProblem(
        kind="connection", challenge="http-01", name="www.example.com", detail="timeout"
    )

    finding = finding_of(problem, OPTIONS, directory=OPTIONS.directory)

    assert finding.problem == (
        "port 80 of www.example.com cannot be reached from the authority (timeout)"
    )


@pytest.mark.parametrize(
    ("detail", "name"),
    [
        ('Cannot issue for "www.b.example"', "www.b.example"),
        ("forbidden by policy: b.example", "b.example"),
        ("one of them", "a.example"),
    ],
)
def test_the_name_is_the_one_that_the_authority_speaks_of(detail: str, name: str) -> None:
    options = replace(OPTIONS, domains=("a.example", "b.example", "www.b.example"))
    problem = AuthorityProblem(kind="rejectedIdentifier", detail=detail)

    finding = finding_of(problem, options, directory=OPTIONS.directory)

    assert f" signs no certificate for {name} (" in finding.problem


def test_a_caa_record_is_written_with_the_name_that_the_authority_says() -> None:
    problem = AuthorityProblem(kind="caa", name="example.com", detail="CAA record forbids")

    finding = finding_of(problem, OPTIONS, directory=OPTIONS.directory, issuer="letsencrypt.org")

    assert 'example.com. CAA 0 issue "letsencrypt.org"' in finding.fix


def test_a_txt_record_is_named_with_how_long_was_waited() -> None:
    options = replace(OPTIONS, dns=DnsCommand(command=("set-record",), wait=5.0))
    problem = AuthorityProblem(kind="dns", challenge="dns-01", name="example.com")

    finding = finding_of(problem, options, directory=OPTIONS.directory)

    assert finding.fix.startswith("raise acme.dns.wait above 5 s")
    assert finding.fix.endswith("dig TXT _acme-challenge.example.com")


def test_all_sentences_can_be_written() -> None:
    """Every declaration that a problem can become has all its fields."""
    used = Path(__file__).parents[2] / "src/gateman/acme/problems.py"
    text = used.read_text()

    for declaration in DECLARATIONS:
        if f": {declaration.code}," in text:
            for field in declaration.fields:
                assert f'"{field.partition(":")[0]}":' in text
