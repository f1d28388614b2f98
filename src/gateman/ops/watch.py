"""
``start --watch``, for development: reloads the service when a Python file has changed.

It sends the ``reload`` command. If the new code does not start, the old code keeps running, and the
log says why.
"""

import threading
from collections.abc import Callable
from pathlib import Path

from ..errors import CommandError, ConfigError, NotRunning
from ..log import logger
from ..master import control, control_requests
from ..master.script import Script

# An editor writes a file in several steps, and `git checkout` many files.
_SETTLE = 200  # milliseconds

_MAX_NAMED = 3  # files


def watcher(script: Script) -> Callable[[], None]:
    """Return a function that starts to watch; refuse if watchfiles is not installed."""
    try:
        # Imported here: it is optional, and for development only.
        import watchfiles  # noqa: F401
    except ImportError:
        raise ConfigError(
            "--watch needs the package watchfiles", "install it: pip install 'gateman[watch]'"
        ) from None
    folder = Path.cwd() if script.module else script.path.parent
    thread = threading.Thread(target=_watch, args=(script, folder), name="watch", daemon=True)
    return thread.start


def _watch(script: Script, folder: Path) -> None:
    import watchfiles

    logger.info("reloading when a .py file in %s changes", folder)
    for changes in watchfiles.watch(
        folder, watch_filter=watchfiles.PythonFilter(), debounce=_SETTLE
    ):
        logger.info("%s changed", named({Path(path) for _, path in changes}, folder))
        try:
            control.ask(script, control_requests.Reload(), control_requests.ControlAnswer)
        except NotRunning:
            return
        except CommandError:
            continue  # The master has logged why.


def named(paths: set[Path], folder: Path) -> str:
    """Return a list of files for the log."""
    names = sorted(
        str(path.relative_to(folder) if path.is_relative_to(folder) else path) for path in paths
    )
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
