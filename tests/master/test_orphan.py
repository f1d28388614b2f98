"""What a process has when its master was killed: where its log goes, and what it waits for."""

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gateman.master.events import Policy
from gateman.master.orphan import Orphan, max_shutdown_time
from tests.support.deadlines import TIMEOUT
from tests.support.loop import eventually, on_loop, until_idle


def test_those_that_end_first_have_so_long() -> None:
    """To drain, to stop and a little more; nothing where there are none."""
    first = Policy(name="gateway", count=1, drain=3, shutdown=4)
    last = Policy(name="business", count=1, drain=30, shutdown=40, ends_last=True)

    assert max_shutdown_time([first, last]) == 9
    assert max_shutdown_time([last]) == max_shutdown_time([]) == 0


@on_loop
async def test_it_waits_until_all_that_end_first_have() -> None:
    """Each of them has the other end of a pair of sockets, and closes it at its end."""
    first, last = socket.socketpair()
    other = first.dup()
    ended: list[str] = []
    orphan = Orphan(-1, last.detach())
    orphan.wait(lambda: ended.append("others"), 10)
    first.close()
    await until_idle()
    assert ended == []
    other.close()
    await eventually(lambda: bool(ended))
    await until_idle()
    orphan.close()

    assert ended == ["others"]


@pytest.mark.parametrize("has_liveness_fd", [True, False])
def test_it_does_not_wait_for_ever(*, has_liveness_fd: bool) -> None:
    """The other end of the socket may belong to any process."""
    first, last = socket.socketpair()

    async def wait() -> None:
        ended = asyncio.Event()
        orphan = Orphan(-1, last.detach() if has_liveness_fd else -1)
        orphan.wait(ended.set, 0.01)
        async with asyncio.timeout(TIMEOUT):
            await ended.wait()
        orphan.close()

    with closing(first), closing(last):
        asyncio.run(wait())


_SPEAK = """
import sys
from gateman.master.orphan import Orphan

orphan = Orphan(int(sys.argv[1]), -1)
if sys.argv[2] == "stranger":
    orphan.drop_root_log()
orphan.redirect_output()
print("printed", flush=True)
print("logged", file=sys.stderr, flush=True)
"""


@pytest.mark.parametrize(
    ("who", "has_own_output", "said"),
    [
        ("owner", False, "printed\nlogged\n"),
        ("owner", True, "logged\n"),
        ("stranger", False, ""),
    ],
)
def test_it_writes_to_the_log(tmp_path: Path, who: str, said: str, *, has_own_output: bool) -> None:
    """What it prints, too, if that went to the master; not to a file of another user's."""
    path = tmp_path / "log"
    read, write = os.pipe()
    os.close(read)
    with path.open("a") as log:
        command = [sys.executable, "-c", _SPEAK, str(log.fileno()), who]
        done = subprocess.run(
            command,
            pass_fds=(log.fileno(),),
            stdout=subprocess.PIPE if has_own_output else write,
            stderr=write,
            check=False,
        )
    os.close(write)

    assert done.returncode == 0
    assert path.read_text() == said
    assert done.stdout == (b"printed\n" if has_own_output else None)


def test_a_log_that_is_not_a_file_stays_open() -> None:
    """There is nothing in it that could be emptied."""
    read, write = os.pipe()
    orphan = Orphan(write, -1)
    orphan.drop_root_log()
    assert os.fstat(write)
    os.close(read)
    os.close(write)
