"""The option ``acme``: every form, each refusal as one sentence, and the same after a pipe."""

import contextlib
from dataclasses import fields, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateman.acme.job import Job, LogLine, Report
from gateman.acme.options import (
    LETS_ENCRYPT,
    LETS_ENCRYPT_STAGING,
    AcmeOptions,
    DnsCommand,
    ExternalAccount,
    challenge_server_name,
    check_together,
    parse,
)
from gateman.acme.storage import Storage
from gateman.errors import ConfigError

FOLDER = Path("/srv/app")
STORAGE = Path("/var/lib/gateman/acme")

EXAMPLE = AcmeOptions(domains=("example.com",), storage=str(STORAGE))


def parsed(value: object) -> tuple[AcmeOptions, ...]:
    return parse(value, folder=FOLDER, default_storage=STORAGE)


def refusal_of(value: object) -> str:
    with pytest.raises(ConfigError) as refused:
        parsed(value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("value", "domains"),
    [
        ("example.com", ("example.com",)),
        (" Example.COM. ", ("example.com",)),
        ("example.com, www.example.com,", ("example.com", "www.example.com")),
        (["example.com", "www.example.com"], ("example.com", "www.example.com")),
        (("b.example", "a.example", "b.example"), ("b.example", "a.example")),
        ({"domains": "example.com"}, ("example.com",)),
        ({"domains": ["example.com"], "email": None}, ("example.com",)),
        ("münchen.example", ("xn--mnchen-3ya.example",)),
        ("[2001:DB8:0::1]", ("2001:db8::1",)),
        ({"domains": [ip_address("192.0.2.1")]}, ("192.0.2.1",)),
        ("intranet", ("intranet",)),
    ],
)
def test_names_are_taken_in_every_form(value: object, domains: tuple[str, ...]) -> None:
    (options,) = parsed(value)

    assert options.domains == domains


def test_a_list_of_mappings_is_one_certificate_each() -> None:
    assert parsed([{"domains": "example.com"}, {"domains": ["example.org"]}]) == (
        EXAMPLE,
        replace(EXAMPLE, domains=("example.org",)),
    )


def test_every_option_is_kept() -> None:
    (options,) = parsed(
        {
            "domains": ["example.com", "*.example.com"],
            "email": "mailto:admin@example.com",
            "directory": "https://ca.example/acme",
            "directory_cafile": "ca.pem",
            "staging": "https://ca.example/staging",
            "eab": {"kid": "k1", "hmac_key": "c2VjcmV0LXNlY3JldC1zZWNyZXQ"},
            "profile": "tlsserver",
            "key_type": "rsa2048",
            "storage": "certificates",
            "challenge": "dns-01",
            "http": "0.0.0.0:80",
            "dns": {"command": "/bin/hook --zone 'a b'", "wait": 5, "timeout": 10},
        }
    )

    assert options == AcmeOptions(
        domains=("example.com", "*.example.com"),
        email="admin@example.com",
        directory="https://ca.example/acme",
        directory_cafile="/srv/app/ca.pem",
        staging="https://ca.example/staging",
        eab=ExternalAccount(kid="k1", hmac_key="c2VjcmV0LXNlY3JldC1zZWNyZXQ"),
        profile="tlsserver",
        key_type="rsa2048",
        storage="/srv/app/certificates",
        challenge="dns-01",
        http="0.0.0.0:80",
        dns=DnsCommand(command=("/bin/hook", "--zone", "a b"), wait=5.0, timeout=10.0),
    )


def test_the_process_that_orders_gets_the_same_options() -> None:
    """They are passed as JSON, and no log shows a secret."""
    certificates = parsed(
        {
            "domains": "example.com",
            "eab": {"kid": "k1", "hmac_key": "c2VjcmV0LXNlY3JldC1zZWNyZXQ"},
            "dns": ["/bin/hook"],
        }
    )
    job = Job(certificates=certificates, bus="nats://bus.example:4222", is_forced=True)

    assert msgspec.json.decode(msgspec.json.encode(job), type=Job) == job
    assert "c2Vjc" not in repr(job)


def test_a_report_is_one_line() -> None:
    report = Report(next_at=1.5, log=(LogLine("info", "a\nb"),))
    line = msgspec.json.encode(report)

    assert b"\n" not in line
    assert msgspec.json.decode(line, type=Report) == report


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            7,
            "acme is neither a name nor a list of names nor a mapping: write 'acme': {'domains':"
            " ['example.com']}.",
        ),
        (
            {"example.com", "example.org"},
            "acme is neither a name nor a list of names nor a mapping: write 'acme': {'domains':"
            " ['example.com']}.",
        ),
        ([], "acme is an empty list: write 'acme': {'domains': ['example.com']}."),
        ({}, "acme.domains is empty: write 'acme': {'domains': ['example.com']}."),
        (
            {"domains": 7},
            "acme.domains is not a list of names: write 'acme': {'domains': ['example.com']}.",
        ),
        (
            ["example.com", {"domains": "example.org"}],
            "acme is a list of neither names nor mappings: write ['example.com',"
            " 'www.example.com'] for one certificate, or one mapping for each certificate.",
        ),
        ({"domain": "example.com"}, "'domain' is not an option of acme: did you mean 'domains'?"),
        (
            [{"domains": "a.example"}, {"domains": "b.example", "mail": "x"}],
            "'mail' is not an option of acme[1]: did you mean 'email'?",
        ),
        (
            "https://example.com/chat",
            "'https://example.com/chat' in acme.domains is not a name: write 'example.com'.",
        ),
        (
            "https://[example.com",
            "'https://[example.com' in acme.domains is not a name: write 'example.com'.",
        ),
        (
            "example.com:443",
            "'example.com:443' in acme.domains has a port, and a certificate is for every port:"
            " write 'example.com'.",
        ),
        (
            "fe80::1%eth0",
            "'fe80::1%eth0' in acme.domains is not a name that a certificate can have: write a"
            " domain such as example.com, *.example.com or xn--mnchen-3ya.example, or an IP"
            " address.",
        ),
        (
            "a b.example",
            "'a b.example' in acme.domains is not a name that a certificate can have: write a"
            " domain such as example.com, *.example.com or xn--mnchen-3ya.example, or an IP"
            " address.",
        ),
        (
            "*.example.com",
            "'*.example.com' in acme.domains is a wildcard, which is checked by dns-01 only: add"
            " the command that sets a TXT record: 'dns': '/path/to/command'.",
        ),
        (
            {"domains": "*.example.com", "dns": "/bin/hook", "challenge": "http-01"},
            "'*.example.com' in acme.domains is a wildcard, which is checked by dns-01 only: add"
            " the command that sets a TXT record: 'dns': '/path/to/command'.",
        ),
        (
            {"domains": "192.0.2.1", "dns": "/bin/hook", "challenge": "dns-01"},
            "'192.0.2.1' in acme.domains is an IP address, which no authority checks by dns-01:"
            " leave acme.challenge out.",
        ),
        (
            {"domains": "example.com", "challenge": "dns-01"},
            "acme.challenge is dns-01, but acme has no dns: add the command that sets a TXT record:"
            " 'dns': '/path/to/command'.",
        ),
        (
            {"domains": "example.com", "challenge": "http-01"},
            "acme.challenge is http-01, but nothing listens on port 80 for it: add 'http':"
            " '0.0.0.0:80'.",
        ),
        (
            {"domains": "example.com", "challenge": "tls-alpn"},
            "'tls-alpn' is not a value of acme.challenge: did you mean 'tls-alpn-01'?",
        ),
        (
            {"domains": "192.0.2.1", "profile": "classic"},
            "acme.profile is 'classic', with which Let's Encrypt signs no IP address: write"
            " 'shortlived', or leave it out.",
        ),
        (
            {"domains": "example.com", "directory": "lets-encrypt"},
            "acme.directory='lets-encrypt' is not the URL of a directory: write 'letsencrypt',"
            " 'staging', or the URL that the authority names.",
        ),
        (
            {"domains": "example.com", "directory": "http://ca.example/dir"},
            "acme.directory='http://ca.example/dir' is not an https URL: write https://HOST/PATH.",
        ),
        (
            {"domains": "example.com", "email": "admin"},
            "acme.email='admin' is not an address: write one, such as admin@example.com.",
        ),
        (
            {"domains": "example.com", "email": 7},
            "acme.email is not text: put it between quotes.",
        ),
        (
            {"domains": "example.com", "key_type": "ed25519"},
            "'ed25519' is not a value of acme.key_type: there are p256, p384, rsa2048, rsa3072,"
            " rsa4096.",
        ),
        (
            {"domains": "example.com", "storage": 7},
            "acme.storage is not a path: write it between quotes.",
        ),
        (
            {"domains": "example.com", "eab": {"kid": "k1"}},
            "acme.eab is not what an authority gives for an account: write {'kid': '…', 'hmac_key':"
            " '…'}.",
        ),
        (
            {"domains": "example.com", "eab": {"kid": "k1", "hmac_key": "no such key"}},
            "acme.eab has no kid, or a hmac_key that is not base64url: copy both from the"
            " authority's page.",
        ),
        (
            {"domains": "example.com", "http": "80"},
            "acme.http='80' is not an address to listen on: write '0.0.0.0:80'.",
        ),
        (
            {"domains": "example.com", "dns": ""},
            "acme.dns is not a command: write '/path/to/command'; it is called with set NAME VALUE"
            " and clear NAME VALUE.",
        ),
        (
            {"domains": "example.com", "dns": {"command": "/bin/hook", "wait": -1}},
            "acme.dns.wait=-1 is not a time: give it in seconds, up to 3600.",
        ),
        (
            {"domains": "example.com", "dns": {"cmd": "/bin/hook"}},
            "'cmd' is not an option of acme.dns: did you mean 'command'?",
        ),
        (
            {"domains": [f"a{number}.example" for number in range(101)]},
            "acme.domains has 101 names, and one certificate has at most 100: write a list of"
            " mappings, one for each certificate.",
        ),
        (
            [{"domains": "a.example"}, {"domains": ["a.example", "b.example"]}],
            "two different certificates of acme begin with the name 'a.example', which is the name"
            " of their file: write all of its names into one, or begin the other with another"
            " name.",
        ),
    ],
)
def test_a_mistake_is_one_sentence(value: object, expected: str) -> None:
    assert refusal_of(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, (LETS_ENCRYPT, LETS_ENCRYPT_STAGING)),
        ({"directory": "letsencrypt"}, (LETS_ENCRYPT, LETS_ENCRYPT_STAGING)),
        ({"directory": "staging"}, (LETS_ENCRYPT_STAGING, "")),
        ({"directory": "https://ca.example"}, ("https://ca.example", "")),
        (
            {"directory": "https://ca.example", "staging": "https://try.example"},
            ("https://ca.example", "https://try.example"),
        ),
    ],
)
def test_rehearsals_have_a_directory_of_their_own(
    value: dict[str, Any], expected: tuple[str, str]
) -> None:
    (options,) = parsed({"domains": "example.com", **value})

    assert (options.directory, options.rehearsal) == expected


@pytest.mark.parametrize(
    ("value", "profile"),
    [
        ({"domains": "192.0.2.1"}, "shortlived"),
        ({"domains": ["example.com", "2001:db8::1"], "directory": "staging"}, "shortlived"),
        ({"domains": "192.0.2.1", "directory": "https://ca.example"}, ""),
        ({"domains": "example.com"}, ""),
        ({"domains": "example.com", "profile": "tlsserver"}, "tlsserver"),
    ],
)
def test_an_address_has_the_profile_that_lets_encrypt_asks_for(
    value: dict[str, Any], profile: str
) -> None:
    (options,) = parsed(value)

    assert options.profile == profile


@pytest.mark.parametrize(
    ("value", "http"),
    [
        (True, "0.0.0.0:80"),
        ("0.0.0.0:8080", "0.0.0.0:8080"),
        ("http://[::]:80/", "[::]:80"),
        (False, ""),
    ],
)
def test_the_http_listener_is_an_address(value: object, http: str) -> None:
    (options,) = parsed({"domains": "example.com", "http": value})

    assert options.http == http


def test_the_file_keeps_its_name_when_what_is_ordered_changes() -> None:
    """Otherwise a new name, or another key type, would leave clients without a certificate."""
    changed = replace(
        EXAMPLE, domains=("example.com", "www.example.com"), key_type="rsa2048", profile="x"
    )
    wildcard = replace(EXAMPLE, domains=("*.example.com",))

    assert EXAMPLE.id == changed.id == "example.com-" + EXAMPLE.id[-8:]
    assert replace(EXAMPLE, directory=LETS_ENCRYPT_STAGING).id != EXAMPLE.id
    assert wildcard.id == "_.example.com-" + EXAMPLE.id[-8:]


def test_workers_may_declare_the_same_certificate() -> None:
    check_together([EXAMPLE, EXAMPLE, replace(EXAMPLE, domains=("other.example",))])

    with pytest.raises(ConfigError):
        check_together([EXAMPLE, replace(EXAMPLE, email="admin@example.com")])


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("example.com", "example.com"),
        ("192.0.2.1", "1.2.0.192.in-addr.arpa"),
        ("2001:db8::1", "1" + ".0" * 23 + ".8.b.d.0.1.0.0.2.ip6.arpa"),
    ],
)
def test_an_address_is_checked_by_its_reverse_name(name: str, asked: str) -> None:
    assert challenge_server_name(name) == asked


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary()
)
WORDS = st.sampled_from(
    [
        "example.com",
        "*.a.test",
        "::1",
        "fe80::1%a",
        "a.test:1",
        "https://x",
        "staging",
        "~a",
        "dns-01",
        "'",
        "\0",
    ]
)
OPTIONS = [one.name for one in fields(AcmeOptions)] + ["kid", "hmac_key", "command", "wait"]
VALUES = st.recursive(
    SCALARS | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(OPTIONS) | SCALARS, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_whatever_is_declared_is_taken_or_refused(value: object) -> None:
    """With a sentence, and never another error; what is taken passes the pipe."""
    with contextlib.suppress(ConfigError):
        job = Job(certificates=parsed(value))

        assert msgspec.json.decode(msgspec.json.encode(job), type=Job) == job
        for one in job.certificates:
            Storage(Path("/")).certificate_path(one.id)


@given(st.dictionaries(st.sampled_from(OPTIONS), VALUES, max_size=3))
def test_whatever_stands_beside_a_domain_is_taken_or_refused(value: dict[str, Any]) -> None:
    with contextlib.suppress(ConfigError):
        parsed({**value, "domains": ["example.com", "192.0.2.1"]})
