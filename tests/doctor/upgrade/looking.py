"""Looks at a handshake, as the doctor does."""

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateman.doctor.target import Route, Settings, Target
from gateman.doctor.upgrade.judgement import judge
from gateman.doctor.upgrade.observations import UpgradeSeen
from gateman.doctor.upgrade.probes import look
from gateman.findings import Finding


@dataclass(frozen=True, slots=True)
class Looked:
    seen: UpgradeSeen
    findings: list[Finding]

    @property
    def codes(self) -> list[str]:
        return [one.code for one in self.findings]


def target_of(url: str) -> tuple[Target, Route]:
    parts = urlsplit(url)
    is_tls = parts.scheme == "wss"
    host = parts.hostname or ""
    port = parts.port or (443 if is_tls else 80)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    target = Target(url=url, is_tls=is_tls, host=host, port=port, path=path)
    address = "127.0.0.1" if host == "localhost" else host
    return target, Route(address=address, port=port, is_tls=is_tls, server_name=None)


async def looked_at(url: str, settings: Settings | None = None) -> Looked:
    target, route = target_of(url)
    settings = settings or Settings()
    seen = await look(target, settings, [route], lambda _: None)
    return Looked(seen, judge(target, settings, seen))


def looked(url: str, settings: Settings | None = None) -> Looked:
    return asyncio.run(looked_at(url, settings))
