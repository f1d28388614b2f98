"""
Makes evidence fit to be shown: without control characters, and without secrets. PURE.

A report is read on a terminal and pasted into a public issue.
"""

import re
from collections.abc import Iterable

MASK = "…"
_MAX_LENGTH = 500  # characters

_SECRET_FIELD = re.compile(
    r"\b(authorization|proxy-authorization|cookie|set-cookie|x-api-key)(\s*:\s*)[^\r\n\"']+",
    re.IGNORECASE,
)
_QUERY_VALUE = re.compile(r"([?&][^=&#\s]*=)[^&#\s\"']+")
_USER_INFO = re.compile(r"(\w://)[^/@\s]+@")


def shown(text: str, secrets: Iterable[str] = ()) -> str:
    """Escape control characters, mask secrets and query values, and cut what is long."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, MASK)
    text = _USER_INFO.sub(rf"\1{MASK}@", _QUERY_VALUE.sub(rf"\1{MASK}", text))
    text = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 1] + MASK


def shown_evidence(text: str, secrets: Iterable[str] = ()) -> str:
    """Do the same with what a stranger may have written, and mask fields that authorize."""
    return shown(_SECRET_FIELD.sub(rf"\1\2{MASK}", text), secrets)
