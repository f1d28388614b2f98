"""
Reads the syntax of Apache's configuration into directives. PURE.

Source:
    https://httpd.apache.org/docs/2.4/configuring.html.
"""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from posixpath import isabs, join

from .directive import Directive
from .route import Files, UnreadableConfiguration

_MAX_DEPTH = 32
_MAX_LINES = 200_000
_WORD = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s]+)""")
_SECTION = re.compile(r"<(/?)(\w+)\s*(.*?)\s*>\s*$")


def included(text: str) -> list[str]:
    """Name the patterns of files that a file includes."""
    found = re.findall(
        r"""^\s*Include(?:Optional)?\s+["']?([^\s"']+)""", text, re.MULTILINE | re.IGNORECASE
    )
    return [f"{one.rstrip('/')}/*" if one.endswith("/") else one for one in found]


def server_root(text: str) -> str | None:
    """Read where relative paths begin."""
    found = re.search(r"""^\s*ServerRoot\s+["']?([^\s"']+)""", text, re.MULTILINE | re.IGNORECASE)
    return None if found is None else found[1]


def parse(files: Files) -> Directive:
    """Read the main file, with what it includes in place, and what is not loaded left out."""
    main = next(iter(files))
    parser = _Parser(files, server_root(files[main]) or "/etc/apache2")
    return Directive("", (), tuple(parser.file(main, 0)), main)


class _Parser:
    def __init__(self, files: Files, root: str) -> None:
        self._files = files
        self._root = root
        self._count = 0
        self._defined: dict[str, str] = {}
        self.modules: set[str] = set()

    def file(self, path: str, depth: int) -> list[Directive]:
        if depth > _MAX_DEPTH:
            raise UnreadableConfiguration(f"{path} includes itself")
        lines = iter(list(_lines(self._files[path])))
        return self._section(lines, path, "", depth)

    def _section(
        self, lines: Iterator[tuple[int, str]], path: str, name: str, depth: int
    ) -> list[Directive]:
        found: list[Directive] = []
        for number, line in lines:
            self._count += 1
            if self._count > _MAX_LINES or depth > _MAX_DEPTH * 2:
                raise UnreadableConfiguration("it is too large")
            where = f"{path}:{number}"
            section = _SECTION.match(line)
            if section is not None:
                end, kind, rest = section[1], section[2].lower(), self._expand(section[3])
                if end:
                    if kind != name:
                        raise UnreadableConfiguration(f"{where}: {line} ends no section")
                    return found
                inner = self._section(lines, path, kind, depth + 1)
                if kind in {"ifmodule", "ifdefine", "ifversion", "iffile", "ifdirective"}:
                    if self._is_on(kind, rest):
                        found += inner
                    continue
                if kind != "macro":
                    found.append(Directive(kind, tuple(_words(rest)), tuple(inner), where))
                continue
            words = [self._expand(one) for one in _words(line)]
            if words:
                found += self._directive(words[0].lower(), tuple(words[1:]), where, depth)
        if name:
            raise UnreadableConfiguration(f"{path}: <{name}> does not end")
        return found

    def _directive(
        self, name: str, args: tuple[str, ...], where: str, depth: int
    ) -> list[Directive]:
        if name in {"include", "includeoptional"} and args:
            return self._include(args[0], depth)
        if name == "define" and args:
            self._defined[args[0]] = args[1] if len(args) > 1 else ""
        if name == "loadmodule" and args:
            self.modules.add(args[0].removesuffix("_module"))
        return [Directive(name, args, (), where)]

    def _include(self, pattern: str, depth: int) -> list[Directive]:
        full = pattern if isabs(pattern) else join(self._root, pattern)
        if full.endswith("/"):
            full += "*"
        names = sorted(path for path in self._files if fnmatchcase(path, full))
        return [one for path in names for one in self.file(path, depth + 1)]

    def _is_on(self, kind: str, rest: str) -> bool:
        name = rest.removeprefix("!")
        if kind == "ifmodule":
            short = name.removeprefix("mod_").removesuffix(".c").removesuffix("_module")
            # Modules that are built in are not loaded; of a file alone none is known.
            is_on = short in self.modules or not self.modules or short in {"core", "so", "http"}
        elif kind == "ifdefine":
            is_on = name in self._defined
        else:
            return True
        return is_on != rest.startswith("!")

    def _expand(self, text: str) -> str:
        return re.sub(r"\$\{(\w+)\}", lambda found: self._defined.get(found[1], found[0]), text)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Give the lines that say something, with continued ones in one."""
    start, collected = 0, ""
    for number, raw in enumerate(text.splitlines(), 1):
        if not collected:
            start = number
            if raw.lstrip().startswith("#"):
                continue
        if raw.endswith("\\"):
            collected += raw[:-1]
            continue
        line = (collected + raw).strip()
        collected = ""
        if line:
            yield start, line


def _words(text: str) -> list[str]:
    words = []
    for word in _WORD.findall(text):
        if word[0] in "\"'" and word[-1] == word[0] and len(word) > 1:
            words.append(re.sub(r"\\([\"'\\])", r"\1", word[1:-1]))
        else:
            words.append(word)
    return words
