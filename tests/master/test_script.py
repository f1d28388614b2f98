"""A script: found by name, run as ``__main__`` would be, and what is said when it fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateman.errors import LoadFailed
from gateman.master.script import Script, interpreter_options, load_failure, user_traceback

# Finds the script that the first argument names, runs it with the others, and prints what it saw.
RUNNER = """
import sys
from gateman import Worker
from gateman.errors import GatemanError
from gateman.master.script import Script

def serve(workers):
    main = sys.modules["__main__"]
    print([worker.listen for worker in workers], sys.argv[1:], main.__name__)
    if "fail" in sys.argv:
        raise RuntimeError("the runner's own")

try:
    Script.find(sys.argv[1]).run(sys.argv[2:], serve)
except GatemanError as error:
    print(type(error).__name__, error)
"""

PROGRAM = """
from gateman.master.script import Script
import gateman
script = Script.of_program()
print(script.path, script.module, script)
"""


def python(folder: Path, *words: str) -> tuple[str, str]:
    """Run an interpreter in a folder; gives what it wrote to standard output and error."""
    ran = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    return ran.stdout, ran.stderr


def ran(folder: Path, script: str, *words: str) -> str:
    """Run a script by the runner; gives what was printed."""
    (folder / "server.py").write_text(script)
    (folder / "runner.txt").write_text(RUNNER)
    return python(folder, "runner.txt", "server.py", *words)[0]


# Finding it.


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["server.py", "./server.py", "server", "sub/../server.py"])
def test_a_file_is_found(folder: Path, name: str) -> None:
    """By any path; a name without an ending is a file, if that exists, and not a module."""
    (folder / "sub").mkdir()
    path = folder / ("server" if name == "server" else "server.py")
    path.write_text("")
    script = Script.find(name)

    assert script == Script(path)
    assert str(script) == path.name


def test_a_link_stays_a_link(folder: Path) -> None:
    """A new release behind it is loaded by a reload."""
    (folder / "release-1.py").write_text("")
    (folder / "server.py").symlink_to("release-1.py")

    assert Script.find("server.py").path == folder / "server.py"


def test_a_module_is_found(folder: Path) -> None:
    """By its dotted name, from the working directory; a package is its ``__main__``."""
    package = folder / "a_package_to_find"
    package.mkdir()
    for name in ("__init__", "__main__", "module"):
        (package / f"{name}.py").write_text("")
    before = list(sys.path)
    module = Script.find("a_package_to_find.module")
    main = Script.find("a_package_to_find")

    assert module == Script(package / "module.py", "a_package_to_find.module")
    assert main == Script(package / "__main__.py", "a_package_to_find.__main__")
    assert str(module) == "a_package_to_find.module"
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing.py", "there is no file missing.py."),
        ("missing/server", "there is no file missing/server."),
        ("missing_module", "there is no file and no module missing_module."),
        ("missing_package.module", "there is no file and no module missing_package.module."),
        (".relative", "there is no file and no module .relative."),
        ("", "the name of the script is empty."),
        ("folder.py", "folder.py is a folder: name the script in it, such as folder.py/server.py."),
        (
            "empty_package",
            "empty_package is a folder: name the script in it, such as empty_package/server.py.",
        ),
        (".", ". is a folder: name the script in it, such as server.py."),
        ("sys", "there is no file and no module sys."),
    ],
)
def test_what_does_not_exist(folder: Path, name: str, sentence: str) -> None:
    """One sentence, and whatever was put on the search path is gone from it."""
    (folder / "folder.py").mkdir()
    (folder / "empty_package").mkdir()
    before = list(sys.path)
    with pytest.raises(LoadFailed) as caught:
        Script.find(name)

    assert str(caught.value) == sentence
    assert sys.path == before


def test_the_running_program_is_found(tmp_path: Path) -> None:
    """As a file, and as a module with its name."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "module.py").write_text(PROGRAM)
    path = package / "module.py"

    assert python(tmp_path, "package/module.py")[0] == f"{path}  package/module.py\n"
    assert python(tmp_path, "-m", "package.module")[0] == f"{path} package.module package.module\n"


def test_a_program_without_a_file_is_refused(tmp_path: Path) -> None:
    """It could not be run a second time."""
    _, errors = python(tmp_path, "-c", PROGRAM)

    assert "Worker.run_all() was called in a program that is not a file" in errors


# Running it.


def test_it_runs_as_a_program(tmp_path: Path) -> None:
    """As ``__main__``, with its arguments, and with what lies beside it."""
    (tmp_path / "beside.py").write_text("ADDRESS = 'ws://127.0.0.1:7001'")
    script = (
        "import sys\nfrom gateman import Worker\nfrom beside import ADDRESS\n"
        "assert sys.argv == [__file__, '--room', 'two'], sys.argv\n"
        "if __name__ == '__main__':\n    Worker(ADDRESS)\n    Worker.run_all()\n"
    )

    assert ran(tmp_path, script, "--room", "two") == (
        "['ws://127.0.0.1:7001'] ['--room', 'two'] __main__\n"
    )


def test_without_run_all_it_is_run_at_the_end(tmp_path: Path) -> None:
    """Declaring is enough; what is declared after ``run_all`` is not."""
    declares = "from gateman import Worker\nWorker('ws://127.0.0.1:7001')\n"

    assert ran(tmp_path, declares) == "['ws://127.0.0.1:7001'] [] __main__\n"
    assert ran(tmp_path, declares + "Worker.run_all()\n" + declares) == (
        "['ws://127.0.0.1:7001'] [] __main__\n"
    )


def test_a_script_may_change_its_arguments(tmp_path: Path) -> None:
    """They are its own, whatever a parser of options leaves of them."""
    script = (
        "import sys\nfrom gateman import Worker\nWorker('ws://127.0.0.1:7001')\n"
        "del sys.argv[1:]\nsys.argv.append('mine')\nWorker.run_all()\n"
    )

    assert ran(tmp_path, script, "--room", "two") == "['ws://127.0.0.1:7001'] ['mine'] __main__\n"


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("def (:\n", "LoadFailed {folder}/server.py:1: invalid syntax."),
        ("x = 1\n  y = 2\n", "LoadFailed {folder}/server.py:2: unexpected indent."),
        ("1 / 0\n", "LoadFailed server.py could not be loaded: ZeroDivisionError."),
        ("import nothing\n", "LoadFailed server.py could not be loaded: ModuleNotFoundError."),
        (
            "from gateman import Worker\nWorker('http://x:1')\n",
            "ConfigError 'http://x:1' is not the address of a WebSocket service: write websocket://x:1.",
        ),
    ],
)
def test_a_script_that_fails(tmp_path: Path, script: str, sentence: str) -> None:
    """One sentence for the shell, whosever mistake it is."""
    assert ran(tmp_path, script) == sentence.format(folder=tmp_path) + "\n"


def test_a_failure_after_run_all_is_not_a_load_failure(tmp_path: Path) -> None:
    """What the runner raises, or the script after it, comes out as it is."""
    (tmp_path / "runner.txt").write_text(RUNNER)
    (tmp_path / "server.py").write_text("from gateman import Worker\nWorker.run_all()\n")
    printed, errors = python(tmp_path, "runner.txt", "server.py", "fail")

    assert printed == "[] ['fail'] __main__\n"
    assert errors.splitlines()[-1] == "RuntimeError: the runner's own"


def test_exiting_is_the_scripts_right(tmp_path: Path) -> None:
    """``sys.exit`` ends the program with its code."""
    (tmp_path / "runner.txt").write_text(RUNNER)
    (tmp_path / "server.py").write_text("raise SystemExit(42)")
    ended = subprocess.run(
        [sys.executable, "runner.txt", "server.py"], cwd=tmp_path, capture_output=True, check=False
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (42, b"", b"")


def test_exiting_well_before_anything_was_declared_is_a_failure(tmp_path: Path) -> None:
    """A command must not report success, nor a process end in order, where nothing was run."""
    path = tmp_path / "server.py"
    for ending in ("import sys; sys.exit()", "raise SystemExit(0)"):
        path.write_text(ending)
        with pytest.raises(
            LoadFailed, match=r"server\.py ends before it calls Worker\.run_all\(\)\."
        ):
            Script(path).run([], lambda _workers: None)


# What is said when it fails.


def test_a_traceback_begins_with_their_code(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Frames of ours and of Python's above it are left out; those below it are not."""
    path = folder / "server.py"
    path.write_text("import json\njson.loads('nonsense')\n")
    script = Script(path)
    with pytest.raises(LoadFailed) as caught:
        exec(compile("script.run([], print)", "<frozen test>", "exec"), {"script": script})  # noqa: S102
    written = capsys.readouterr().err.splitlines()

    assert str(caught.value) == "server.py could not be loaded: JSONDecodeError."
    assert written[1] == f'  File "{path}", line 2, in <module>'
    assert any("json" in line and "decoder.py" in line for line in written)


def test_a_traceback_without_the_script_is_complete() -> None:
    """Better all of it than nothing."""
    try:
        Script.find("missing.py")
    except LoadFailed as error:
        ours = error.__traceback__.tb_next if error.__traceback__ is not None else None
    assert ours is not None

    assert user_traceback(ours) is ours
    assert user_traceback(None) is None


def test_what_cannot_be_read_at_all(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not Python gives one sentence; it did not run, so there is no traceback."""
    (folder / "picture").write_bytes(b"\x00\x01\x02")
    with pytest.raises(LoadFailed, match=r"^picture cannot be read: source code .*null bytes\.$"):
        Script.find("picture").run([], print)
    error = PermissionError(13, "Permission denied")

    assert str(load_failure(Script(folder / "secret.py"), error)) == (
        "secret.py cannot be read: Permission denied."
    )
    assert capsys.readouterr().err == ""


def test_a_syntax_error_without_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that ``eval`` raised names no place, so its traceback is shown."""
    (folder / "server.py").write_text("eval('1 +')\n")
    with pytest.raises(LoadFailed, match=r"^server\.py could not be loaded: SyntaxError\.$"):
        Script.find("server.py").run([], print)

    assert "eval('1 +')" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["python"], []),
        (["python", "server.py", "-d"], []),
        (["python", "-O", "server.py"], ["-O"]),
        (["python", "-X", "dev", "-W", "error", "server.py", "-q"], ["-X", "dev", "-W", "error"]),
        (["python", "-Xdev", "-m", "package", "-v"], ["-Xdev"]),
        (["python", "-Im", "package"], ["-I"]),
        (["python", "-Oc", "code"], ["-O"]),
        (["python", "-u", "-", "x"], ["-u"]),
        (
            ["python", "--check-hash-based-pycs", "never", "server.py"],
            ["--check-hash-based-pycs", "never"],
        ),
    ],
)
def test_options_of_the_interpreter(words: list[str], options: list[str]) -> None:
    """What stands before the program, and none of the program's own."""
    assert interpreter_options(words) == options


def test_options_are_those_that_the_interpreter_says(tmp_path: Path) -> None:
    """``sys.orig_argv`` is as this module reads it."""
    path = tmp_path / "program.py"
    path.write_text(
        "import sys\nfrom gateman.master.script import interpreter_options\n"
        "print(interpreter_options(sys.orig_argv))\n"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    told = subprocess.run(
        [sys.executable, "-X", "dev", "-O", str(path), "-x"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert told.stdout == "['-X', 'dev', '-O']\n"
