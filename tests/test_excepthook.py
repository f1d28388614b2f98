"""How programs end that make mistakes: real ones, in processes of their own."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateman import excepthook
from gateman.errors import ConfigError
from tests.support.deadlines import TIMEOUT

WRONG = "limits.max_head_size=0 is not a positive number: give it in bytes."


def run(*arguments: str | Path, stdin: str = "", closed: str = "") -> tuple[int, str]:
    """Run Python; gives its exit code and what it wrote to standard error."""
    command = [sys.executable, *map(str, arguments)]
    if closed:
        command = ["sh", "-c", f'exec "$@" {closed}', "sh", *command]
    ended = subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    return ended.returncode, ended.stderr


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A program to be written, in a folder whose name begins like the package's."""
    folder = tmp_path / "gateman-chat"
    folder.mkdir()
    return folder / "server.py"


def test_a_mistake_is_one_sentence_and_exit_code_78(script: Path) -> None:
    """The line of the program is named, also when the mistake is found further below."""
    script.write_text(
        "from gateman import Limits\n"
        "def limits():\n"
        "    return Limits(\n"
        "        max_head_size=0,\n"
        "    )\n"
        "limits()\n"
    )

    assert run(script) == (78, f"{script}:3: {WRONG}\n")


def test_a_module_of_the_program_is_named(script: Path) -> None:
    """The innermost file that the user wrote is where the mistake is."""
    settings = script.with_name("gateman_settings.py")
    settings.write_text("from gateman import Limits\n\nLimits.of({'max_head_size': 0})\n")
    script.write_text("from gateman import Worker\nimport gateman_settings\n")

    assert run(script) == (78, f"{settings}:3: {WRONG}\n")


def test_asyncio_is_not_where_the_mistake_is(script: Path) -> None:
    """What is found within the event loop was declared by the line that ran it."""
    script.write_text(
        "import asyncio\n"
        "from gateman import Limits\n"
        "async def limits():\n"
        "    asyncio.get_running_loop().call_soon(print)\n"
        "    Limits(max_head_size=0)\n"
        "asyncio.run(limits())\n"
    )

    assert run(script) == (78, f"{script}:5: {WRONG}\n")


def test_a_port_in_use_names_the_line_that_ran_it(script: Path) -> None:
    """From inside the running service, the innermost line of the user's is ``run_all``."""
    script.write_text(
        "import socket\n"
        "from gateman import Worker\n"
        "taken = socket.create_server(('127.0.0.1', 0))\n"
        "Worker(f'ws://127.0.0.1:{taken.getsockname()[1]}')\n"
        "Worker.run_all()\n"
    )
    code, text = run(script)

    assert code == 78
    assert text.splitlines()[-1].startswith(f"{script}:5: websocket://127.0.0.1:")
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("arguments", "stdin", "place"),
    [
        (["-c", "import gateman\ngateman.Limits(max_head_size=0)"], "", "<string>:2: "),
        (["-"], "import gateman\n\ngateman.Limits(max_head_size=0)", "<stdin>:3: "),
    ],
)
def test_programs_without_a_file(arguments: list[str], stdin: str, place: str) -> None:
    """They are named as Python names them."""
    assert run(*arguments, stdin=stdin) == (78, f"{place}{WRONG}\n")


def test_at_the_prompt_one_goes_on_typing() -> None:
    """At a prompt the error is shown, and the next prompt follows."""
    code, text = run("-i", "-q", "-", stdin="import gateman\ngateman.Limits(max_head_size=0)\n")

    assert code == 0
    # Python 3.13 numbers what is typed: <stdin>-1; 3.14 writes <stdin-1>.
    assert re.search(rf"<stdin[->0-9]+:1: {re.escape(WRONG)}\n", text)
    assert "Traceback" not in text


def test_without_standard_error_the_code_remains(script: Path) -> None:
    """A service manager still learns that it is of no use to start it again."""
    script.write_text("from gateman import Limits\nLimits(max_head_size=0)\n")

    assert run(script, closed="2>&-") == (78, "")


@pytest.mark.parametrize(
    ("statement", "code"),
    [("raise ValueError('x')", 1), ("1 / 0", 1), ("raise SystemExit(3)", 3)],
)
def test_other_exceptions_are_python_s(script: Path, statement: str, code: int) -> None:
    """Other errors look as if gateman had not been imported."""
    script.write_text(f"import gateman\n{statement}\n")
    with_gateman = run(script)
    script.write_text(f"import json\n{statement}\n")

    assert with_gateman == run(script)
    assert with_gateman[0] == code


def test_a_mistake_that_is_caught_is_an_exception_like_any(script: Path) -> None:
    """Only uncaught errors end the program."""
    script.write_text(
        "from gateman import ConfigError, Limits\n"
        "try:\n"
        "    Limits(max_head_size=0)\n"
        "except ConfigError as error:\n"
        "    raise SystemExit(0) from error\n"
    )

    assert run(script) == (0, "")


# Programs that are none of ours.


@pytest.mark.parametrize(
    "statement",
    [
        "import gateman",
        "from gateman import SyncHub",
        "from gateman import Connection, Hub, Timer, hub",
        "import views",
    ],
)
def test_a_program_that_declares_nothing_keeps_its_hook(script: Path, statement: str) -> None:
    """Whatever of gateman it imports, and whatever modules of its own declare."""
    script.with_name("views.py").write_text("from gateman import Worker, SyncHub\n")
    script.write_text(
        f"import sys\nsys.excepthook = hook = print\n{statement}\nassert sys.excepthook is hook"
    )

    assert run(script) == (0, "")


def test_the_previous_hook_gets_other_errors(script: Path) -> None:
    """A program's own, such as one that reports failures, is still called."""
    script.write_text(
        "import sys\n"
        "sys.excepthook = lambda kind, error, trace: sys.stderr.write(f'reported {error!r}\\n')\n"
        "from gateman import Worker\n"
        "1 / 0\n"
    )

    assert run(script) == (1, "reported ZeroDivisionError('division by zero')\n")


# In this process.


def test_the_sentence_without_a_place(capsys: pytest.CaptureFixture[str]) -> None:
    """An error that was never raised has no line."""
    with pytest.raises(SystemExit) as caught:
        excepthook.show(ConfigError, ConfigError("this is wrong"), None)

    assert caught.value.code == 78
    assert capsys.readouterr().err == "this is wrong.\n"


def test_others_are_handed_on(capsys: pytest.CaptureFixture[str]) -> None:
    """The previous hook stays."""
    excepthook.show(KeyError, KeyError("x"), None)

    assert capsys.readouterr().err == "KeyError: 'x'\n"


def test_ctrl_c_within_gateman_is_silent(script: Path) -> None:
    """Ctrl-C before the service runs shows no traceback; the shell sees SIGINT."""
    script.write_text(
        "import signal\n"
        "from gateman import Worker\n"
        "Worker.runner = lambda workers: signal.raise_signal(signal.SIGINT)\n"
        "Worker.run_all()\n"
    )

    assert run(script) == (-signal.SIGINT, "")


def test_ctrl_c_elsewhere_is_shown_as_ever(script: Path) -> None:
    """Ctrl-C in the user's own code shows a traceback."""
    script.write_text("import gateman, signal\nsignal.raise_signal(signal.SIGINT)\n")

    code, errors = run(script)

    assert code == -signal.SIGINT
    assert errors.endswith("KeyboardInterrupt\n")


def test_what_reads_the_command_line_is_not_where_the_mistake_is(script: Path) -> None:
    """A command of the program's own is named by its ``run_all``, not by a line of click's."""
    script.write_text(
        "from gateman import Worker\nWorker('websocket://127.0.0.1:0')\nWorker.run_all()\n"
    )
    code, errors = run(script, "start", "-d", "--log-file", script.parent / "none" / "chat.log")

    assert code == 78
    assert errors.startswith(f"{script}:3: the log file ")
