"""Who we are to NATS: made from what the user gave, and never shown."""

import base64
from pathlib import Path

import pytest

from gateman.bus.credentials import Credentials
from gateman.errors import ConfigError

from ..support.nats import Nkey, jwt_config

NONCE = "bm9uY2U"


def test_without_any_nothing_is_said() -> None:
    """A server that asks nobody is told nothing."""
    assert Credentials().answer(NONCE) == {}


def test_a_user_has_a_password() -> None:
    """Both are sent as they are."""
    assert Credentials(user="anna", password="s3cret").answer(NONCE) == {
        "user": "anna",
        "pass": "s3cret",
    }


def test_a_token_is_sent() -> None:
    """Under the name that the server knows."""
    assert Credentials(token="s3cret").answer(NONCE) == {"auth_token": "s3cret"}


def test_an_nkey_signs(tmp_path: Path) -> None:
    """The nonce is signed with the key whose public form is sent; the seed is not."""
    key = Nkey.make()
    path = tmp_path / "seed"
    path.write_text(f"{key.seed}\n")
    answer = Credentials(nkey=path).answer(NONCE)
    signature = base64.urlsafe_b64decode(answer.pop("sig") + "==")

    key.private.public_key().verify(signature, NONCE.encode())
    assert answer == {"nkey": key.public}


def test_a_credentials_file_has_a_certificate_and_a_key(tmp_path: Path) -> None:
    """The JWT is sent as it is, and its key signs."""
    _, creds = jwt_config(tmp_path)

    answer = Credentials(creds=creds).answer(NONCE)

    assert answer["jwt"] in creds.read_text()
    assert sorted(answer) == ["jwt", "sig"]


def test_a_file_is_read_anew(tmp_path: Path) -> None:
    """A key can be changed under a running service."""
    path = tmp_path / "seed"
    said = []
    keys = [Nkey.make(), Nkey.make()]
    credentials = Credentials(nkey=path)
    for key in keys:
        path.write_text(key.seed)
        said.append(credentials.answer(NONCE)["nkey"])

    assert said == [key.public for key in keys]


@pytest.mark.parametrize(
    "options",
    [
        {"user": "anna", "token": "s3cret"},
        {"password": "s3cret", "creds": Path("a")},
        {"creds": Path("a"), "nkey": Path("b")},
    ],
)
def test_there_is_one_way_to_say_it(options: dict[str, object]) -> None:
    """Which of two should count is not guessed."""
    with pytest.raises(ConfigError) as caught:
        Credentials(**options)  # type: ignore[arg-type]

    assert caught.value.problem == "the bus has several logins"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """With the system's reason."""
    path = tmp_path / "nothing"
    with pytest.raises(ConfigError) as caught:
        Credentials(creds=path).check()

    assert str(caught.value) == f"{path} cannot be read: no such file or directory."


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xfe", b"SU" + b"A" * 56])
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    """Also a seed with a letter changed, and nothing of the file is repeated."""
    path = tmp_path / "file"
    path.write_bytes(content)
    for options in ({"creds": path}, {"nkey": path}):
        with pytest.raises(ConfigError) as caught:
            Credentials(**options).check()  # type: ignore[arg-type]

        assert str(path) in caught.value.problem
        assert "SUAAA" not in repr(caught.value)


@pytest.mark.parametrize("kind", [0, 14 << 3])
def test_only_a_users_seed_will_do(tmp_path: Path, kind: int) -> None:
    """The key of an account or an operator is in the wrong file."""
    path = tmp_path / "seed"
    path.write_text(Nkey.make(kind).seed)
    with pytest.raises(ConfigError) as caught:
        Credentials(nkey=path).check()

    assert (
        str(caught.value)
        == f"{path} does not contain the seed of a user's nkey: it begins with SU."
    )


def test_a_seed_with_a_slip_is_refused(tmp_path: Path) -> None:
    """Its check sum is looked at."""
    seed = Nkey.make().seed
    path = tmp_path / "seed"
    path.write_text(seed[:20] + ("A" if seed[20] != "A" else "B") + seed[21:])
    with pytest.raises(ConfigError):
        Credentials(nkey=path).check()


def test_secrets_are_not_shown() -> None:
    """Neither a password nor a token is in what a log could hold."""
    assert "s3cret" not in repr(Credentials(user="anna", password="s3cret"))
    assert "s3cret" not in repr(Credentials(token="s3cret"))
