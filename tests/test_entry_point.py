"""Where ``run_all`` may be called: elsewhere it is refused with one sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateman import ConfigError, Worker
from gateman.entry_point import check_call
from tests.support.deadlines import TIMEOUT

DECLARED = "from gateman import Worker\nworker = Worker('websocket://127.0.0.1:0')\n"
GUARD = "write `if __name__ == '__main__':` above it, so that only the program itself runs it."
PROCESS = (
    "Worker.run_all() was called in a process that multiprocessing has started, which runs the"
    f" program again: {GUARD}\n"
)


def run(folder: Path, script: str, *words: str) -> tuple[int, str]:
    """Run a program; give its exit code and what it wrote to standard error."""
    path = folder / "server.py"
    path.write_text(script)
    ended = subprocess.run(
        [sys.executable, path, *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    return ended.returncode, ended.stderr.replace(f"{path}:", "")


@pytest.mark.parametrize("words", [(), ("start",), ("check",)])
def test_in_an_event_loop(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Whatever is asked for; the line is named."""
    script = (
        f"{DECLARED}import asyncio\nasync def main():\n    Worker.run_all()\nasyncio.run(main())\n"
    )

    assert run(tmp_path, script, *words) == (
        78,
        "5: Worker.run_all() was called while an event loop runs: call it outside of async"
        " functions, as each process runs an event loop of its own; on this loop, `async with"
        " gateman.serve(worker):` serves.\n",
    )


def test_in_a_thread(tmp_path: Path) -> None:
    """The thread ends, without a traceback."""
    script = f"{DECLARED}import threading\nthreading.Thread(target=Worker.run_all).start()\n"

    assert run(tmp_path, script) == (
        0,
        "Worker.run_all() was called in a thread: call it in the main thread, which gets the"
        " signals.\n",
    )


def test_a_second_time(tmp_path: Path) -> None:
    """Also by another class: there is one service in a program."""
    script = (
        "from gateman import BusinessWorker, Worker\n"
        "Worker.runner = print\n"
        "Worker.run_all()\n"
        "BusinessWorker.run_all()\n"
    )

    assert run(tmp_path, script) == (
        78,
        "4: BusinessWorker.run_all() was called a second time; the first call ran all declared"
        " workers: call it once, at the end of the program.\n",
    )


@pytest.mark.parametrize("call", ["Worker.run_all()", "def main():\n    Worker.run_all()\nmain()"])
def test_in_a_script_that_is_imported(tmp_path: Path, call: str) -> None:
    """As a test does, which would wait for the end of the service."""
    (tmp_path / "chat.py").write_text(f"{DECLARED}{call}\n")

    code, errors = run(tmp_path, "from gateman import Worker\nimport chat\n")

    place, _, sentence = errors.partition(": ")
    assert code == 78
    assert place.startswith(str(tmp_path / "chat.py"))
    assert sentence == f"Worker.run_all() was called while 'chat' was imported: {GUARD}\n"


def test_pytest_finds_the_sentence(tmp_path: Path) -> None:
    """A test of a script that has no guard fails at once."""
    (tmp_path / "chat.py").write_text(f"{DECLARED}Worker.run_all()\n")
    (tmp_path / "test_chat.py").write_text("import chat\n")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_chat.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ended.returncode == 2
    assert "Worker.run_all() was called while 'chat' was imported" in ended.stdout


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_in_a_process_of_multiprocessing(tmp_path: Path, method: str) -> None:
    """A script without a guard runs again in each process that it spawns."""
    script = (
        "import multiprocessing\n"
        f"{DECLARED}"
        f"context = multiprocessing.get_context({method!r})\n"
        "if __name__ == '__main__':\n"
        "    child = context.Process(target=Worker.run_all)\n"
        "    child.start()\n"
        "    child.join()\n"
        "    raise SystemExit\n"
        "Worker.run_all()\n"
    )

    code, errors = run(tmp_path, script)

    # From Python 3.14 on, the server that forks runs the script already, and ends.
    is_server = method == "forkserver" and sys.version_info >= (3, 14)
    assert (code == 0) == (not is_server)
    # A forked child shows what its target raises as Python does.
    assert PROCESS in errors if is_server else errors.endswith(PROCESS)
    assert ("Traceback" in errors) == (method == "fork" or is_server)


def test_a_program_that_calls_a_function_of_a_module_is_fine(tmp_path: Path) -> None:
    """As a console script does: nothing is being imported then."""
    (tmp_path / "chat.py").write_text(f"{DECLARED}def main():\n    Worker.run_all()\n")
    script = "from gateman import Worker\nimport chat\nWorker.runner = print\nchat.main()\n"

    assert run(tmp_path, script) == (0, "")


def test_the_error_is_one_to_catch() -> None:
    """It is a ``ConfigError`` like any."""
    source = "check_call('Worker.run_all()')"
    code = compile(source, "chat.py", "exec")
    with pytest.raises(ConfigError, match="while 'chat' was imported"):
        exec(code, {"__name__": "chat", "check_call": check_call})  # noqa: S102 - as an import does
    assert Worker.run_all.__doc__ is not None


REMINDER = (
    "the worker 'worker' is declared, and nothing runs it: call Worker.run_all() at the end of the"
    " program.\n"
)
SERVED = """
import asyncio
from gateman import serve
async def main():
    async with serve(worker):
        pass
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("rest", "code", "said"),
    [
        ("", 0, REMINDER),
        ("Worker.run_all", 0, REMINDER),
        ("worker.nonsense = 1", 78, "'nonsense' is not an option of Worker"),
        ("1 / 0", 1, "ZeroDivisionError"),
        (SERVED, 0, ""),
        (SERVED.replace("async with serve(worker):", "serve(worker)\n    if worker:"), 0, REMINDER),
    ],
)
def test_a_program_that_forgets_it(tmp_path: Path, rest: str, code: int, said: str) -> None:
    """Without the reminder, it would end at once, without a word."""
    ended, error = run(tmp_path, DECLARED + rest, "start")

    assert ended == code
    assert said in error
    assert (REMINDER in error) == (said == REMINDER)


def test_a_program_that_ends_for_an_option_of_its_own(tmp_path: Path) -> None:
    script = f"{DECLARED}import argparse\nargparse.ArgumentParser().parse_args()\n"

    assert run(tmp_path, script, "--help") == (0, "")
