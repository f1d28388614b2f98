"""
Detects that two services share one bus, which is rarely intended. Pure.

Each process announces what its script declares: the script's name, and for each worker its kind,
its name and its functions. All processes of one service announce the same, on all machines, except
while a new version replaces the old one. Other announcements mean two services, or parts of one:
gateways and business workers may be in scripts of their own.
"""

from collections.abc import Sequence

# Different scripts; each is reported once.
_MAX_TOLD = 64

Outline = tuple[str, ...]
"""The script's name, and a line for each of its workers, which begins with its kind."""


class Services:
    """The services that this process knows of on the bus."""

    __slots__ = ("_known", "_own")

    def __init__(self, own: Outline) -> None:
        self._own = own
        self._known: set[Outline] = {own}

    def detect_other(self, other: Outline) -> bool:
        """Whether this is the first announcement of a service that is probably a different one."""
        if not self._own or not other or other in self._known or len(self._known) > _MAX_TOLD:
            return False
        if _is_other_version(self._own, other):
            return False
        self._known.add(other)
        return not _kinds(self._own).isdisjoint(_kinds(other))


def label(service: Outline) -> str:
    """Format a service for a log line."""
    return f"{service[0]} ({'; '.join(service[1:])})"


def _kinds(service: Sequence[str]) -> set[str]:
    return {line.partition(" ")[0] for line in service[1:]}


def _is_other_version(one: Outline, other: Outline) -> bool:
    """Whether both have the script's name, and a worker with a function, or with none in one."""
    functions, others = _functions(one), _functions(other)
    return one[0] == other[0] and any(
        not functions[worker] or not others[worker] or functions[worker] & others[worker]
        for worker in functions.keys() & others.keys()
    )


def _functions(service: Outline) -> dict[tuple[str, ...], set[str]]:
    """Return the functions of each worker, by its kind and name."""
    workers = [line.split(" ") for line in service[1:]]
    return {tuple(words[:2]): set(words[2:]) for words in workers}
