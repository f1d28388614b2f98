"""Loads a program that declares workers, without running it."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from ..config.base import BaseWorker
from ..errors import ConfigError


def load(path: str | Path) -> ModuleType:
    """
    Load a program, such as ``server.py``, whose ``Worker.run_all()`` has no effect.

        worker = testing.load("server.py").worker

    Use it for a program without ``if __name__ == "__main__":``, which cannot be imported; and for
    a test that needs the program's globals as they are at its start. Its folder is searched for
    the modules that it imports.

    Args:
        path: The file, relative to the folder of the test that calls this.

    Returns:
        A new module at each call.

    Raises:
        ConfigError: There is no such file.
        Exception: What the program raised.
    """
    caller = sys._getframe(1).f_globals.get("__file__", "")  # noqa: SLF001 - as `import` does
    file = Path(os.path.abspath(Path(caller).parent / path))  # noqa: PTH100 - keeps links
    name = f"loaded_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ConfigError(
            f"there is no program {file}",
            "give load() its path, relative to the folder of the test",
        )
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look for the module of a class there.
    sys.modules[name] = module
    folder = str(file.parent)
    sys.path.insert(0, folder)
    BaseWorker.is_loaded_by_test = True
    try:
        spec.loader.exec_module(module)
    finally:
        BaseWorker.is_loaded_by_test = False
        sys.path.remove(folder)
    return module
