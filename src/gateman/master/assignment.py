"""
What a new process is told by its master: one environment variable.

It is taken out of the environment before any of the user's code runs, so that programs which that
starts are not taken for processes of this master.
"""

import json
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass
from typing import Self

_VARIABLE = "GATEMAN_PROCESS"


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """One process's place."""

    worker: int
    worker_count: int
    number: int
    listen: str
    channel: int
    sockets: list[list[int]]
    path: str
    module: str
    argv: list[str]
    bus: str = ""
    log: int = -1
    liveness_fd: int = -1

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> Self:
        """
        Take what the master has put into the environment.

        Raises:
            KeyError: No master started this process.
        """
        return cls(**json.loads(environment.pop(_VARIABLE)))

    def put(self, environment: MutableMapping[str, str]) -> None:
        """Put it into the environment of a process that is to be started."""
        environment[_VARIABLE] = json.dumps(asdict(self), separators=(",", ":"))
