"""
``start --watch``, for development: a reload whenever a Python file has changed.

It is the reload that the command does, so a new version that does not start leaves the old one in
service, and the log says why.
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
    """
    Prepare to watch.

    Raises:
        ConfigError: What watches files is not installed.
    """
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
            with control.connect_to_master(script) as master:
                master.request(control_requests.Reload(), control_requests.ControlAnswer)
        except NotRunning:
            return
        except CommandError:
            continue  # The master has said why.


def named(paths: set[Path], folder: Path) -> str:
    """Name files for people."""
    names = sorted(
        str(path.relative_to(folder) if path.is_relative_to(folder) else path) for path in paths
    )
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
