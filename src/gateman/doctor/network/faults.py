"""What is wrong with one address of several, to become a finding with those like it. PURE."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ...findings import Client, Declaration, Finding, Software
from ..target import Target, bracketed, default_port
from .chain_judgement import joined
from .observations import AddressSeen


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one address; those that differ in nothing else become one finding."""

    declaration: Declaration
    evidence: str
    fields: dict[str, Any] = field(default_factory=dict)
    software: Software | None = None
    fails_for: frozenset[Client] | None = None
    candidates: tuple[Declaration, ...] = ()


def merged(
    target: Target, faults: Iterable[tuple[AddressSeen, Iterable[Fault]]]
) -> Iterator[Finding]:
    """Make one finding of those that differ in nothing but the address."""
    groups: dict[tuple[object, ...], tuple[Fault, list[str]]] = {}
    for seen, of_address in faults:
        for fault in of_address:
            fields = tuple(fault.fields.items())
            key = (fault.declaration.code, fields, fault.software, fault.fails_for)
            groups.setdefault(key, (fault, []))[1].append(seen.address)
    for fault, addresses in groups.values():
        yield fault.declaration.found(
            software=fault.software,
            fails_for=fault.fails_for,
            evidence=fault.evidence,
            candidates=fault.candidates,
            addresses=joined(addresses),
            address=f"{bracketed(addresses[0])}:{target.port}",
            authority=_authority(target),
            host=target.host,
            port=target.port,
            **fault.fields,
        )


def _authority(target: Target) -> str:
    """Write host, port and path for a URL of the other scheme, where the default port differs."""
    port = "" if target.port == default_port(not target.is_tls) else f":{target.port}"
    return f"{bracketed(target.host)}{port}{target.bare_path}"
