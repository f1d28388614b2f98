"""
The master's parameters for a new process, in one environment variable.

The process removes the variable before the user's code runs: programs that this code starts do not
inherit it.
"""

import json
from collections.abc import MutableMapping
from typing import Self

import msgspec

_VARIABLE = "GATEMAN_PROCESS"


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    worker: int  # index of the declared worker, from 0
    worker_count: int
    number: int  # of the process, from 0
    listen: str
    channel: int  # descriptor
    sockets: list[list[int]]  # descriptors, for each process of the worker
    path: str
    module: str
    argv: list[str]
    http: list[int] = []  # descriptors, of listeners for HTTP-01
    acme_places: list[str] = []  # see :mod:`.plan`
    bus: str = ""  # path of the router's socket
    log: int = -1  # descriptor
    liveness_fd: int = -1
    metrics: str = ""  # the address at which the master shows metrics; empty for none

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> Self:
        """Remove it from the environment; raise KeyError if no master started this process."""
        return cls(**json.loads(environment.pop(_VARIABLE)))

    def put(self, environment: MutableMapping[str, str]) -> None:
        # Not by msgspec: a path need not be UTF-8.
        environment[_VARIABLE] = json.dumps(msgspec.structs.asdict(self), separators=(",", ":"))
