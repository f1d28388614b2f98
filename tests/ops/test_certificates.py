"""Certificates for development: accepted by OpenSSL, NSS and Python, kept, renewed, never lost."""

import os
import pwd
import shutil
import socket
import ssl
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509

from gateman.data_folder import data_folder
from gateman.errors import ConfigError
from gateman.ops.certificates import (
    DevelopmentCertificate,
    development_certificate,
    trust_instructions,
)
from gateman.tls.contexts import TlsContexts
from tests.support.certificates import Authority
from tests.support.deadlines import TIMEOUT
from tests.support.handshakes import shake_hands

NOBODY = pwd.getpwnam("nobody")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")

NOW = float(int(time.time()))
DAY = 86_400.0  # seconds
ALWAYS = ("localhost", "127.0.0.1", "::1", socket.gethostname().lower())


def make(
    tmp_path: Path, *domains: str, folder: str = "out", days_later: float = 0
) -> DevelopmentCertificate:
    """Make or find a certificate, with an authority of the test's own."""
    return development_certificate(
        domains, tmp_path / folder, data=tmp_path / "data", now=NOW + days_later * DAY
    )


def refusal_of(tmp_path: Path, *domains: str) -> str:
    """Make what cannot be made."""
    with pytest.raises(ConfigError) as caught:
        make(tmp_path, *domains)
    return str(caught.value)


def mode_of(path: Path) -> int:
    """Return what each user may do with a file."""
    return stat.S_IMODE(path.stat().st_mode)


def contents_of(made: DevelopmentCertificate) -> list[bytes]:
    """Read all four files."""
    return [
        path.read_bytes()
        for path in (made.certificate, made.key, made.authority, made.authority_key)
    ]


def run(command: str, **environ: str) -> str:
    """Run a shell command that must succeed."""
    ended = subprocess.run(
        ["bash", "-euc", command],
        capture_output=True,
        check=False,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=TIMEOUT,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def require_certutil() -> None:
    """Leave out the lines of NSS, if it is not installed."""
    if shutil.which("certutil") is None:
        pytest.skip("certutil is missing: install libnss3-tools")


# What it is good for.


@pytest.mark.parametrize("name", [*ALWAYS, "chat.test", "www.chat.test", "10.1.2.3"])
def test_a_client_that_trusts_the_authority_connects(tmp_path: Path, name: str) -> None:
    """By every name, strictly verified, with the files as they are."""
    made = make(tmp_path, "chat.test", "*.chat.test", "10.1.2.3")
    contexts = TlsContexts.load(
        {"local_cert": str(made.certificate), "local_pk": str(made.key)}, now=NOW
    )
    client = ssl.create_default_context(cafile=made.authority)
    client.verify_flags |= ssl.VERIFY_X509_STRICT

    assert shake_hands(contexts.select(None), client, server_name=name).version == "TLSv1.3"


def test_openssl_accepts_it(tmp_path: Path) -> None:
    """Strictly, as a server's certificate; the authority's signature is on it."""
    made = make(tmp_path, "chat.test")

    printed = run(
        "openssl verify -x509_strict -purpose sslserver -verify_hostname chat.test"
        f" -CAfile {made.authority} {made.certificate}"
    )
    assert printed == f"{made.certificate}: OK\n"


def test_nss_accepts_it(tmp_path: Path) -> None:
    """The library of Firefox, and of Chromium's trust on Linux, takes it for a server."""
    require_certutil()
    made = make(tmp_path)
    database = f"sql:{tmp_path}"
    run(f"certutil -d {database} -A -t C,, -n authority -i {made.authority}")
    run(f"certutil -d {database} -A -t ,, -n server -i {made.certificate}")

    assert "certificate is valid" in run(f"certutil -d {database} -V -u V -e -n server")


def test_it_is_what_browsers_ask_for(tmp_path: Path) -> None:
    """Not valid for longer than they allow, for servers only, and no authority itself."""
    made = make(tmp_path)
    leaf, authority = x509.load_pem_x509_certificates(made.certificate.read_bytes())
    lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    constraints = [
        certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        for certificate in (leaf, authority)
    ]

    assert lifetime.days == 396
    assert [purpose.dotted_string for purpose in usage] == ["1.3.6.1.5.5.7.3.1"]
    assert [(limit.ca, limit.path_length) for limit in constraints] == [(False, None), (True, 0)]
    assert leaf.not_valid_before_utc.timestamp() < NOW - DAY / 2
    assert leaf.not_valid_after_utc.timestamp() == made.expires_at


def test_the_names_asked_for_come_first(tmp_path: Path) -> None:
    """Then those of this machine; each once, spelled as on the wire."""
    made = make(tmp_path, "Chat.TEST", "münchen.test", "0:0::1", "localhost")

    assert made.domains == (
        *("chat.test", "xn--mnchen-3ya.test", "::1", "localhost", "127.0.0.1"),
        socket.gethostname().lower(),
    )


@pytest.mark.parametrize("name", ["", "a b", "https://chat.test", "straße.test", "chat.test:443"])
def test_invalid_unit_names_are_refused(tmp_path: Path, name: str) -> None:
    """Before anything is written."""
    assert refusal_of(tmp_path, name) == (
        f"{name!r} is not a name for a certificate:"
        " write a domain, such as chat.test or *.chat.test, or an IP address."
    )
    assert list(tmp_path.iterdir()) == []


# The second time.


def test_a_good_certificate_is_kept(tmp_path: Path) -> None:
    """Not a byte changes, also when fewer names are asked for."""
    first = make(tmp_path, "chat.test")
    before = contents_of(first)
    second = make(tmp_path)

    assert (first.is_new, second.is_new) == (True, False)
    assert contents_of(second) == before
    assert second.domains == first.domains


def test_missing_names_are_added(tmp_path: Path) -> None:
    """The names from before stay, and so do the key and the authority."""
    first = make(tmp_path, "a.test")
    before = contents_of(first)
    second = make(tmp_path, "b.test")

    assert second.is_new
    assert second.domains == (*first.domains, "b.test")
    assert contents_of(second)[1:] == before[1:]


@pytest.mark.parametrize(("days", "is_new"), [(365, False), (366, True), (500, True)])
def test_it_is_renewed_before_it_expires(tmp_path: Path, days: float, *, is_new: bool) -> None:
    """With thirty days left, by the same authority."""
    first = make(tmp_path)
    second = make(tmp_path, days_later=days)

    assert second.is_new is is_new
    assert (second.expires_at > first.expires_at) is is_new
    assert second.authority.read_bytes() == first.authority.read_bytes()


def test_two_folders_share_an_authority(tmp_path: Path) -> None:
    """What was trusted once is trusted for the next project."""
    first = make(tmp_path, folder="a")
    before = contents_of(first)
    second = make(tmp_path, folder="b")

    assert contents_of(second)[2:] == before[2:]
    assert contents_of(first) == before


def test_an_authority_is_replaced_before_it_would_end_too_early(tmp_path: Path) -> None:
    """A certificate must not outlive its authority; so it is renewed, too."""
    first = make(tmp_path)
    before = contents_of(first)
    second = make(tmp_path, days_later=3650 - 396)
    after = contents_of(second)
    authority = x509.load_pem_x509_certificate(second.authority.read_bytes())

    assert second.is_new
    assert before[2] != after[2]
    assert before[1] == after[1]
    assert authority.not_valid_after_utc.timestamp() > second.expires_at


def test_a_certificate_of_a_lost_authority_is_renewed(tmp_path: Path) -> None:
    """Without the data folder, another authority is made."""
    make(tmp_path)
    shutil.rmtree(tmp_path / "data")

    assert make(tmp_path).is_new
    assert not make(tmp_path).is_new


@pytest.mark.parametrize("lost", ["data/ca.pem", "data/ca.key", "out/server.pem", "out/server.key"])
def test_missing_files_are_made_again(tmp_path: Path, lost: str) -> None:
    """After half of the work, or half a clean-up, everything fits together again."""
    make(tmp_path)
    (tmp_path / lost).unlink()
    made = make(tmp_path)
    context = TlsContexts.load(
        {"local_cert": str(made.certificate), "local_pk": str(made.key)}, now=NOW
    ).select(None)

    assert made.is_new
    assert shake_hands(context, ssl.create_default_context(cafile=made.authority)).domains


def test_an_existing_key_is_used(tmp_path: Path) -> None:
    """A key is never overwritten."""
    issued = Authority().issue(tmp_path, has_rsa_key=True)
    (tmp_path / "server.pem").unlink()
    key = issued.key.read_bytes()
    made = make(tmp_path, folder=".")

    assert made.key == issued.key
    assert made.key.read_bytes() == key
    TlsContexts.load({"local_cert": str(made.certificate), "local_pk": str(made.key)}, now=NOW)


# What the authority may sign for.


def test_a_stolen_authority_cannot_sign_for_public_sites(tmp_path: Path) -> None:
    """Its key signs what OpenSSL, and with it curl and Python, does not accept."""
    made = make(tmp_path, "chat.example.com")
    sign = (
        "openssl req -new -newkey rsa:2048 -nodes -keyout k.pem -subj /O=x -out r.pem 2>/dev/null;"
        ' echo "subjectAltName=$NAME" > e.cnf; openssl x509 -req -in r.pem -CA "$CA" -CAkey "$KEY"'
        " -CAcreateserial -extfile e.cnf -out c.pem 2>/dev/null;"
        ' openssl verify -CAfile "$CA" c.pem 2>&1 || true'
    )
    found = {
        name: run(
            f"cd {tmp_path}; {sign}",
            NAME=name,
            CA=str(made.authority),
            KEY=str(made.authority_key),
        )
        for name in ("DNS:bank.example", "IP:192.0.2.1", "DNS:chat.example.com", "IP:192.168.1.9")
    }

    assert {name: "permitted subtree violation" in said for name, said in found.items()} == {
        "DNS:bank.example": True,
        "IP:192.0.2.1": True,
        "DNS:chat.example.com": False,
        "IP:192.168.1.9": False,
    }


@pytest.mark.parametrize("name", ["chat.example.com", "*.example.com", "192.0.2.1", "2001:db8::1"])
def test_a_public_name_takes_another_authority(tmp_path: Path, name: str) -> None:
    """It may sign for what the old one was for, too; and stays from then on."""
    first = make(tmp_path, "old.example")
    private = make(tmp_path, "chat.test", "10.1.2.3", "a.localhost")
    second = make(tmp_path, name)
    third = make(tmp_path, "old.example", folder="other")

    assert [made.is_authority_new for made in (first, private, second, third)] == [
        True,
        False,
        True,
        False,
    ]
    assert {name, "old.example", "chat.test"} < set(second.domains)
    run(f"openssl verify -x509_strict -CAfile {second.authority} {second.certificate}")
    run(f"openssl verify -x509_strict -CAfile {third.authority} {third.certificate}")


# What is not ours.


def test_a_foreign_certificate_is_never_replaced(tmp_path: Path) -> None:
    """A real one may be in the folder."""
    issued = Authority().issue(tmp_path)
    before = (issued.certificate.read_bytes(), issued.key.read_bytes())

    with pytest.raises(ConfigError) as caught:
        make(tmp_path, folder=".")

    assert str(caught.value) == (
        f"{issued.certificate} was not made by gateman cert dev: choose another folder,"
        " or move it away."
    )
    assert (issued.certificate.read_bytes(), issued.key.read_bytes()) == before


def test_a_copy_of_the_authority_is_replaced(tmp_path: Path) -> None:
    """It is ours, and no server's certificate."""
    first = make(tmp_path)
    shutil.copy(first.authority, first.certificate)

    assert make(tmp_path).domains == first.domains


def test_a_file_that_is_not_a_certificate_is_never_replaced(tmp_path: Path) -> None:
    """Whatever it is, it is not ours."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "server.pem").write_text("precious")

    assert "was not made by gateman cert dev" in refusal_of(tmp_path)
    assert (tmp_path / "out" / "server.pem").read_text() == "precious"


@pytest.mark.parametrize("passphrase", ["secret", None])
def test_a_key_that_cannot_be_used_is_never_replaced(
    tmp_path: Path, passphrase: str | None
) -> None:
    """An encrypted one, or no key at all."""
    key = tmp_path / "out" / "server.key"
    key.parent.mkdir()
    if passphrase:
        Authority().issue(tmp_path, passphrase=passphrase).key.replace(key)
    else:
        key.write_text("precious")
    before = key.read_bytes()

    assert refusal_of(tmp_path) == (
        f"{key} does not hold a key that is readable without a passphrase: move it away."
    )
    assert key.read_bytes() == before


def test_a_key_of_a_rare_kind_is_refused(tmp_path: Path) -> None:
    """Browsers take no Ed25519."""
    key = tmp_path / "out" / "server.key"
    key.parent.mkdir()
    run(f"openssl genpkey -algorithm ed25519 -out {key}")

    assert refusal_of(tmp_path) == f"{key} holds a key that no browser supports: move it away."


def test_an_authority_with_a_wrong_key_is_refused(tmp_path: Path) -> None:
    """No device would trust its certificates."""
    make(tmp_path)
    data = tmp_path / "data"
    shutil.copy(tmp_path / "out" / "server.key", data / "ca.key")

    assert refusal_of(tmp_path) == (
        f"{data}/ca.key is not the key of {data}/ca.pem: remove both, and run this again."
    )


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_a_folder_that_cannot_be_written_to_is_one_sentence(tmp_path: Path, folder: str) -> None:
    """The system's reason is in it."""
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError) as caught:
        make(tmp_path, folder=folder)

    reason = "File exists" if folder == "file" else "Not a directory"
    assert str(caught.value) == (
        f"{tmp_path / folder} cannot be used ({reason}): choose a folder that may be written to."
    )


# Secrets and files.


def test_keys_are_their_owner_s_alone(tmp_path: Path) -> None:
    """Whatever the umask is; certificates may be read by all users."""
    old = os.umask(0)
    try:
        made = make(tmp_path)
    finally:
        os.umask(old)

    assert [mode_of(path) for path in (made.key, made.authority_key)] == [0o600, 0o600]
    assert [mode_of(path) for path in (made.certificate, made.authority)] == [0o644, 0o644]
    assert mode_of(tmp_path / "data") == 0o700


def test_a_key_that_was_opened_to_all_is_closed_again(tmp_path: Path) -> None:
    """By a copy or a careless chmod; the next run mends it."""
    made = make(tmp_path)
    made.key.chmod(0o644)
    made.authority_key.chmod(0o644)
    make(tmp_path)

    assert [mode_of(path) for path in (made.key, made.authority_key)] == [0o600, 0o600]


def test_nothing_else_is_left_behind(tmp_path: Path) -> None:
    """No draft survives."""
    made = make(tmp_path)
    made.authority.unlink()
    made.authority_key.unlink()
    made.authority_key.mkdir()

    assert refusal_of(tmp_path) == f"{made.authority_key} is not a file: move it away."
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert names == ["data", "data/ca.key", "out", "out/server.key", "out/server.pem"]


FILES = ["data/ca.pem", "data/ca.key", "out/server.pem", "out/server.key"]


@pytest.mark.parametrize("name", FILES)
def test_links_are_not_followed(tmp_path: Path, name: str) -> None:
    """A link may lead to a file that is not the user's to give away, or to change."""
    make(tmp_path)
    target, link = tmp_path / "target", tmp_path / name
    link.replace(target)
    target.chmod(0o644)
    link.symlink_to(target)
    before = target.read_bytes()

    assert refusal_of(tmp_path) == f"{link} is a symbolic link: move it away."
    assert (target.read_bytes(), mode_of(target)) == (before, 0o644)


@pytest.mark.parametrize("name", FILES)
def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path, name: str) -> None:
    """Nothing is made where it leads to."""
    make(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(tmp_path / "target")

    assert refusal_of(tmp_path) == f"{tmp_path / name} is a symbolic link: move it away."
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    """A pipe may never get a writer."""
    make(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)

    assert refusal_of(tmp_path) == f"{tmp_path / name} is not a file: move it away."


@needs_root
@pytest.mark.parametrize("name", [*FILES, "data"])
def test_files_of_others_are_not_used(tmp_path: Path, name: str) -> None:
    """Another user could know the key, and be trusted with it."""
    make(tmp_path)
    os.chown(tmp_path / name, NOBODY.pw_uid, NOBODY.pw_gid)

    assert refusal_of(tmp_path) == (
        f"{tmp_path / name} belongs to the user nobody, who could know the key or replace it:"
        " run this as nobody, or choose another folder."
    )


def test_the_umask_makes_modes_narrower(tmp_path: Path) -> None:
    """No other user may read certificates, if the umask says so."""
    old = os.umask(0o077)
    try:
        made = make(tmp_path)
    finally:
        os.umask(old)

    assert {mode_of(path) for path in (made.certificate, made.authority, made.key)} == {0o600}


def test_many_at_once_agree(tmp_path: Path) -> None:
    """One makes the authority, and every certificate fits its key and is signed by it."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: make(tmp_path, f"{n}.test", folder=str(n % 2)), range(8)))

    for one in made:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(one.certificate, one.key)
        run(f"openssl verify -CAfile {one.authority} {one.certificate}")
    assert set(make(tmp_path, folder="1").domains) == {
        *ALWAYS,
        *(f"{n}.test" for n in (1, 3, 5, 7)),
    }


# Where the authority is.


@pytest.mark.parametrize(
    ("environ", "platform", "expected"),
    [
        ({}, "linux", "/home/me/.local/share/gateman"),
        ({"XDG_DATA_HOME": ""}, "linux", "/home/me/.local/share/gateman"),
        ({"XDG_DATA_HOME": "relative"}, "linux", "/home/me/.local/share/gateman"),
        ({"XDG_DATA_HOME": "/data"}, "linux", "/data/gateman"),
        ({}, "darwin", "/home/me/Library/Application Support/gateman"),
        ({"XDG_DATA_HOME": "/data"}, "darwin", "/home/me/Library/Application Support/gateman"),
    ],
)
def test_the_authority_is_where_the_system_keeps_data(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], platform: str, expected: str
) -> None:
    """In the user's own folder, by the rules of Linux and of macOS."""
    monkeypatch.setenv("HOME", "/home/me")

    assert data_folder(environ, platform) == Path(expected)


def test_folders_are_found_without_being_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The working directory and the data folder; every path is absolute."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    made = development_certificate()

    assert made.certificate == tmp_path / "server.pem"
    assert made.key == tmp_path / "server.key"
    assert made.authority.parent == data_folder()
    assert made.authority.is_relative_to(tmp_path)
    assert made.expires_at > NOW


# How it is trusted.


def commands_for(made: DevelopmentCertificate, heading: str) -> str:
    """Take the commands of one paragraph, as a person copies them."""
    for paragraph in trust_instructions(made).split("\n\n"):
        if paragraph.startswith(heading):
            return "\n".join(line for line in paragraph.splitlines() if line.startswith("    "))
    raise AssertionError(heading)


@pytest.mark.parametrize(
    ("heading", "database"),
    [("Chromium", ".pki/nssdb"), ("Firefox", ".mozilla/firefox/x.default-esr")],
)
def test_the_commands_for_browsers_work(tmp_path: Path, heading: str, database: str) -> None:
    """Copied into a shell, in a home with a space in the way to the authority."""
    require_certutil()
    made = development_certificate([], tmp_path / "out", data=tmp_path / "my data", now=NOW)
    (tmp_path / database).mkdir(parents=True)
    run(commands_for(made, heading), HOME=str(tmp_path))

    trusted = run(f"certutil -d 'sql:{tmp_path / database}' -L").splitlines()[-1].rsplit(maxsplit=1)
    assert trusted == ["gateman development CA", "C,,"]


def test_one_program_trusts_it_alone(tmp_path: Path) -> None:
    """The variable for Python makes its default context trust the authority."""
    made = development_certificate([], tmp_path / "out", data=tmp_path / "my data", now=NOW)
    python = commands_for(made, "One program").splitlines()[-1].strip()
    setting = python.removesuffix(" python client.py")
    program = "import ssl; print(len(ssl.create_default_context().get_ca_certs()))"

    assert run(f"{setting} python3 -c '{program}'") == "1\n"


def test_instructions_are_for_every_system(tmp_path: Path) -> None:
    """Linux, macOS, Windows and phones; and they warn of the key."""
    made = make(tmp_path)
    text = trust_instructions(made)

    for system in ("Debian", "Fedora", "macOS", "Windows", "iPhone", "Android"):
        assert f"\n{system}" in text
    assert f"Anyone who has {made.authority_key} can pose as any site" in text
    assert "$" not in text.replace("$HOME", "").replace("$profile", "")
    assert max(len(line) for line in text.splitlines() if str(tmp_path) not in line) <= 100
