"""The addresses of a name, as clients see them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ASK = """
import asyncio
from gateman.doctor.network.resolver import look_up

async def main():
    for family in ("A", "AAAA"):
        seen = await look_up("six.example.com", family, timeout=5)
        print(family, seen.resolution.value, *seen.addresses)

asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may have a hosts file of its own")
def test_a_name_of_the_hosts_file_with_ipv6_only(tmp_path: Path) -> None:
    """Glibc gives 127.0.0.1 for it to programs that ask for IPv4 alone; no client does."""
    hosts = tmp_path / "hosts"
    hosts.write_text("::1 six.example.com\n")
    mount = f"mount --bind {hosts} /etc/hosts && exec {sys.executable} -c '{ASK}'"
    seen = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount],
        capture_output=True,
        text=True,
        check=False,
    )

    assert seen.stdout.splitlines() == ["A no address of this kind", "AAAA found ::1"], seen.stderr
