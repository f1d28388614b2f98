"""Private keys: of accounts, as JSON; of certificates, and of answers to challenges, in PEM."""

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from josepy.errors import Error as JoseError
from josepy.jwk import JWKEC


def new_account_key() -> str:
    """Make the key of an account, as JSON (RFC 7517)."""
    return str(JWKEC(key=ec.generate_private_key(ec.SECP256R1())).json_dumps())


def is_account_key(text: str) -> bool:
    """Return whether a text is such a key."""
    try:
        # "d" is the private part.
        return "d" in JWKEC.json_loads(text).fields_to_partial_json()
    except (JoseError, ValueError, KeyError, TypeError):
        return False


def new_key(key_type: str) -> bytes:
    if key_type.startswith("rsa"):
        return private_pem(rsa.generate_private_key(65537, int(key_type.removeprefix("rsa"))))
    curve = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1()}[key_type]
    return private_pem(ec.generate_private_key(curve))


def private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """Return an unencrypted PKCS #8 key."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
