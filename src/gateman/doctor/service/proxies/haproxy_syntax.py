"""
Reads the syntax of HAProxy's configuration into sections of lines. PURE.

Source:
    HAProxy's configuration manual, section 2.1 (quoting).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from .route import Files, UnreadableConfiguration

_SECTIONS = (
    *("global", "defaults", "frontend", "backend", "listen", "peers", "resolvers"),
    *("userlist", "mailers", "cache", "program", "ring", "http-errors", "fcgi-app"),
    *("log-forward", "crt-store", "traces", "acme"),
)
_WORD = re.compile(r"""(?:\\.|"(?:[^"\\]|\\.)*"|'[^']*'|[^\s"'\\#])+""")
_LINE_LIMIT = 100_000


@dataclass(slots=True)
class Section:
    kind: str
    name: str
    where: str
    lines: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    defaults: "Section | None" = None

    def all(self, *keyword: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Give the arguments of lines that begin with these words, and where they are."""
        size = len(keyword)
        for where, words in self.lines:
            if words[:size] == keyword:
                yield where, words[size:]

    def value(self, *keyword: str) -> str | None:
        """Give the first argument of the last such line; of the defaults if there is none."""
        found = [words[0] for _, words in self.all(*keyword) if words]
        if found:
            return found[-1]
        return None if self.defaults is None else self.defaults.value(*keyword)

    def has(self, *keyword: str) -> bool:
        if any(True for _ in self.all("no", *keyword)):
            return False
        is_here = any(True for _ in self.all(*keyword))
        return is_here or (self.defaults is not None and self.defaults.has(*keyword))


def parse(files: Files) -> list[Section]:
    sections: list[Section] = []
    defaults: Section | None = None
    named: dict[str, Section] = {}
    for path, text in files.items():
        for number, line in enumerate(text.splitlines(), 1):
            if number > _LINE_LIMIT:
                raise UnreadableConfiguration(f"{path} is too large")
            words = _words(line)
            if not words:
                continue
            where = f"{path}:{number}"
            if words[0] in _SECTIONS:
                section = Section(words[0], words[1] if len(words) > 1 else "", where)
                section.defaults = defaults if words[0] != "global" else None
                if "from" in words[2:-1]:
                    section.defaults = named.get(words[words.index("from") + 1])
                if words[0] == "defaults":
                    section.defaults = None
                    defaults = named[section.name] = section
                sections.append(section)
            elif not sections:
                raise UnreadableConfiguration(f"{where}: {words[0]} is outside of any section")
            else:
                sections[-1].lines.append((where, words))
    if not any(one.kind in {"frontend", "listen"} for one in sections):
        raise UnreadableConfiguration("it has neither a frontend nor a listen section")
    return sections


def _words(line: str) -> tuple[str, ...]:
    words = []
    at = 0
    while at < len(line):
        if line[at].isspace():
            at += 1
            continue
        match = _WORD.match(line, at)
        if line[at] == "#" or match is None:
            break
        words.append(re.sub(r"\\(.)|[\"']", lambda found: found[1] or "", match[0]))
        at = match.end()
    return tuple(words)
