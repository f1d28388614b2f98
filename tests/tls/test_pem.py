"""PEM files that OpenSSL does not take, and what to do with each."""

import pytest

from gateman.tls.pem import (
    conversion,
    failure,
    has_certificate,
    key_conversion,
    old_encryption,
    slip,
)

CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("data", "is_there"),
    [
        (CERTIFICATE, True),
        (b"-----BEGIN TRUSTED CERTIFICATE-----\n", True),
        (b"-----BEGIN X509 CERTIFICATE-----\n", True),
        (b"-----BEGIN CERTIFICATE REQUEST-----\n", False),
        (b"", False),
    ],
)
def test_a_certificate_begins_somewhere(data: bytes, *, is_there: bool) -> None:
    assert has_certificate(data) is is_there


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        (
            b"-----BEGIN CERTIFICATE REQUEST-----\n",
            "it is a request; give the certificate that the authority made of it",
        ),
        (
            b"-----BEGIN PKCS7-----\n",
            "convert it with: openssl pkcs7 -print_certs -in FILE -out NEW",
        ),
        (CERTIFICATE.decode().encode("utf-16"), "save it as ASCII: it is in UTF-16"),
        (
            bytes.fromhex("30820a3102010330820a"),
            "convert it with: openssl pkcs12 -in FILE -out NEW -nodes",
        ),
        (
            bytes.fromhex("3082013230820130"),
            "convert it with: openssl x509 -inform DER -in FILE -out NEW",
        ),
        (
            b"-----BEGIN EC PRIVATE KEY-----\n",
            "it is a private key; give a certificate",
        ),
        (b"hello", "one begins with -----BEGIN CERTIFICATE-----"),
        (b"", "one begins with -----BEGIN CERTIFICATE-----"),
    ],
)
def test_other_forms_are_told_apart(data: bytes, advice: str) -> None:
    assert conversion(data) == advice


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        ("-----BEGIN PRIVATE KEY-----".encode("utf-16"), "save it as ASCII: it is in UTF-16"),
        (
            bytes.fromhex("308187020100"),
            "convert it with: openssl pkey -inform DER -in FILE -out NEW",
        ),
        (CERTIFICATE, "one begins with -----BEGIN PRIVATE KEY-----"),
    ],
)
def test_other_forms_of_keys_are_told_apart(data: bytes, advice: str) -> None:
    assert key_conversion(data) == advice


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"hello", "which holds no certificate in PEM form"),
        (CERTIFICATE.rstrip() + CERTIFICATE, "where a line break is missing between two blocks"),
        (CERTIFICATE, "in which OpenSSL cannot read a certificate"),
    ],
)
def test_a_failure_has_a_sentence(data: bytes, problem: str) -> None:
    """Whatever OpenSSL says of it."""
    assert failure(data)[0].startswith(problem)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (CERTIFICATE * 2, None),
        (CERTIFICATE.replace(b"\n", b"\r\n") * 2, None),
        (
            CERTIFICATE.replace(b"\n", b"\r"),
            (
                "whose lines end with CR alone",
                "save it with the line breaks of Unix or Windows",
            ),
        ),
        (
            CERTIFICATE + CERTIFICATE[:40],
            ("which ends within a block", "copy the whole file again, to the last -----END"),
        ),
        (
            CERTIFICATE.rstrip() + CERTIFICATE,
            (
                "where a line break is missing between two blocks, in line 3",
                "begin each -----BEGIN on a line of its own",
            ),
        ),
        (
            b"\xef\xbb\xbf" + CERTIFICATE,
            (
                "which begins with a byte order mark",
                "save it as ASCII, or as UTF-8 without one",
            ),
        ),
        (
            CERTIFICATE + b"  " + CERTIFICATE,
            ("where blanks stand before -----BEGIN", "remove them from each line"),
        ),
        (
            CERTIFICATE.replace(b"\n", rb"\n"),
            (r"where line breaks are written as \n", "make real line breaks of them"),
        ),
    ],
)
def test_slips_are_found(data: bytes, expected: tuple[str, str] | None) -> None:
    """Of files that were put together by hand, or went through an editor or an environment."""
    assert slip(data) == expected


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"Proc-Type: 4,ENCRYPTED\nDEK-Info: DES-CBC,F800\n", "DES-CBC"),
        (b"Proc-Type: 4,ENCRYPTED\r\nDEK-Info: CAST5-CBC,F800\r\n", "CAST5-CBC"),
        (b"DEK-Info: DES-EDE3-CBC,F800\n", None),
        (b"DEK-Info: AES-128-CBC,F800\n", None),
        (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMBsGCSqGSIb3\r\nDQEFAzAOBAg=\n", "PBE-MD5-DES"),
        (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMBsGCSqGSIb3DQEFDTAOBAg=\n", None),
        (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nA===\n", None),
        (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n", None),
        (b"-----BEGIN PRIVATE KEY-----\n", None),
        (b"", None),
    ],
)
def test_an_old_encryption_is_recognised(data: bytes, name: str | None) -> None:
    """In both forms of an encrypted key; OpenSSL's own files are in test_certificate."""
    assert old_encryption(data) == name
