"""The page of a kind of finding: ``gateman doctor --explain CODE`` and ``docs/doctor.md``. PURE."""

import re
from collections.abc import Collection, Iterable

from ..findings import ALL_CLIENTS, Client, Declaration, Severity

_EFFECTS = {
    Severity.CAUSE: "keeps clients out",
    Severity.UNDECIDED: "keeps clients out; several causes remain",
    Severity.WARNING: "a warning: it keeps no client out yet",
    Severity.NOTE: "a note: it works, but could be better",
}

_FIELD = re.compile(r"\{(\w+)[^}]*\}")


def section(declaration: Declaration) -> str:
    """Write it in Markdown."""
    lines = [
        f"### {declaration.code}",
        "",
        f"{_sentence(declaration.problem)}",
        "",
        f"- **Effect**: {_EFFECTS[declaration.severity]}.",
    ]
    if declaration.severity in {Severity.CAUSE, Severity.UNDECIDED}:
        lines.append(f"- **Who**: {who(declaration.fails_for)}.")
    lines.append(f"- **Fix**: {_sentence(declaration.fix)}")
    lines += [
        f"    - {software.value}: {_sentence(fix)}" for software, fix in declaration.fixes.items()
    ]
    lines.append(f"- **Decided by**: {_sentence(declaration.decided)}")
    if declaration.details:
        lines += ["", declaration.details]
    return "\n".join(lines)


def who(fails_for: Iterable[Client]) -> str:
    """Name the clients that fail, and those that do not."""
    failing = frozenset(fails_for)
    if failing == ALL_CLIENTS:
        return "all clients fail"
    if not failing:
        return "no client fails"
    others = ALL_CLIENTS - failing
    return f"{_named(failing)} {_verb(failing, 'fail')}; {_named(others)} {_verb(others, 'do')} not"


def _verb(clients: frozenset[Client], plural: str) -> str:
    is_one = len(clients) == 1 and Client.BROWSERS not in clients
    return {"fail": "fails", "do": "does"}[plural] if is_one else plural


def _named(clients: frozenset[Client]) -> str:
    return listed([one.value for one in Client if one in clients])


def listed(names: Collection[str]) -> str:
    """Write names as a sentence has them: "a, b and c"."""
    *others, last = names or [""]
    return f"{', '.join(others)} and {last}" if others else last


def _sentence(text: str) -> str:
    shown = _FIELD.sub(lambda field: field[1].replace("_", " ").upper(), text)
    shown = shown.replace("{{", "{").replace("}}", "}")
    return f"{shown[:1].upper()}{shown[1:].removesuffix('.')}."
