"""
Findings: what is wrong between a client and a service, with a stable code and a fix. PURE.

Each kind of finding is declared once, in a module of this package for the part of the way that it
concerns; :mod:`.catalogue` has all of them. The start, ``gateman check``, the log, the test page
and ``gateman doctor`` make their sentences from these declarations.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum, IntEnum
from string import Formatter
from typing import Any

from msgspec import Struct, field


class Severity(Enum):
    """How many clients a finding keeps out, and when."""

    CAUSE = "cause"
    """It keeps clients out today: those that ``fails_for`` names."""
    UNDECIDED = "undecided"
    """Clients are kept out, and several causes remain."""
    WARNING = "warning"
    """It keeps no client out yet, or only some of the time."""
    NOTE = "note"
    """It works, but could be better."""


class Stage(IntEnum):
    """The part of the way that a finding concerns, in the order in which a client meets them."""

    URL = 0
    PAGE = 1
    NAME = 2
    TCP = 3
    TLS = 4
    CERTIFICATE = 5
    PROXY = 6
    UPGRADE = 7
    WEBSOCKET = 8
    LASTING = 9
    SERVICE = 10


class Software(Enum):
    """Software whose configuration a fix names."""

    NGINX = "nginx"
    APACHE = "Apache"
    CADDY = "Caddy"
    HAPROXY = "HAProxy"
    CLOUDFLARE = "Cloudflare"
    AWS = "an AWS load balancer"
    GATEMAN = "gateman"


class Client(Enum):
    """A kind of client that a finding keeps out, or not."""

    BROWSERS = "browsers"
    ANDROID = "Android"
    IOS = "iOS"
    JAVA = "Java"
    NODE = "Node"
    PYTHON = "Python"
    WECHAT = "WeChat"


ALL_CLIENTS = frozenset(Client)


class Finding(Struct, frozen=True, kw_only=True):
    """
    One problem.

    Attributes:
        code: A name that never changes, such as ``"CERTIFICATE_EXPIRED"``.
        problem: What is wrong, and where; without a full stop.
        fix: What to change, in the words of the software that has to be changed; without a full
            stop.
        fails_for: The clients that it keeps out.
        evidence: What was seen that decides it; may come from a stranger.
        candidates: The codes of what it may be, if it is undecided.
    """

    code: str
    stage: Stage
    severity: Severity
    problem: str
    fix: str
    fails_for: frozenset[Client] = ALL_CLIENTS
    evidence: str = ""
    candidates: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Write it as one sentence, without a full stop."""
        return f"{self.problem}: {self.fix}"

    @property
    def line(self) -> str:
        """Write it for the log: the sentence with its code."""
        return f"{self} ({self.code})"


class Declaration(Struct, frozen=True, kw_only=True):
    """
    A kind of finding.

    Attributes:
        code: In capitals; it never changes.
        problem: The sentence, without a full stop; ``{name}`` is replaced by what was found.
        fix: What to do, whatever software is concerned; may have fields as well.
        fixes: The same in the words of a software, where that is recognised.
        fails_for: The clients that it keeps out, unless what was found says otherwise.
        decided: How it is decided: what is seen, and what tells it from its neighbours.
        details: What else a reader of its page needs to know; paragraphs.
    """

    code: str
    stage: Stage
    severity: Severity = Severity.CAUSE
    problem: str
    fix: str
    decided: str
    fixes: Mapping[Software, str] = field(default_factory=dict)
    fails_for: frozenset[Client] = ALL_CLIENTS
    details: str = ""

    def found(
        self,
        *,
        software: Software | None = None,
        severity: Severity | None = None,
        fails_for: frozenset[Client] | None = None,
        evidence: str = "",
        candidates: "Iterable[Declaration]" = (),
        **fields: Any,
    ) -> Finding:
        """Fill in what was found; the fix is that of the software, if one was recognised."""
        fix = self.fix if software is None else self.fixes.get(software, self.fix)
        return Finding(
            code=self.code,
            stage=self.stage,
            severity=severity or self.severity,
            problem=self.problem.format(**fields),
            fix=fix.format(**fields),
            fails_for=self.fails_for if fails_for is None else fails_for,
            evidence=evidence,
            candidates=tuple(one.code for one in candidates),
        )

    @property
    def fields(self) -> frozenset[str]:
        """The names that its sentences need."""
        return frozenset(
            name for text in (self.problem, self.fix, *self.fixes.values()) for name in _names(text)
        )


def declared_in(module: Mapping[str, object]) -> tuple[Declaration, ...]:
    """Return the declarations among the global names of a module, in their order."""
    return tuple(one for one in module.values() if isinstance(one, Declaration))


def codes(*declarations: Declaration) -> frozenset[str]:
    return frozenset(one.code for one in declarations)


def _names(text: str) -> Iterator[str]:
    return (name for _, name, _, _ in Formatter().parse(text) if name)
