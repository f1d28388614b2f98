"""Restores removed files of a running master, by which commands and processes find it."""

import time
from collections.abc import Sequence

from ..errors import AlreadyRunning, ConfigError
from ..log import logger
from .control import ControlServer
from .listeners import Listeners
from .router_process import RouterProcess
from .runtime_files import RuntimeFiles

# Until a removal is noticed, commands do not find the master.
_INTERVAL = 1.0  # seconds


class FileRestorer:
    def __init__(
        self,
        runtime_files: RuntimeFiles,
        control: ControlServer,
        router: RouterProcess | None,
        listeners: Sequence[Listeners],
    ) -> None:
        self._runtime_files = runtime_files
        self._control = control
        self._router = router
        self._listeners = listeners
        self._removed_sockets: set[str] = set()
        self._is_failing = False
        self.due_at = time.monotonic() + _INTERVAL

    def check(self) -> None:
        now = time.monotonic()
        if now < self.due_at:
            return
        self.due_at = now + _INTERVAL
        removed = {listeners.removed for listeners in self._listeners} - {""}
        for path in sorted(removed - self._removed_sockets):
            logger.warning("%s was removed: no client can connect until a `reload`", path)
        self._removed_sockets = removed
        is_reachable = self._router is None or self._router.is_reachable
        if self._runtime_files.is_intact and is_reachable:
            return
        folder = self._runtime_files.files.folder
        try:
            self._restore()
        except (AlreadyRunning, ConfigError) as error:
            if not self._is_failing:
                logger.error("files in %s were removed and cannot be restored: %s", folder, error)
            self._is_failing = True
            return
        self._is_failing = False
        new_folder = self._runtime_files.files.folder
        logger.warning("files in %s were removed: restored in %s", folder, new_folder)

    def _restore(self) -> None:
        if not self._runtime_files.is_intact:
            self._runtime_files.renew()
            self._control.replace(self._runtime_files.listen())
        path = self._runtime_files.files.bus
        if self._router is not None and not (
            self._router.is_reachable and self._router.path == path
        ):
            self._router.listen(path)
