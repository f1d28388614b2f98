"""Files of a running master are restored."""

import os
import signal
from contextlib import ExitStack
from pathlib import Path

from tests.support.master import (
    GATEMAN,
    master,
    obedient,
    open_to,
    pid_of,
    run,
    slots,
    until,
)


def test_removed_files_are_restored(tmp_path: Path) -> None:
    """
    As `rsync --delete` does it: commands find the master, and no other one can start.

    The bus is there for programs, for those who were on it and for a replaced process.
    """
    with master(obedient("count=2, drain_window=0.1"), tmp_path) as service:
        for path in tmp_path.iterdir():
            if path != service.path:
                path.unlink()
        # Whether before or after the master restores them.
        assert service.command("start").returncode == 5
        service.wait_for("were removed: restored in")
        assert service.command("start").returncode == 5
        os.kill(service.pids()[0], signal.SIGKILL)
        until(lambda: [slot[:2] for slot in slots(service)] == [("running", 1), ("running", 0)])

        pids: set[int] = set()
        with ExitStack() as stack:
            clients = []
            while len(pids) < 2:
                clients.append(stack.enter_context(open_to(service)))
                pids.add(pid_of(clients[-1]))
            push = [*GATEMAN, "push", "--all", "hi", "--service", str(service.path)]
            assert run(push, tmp_path).returncode == 0
            assert {client.recv() for client in clients} == {"hi"}
        assert service.command("stop").returncode == 0
        assert service.wait() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["server.py"]
