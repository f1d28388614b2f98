"""Which certificates of a chain a trusted root has signed."""

import ssl
from pathlib import Path

import certifi
import pytest

from gateman.doctor.network.trust import Roots
from gateman.tls.certificate_findings import Trust
from tests.support.looked_at import IS_AUTHORITY
from tests.support.made_certificates import make

ROOT = make("root", extensions=IS_AUTHORITY)
MIDDLE = make("middle", issuer=ROOT, extensions=IS_AUTHORITY)
LEAF = make("a.test", issuer=MIDDLE)
NAMESAKE = make("root", extensions=IS_AUTHORITY)


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    (tmp_path / "ca.pem").write_bytes(ROOT.pem)
    return tmp_path / "ca.pem"


def test_the_roots_of_a_file(ca_file: Path) -> None:
    seen = Roots(ca_file).judge((LEAF.der, MIDDLE.der, ROOT.der), "why not")

    assert seen is not None
    assert seen.trust == Trust(anchors=frozenset({1, 2}), has_own_roots=True)
    assert [one and one.subject for one in seen.chain] == ["a.test", "middle", "root"]
    assert seen.refusal == "why not"


def test_a_root_of_the_same_name_is_another(ca_file: Path) -> None:
    signed = make("b.test", issuer=NAMESAKE)
    seen = Roots(ca_file).judge((signed.der, NAMESAKE.der))

    assert seen is not None
    assert seen.trust == Trust(has_own_roots=True)


def test_the_roots_that_all_clients_have() -> None:
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    first = certifi.contents().partition(begin)[2].partition(end)[0]
    seen = Roots(None).judge((ssl.PEM_cert_to_DER_cert(f"{begin}{first}{end}\n"),))

    assert seen is not None
    assert seen.trust == Trust(anchors=frozenset({0}), is_public=True)


def test_what_cannot_be_read(ca_file: Path) -> None:
    seen = Roots(ca_file).judge((b"\x30\x00", ROOT.der))

    assert seen is not None
    assert (seen.chain[0], seen.trust.anchors) == (None, frozenset({1}))
    assert Roots(ca_file).judge(()) is None


def test_chains_are_told_apart(ca_file: Path) -> None:
    one, same, other = (
        Roots(ca_file).judge(ders) for ders in ((LEAF.der,), (LEAF.der,), (LEAF.der, MIDDLE.der))
    )

    assert one is not None
    assert same is not None
    assert other is not None
    assert one.fingerprint == same.fingerprint != other.fingerprint
