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
    """
    One process's place.

    Attributes:
        worker: Which of the declared workers, from 0.
        worker_count: How many workers the master has.
        number: Which of its processes, from 0.
        listen: Where the master listens for it, as the worker's ``listen`` is written.
        channel: The descriptor of the channel to the master.
        sockets: The descriptors of the listening sockets, for each process of the worker.
        path: The script.
        module: The name by which it is run with ``-m``; empty for a file.
        argv: The program's arguments, without its name.
        bus: The socket of the router between the processes; empty if there is none.
        log: The descriptor that the master writes to; -1 if there is none.
        liveness_fd: The descriptor that tells who ends first; see :mod:`.orphan`.
    """

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
