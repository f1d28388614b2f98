"""Domain names: spelled as clients spell them, and compared with those of a certificate. PURE."""

import re
from collections.abc import Iterable
from ipaddress import ip_address

_NAME = re.compile(r"(\*\.)?([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")

# Browsers keep these letters (IDNA 2008), Python's codec turns them into others (IDNA 2003).
_UNSAFE_LETTERS = frozenset("ßς\u200c\u200d")


def wire_name(name: object) -> str | None:
    """Spell a name in lower case, as A-labels, with no final dot (RFC 5890, 2.3.2.1; 6066, 3)."""
    if not isinstance(name, str) or not _UNSAFE_LETTERS.isdisjoint(name):
        return None
    try:
        spelled = name.removesuffix(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        return None
    return spelled if len(spelled) <= 253 and _NAME.fullmatch(spelled) else None


def is_address(name: str) -> bool:
    """Return whether a name is an IP address, as a certificate may have one."""
    try:
        ip_address(name)
    except ValueError:
        return False
    # The scope of a link-local address, which no certificate has.
    return "%" not in name


def is_named(name: str, certified: Iterable[str]) -> bool:
    """Return whether a certificate is for a name (RFC 9525, section 6.3)."""
    _, _, parent = name.partition(".")
    names = {one.lower() for one in certified}
    return name in names or bool(parent and f"*.{parent}" in names)
