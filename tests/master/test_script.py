"""Programs: found, run again, and their failures shown."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateman.errors import LoadFailed
from gateman.master.script import Script, failure, interpreter_options, users_part

# Prints what it sees of itself, and what is declared when run_all is called or the end is reached.
PROBE = """
import sys
from gateman import Worker
from gateman.master.script import Script

if __name__ == "__main__":
    print(sys.argv[1:], __file__, sys.path[0])
    print(Script.of_program())
"""

RUN = """
import sys
from gateman.master.script import Script

Script.find(sys.argv[1]).run(["one", "two"], lambda workers: print(len(workers), "declared"))
"""


def python(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in a folder."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


@pytest.mark.parametrize(
    "name", ["server.py", "./server.py", "server", "package.module", "package"]
)
def test_a_script_is_run_as_python_runs_it(tmp_path: Path, name: str) -> None:
    """Its arguments, its file and where it imports from are the same; and it can be found again."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for file in ("server.py", "package/module.py", "package/__main__.py"):
        (tmp_path / file).write_text(PROBE)
    theirs = [name] if name.endswith(".py") else ["-m", name]
    expected = python(tmp_path, *theirs, "one", "two")
    run = python(tmp_path, "-c", RUN, name)

    assert (run.stderr, expected.stderr) == ("", "")
    lines, expected_lines = run.stdout.splitlines(), expected.stdout.splitlines()
    # Python shows a file as it was named; in a process it is named in full.
    assert lines[0].replace(f"{tmp_path}/", "") == expected_lines[0].replace(
        f"{tmp_path}/", ""
    ).replace("./server.py", "server.py")
    assert lines[1:] == [*expected_lines[1:], "0 declared"]


def test_run_all_is_not_called_twice(tmp_path: Path) -> None:
    """What the script does itself is not done for it."""
    (tmp_path / "server.py").write_text(
        "from gateman import Worker\nWorker('ws://127.0.0.1:1')\nWorker.run_all()\nprint('behind')\n"
    )

    assert python(tmp_path, "-c", RUN, "server.py").stdout == "1 declared\nbehind\n"


@pytest.mark.parametrize(
    "name", ["missing.py", "folder/missing", "missing", "gateman.missing", "x y", ""]
)
def test_what_is_not_there(name: str) -> None:
    """A sentence says what was looked for."""
    with pytest.raises(LoadFailed, match=r"^there is no file "):
        Script.find(name)


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A release behind a link may change; the service is the same, and gets it by a reload."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "server.py").write_text("")
    (tmp_path / "current").symlink_to(tmp_path / "one")

    assert Script.find(str(tmp_path / "current" / "server.py")).path == (
        tmp_path / "current" / "server.py"
    )


def test_a_program_that_is_no_file() -> None:
    """What was typed in cannot be run again by a process."""
    code = "from gateman.master.script import Script; Script.of_program()"
    done = python(Path(), "-c", code)

    assert done.returncode == 78
    assert done.stderr.endswith(
        "Worker.run_all() was called in a program that is no file: write it to a file such as"
        " server.py, and run that.\n"
    )


def test_a_syntax_error_is_one_sentence() -> None:
    """Its place is in it."""
    with pytest.raises(SyntaxError) as raised:
        compile("def (:", "server.py", "exec")

    assert str(failure(Script(Path("server.py")), raised.value)) == "server.py:1: invalid syntax."


def test_tracebacks_begin_with_the_user_s_code(capsys: pytest.CaptureFixture[str]) -> None:
    """What called it is left out; what it called is not."""
    with pytest.raises(ValueError, match="Expecting value") as raised:
        exec(compile("import json\njson.loads('x')", "server.py", "exec"))  # noqa: S102 - theirs
    text = str(failure(Script(Path("server.py")), raised.value))

    assert text == "server.py could not be loaded: JSONDecodeError."
    shown = capsys.readouterr().err

    assert users_part(None) is None
    assert '"server.py", line 2, in <module>' in shown
    assert "json/decoder.py" in shown


def test_options_of_the_interpreter() -> None:
    """What stands before the program is handed on, and nothing else."""
    options = {
        "python server.py -O": [],
        "python -O server.py": ["-O"],
        "python -X dev -W error server.py": ["-X", "dev", "-W", "error"],
        "python -Xdev -B -m package.module": ["-Xdev", "-B"],
        "python -Im package": ["-I"],
        "python -c code": [],
        "python -Bc code": ["-B"],
        "python --check-hash-based-pycs never server.py": ["--check-hash-based-pycs", "never"],
        "python -": [],
        "python": [],
    }

    assert {words: interpreter_options(words.split()) for words in options} == options
