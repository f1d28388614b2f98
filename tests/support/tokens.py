"""JSON Web Tokens, and sets of keys, made without the library that gateman verifies them with."""

import base64
import hmac
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, size: int = 0) -> str:
    return base64url(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def token(key: bytes | PrivateKey, claims: Any, *, algorithm: str, **header: Any) -> str:
    """Make a token (RFC 7515, 5.1), also a wrong one."""
    parts = [{"typ": "JWT", "alg": algorithm, **header}, claims]
    signed = ".".join(base64url(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{base64url(_signature(key, signed.encode(), algorithm))}"


def _signature(key: bytes | PrivateKey, data: bytes, algorithm: str) -> bytes:
    size = algorithm[-3:]
    if isinstance(key, bytes):
        return hmac.digest(key, data, f"sha{size}") if size.isdigit() else b""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    hashed = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[size]
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashed)
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashed)))
    width = (key.curve.key_size + 7) // 8
    return r.to_bytes(width, "big") + s.to_bytes(width, "big")


def jwk(key: PrivateKey, name: str, **more: Any) -> dict[str, Any]:
    """Describe a key's public half (RFC 7518, 6, and RFC 8037)."""
    if isinstance(key, rsa.RSAPrivateKey):
        public = key.public_key().public_numbers()
        return {"kty": "RSA", "kid": name, "n": number(public.n), "e": number(public.e), **more}
    if isinstance(key, ed25519.Ed25519PrivateKey):
        point = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "kid": name, "x": base64url(point), **more}
    numbers, size = key.public_key().public_numbers(), (key.curve.key_size + 7) // 8
    return {
        "kty": "EC",
        "crv": f"P-{key.curve.key_size}",
        "kid": name,
        "x": number(numbers.x, size),
        "y": number(numbers.y, size),
        **more,
    }


def pem(key: PrivateKey) -> str:
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
