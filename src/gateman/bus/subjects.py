"""
Subjects of a bus, made from names that users and clients choose. Pure.

A name can contain anything; in a NATS subject, dots, blanks, ``*`` and ``>`` have a meaning, and a
line end would begin a new command. So each name becomes a token:

    room-1      →  room-1           letters, digits, - and _ are kept
    a.b *       →  a=2Eb=20=2A      any other character becomes its UTF-8 in hexadecimal
    (empty)     →  =
    (long)      →  =h4f3c…          the hash of a name whose token would be too long

Different names have different tokens.
"""

import hashlib
import re
from typing import NewType

Subject = NewType("Subject", str)
"""Printable ASCII, safe in every bus; only :func:`subject` makes them."""

# Characters; NATS allows 4096 bytes for a whole command, and every server keeps every subject.
MAX_TOKEN_LENGTH = 200

_PLAIN = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_TOKEN_LENGTH}}}", re.ASCII)
_UNSAFE_BYTE = re.compile(rb"[^A-Za-z0-9_-]")
_HASHED = "=h"


def subject(*names: str) -> Subject:
    return Subject(".".join(map(escape, names)))


def escape(name: str) -> str:
    """Make the token of a name."""
    if _PLAIN.fullmatch(name):
        return name
    # A str may contain a lone surrogate, which UTF-8 alone cannot encode.
    data = name.encode("utf-8", "surrogatepass")
    escaped = _UNSAFE_BYTE.sub(lambda match: b"=%02X" % match[0][0], data).decode("ascii")
    if len(escaped) > MAX_TOKEN_LENGTH:
        return _HASHED + hashlib.sha256(data).hexdigest()
    return escaped or "="
