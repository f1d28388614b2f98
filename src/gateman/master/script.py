"""The program that declares the workers: finds it, and runs it as ``__main__``."""

import importlib.util
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

from ..config.base import BaseWorker
from ..errors import ConfigError, GatemanError, LoadFailed
from ..log import is_json, write_to_user

_PACKAGE = str(Path(__file__).parents[1])


class Script(Struct, frozen=True):
    path: Path
    module: str = ""

    @classmethod
    def of_program(cls) -> Self:
        """Return the program that this interpreter runs; it must be possible to run it again."""
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        if spec is not None and spec.origin:
            return cls(_absolute(spec.origin), spec.name)
        file = getattr(main, "__file__", None)
        if file is None or not Path(file).is_file():
            raise ConfigError(
                "Worker.run_all() was called in a program that is not a file",
                "write it to a file such as server.py, and run that",
            )
        return cls(_absolute(file))

    @classmethod
    def find(cls, name: str) -> Self:
        """Find the file or module that a user names; raise :class:`LoadFailed` if it fails."""
        if name.endswith(".py") or os.sep in name or Path(name).is_file():
            if not Path(name).is_file():
                raise _missing(name, "there is no file")
            return cls(_absolute(name))
        if not sys.flags.safe_path:
            sys.path.insert(0, str(Path.cwd()))
        try:
            spec = _find_spec(name)
        except Exception as error:
            raise load_failure(cls(Path.cwd(), name), error) from error
        finally:
            if not sys.flags.safe_path:
                del sys.path[0]
        if spec is None or not spec.origin or not spec.has_location:
            raise _missing(name, "there is no file and no module")
        return cls(_absolute(spec.origin), spec.name)

    def run(self, argv: Sequence[str], runner: Callable[[list[BaseWorker]], None]) -> None:
        """Run it as ``python server.py`` would; ``run_all`` calls the runner with the workers."""
        has_run = False

        def run_all(workers: list[BaseWorker]) -> None:
            """Pass the workers on; a script that never calls this is an error."""
            nonlocal has_run
            has_run = True
            runner(workers)

        BaseWorker.runner = run_all
        sys.argv = [str(self.path), *argv]
        if not sys.flags.safe_path:
            folder = Path.cwd() if self.module else self.path.resolve().parent
            sys.path.insert(0, str(folder))
        try:
            if self.module:
                runpy.run_module(self.module, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(str(self.path), run_name="__main__")
        except GatemanError:
            raise
        except SystemExit as error:
            # With another code, it has said why.
            if has_run or error.code:
                raise
            raise LoadFailed(f"{self} ends before it calls Worker.run_all()") from None
        except Exception as error:
            if has_run:
                raise
            raise load_failure(self, error) from error
        if not has_run:
            BaseWorker.run_all()

    def __str__(self) -> str:
        """Return the name that a user would write."""
        return self.module or os.path.relpath(self.path)


def load_failure(script: Script, error: Exception) -> LoadFailed:
    """Return why a script failed; write its traceback to standard error if it has one."""
    # The file name of code for `eval` begins with "<".
    if isinstance(error, SyntaxError) and error.filename and error.filename[0] != "<":
        return LoadFailed(f"{error.filename}:{error.lineno}: {error.msg}")
    of_script = user_traceback(error.__traceback__)
    if of_script is error.__traceback__:
        # The script has not run.
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return LoadFailed(f"{script} cannot be read: {reason}")
    if is_json():
        write_to_user(f"{script} could not be loaded", error=error.with_traceback(of_script))
    else:
        traceback.print_exception(error.with_traceback(of_script))
    return LoadFailed(f"{script} could not be loaded: {type(error).__name__}")


def user_traceback(trace: TracebackType | None) -> TracebackType | None:
    """Drop the frames that called the user's code."""
    inner = trace
    while inner is not None:
        name = inner.tb_frame.f_code.co_filename
        if not name.startswith((_PACKAGE, "<frozen ", runpy.__file__)):
            return inner
        inner = inner.tb_next
    return trace


def _missing(name: str, what: str) -> LoadFailed:
    if not name:
        return LoadFailed("the name of the script is empty")
    if Path(name).is_dir():
        path = Path(name) / "server.py"
        return LoadFailed(f"{name} is a folder: name the script in it, such as {path}")
    return LoadFailed(f"{what} {name}")


def _find_spec(name: str) -> ModuleSpec | None:
    """Find a module; this imports its parent packages, which may raise any exception."""
    if not name or name.startswith("."):
        return None
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise  # The package exists; a module that it imports does not.
        return None
    return spec


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


def interpreter_options(arguments: Sequence[str]) -> list[str]:
    """Return the options of the interpreter itself, such as ``-W error``, to start another one."""
    options: list[str] = []
    rest = iter(arguments[1:])
    for word in rest:
        if not word.startswith("-") or word in {"-", "-m", "-c"}:
            break
        options.append(word)
        if word in {"-X", "-W", "--check-hash-based-pycs"}:
            options.append(next(rest))
        elif word[-1] in "mc" and not word.startswith("--"):
            # Several options in one word, such as -Im.
            options[-1] = word[:-1]
            break
    return options
