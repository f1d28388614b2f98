"""What is done for one certificate, with a real authority and its answers altered."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from gateman.acme.child import run
from gateman.acme.client import renewal_id
from gateman.acme.job import Job, Report
from gateman.acme.options import AcmeOptions
from gateman.acme.state import Attempt, CertificateState
from gateman.acme.steps import failed_kinds
from gateman.acme.storage import Storage
from tests.acme.conftest import Declare
from tests.support.altered_authority import AlteredAuthority, Answer, Request
from tests.support.challenge_server import ChallengeServer
from tests.support.pebble import BLOCKED, Pebble

HOUR, DAY = 3600.0, 86_400.0


def order(options: AcmeOptions, *, later: float = 0.0, is_forced: bool = False) -> Report:
    """Do what is due after ``later`` seconds."""
    job = Job(certificates=(options,), is_forced=is_forced)
    return run(job, clock=lambda: time.time() + later)


def state_of(options: AcmeOptions) -> CertificateState:
    return Storage(Path(options.storage)).read_state(options.id)


def code_of(options: AcmeOptions) -> str:
    problem = state_of(options).problem
    return "" if problem is None else problem.code


def leaf_of(options: AcmeOptions) -> x509.Certificate:
    path = Storage(Path(options.storage)).certificate_path(options.id)
    return x509.load_pem_x509_certificates(path.read_bytes())[0]


def through(altered: AlteredAuthority) -> dict[str, str]:
    return {"directory": altered.directory, "directory_cafile": str(altered.cafile)}


def ordered(altered: AlteredAuthority) -> list[Request]:
    """Return the orders that were sent; one with a bad nonce was sent again."""
    return [one for one in altered.requests if one.path == "/order-plz"]


# Renewal information.


def play_renewal_info(altered: AlteredAuthority, start: float, end: float) -> None:
    """Have the authority want renewal between two moments, in seconds from now."""
    begin, until = (
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + one)) for one in (start, end)
    )
    altered.more = {"renewalInfo": f"{altered.url}/renewal-info"}
    body = {
        "suggestedWindow": {"start": begin, "end": until},
        "explanationURL": "https://ca.example/why",
    }

    def answer(request: Request) -> Answer | None:
        if request.path.startswith("/renewal-info/"):
            return Answer(200, body, {"Retry-After": "21600"})
        return None

    altered.alter = answer


def test_a_certificate_is_renewed_when_the_authority_wants_it(
    declare: Declare, altered: AlteredAuthority
) -> None:
    """As before a revocation; the order says which one it replaces."""
    options = declare("a.test", **through(altered))
    order(options)
    first = leaf_of(options)
    play_renewal_info(altered, -2 * DAY, -DAY)

    order(options, later=2 * DAY)

    assert leaf_of(options) != first
    payload = ordered(altered)[-1].payload
    assert payload["replaces"] == renewal_id(first)
    asked = [one.path for one in altered.requests if "renewal-info" in one.path]
    assert asked[0] == f"/renewal-info/{renewal_id(first)}"
    assert [one.is_exempt for one in state_of(options).attempts] == [False, True]


def test_until_then_it_is_asked_again_and_again(
    declare: Declare, altered: AlteredAuthority
) -> None:
    play_renewal_info(altered, 20 * DAY, 21 * DAY)
    options = declare("a.test", **through(altered))
    report = order(options)

    assert [line.text.rpartition("between")[1] for line in report.log][-1:] == ["between"]
    assert report.log[-1].text.endswith("(https://ca.example/why)")
    assert report.next_at == pytest.approx(time.time() + 6 * HOUR, abs=60)
    assert state_of(options).renewal_info is not None
    assert order(options, later=7 * HOUR).log == ()
    assert len(state_of(options).attempts) == 1


def test_an_authority_that_does_not_say_when_is_asked_again(
    declare: Declare, altered: AlteredAuthority
) -> None:
    """The certificate's own dates decide meanwhile."""
    altered.more = {"renewalInfo": f"{altered.url}/renewal-info"}
    altered.alter = lambda request: (
        Answer(500) if request.path.startswith("/renewal-info/") else None
    )
    options = declare("a.test", **through(altered))

    report = order(options)

    assert [line.level for line in report.log] == ["info", "info", "warning"]
    assert "(status 500)" in report.log[-1].text
    assert report.next_at == pytest.approx(time.time() + 6 * HOUR, abs=60)


@pytest.mark.parametrize(
    "refusal",
    [
        Answer.problem("alreadyReplaced", status=409, Replay_Nonce="AAAA"),
        Answer.problem("malformed", "certificate of another account", Replay_Nonce="AAAA"),
    ],
    ids=["replaced", "unknown"],
)
def test_an_authority_that_knows_nothing_of_the_old_certificate(
    declare: Declare, altered: AlteredAuthority, refusal: Answer
) -> None:
    """It is then ordered as a new one."""
    options = declare("a.test", **through(altered))
    order(options)
    first = leaf_of(options)

    def refuse(request: Request) -> Answer | None:
        if request.path == "/order-plz" and "replaces" in request.payload:
            return refusal
        return None

    altered.alter = refuse
    order(options, is_forced=True)

    assert leaf_of(options) != first
    # Nor is it free of the authority's limits.
    assert [one.is_exempt for one in state_of(options).attempts] == [False, False]


# Failures.


def test_limits_are_kept(declare: Declare, altered: AlteredAuthority) -> None:
    """Nothing is sent before the moment that the authority has named."""
    altered.alter = lambda request: (
        Answer.problem("rateLimited", "too many", 429, Retry_After="7200", Replay_Nonce="AAAA")
        if request.path == "/order-plz"
        else None
    )
    options = declare("a.test", **through(altered))

    report = order(options)

    assert code_of(options) == "ACME_RATE_LIMITED"
    assert "too many" in report.log[-1].text
    assert report.log[-1].level == "error"
    assert report.next_at == pytest.approx(time.time() + 2 * HOUR, abs=120)
    altered.requests.clear()
    assert order(options, later=HOUR).next_at == pytest.approx(report.next_at)
    assert altered.requests == []


def test_an_authority_that_is_away_for_an_hour(declare: Declare, altered: AlteredAuthority) -> None:
    """It is asked less and less often; the certificate in service stays."""
    options = declare("a.test", **through(altered))
    order(options)
    first = leaf_of(options)
    longer = replace(options, domains=("a.test", "b.test"))
    altered.alter = lambda _: Answer(503, b"<h1>Down for maintenance</h1>")
    altered.requests.clear()
    start = time.time()

    later = 0.0
    while later < HOUR:
        report = order(longer, later=later)
        assert leaf_of(options) == first
        assert report.log[-1].level == "warning"
        later = report.next_at - start + 1
    asked = len(altered.requests)
    altered.alter = lambda _: None
    order(longer, later=later)

    assert asked <= 10
    assert leaf_of(options) != first
    assert state_of(options).failures == 0


def test_an_authority_that_cannot_be_reached(declare: Declare) -> None:
    options = declare("a.test", directory="https://127.0.0.1:1/dir")

    report = order(options)

    assert code_of(options) == "ACME_UNREACHABLE"
    assert "(Connection refused)" in report.log[0].text
    assert "; the next attempt is not before 20" in report.log[0].text
    assert report.next_at == pytest.approx(time.time() + 60, abs=30)


def test_a_proxy_that_does_not_connect(declare: Declare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")

    report = order(declare("a.test"))

    assert "(the proxy of HTTPS_PROXY does not connect)" in report.log[0].text


def test_an_authority_that_is_not_trusted(declare: Declare, altered: AlteredAuthority) -> None:
    options = declare("a.test", directory=altered.directory)

    report = order(options)

    assert code_of(options) == "ACME_UNTRUSTED"
    assert "is not trusted (unable to get local issuer certificate)" in report.log[0].text


def test_roots_that_are_missing(declare: Declare) -> None:
    options = declare("a.test", directory_cafile="/nonexistent/roots.pem")

    report = order(options)

    assert code_of(options) == "ACME_UNTRUSTED"
    assert "/nonexistent/roots.pem" in report.log[0].text


def test_roots_that_cannot_be_read(declare: Declare) -> None:
    report = order(declare("a.test", directory_cafile="/etc/passwd"))

    assert "is not trusted (no certificate or crl found)" in report.log[0].text


def test_what_is_no_directory(declare: Declare, authority: Pebble) -> None:
    options = declare("a.test", directory=authority.directory.replace("/dir", "/elsewhere"))

    order(options)

    assert code_of(options) == "ACME_NO_DIRECTORY"


def test_a_name_that_the_authority_rejects(declare: Declare) -> None:
    options = declare(BLOCKED)

    order(options)

    assert code_of(options) == "ACME_NAME_REJECTED"


def test_a_name_that_leads_elsewhere(declare: Declare, answering: ChallengeServer) -> None:
    options = declare("a.test")
    answering.storage = None

    order(options)

    assert code_of(options) == "ACME_WRONG_SERVER"
    assert [one.challenge for one in state_of(options).attempts] == ["tls-alpn-01"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"type": "caa", "detail": "CAA record for a.test prevents issuance"}, "ACME_CAA"),
        ({"type": "connection", "detail": "Timeout"}, "ACME_PORT_UNREACHABLE"),
        ({"type": "dns", "detail": "NXDOMAIN"}, "ACME_NAME_UNKNOWN"),
    ],
)
def test_what_the_check_of_a_name_has_found(
    declare: Declare, altered: AlteredAuthority, error: dict[str, str], code: str
) -> None:
    prefix = "urn:ietf:params:acme:error:"

    def fail(request: Request, answer: Answer) -> Answer:
        is_checked = any(one.path.startswith("/chalZ/") for one in altered.requests)
        if not request.path.startswith("/authZ/") or answer.status != 200 or not is_checked:
            return answer
        body = {
            "status": "invalid",
            "identifier": {"type": "dns", "value": "a.test"},
            "challenges": [{"type": "x", "error": {**error, "type": prefix + error["type"]}}],
        }
        return replace(answer, body=body)

    altered.change = fail
    options = declare("a.test", **through(altered))

    report = order(options)

    assert code_of(options) == code
    assert error["detail"] in report.log[-1].text


def test_a_type_of_key_that_the_authority_refuses(
    declare: Declare, altered: AlteredAuthority
) -> None:
    refusal = Answer.problem("badCSR", "P-384 is not supported", Replay_Nonce="AAAA")
    altered.alter = lambda request: refusal if "finalize" in request.path else None
    options = declare("a.test", key_type="p384", **through(altered))

    report = order(options)

    assert code_of(options) == "ACME_KEY_REFUSED"
    assert "a key of type p384 (P-384 is not supported)" in report.log[-1].text


def test_an_order_that_fails_when_it_is_signed(declare: Declare, altered: AlteredAuthority) -> None:
    error = {"type": "urn:ietf:params:acme:error:serverInternal", "detail": "the signer is away"}

    def fail(request: Request, answer: Answer) -> Answer:
        if "finalize" not in request.path or answer.status != 200:
            return answer
        return replace(answer, body={"status": "invalid", "error": error})

    altered.change = fail
    options = declare("a.test", **through(altered))

    report = order(options)

    assert code_of(options) == "ACME_AUTHORITY_FAILED"
    assert "(the signer is away)" in report.log[-1].text


def test_an_authority_that_is_not_ready_to_sign_is_asked_again(
    declare: Declare, altered: AlteredAuthority
) -> None:
    refusals = [Answer.problem("orderNotReady", Replay_Nonce="AAAA")]
    altered.alter = lambda request: (
        refusals.pop() if refusals and "finalize" in request.path else None
    )
    options = declare("a.test", **through(altered))

    order(options)

    assert refusals == []
    assert code_of(options) == ""


def test_nothing_is_validated_while_nodes_cannot_be_asked(
    declare: Declare, altered: AlteredAuthority
) -> None:
    options = declare("a.test", **through(altered))

    run(Job(certificates=(options,), bus={"url": "nats://127.0.0.1:1", "name": "test"}))

    assert code_of(options) == "ACME_PROCESSES"
    assert [one for one in altered.requests if one.path.startswith("/chalZ/")] == []


def test_a_clock_that_is_wrong_is_said(declare: Declare) -> None:
    report = order(declare("a.test"), later=2 * HOUR)

    assert "ACME_CLOCK" in report.log[0].text
    assert "differs by 120 minutes" in report.log[0].text


@contextmanager
def roots(*files: Path) -> Iterator[str]:
    """Join the roots of several authorities."""
    joined = files[0].parent / "roots.pem"
    joined.write_bytes(b"".join(path.read_bytes() for path in files))
    yield str(joined)


def test_an_order_is_rehearsed_after_a_failure(
    declare: Declare, altered: AlteredAuthority, authority: Pebble
) -> None:
    """The authority is asked again only when the rehearsal has worked."""
    altered.alter = lambda request: (
        Answer.problem("caa", "forbidden", Replay_Nonce="AAAA")
        if request.path == "/order-plz"
        else None
    )
    with roots(altered.cafile, authority.cafile) as cafile:
        options = declare(
            "a.test",
            directory=altered.directory,
            directory_cafile=cafile,
            staging=authority.directory,
        )
        first = order(options)
        altered.alter = lambda _: None
        report = order(options, later=first.next_at - time.time() + 1)

    assert "the rehearsal has worked; the order follows" in " ".join(
        line.text for line in report.log
    )
    assert [one.is_rehearsal for one in state_of(options).attempts] == [False, True, False]
    assert leaf_of(options).not_valid_after_utc.timestamp() > time.time()


# Challenges.


def test_http_01_is_tried_where_alpn_cannot_work(
    declare: Declare, answering: ChallengeServer, storage: Storage
) -> None:
    """At once, and first at the next order."""
    answering.has_tls_alpn = False
    options = declare("a.test", http="127.0.0.1:80")

    report = order(options)
    longer = replace(options, domains=("a.test", "b.test", "c.test"))
    order(longer)

    assert report.log[1].text.endswith("; the next challenge is tried")
    assert report.log[1].level == "warning"
    used = [(one.challenge, bool(one.code)) for one in state_of(options).attempts]
    assert used == [("tls-alpn-01", True), ("http-01", False), ("http-01", False)]
    assert list((storage.folder / "challenges").rglob("*-01/*")) == []


def test_each_challenge_is_tried_once(declare: Declare, answering: ChallengeServer) -> None:
    answering.storage = None
    options = declare("a.test", http="127.0.0.1:80")

    report = order(options)

    assert [line.level for line in report.log] == ["info", "warning", "error"]
    used = [(one.challenge, one.code) for one in state_of(options).attempts]
    assert used == [("tls-alpn-01", "ACME_WRONG_SERVER"), ("http-01", "ACME_WRONG_SERVER")]
    assert state_of(options).failures == 1


RECORDS = """\
import json, sys, urllib.request
verb, name, value = sys.argv[2:]
record = {"host": name + "."} | ({"value": value} if verb == "set" else {})
url = f"{sys.argv[1]}/{'set-txt' if verb == 'set' else 'clear-txt'}"
urllib.request.urlopen(urllib.request.Request(url, json.dumps(record).encode()))
"""


def test_a_wildcard_by_dns_01(declare: Declare, authority: Pebble, tmp_path: Path) -> None:
    """A name and its wildcard are proven by two values of one record."""
    script = tmp_path / "record.py"
    script.write_text(RECORDS)
    command = [sys.executable, str(script), authority.dns_management]
    options = declare("*.a.test", "a.test", dns={"command": command, "wait": 0})

    report = order(options)

    assert report.log[-1].level == "info", report.log
    names = leaf_of(options).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert set(names.value.get_values_for_type(x509.DNSName)) == {"*.a.test", "a.test"}


def test_a_command_that_fails(declare: Declare) -> None:
    options = declare("a.test", dns="sh -c 'echo no such zone >&2; exit 3' x")

    report = order(options)

    assert code_of(options) == "ACME_DNS_COMMAND"
    assert "it has ended with 3 and said: no such zone" in report.log[-1].text


# What is declared changes.


def test_another_type_of_key_is_ordered(declare: Declare) -> None:
    options = declare("a.test")
    order(options)
    first = leaf_of(options)

    changed = replace(options, key_type="rsa2048")
    order(changed)

    assert changed.id == options.id
    assert leaf_of(changed) != first
    assert order(changed).log == ()


def test_a_profile_is_asked_for(declare: Declare, altered: AlteredAuthority) -> None:
    altered.more = {"meta": {"profiles": {"shortlived": "https://ca.example/shortlived"}}}
    options = declare("a.test", profile="shortlived", **through(altered))
    unknown = declare("b.test", profile="classic", **through(altered))

    order(options)
    order(unknown)

    assert {one.payload["profile"] for one in ordered(altered)} == {"shortlived"}
    assert code_of(options) == ""
    assert code_of(unknown) == "ACME_PROFILE"


def test_a_storage_that_was_lost_is_filled_again(declare: Declare, storage: Storage) -> None:
    options = declare("a.test")
    order(options)
    for path in storage.folder.rglob("*"):
        if path.is_file():
            path.unlink()

    order(options)

    assert storage.read_certificate(options.id) is not None


def attempt(challenge: str, code: str = "") -> Attempt:
    return Attempt(at=0.0, challenge=challenge, code=code)


@pytest.mark.parametrize(
    ("attempts", "failed"),
    [
        ((), set()),
        # Nothing else has worked: both are tried again.
        ((attempt("tls-alpn-01", "X"),), set()),
        ((attempt("tls-alpn-01", "X"), attempt("http-01")), {"tls-alpn-01"}),
        ((attempt("tls-alpn-01", "X"), attempt("http-01"), attempt("tls-alpn-01")), set()),
        # What the command of dns failed with says nothing about challenges.
        ((attempt("", "X"), attempt("http-01")), set()),
    ],
)
def test_a_challenge_that_failed_comes_last_if_another_has_worked(
    attempts: tuple[Attempt, ...], failed: set[str]
) -> None:
    assert failed_kinds(attempts) == failed
