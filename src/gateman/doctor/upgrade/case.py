"""One handshake to be judged, with all that is known beside it. PURE."""

from typing import Any

from ...findings import Declaration, Finding, Software
from ...findings import handshakes as H  # noqa: N812 - the codes stand out
from ..target import Settings, Target
from .fingerprints import Recognised, recognise
from .observations import Answer, Attempt, Kind, UpgradeSeen
from .rows import attempt_evidence


class Case:
    """One handshake."""

    def __init__(
        self, target: Target, settings: Settings, seen: UpgradeSeen, attempt: Attempt
    ) -> None:
        self.target = target
        self.settings = settings
        self.seen = seen
        self.attempt = attempt
        self.plain = seen.of(Kind.PLAIN)  # a plain request at the same path
        self.native = seen.of(Kind.NATIVE)  # a handshake without Origin and without compression
        answer, bad = attempt.answer, seen.of(Kind.MALFORMED)
        self.who = recognise(answer) if answer is not None else Recognised()  # what answered
        # With a hidden Server field, the page of a bad request shows who is in front.
        if self.who.front is None and bad is not None and bad.answer is not None:
            other = recognise(bad.answer)
            front = other.front or other.page
            if front is not None and front.software is not Software.GATEMAN:
                self.who = Recognised(front=front, page=self.who.page)

    @property
    def front(self) -> Software | None:
        """The proxy nearest to the client, whose configuration loses fields."""
        front = self.who.front
        return None if front is None else front.software

    def found(
        self,
        declaration: Declaration,
        *,
        software: Software | None = None,
        shown: str = "",
        candidates: tuple[Declaration, ...] = (),
        **fields: Any,
    ) -> Finding:
        """Make a finding; the names that most sentences need are filled in."""
        target, answer = self.target, self.attempt.answer
        known: dict[str, Any] = {
            "handshake": "the handshake",
            "client": "the doctor",
            "server": self.who.name,
            "status": status_of(answer) if answer is not None else "nothing",
            "path": target.bare_path,
            "host": target.host,
            "url": target.url,
            "port": target.port,
            "authority": target.authority,
            "addresses": self.attempt.address,
            "origin": self.attempt.origin,
        }
        addresses = {one.address for one in self.seen.attempts}
        where = f"{self.attempt.address}: " if len(addresses) > 1 else ""
        return declaration.found(
            software=software or self.who.software,
            evidence=where + (shown or attempt_evidence(self.attempt)),
            candidates=candidates,
            **{**known, **fields},
        )

    def lost(self, field: str = "Upgrade: websocket") -> Finding:
        """Tell of a field that the proxy in front has not passed on."""
        is_field = field.startswith("Sec-")
        declaration = H.HANDSHAKE_FIELD_LOST if is_field else H.UPGRADE_LOST
        return self.found(declaration, software=self.front, field=field)


def status_of(answer: Answer) -> str:
    return f"{answer.status} {answer.reason}".strip()
