"""
Options from environment variables: ``GATEMAN_CHAT_COUNT=4`` for the worker ``chat``. PURE.

``GATEMAN_METRICS`` is an option of the service, and has no worker's name.

Only what one text can say has a variable: numbers, texts, yes or no, and ``none``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, get_args, get_type_hints

from msgspec import Struct

from ..errors import ConfigError
from ..options import Limits, Timeouts
from .schema import Configurable
from .service import ServiceOptions

_PREFIX = "GATEMAN_"

OWN_VARIABLES = frozenset(
    {
        "GATEMAN_BUS",
        "GATEMAN_HISTORY",
        "GATEMAN_HISTORY_MEMORY",
        "GATEMAN_LOG_FORMAT",
        "GATEMAN_LOG_QUIET",
        "GATEMAN_METRICS",
        "GATEMAN_PROCESS",
    }
)
"""Those that mean something else than an option of a worker."""

# Kubernetes sets these for a service that is called gateman, or gateman-chat.
_OF_KUBERNETES = re.compile(r"GATEMAN(_\w+)?_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP)\w*)?)")

_SECTIONS: dict[str, type[Any]] = {"limits": Limits, "timeouts": Timeouts}

_NUMBERS = {int: re.compile(r"[+-]?\d{1,20}"), float: re.compile(r"[+-]?\d{1,20}(\.\d{1,20})?")}
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Variable(Struct, frozen=True):
    """A variable that sets an option."""

    name: str
    path: tuple[str, ...]  # such as ``("limits", "max_connections")``
    kinds: tuple[Any, ...]  # what its text may mean, in the order in which that is tried

    @property
    def option(self) -> str:
        return ".".join(self.path)

    def read(self, text: str) -> Any:
        """Read a value; raises :class:`ConfigError` if the text is not a value of the option."""
        for kind in self.kinds:
            if kind is type(None):
                if text.lower() == "none":
                    return None
            elif kind is bool:
                if text.lower() in _WORDS:
                    return _WORDS[text.lower()]
            elif kind is str:
                return text
            elif _NUMBERS[kind].fullmatch(text):
                return kind(text)
        names = {bool: "true or false", int: "a whole number", float: "a number"}
        wanted = " or ".join(names.get(kind, "none") for kind in self.kinds)
        raise ConfigError(
            f"{self.name}={text!r} is not a value of {self.option}", f"write {wanted}"
        )


def variables_of(kind: type[Configurable], name: str) -> Iterator[Variable]:
    """Name the variables that set the options of a worker."""
    return _variables(kind, f"{_PREFIX}{_as_variable(name)}_")


def variables_of_service() -> Iterator[Variable]:
    """Name the variables that set the options of the service."""
    return _variables(ServiceOptions, _PREFIX)


def _variables(kind: type[Configurable], prefix: str) -> Iterator[Variable]:
    for option in kind.options.values():
        section = _SECTIONS.get(option.name)
        if section is not None:
            hints = get_type_hints(section)
            for field in fields(section):
                yield Variable(
                    f"{prefix}{option.name.upper()}_{field.name.upper()}",
                    (option.name, field.name),
                    _kinds(hints[field.name]),
                )
        elif option.name != "name" and (kinds := _kinds(option.type)):
            yield Variable(f"{prefix}{option.name.upper()}", (option.name,), kinds)


def apply(workers: Sequence[Any], environ: Mapping[str, str]) -> None:
    """Set the options that the environment names; it beats the script."""
    taken: dict[str, Any] = {}
    for worker in workers:
        _check_name(worker.name)
        for variable in variables_of(type(worker), worker.name):
            if variable.name not in environ:
                continue
            if variable.name in taken:
                raise ConfigError(
                    f"{variable.name} is an option of {taken[variable.name].name!r} and of"
                    f" {worker.name!r}",
                    "give the workers names that differ in letters or digits",
                )
            taken[variable.name] = worker
            _set(worker, variable, environ[variable.name])


def apply_to_service(service: ServiceOptions, environ: Mapping[str, str]) -> None:
    """Set the options of the service that the environment names; it beats the script."""
    for variable in variables_of_service():
        if variable.name in environ:
            _set(service, variable, environ[variable.name])


def unknown(workers: Sequence[Any], environ: Mapping[str, str]) -> list[str]:
    """Write a sentence for each variable that looks like one of ours, and is not."""
    known = {
        variable.name for worker in workers for variable in variables_of(type(worker), worker.name)
    }
    found = sorted(
        name
        for name in environ
        if name.startswith(_PREFIX)
        and name not in known | OWN_VARIABLES
        and not _OF_KUBERNETES.fullmatch(name)
    )
    prefixes = [f"{_PREFIX}{_as_variable(worker.name)}_" for worker in workers]
    known |= OWN_VARIABLES
    return [
        f"{name} is not a variable of this service{_hint(name, known, prefixes)}" for name in found
    ]


def _hint(name: str, known: set[str], prefixes: Sequence[str]) -> str:
    # Imported here: it costs 5 ms, and only a mistake needs it.
    from difflib import get_close_matches

    # What is equal anyway makes nothing similar.
    prefix = max((one for one in prefixes if name.startswith(one)), key=len, default=_PREFIX)
    rests = [one.removeprefix(prefix) for one in known if one.startswith(prefix)]
    near = get_close_matches(name.removeprefix(prefix), rests, n=1)
    return f": did you mean {prefix}{near[0]}?" if near else ", and it is ignored"


def _set(worker: Any, variable: Variable, text: str) -> None:
    value = variable.read(text.strip())
    try:
        if len(variable.path) == 1:
            setattr(worker, variable.path[0], value)
        else:
            section, name = variable.path
            setattr(worker, section, replace(getattr(worker, section), **{name: value}))
    except ConfigError as error:
        raise ConfigError(f"{variable.name}: {error.problem}", error.remedy) from None
    worker.from_environment[variable.option] = variable.name


def _check_name(name: str) -> None:
    prefix = f"{_PREFIX}{_as_variable(name)}_"
    other = next((one for one in sorted(OWN_VARIABLES) if one.startswith(prefix)), None)
    if other is not None:
        raise ConfigError(
            f"a worker is called {name!r}, and {other} would be one of its options",
            "give it another name",
        )


def _as_variable(name: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")


def _kinds(annotation: Any) -> tuple[Any, ...]:
    found = {annotation, *get_args(annotation)}
    if not found & {bool, int, float, str}:
        return ()
    return tuple(kind for kind in (type(None), bool, int, float, str) if kind in found)
