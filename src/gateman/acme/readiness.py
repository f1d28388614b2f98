"""
Whether every process that serves can answer a challenge, before the authority is told to look.

The processes of one machine read the storage when the authority connects, so they can answer as
soon as the file is there. Nodes on other machines are asked over NATS which files they read: by a
digest, for neither names nor keys have to travel.
"""

import asyncio
import hashlib
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bus import open_bus
from ..cluster.envelope import Query
from ..cluster.hub import Hub
from ..errors import GatemanError
from ..findings import Finding
from ..findings.acme import ACME_PROCESSES, ACME_STORAGE_SEPARATE
from .options import AcmeOptions
from .storage import Storage

# nfs(5): a client may keep what a folder held for acdirmax, which is 60 s by default.
_PATIENCE = 60.0  # seconds
_INTERVAL = 1.0  # seconds

_MAX_TEXT = 200  # characters of another node's answer


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerFile:
    """A file that every process that serves must read before the authority looks."""

    kind: str
    name: str
    digest: str  # sha256, in hex


def question(options: AcmeOptions, files: Iterable[AnswerFile]) -> str:
    """Return what nodes are asked: which certificate, and what they should read."""
    lines = sorted(f"{one.kind}/{one.name} {one.digest}" for one in files)
    return f"{_hash(options.id)[:32]} {_hash(*lines)}"


def answer(certificates: Iterable[AcmeOptions], text: str) -> str | None:
    """
    Return a node's answer.

    It is empty if the node reads the same files, and else says where it has looked; ``None`` from
    a node that does not serve the certificate.
    """
    for options in certificates:
        if text.startswith(f"{_hash(options.id)[:32]} "):
            storage = Storage(Path(options.storage))
            where = f"{socket.gethostname()} ({storage.folder})"
            try:
                files = [
                    AnswerFile(kind=kind, name=name, digest=hashlib.sha256(data).hexdigest())
                    for kind, name, data in storage.read_challenges()
                ]
            except OSError as error:
                return f"{where}: {error.strerror}"
            return "" if question(options, files) == text else where
    return None


def why_not_ready(
    bus: str | Mapping[str, Any] | None,
    options: AcmeOptions,
    files: Sequence[AnswerFile],
    *,
    patience: float = _PATIENCE,
) -> Finding | None:
    """Ask all nodes until they read the files; return what is wrong after ``patience`` seconds."""
    more = dict(bus) if isinstance(bus, Mapping) else {"url": bus}
    url = more.pop("url")
    # Other buses connect processes of one machine.
    if not isinstance(url, str) or not url.startswith(("nats://", "tls://")):
        return None
    try:
        unable, missing = asyncio.run(_ask(url, more, question(options, files), patience))
    except GatemanError as error:
        reason = f"{error}".removesuffix(".")
        return ACME_PROCESSES.found(name=options.domains[0], reason=reason)
    if unable:
        return ACME_STORAGE_SEPARATE.found(nodes=", ".join(unable))
    if missing:
        reason = f"no answer from {', '.join(missing)}"
        return ACME_PROCESSES.found(name=options.domains[0], reason=reason)
    return None


async def _ask(
    url: str, more: Mapping[str, Any], text: str, patience: float
) -> tuple[list[str], list[str]]:
    """Return what the nodes say that cannot read the files, and the nodes that do not answer."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    hub = Hub()
    await hub.start(open_bus(url, **more), has_clients=False, needs_bus=True)
    try:
        while True:
            values, missing = await hub.local_node.query_client.ask_all(Query.CHALLENGES, text)
            unable = sorted({_clipped(value) for value in values if value})
            if not (unable or missing) or loop.time() >= deadline:
                return unable, sorted(missing)
            await asyncio.sleep(_INTERVAL)
    finally:
        await hub.stop()


def _clipped(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:_MAX_TEXT]


def _hash(*lines: str) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
