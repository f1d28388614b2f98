"""
The grammar of the ``Sec-WebSocket-Extensions`` header.

    offers    = offer *( "," offer )
    offer     = token *( ";" parameter )
    parameter = token [ "=" ( token | quoted-string that unescapes to a token ) ]

Around each part there may be spaces and tabs, and a list may have empty elements. This module
knows no extension.
"""

import re
from collections.abc import Sequence

from ..errors import HandshakeError

MAX_SIZE = 2048
"""
Characters of all offers together; longer ones are refused before they are read.

A browser's offer has 50 and a full one of permessage-deflate under 150; a whole request head of
commas would take 15 ms to read. No precedent gives a number.
"""

Extension = tuple[str, list[tuple[str, str | None]]]
"""A name, and its parameters in order; a parameter without a value has ``None``."""

# Possessive: nothing is tried twice, so the time is linear whatever is sent (CVE-2020-7662 was
# an ambiguous pattern for the quoted value).
_LEXEME = re.compile(
    r"""[ \t]*+(?:
        (?P<token>[!\#$%&'*+\-.^_`|~0-9A-Za-z]++)
      | "(?P<quoted>(?:[^"\\]|\\.)*+)"
      | (?P<mark>[,;=])
      | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def parse_extensions(values: Sequence[str]) -> list[Extension]:
    """Read the header fields of a request, in linear time (RFC 6455, 9.1; RFC 9110, 5.6.1)."""
    if not values:
        return []
    text = ", ".join(values)
    if len(text) > MAX_SIZE:
        raise HandshakeError(
            431, "The Sec-WebSocket-Extensions header is too long.", code="HEAD_TOO_LARGE"
        )
    lexemes = _Lexemes(text)
    extensions: list[Extension] = []
    while lexemes.kind != "end":
        if lexemes.skip(","):
            continue
        extension: Extension = (lexemes.take_token(), [])
        while lexemes.skip(";"):
            name = lexemes.take_token()
            extension[1].append((name, lexemes.take_value() if lexemes.skip("=") else None))
        if lexemes.kind != "end" and not lexemes.skip(","):
            raise _malformed()
        extensions.append(extension)
    if not extensions:
        raise _malformed()
    return extensions


class _Lexemes:
    """The tokens, quoted strings and marks of a header value, one at a time."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._advance()

    def _advance(self) -> None:
        match = _LEXEME.match(self._text, self._position)
        if match is None:
            raise _malformed()
        assert match.lastgroup is not None  # Each alternative is a group.
        self.kind = match.lastgroup
        self._value = match[self.kind]
        self._position = match.end()

    def skip(self, mark: str) -> bool:
        if self.kind != "mark" or self._value != mark:
            return False
        self._advance()
        return True

    def take_token(self) -> str:
        if self.kind != "token":
            raise _malformed()
        token = self._value
        self._advance()
        return token

    def take_value(self) -> str:
        if self.kind != "quoted":
            return self.take_token()
        value = _ESCAPE.sub(r"\1", self._value)
        # 9.1: "the value after quoted-string unescaping MUST conform to the 'token' ABNF".
        if _TOKEN.fullmatch(value) is None:
            raise _malformed()
        self._advance()
        return value


def _malformed() -> HandshakeError:
    # 9.1: a recipient of malformed data MUST fail the connection.
    return HandshakeError(400, "The Sec-WebSocket-Extensions header is malformed.")
