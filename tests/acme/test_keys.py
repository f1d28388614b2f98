"""Keys: what is kept of an account is checked before it is used."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from josepy.jwk import JWKEC, JWKRSA

from gateman.acme.keys import is_account_key, new_account_key, new_key


def test_a_new_key_is_one() -> None:
    assert is_account_key(new_account_key())
    assert new_account_key() != new_account_key()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "{}",
        '{"kty": "EC"}',
        '{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}',
        JWKRSA(key=rsa.generate_private_key(65537, 2048)).json_dumps(),
        JWKEC(key=ec.generate_private_key(ec.SECP256R1()).public_key()).json_dumps(),
    ],
    ids=["empty", "null", "nothing", "no curve", "no point", "RSA", "public"],
)
def test_what_is_no_key_of_an_account(text: str) -> None:
    assert not is_account_key(text)


@pytest.mark.parametrize(
    ("key_type", "size"), [("p256", 256), ("p384", 384), ("rsa2048", 2048), ("rsa3072", 3072)]
)
def test_keys_of_certificates(key_type: str, size: int) -> None:
    key = load_pem_private_key(new_key(key_type), None)

    assert isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey))
    assert key.key_size == size
