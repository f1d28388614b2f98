"""
Reads the syntax of nginx's configuration into directives. PURE.

Source:
    https://nginx.org/en/docs/beginners_guide.html#conf_structure.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from posixpath import dirname, isabs, join

from .directive import Directive
from .route import Files, UnreadableConfiguration

_DUMP_HEADER = re.compile(r"^# configuration file (.+):$", re.MULTILINE)
_MAX_DEPTH = 32
_MAX_DIRECTIVES = 200_000

_TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<comment>\#[^\n]*)|(?P<mark>[{};])"""
    r"""|"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'"""
    r"""|(?P<word>(?!["'])(?:\$\{[^}\s]*\}|\\.|[^\s{};\\])+)""",
    re.DOTALL,
)


def split_dump(text: str) -> Files:
    """Split what ``nginx -T`` prints into files."""
    parts = _DUMP_HEADER.split(text)
    files: dict[str, str] = {}
    for path, content in zip(parts[1::2], parts[2::2], strict=True):
        files.setdefault(path, content.removeprefix("\n"))
    if not files:
        raise UnreadableConfiguration("it is not what `nginx -T` prints")
    return files


def included(text: str) -> list[str]:
    """Name the patterns of files that a file includes."""
    return re.findall(r"""(?:^|[{;])\s*include\s+["']?([^\s"';]+)["']?\s*;""", text, re.MULTILINE)


def parse(files: Files) -> Directive:
    """Read the main file, with what it includes in place."""
    main = next(iter(files))
    return Directive("", (), tuple(_Parser(files, dirname(main)).file(main, 0)), main)


class _Parser:
    def __init__(self, files: Files, prefix: str) -> None:
        self._files = files
        self._prefix = prefix
        self._count = 0

    def file(self, path: str, depth: int) -> list[Directive]:
        if depth > _MAX_DEPTH:
            raise UnreadableConfiguration(f"{path} includes itself")
        tokens = _tokens(self._files[path].replace("\r\n", "\n"), path)
        found, is_closed = self._block(tokens, path, depth)
        if is_closed:
            raise UnreadableConfiguration(f"{path} has a '}}' too many")
        return found

    def _block(
        self, tokens: "Iterator[_Token]", path: str, depth: int
    ) -> tuple[list[Directive], bool]:
        found: list[Directive] = []
        words: list[_Token] = []
        for token in tokens:
            if not token.is_mark:
                words.append(token)
                continue
            if token.text == "}":
                return found, True
            if not words:
                if token.text == "{":
                    raise UnreadableConfiguration(f"{path}:{token.line}: a block without a name")
                continue
            self._count += 1
            if self._count > _MAX_DIRECTIVES or depth > _MAX_DEPTH:
                raise UnreadableConfiguration("it is too large")
            name, *args = (one.text for one in words)
            where = f"{path}:{words[0].line}"
            words = []
            if token.text == ";":
                if name == "include" and args:
                    found += self._include(args[0], depth)
                else:
                    found.append(Directive(name, tuple(args), (), where))
                continue
            if name.endswith("_by_lua_block"):
                _skip_block(tokens)
                found.append(Directive(name, (), (), where))
                continue
            children, is_closed = self._block(tokens, path, depth + 1)
            if not is_closed:
                raise UnreadableConfiguration(f"{where}: the block {name} does not end")
            found.append(Directive(name, tuple(args), tuple(children), where))
        if words:
            raise UnreadableConfiguration(f"{path}:{words[0].line}: {words[0].text} has no ';'")
        return found, False

    def _include(self, pattern: str, depth: int) -> list[Directive]:
        full = pattern if isabs(pattern) else join(self._prefix, pattern)
        names = sorted(path for path in self._files if fnmatchcase(path, full))
        return [one for path in names for one in self.file(path, depth + 1)]


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    is_mark: bool
    line: int


def _tokens(text: str, path: str) -> Iterator[_Token]:
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise UnreadableConfiguration(f"{path}:{line}: a quote does not end")
        kind = match.lastgroup
        if kind not in {"space", "comment"}:
            content = match[kind or 0]
            yield _Token(
                content if kind == "mark" else re.sub(r"\\([\"'\\ ])", r"\1", content),
                kind == "mark",
                line,
            )
        line += match[0].count("\n")
        at = match.end()


def _skip_block(tokens: Iterator[_Token]) -> None:
    depth = 1
    for token in tokens:
        depth += token.is_mark and {"{": 1, "}": -1}.get(token.text, 0)
        if not depth:
            return
