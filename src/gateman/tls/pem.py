"""
PEM files that OpenSSL does not take: what is wrong with them, for people. PURE.

Source:
    RFC 7468, section 2: each line that begins or ends a block stands alone.
"""

import binascii
import re

_CERTIFICATE = re.compile(rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----")
_GLUED = re.compile(rb"-----END [A-Z0-9 ]+-----[^\r\n]*-----BEGIN ")

_UTF_16 = (re.compile(rb"\A(?:\xff\xfe|\xfe\xff)"), "save it as ASCII: it is in UTF-16")

# What users give for a certificate, and what to do with it.
_NOT_CERTIFICATES = (
    (
        re.compile(rb"BEGIN (?:NEW )?CERTIFICATE REQUEST"),
        "it is a request; give the certificate that the authority made of it",
    ),
    (
        re.compile(rb"PRIVATE KEY-----"),
        "it is a private key; give a certificate",
    ),
    (
        re.compile(rb"-----BEGIN PKCS7-----"),
        "convert it with: openssl pkcs7 -print_certs -in FILE -out NEW",
    ),
    _UTF_16,
    (
        # PKCS#12 (RFC 7292, section 4): a sequence, whose first element is the version, 3.
        re.compile(rb"\A\x30(?:[\x00-\x80]|\x81.|\x82..|\x83...)\x02\x01\x03", re.DOTALL),
        "convert it with: openssl pkcs12 -in FILE -out NEW -nodes",
    ),
    (re.compile(rb"\A\x30"), "convert it with: openssl x509 -inform DER -in FILE -out NEW"),
)
_NOT_KEYS = (
    _UTF_16,
    (re.compile(rb"\A\x30"), "convert it with: openssl pkey -inform DER -in FILE -out NEW"),
)

# What editors, the clipboard and variables do to a file with the right blocks.
_SLIPS = (
    (
        re.compile(rb"\A\xef\xbb\xbf"),
        ("which begins with a byte order mark", "save it as ASCII, or as UTF-8 without one"),
    ),
    (
        re.compile(rb"^[ \t]+-----BEGIN ", re.MULTILINE),
        ("where blanks stand before -----BEGIN", "remove them from each line"),
    ),
    (
        re.compile(rb"-----BEGIN [A-Z0-9 ]+-----\\n"),
        (r"where line breaks are written as \n", "make real line breaks of them"),
    ),
    (
        re.compile(rb"\A[^\n]*\r[^\n]*\Z"),
        ("whose lines end with CR alone", "save it with the line breaks of Unix or Windows"),
    ),
)

# RFC 1421, section 4.6.1.3: how OpenSSL wrote keys until 1.0.
_DEK_INFO = re.compile(rb"^DEK-Info: *([A-Z0-9-]+)", re.MULTILINE)
_OLD_CIPHERS = (
    "DES-CBC",
    "DES-CFB",
    "DES-OFB",
    "DES-ECB",
    "RC2-",
    "RC4",
    "BF-",
    "CAST5-",
    "IDEA-",
    "SEED-",
)

# RFC 5958: the algorithm stands in the first bytes.
_ENCRYPTED = re.compile(rb"-----BEGIN ENCRYPTED PRIVATE KEY-----\s+([A-Za-z0-9+/\s]{1,300})")
# Object identifiers: RFC 8018, appendices A and B; RFC 7292, appendix C.
_OLD_ALGORITHMS = {
    "06092a864886f70d010501": "PBE-MD2-DES",
    "06092a864886f70d010503": "PBE-MD5-DES",
    "06092a864886f70d010504": "PBE-MD2-RC2",
    "06092a864886f70d010506": "PBE-MD5-RC2",
    "06092a864886f70d01050a": "PBE-SHA1-DES",
    "06092a864886f70d01050b": "PBE-SHA1-RC2",
    "060a2a864886f70d010c0101": "PBE-SHA1-RC4-128",
    "060a2a864886f70d010c0102": "PBE-SHA1-RC4-40",
    "060a2a864886f70d010c0105": "PBE-SHA1-RC2-128",
    "060a2a864886f70d010c0106": "PBE-SHA1-RC2-40",
    "06052b0e030207": "DES-CBC",
    "06082a864886f70d0302": "RC2-CBC",
    "06092b0601040197550102": "BF-CBC",
    "06092a864886f67d07420a": "CAST5-CBC",
}


def has_certificate(data: bytes) -> bool:
    """Return whether a certificate begins in a file."""
    return _CERTIFICATE.search(data) is not None


def conversion(data: bytes) -> str:
    """Tell what to do with a file that was given for a certificate and has none in PEM form."""
    advice = (advice for form, advice in _NOT_CERTIFICATES if form.search(data))
    return next(advice, "one begins with -----BEGIN CERTIFICATE-----")


def key_conversion(data: bytes) -> str:
    """Tell what to do with a file that was given for a private key and has none in PEM form."""
    advice = (advice for form, advice in _NOT_KEYS if form.search(data))
    return next(advice, "one begins with -----BEGIN PRIVATE KEY-----")


def slip(data: bytes) -> tuple[str, str] | None:
    """Find out why OpenSSL cannot read a file that has the right blocks."""
    glued = _GLUED.search(data)
    if glued is not None:
        line = data.count(b"\n", 0, glued.start()) + 1
        return (
            f"where a line break is missing between two blocks, in line {line}",
            "begin each -----BEGIN on a line of its own",
        )
    if data.count(b"-----BEGIN ") > data.count(b"-----END "):
        return "which ends within a block", "copy the whole file again, to the last -----END"
    return next((sentence for pattern, sentence in _SLIPS if pattern.search(data)), None)


def old_encryption(data: bytes) -> str | None:
    """Find out whether a key's encryption is one that OpenSSL 3 has only in its legacy provider."""
    # https://docs.openssl.org/3.0/man7/OSSL_PROVIDER-legacy/
    found = _DEK_INFO.search(data)
    if found is not None:
        name = found[1].decode()
        return name if name.startswith(_OLD_CIPHERS) else None
    block = _ENCRYPTED.search(data)
    if block is None:
        return None
    text = b"".join(block[1].split())
    try:
        head = binascii.a2b_base64(text[: len(text) // 4 * 4]).hex()
    except binascii.Error:
        return None
    return next((name for oid, name in _OLD_ALGORITHMS.items() if oid in head), None)


def failure(data: bytes) -> tuple[str, str]:
    """Tell why OpenSSL finds no certificates in a file."""
    if not has_certificate(data):
        return "which holds no certificate in PEM form", conversion(data)
    return slip(data) or (
        "in which OpenSSL cannot read a certificate",
        "look at each with: openssl x509 -noout -in FILE",
    )
