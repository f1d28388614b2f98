"""How a process begins: the same program again, whatever way it was started."""

import signal
import sys
from pathlib import Path

import pytest

from tests.support.master import ask, echo, files_beside, master


def test_a_module_in_a_package_is_run_again(tmp_path: Path) -> None:
    """``python -m package.module`` gives its processes its package too."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "words.py").write_text('NAME = "from the package"\n')
    (package / "module.py").write_text(
        echo().replace("VERSION = 1", "from .words import NAME as VERSION")
    )
    command = [sys.executable, "-m", "package.module"]
    with master("", tmp_path, command=command) as service:
        assert ask(service.port)[1:] == ["from", "the", "package", "hello"]


def test_options_of_the_interpreter_and_arguments_are_handed_on(tmp_path: Path) -> None:
    """A process gets the interpreter options of its master."""
    script = echo().replace(
        "VERSION = 1", "import sys; VERSION = (sys.argv[1:], sys.flags.optimize)"
    )
    command = [sys.executable, "-O", "server.py", "--room", "two"]
    with master(script, tmp_path, command=command) as service:
        assert ask(service.port)[1:-1] == ["(['--room',", "'two'],", "1)"]


def test_a_process_that_cannot_load_the_script(tmp_path: Path) -> None:
    """What only processes run into ends the master too, with their traceback and exit code 4."""
    script = "import sys\nif 'child_main.py' in sys.orig_argv[1]:\n    1 / 0\n" + echo()
    with master(script, tmp_path, listens=False) as service:
        assert service.wait() == 4
        assert "ZeroDivisionError" in service.stderr
        assert 'child_main.py", line' not in service.stderr


def test_a_wrong_configuration_that_is_seen_late(tmp_path: Path) -> None:
    """What ``on_worker_start`` gets wrong is one sentence too, with its line, and exit code 78."""
    script = echo().replace(
        "Worker.run_all",
        "@worker.on_worker_start\ndef begin(worker):\n    worker.max_crashes = 0\n\nWorker.run_all",
    )
    number = script.splitlines().index("    worker.max_crashes = 0") + 1
    with master(script, tmp_path, listens=False) as service:
        assert service.wait() == 78
        assert f"{service.path}:{number}: max_crashes=0 is not a whole positive number" in (
            service.stderr
        )
        assert "Traceback" not in service.stderr


def test_a_mistake_after_run_all_is_one_sentence_too(tmp_path: Path) -> None:
    """The script continues when its service has ended; an error then names its line."""
    script = echo() + "worker.count = 0\n"
    with master(script, tmp_path) as service:
        service.signal(signal.SIGTERM)

        assert service.wait() == 78
        last = service.stderr.splitlines()[-1]
        assert last.startswith(
            f"{service.path}:{len(script.splitlines())}: count=0 is not a number"
        )
        assert "Traceback" not in service.stderr


def test_a_service_that_cannot_start(tmp_path: Path) -> None:
    """What ``on_worker_start`` raises ends the first start, with exit code 1."""
    script = echo().replace(
        "Worker.run_all", "worker.on_worker_start = lambda worker: 1 / 0\n\nWorker.run_all"
    )
    with master(script, tmp_path, listens=False) as service:
        assert service.wait() == 1
        assert "ZeroDivisionError" in service.stderr
        assert "gateman/" not in service.stderr
    assert files_beside(service.path) == []


WAITS = """
import asyncio, time
from gateman import Worker

worker = Worker("websocket://127.0.0.1:0", name="chat", timeouts={{"start": 4.0}})

@worker.on_worker_start
{start}

Worker.run_all()
"""


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (
            "async def wait(worker):\n    await asyncio.sleep(60)",
            "it waits for on_worker_start, at",
        ),
        ("def wait(worker):\n    time.sleep(60)", "its stack, logged above, shows why"),
    ],
)
def test_a_start_without_an_end(tmp_path: Path, start: str, reason: str) -> None:
    """Its process is killed, with the place where it waits or is stuck in the log."""
    with master(WAITS.format(start=start), tmp_path, listens=False) as service:
        line = service.wait_for(f"did not serve within 4.0 s: {reason}")
        slot_state = service.path.read_text().splitlines().index(start.splitlines()[-1]) + 1

        assert f"{service.path}:{slot_state}" in line or f'"{service.path}", line {slot_state}' in (
            service.stderr
        )
