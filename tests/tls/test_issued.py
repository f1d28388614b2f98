"""Certificates that are ordered while the service runs: taken up when they are there, if good."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateman.errors import ConfigError
from gateman.tls.contexts import TlsContexts
from gateman.tls.reload import CertificateReload
from tests.support.certificates import Authority
from tests.support.handshakes import shake_hands
from tests.support.issued import asking_authority, contexts_of, declared, issue

NOW = time.time()


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Issue all certificates of a module."""
    return Authority()


def problems(contexts: TlsContexts) -> list[str]:
    """Look at the files, and tell what is wrong with those that are not taken up."""
    return [found.problem for found in contexts.take_up(now=NOW)]


def domains(contexts: TlsContexts) -> list[tuple[str, ...]]:
    """Tell for which names the certificates in service are."""
    return [one.domains for one in contexts.certificates]


def served(contexts: TlsContexts, authority: Authority, name: str) -> tuple[str, ...]:
    """Tell for which names a client that asks for one is shown a certificate."""
    client = authority.trusting_client()
    client.check_hostname = False
    return shake_hands(contexts.select(name), client, server_name=name).domains


def test_a_certificate_is_served_from_the_moment_it_is_there(
    authority: Authority, tmp_path: Path
) -> None:
    one = declared(tmp_path, "a.test", "b.test")
    contexts = contexts_of(one)
    taken_up = []
    contexts.on_taken_up = lambda: taken_up.append(domains(contexts))

    assert problems(contexts) == []
    assert (contexts.is_pending, contexts.select("a.test"), taken_up) == (True, None, [])

    issue(authority, one.path, "a.test", "b.test")

    assert problems(contexts) == [""]
    assert (contexts.is_pending, taken_up) == (False, [[("a.test", "b.test")]])
    assert served(contexts, authority, "b.test") == ("a.test", "b.test")
    # It is not read again as long as it is the same.
    assert problems(contexts) == []


def test_a_renewed_certificate_is_taken_up_at_the_first_look(
    authority: Authority, tmp_path: Path
) -> None:
    """It is replaced as a whole, so there is nothing to settle."""
    one = declared(tmp_path, "a.test")
    issue(authority, one.path, "a.test")
    certificate_reload = CertificateReload("chat", contexts := contexts_of(one))
    before = contexts.select("a.test")
    issue(authority, one.path, "a.test")
    certificate_reload.look()

    assert contexts.select("a.test") not in {before, None}


BAD = {
    "expired": (("a.test", "b.test"), datetime(2020, 1, 1, tzinfo=UTC), "has expired"),
    "a name less": (("a.test",), None, "is not for b.test"),
    "other names": (("c.test",), None, "is not for a.test"),
}


@pytest.mark.parametrize(("names", "expires_at", "problem"), BAD.values(), ids=list(BAD))
def test_a_worse_certificate_never_replaces_the_one_in_service(
    authority: Authority,
    tmp_path: Path,
    names: tuple[str, ...],
    expires_at: datetime | None,
    problem: str,
) -> None:
    one = declared(tmp_path, "a.test", "b.test")
    issue(authority, one.path, "a.test", "b.test")
    contexts = contexts_of(one)
    problems(contexts)
    before = contexts.select("a.test")
    issue(
        authority,
        one.path,
        *names,
        starts_at=datetime(2019, 1, 1, tzinfo=UTC),
        expires_at=expires_at or datetime.now(UTC) + timedelta(days=9),
    )

    [found] = problems(contexts)
    assert problem in found
    assert (contexts.select("a.test"), contexts.is_pending) == (before, False)


UNREADABLE = {
    "empty": b"",
    "no PEM": b"\0\xff" * 100,
    "cut": b"-----BEGIN PRIVATE KEY-----\nMIGHAg",
    "too large": b"-----BEGIN PRIVATE KEY-----\n" + bytes(1 << 20),
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=list(UNREADABLE))
def test_a_broken_file_is_named_once(authority: Authority, tmp_path: Path, content: bytes) -> None:
    one = declared(tmp_path, "a.test")
    contexts = contexts_of(one)
    one.path.write_bytes(content)

    [found] = problems(contexts)
    assert str(one.path) in found
    assert (problems(contexts), contexts.is_pending) == ([], True)

    issue(authority, one.path, "a.test")
    assert problems(contexts) == [""]


def test_a_key_of_another_certificate_is_refused(authority: Authority, tmp_path: Path) -> None:
    one, other = declared(tmp_path, "a.test"), declared(tmp_path, "b.test")
    issue(authority, one.path, "a.test")
    issue(authority, other.path, "a.test")
    start = b"-----BEGIN CERTIFICATE"
    key = other.path.read_bytes().partition(start)[0]
    one.path.write_bytes(key + start + one.path.read_bytes().partition(start)[2])

    [found] = problems(contexts_of(one))
    assert "does not belong to the certificate" in found


def test_an_expired_certificate_is_not_served_after_a_restart(
    authority: Authority, tmp_path: Path
) -> None:
    """Its clients would refuse it; the new one is ordered in seconds."""
    one = declared(tmp_path, "a.test")
    start = datetime(2019, 1, 1, tzinfo=UTC)
    issue(authority, one.path, "a.test", starts_at=start, expires_at=start + timedelta(days=9))
    contexts = contexts_of(one)

    assert len(problems(contexts)) == 1
    assert contexts.is_pending


def test_a_file_that_could_not_serve_is_tried_again(authority: Authority, tmp_path: Path) -> None:
    """It has not changed, but the clock was wrong."""
    one = declared(tmp_path, "a.test")
    end = datetime.now(UTC) + timedelta(days=9)
    issue(authority, one.path, "a.test", expires_at=end)
    contexts = contexts_of(one)
    looks = [contexts.take_up(now=end.timestamp() + ahead) for ahead in (1, 2, -1, -2)]

    assert [[bool(one.problem) for one in found] for found in looks] == [[True], [], [False], []]


def test_a_name_that_was_added_waits_and_the_others_do_not(
    authority: Authority, tmp_path: Path
) -> None:
    one = declared(tmp_path, "a.test", "new.test")
    issue(authority, one.path, "a.test")
    contexts = contexts_of(one)

    assert problems(contexts) == [""]
    assert (contexts.select("new.test"), contexts.is_pending) == (None, True)
    assert served(contexts, authority, "a.test") == ("a.test",)


def test_certificates_from_files_serve_all_other_names(
    authority: Authority, tmp_path: Path
) -> None:
    """And those that are being ordered, as long as a file has a certificate for them."""
    file = authority.issue(tmp_path, "file.test", "moved.test")
    one, moved = declared(tmp_path, "a.test"), declared(tmp_path, "moved.test", "*.moved.test")
    contexts = contexts_of(one, moved, local_cert=str(file.certificate), local_pk=str(file.key))

    assert contexts.select("a.test") is None
    assert contexts.select("chat.moved.test") is None
    of_file = ("file.test", "moved.test")
    assert [served(contexts, authority, name) for name in ("moved.test", "else.test")] == [
        of_file,
        of_file,
    ]

    issue(authority, one.path, "a.test")
    issue(authority, moved.path, "moved.test", "*.moved.test")
    problems(contexts)

    names = ("a.test", "chat.moved.test", "a.chat.moved.test", "else.test")
    assert [served(contexts, authority, name) for name in names] == [
        ("a.test",),
        ("moved.test", "*.moved.test"),
        of_file,
        of_file,
    ]
    # Certificates from files and issued ones are in service, and only files are watched as such.
    assert domains(contexts) == [of_file, ("a.test",), ("moved.test", "*.moved.test")]
    assert contexts.files == (file.certificate, file.key)


def test_without_a_file_the_first_one_is_the_default(authority: Authority, tmp_path: Path) -> None:
    one, other = declared(tmp_path, "a.test"), declared(tmp_path, "192.0.2.1", "b.test")
    contexts = contexts_of(one, other)
    issue(authority, one.path, "a.test")
    issue(authority, other.path, "192.0.2.1", "b.test")
    problems(contexts)

    assert served(contexts, authority, "else.test") == ("a.test",)
    # A client that connects by an address names nothing.
    assert contexts.select(None) is contexts.select("b.test")


def test_options_are_checked_before_there_is_a_certificate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ssl\.ciphers selects no cipher"):
        contexts_of(declared(tmp_path, "a.test"), ciphers="nonsense")


def test_a_reload_makes_the_contexts_anew(authority: Authority, tmp_path: Path) -> None:
    one = declared(tmp_path, "a.test")
    issue(authority, one.path, "a.test")
    certificate_reload = CertificateReload("chat", contexts := contexts_of(one))
    before = contexts.select("a.test")
    certificate_reload.reload()

    assert contexts.select("a.test") not in {before, None}


def test_a_challenge_is_answered_while_its_file_is_there(
    authority: Authority, tmp_path: Path
) -> None:
    one = declared(tmp_path, "a.test")
    contexts = contexts_of(one)
    assert contexts.challenge("a.test") is None

    issue(authority, one.challenges["a.test"], "a.test")
    context = contexts.challenge("a.test")
    assert contexts.challenge("a.test") is context
    assert shake_hands(context, asking_authority(), server_name="a.test").alpn == "acme-tls/1"

    issue(authority, one.challenges["a.test"], "a.test")
    assert contexts.challenge("a.test") not in {context, None}

    one.challenges["a.test"].unlink()
    assert contexts.challenge("a.test") is None
    one.challenges["a.test"].write_text("no certificate")
    assert contexts.challenge("a.test") is None


@pytest.mark.parametrize("name", [None, "", "b.test", "../a.test", "a.test/../a.test"])
def test_only_declared_names_have_challenges(
    authority: Authority, tmp_path: Path, name: str | None
) -> None:
    one = declared(tmp_path, "a.test")
    issue(authority, one.challenges["a.test"], "a.test")
    issue(authority, tmp_path / "b.test.challenge", "b.test")

    assert contexts_of(one).challenge(name) is None


def test_a_client_that_leaves_is_explained_while_there_is_no_certificate(tmp_path: Path) -> None:
    contexts = contexts_of(declared(tmp_path, "a.test"))

    assert contexts.explain(ConnectionResetError(), "a.test") == ("left_early", "")
    assert contexts.doubt("a.test") is None
