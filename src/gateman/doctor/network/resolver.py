"""Asks the system's resolver for the addresses of a name, as clients do."""

import socket
import time
from pathlib import Path

from ..background import in_background
from .observations import Family, LookupSeen, Resolution

_FAMILIES = {"A": socket.AF_INET, "AAAA": socket.AF_INET6}

_HOSTS_FILE = Path("/etc/hosts")

_NO_ADDRESS = {socket.EAI_NODATA, getattr(socket, "EAI_ADDRFAMILY", socket.EAI_NODATA)}


async def look_up(host: str, family: Family, *, timeout: float) -> LookupSeen:  # noqa: ASYNC109
    """Ask for one kind of address."""
    try:
        return await in_background(lambda: _ask(host, family), timeout)
    except TimeoutError:
        return LookupSeen(
            family=family,
            resolution=Resolution.TIMED_OUT,
            evidence=f"no answer in {timeout:.1f} s",
            duration=timeout,
        )


def _ask(host: str, family: Family) -> LookupSeen:
    begun_at = time.monotonic()
    resolution, evidence = Resolution.FOUND, ""
    addresses: tuple[str, ...] = ()
    try:
        found = socket.getaddrinfo(host, None, family=_FAMILIES[family], type=socket.SOCK_STREAM)
        addresses = tuple(dict.fromkeys(str(one[4][0]) for one in found))
        if addresses == ("127.0.0.1",) and not _has_ipv4(host):
            resolution, addresses = Resolution.NO_ADDRESS, ()
    except socket.gaierror as error:
        evidence = error.strerror or str(error)
        if error.errno == socket.EAI_NONAME:
            resolution = Resolution.NO_SUCH_NAME
        elif error.errno in _NO_ADDRESS:
            resolution = Resolution.NO_ADDRESS
        else:
            resolution = Resolution.FAILED
    except (OSError, UnicodeError) as error:
        resolution, evidence = Resolution.FAILED, str(error)
    return LookupSeen(
        family=family,
        resolution=resolution,
        addresses=addresses,
        is_local=resolution is Resolution.FOUND and _is_in_hosts_file(host),
        evidence=evidence,
        duration=time.monotonic() - begun_at,
    )


def _has_ipv4(host: str) -> bool:
    # glibc gives 127.0.0.1 for a name that the hosts file has for ::1, to who asks for IPv4 alone.
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return any(family is socket.AF_INET for family, *_ in found)


def _is_in_hosts_file(host: str) -> bool:
    try:
        text = _HOSTS_FILE.read_text(errors="replace")
    except OSError:
        return False
    lines = (line.partition("#")[0].lower().split() for line in text.splitlines())
    return any(host in line[1:] for line in lines)
